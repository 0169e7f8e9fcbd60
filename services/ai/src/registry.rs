//! The models in memory. Predictions use the last good version while the next version is trained here or fetched from
//! the store, where another replica may have saved it. A model that nobody uses leaves memory, and is loaded at its next
//! use.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use serving::{Problem, trace};
use tokio::sync::OwnedMutexGuard;
use tonic::{Code, Status};

use crate::model_store::{ModelStore, Stored};

/// How long a model may be used without a check for a newer version.
const FRESH: Duration = Duration::from_secs(2);

/// All models in use.
#[derive(Debug)]
pub(crate) struct Registry {
    store: ModelStore,
    entries: Mutex<HashMap<String, Arc<Entry>>>,
}

/// One model: the version in use, the lock of its training, and its usage since the service started.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    current: RwLock<Option<Arc<Stored>>>,
    /// When the store was last checked for a newer version; at most [`FRESH`] before the last use.
    checked: Mutex<Option<Instant>>,
    loading: tokio::sync::Mutex<()>,
    turn: Arc<tokio::sync::Mutex<()>>,
    usage: Mutex<Usage>,
}

/// A model's predictions since the service started.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) predictions: u32,
    confidence: f64,
    /// Trainings in progress.
    trainings: u32,
}

impl Usage {
    pub(crate) fn average_confidence(self) -> f32 {
        if self.predictions == 0 {
            return 0.0;
        }
        (self.confidence / f64::from(self.predictions)) as f32
    }
}

impl Entry {
    /// The version in use.
    pub(crate) fn current(&self) -> Option<Arc<Stored>> {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Puts a version in use, unless a newer version is already in use.
    pub(crate) fn replace(&self, stored: Stored) -> Arc<Stored> {
        let stored = Arc::new(stored);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if current
            .as_ref()
            .is_none_or(|current| current.version < stored.version)
        {
            *current = Some(stored.clone());
        }
        *lock(&self.checked) = Some(Instant::now());
        stored
    }

    /// Takes the version in use out of memory if it was not used for `idle`.
    fn leave(&self, idle: Duration) -> Option<Arc<Stored>> {
        let used = *lock(&self.checked);
        let unused = used.is_some_and(|used| used.elapsed() >= idle + FRESH);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if unused { current.take() } else { None }
    }

    pub(crate) fn count(&self, confidence: f32) {
        let mut usage = lock(&self.usage);
        usage.predictions = usage.predictions.saturating_add(1);
        usage.confidence += f64::from(confidence);
    }

    pub(crate) fn usage(&self) -> Usage {
        *lock(&self.usage)
    }

    fn version(&self) -> u64 {
        self.current().map_or(0, |stored| stored.version)
    }

    /// Whether it is time to check the store; true for one of several concurrent callers.
    fn due(&self) -> bool {
        let mut checked = lock(&self.checked);
        let due = checked.is_none_or(|checked| checked.elapsed() >= FRESH);
        if due {
            *checked = Some(Instant::now());
        }
        due
    }
}

/// A training in progress, which keeps the model's entry.
#[derive(Debug)]
pub(crate) struct Training {
    registry: Arc<Registry>,
    id: String,
    pub(crate) entry: Arc<Entry>,
}

impl Training {
    /// Waits until this replica does not train the model otherwise, and loads the newest version.
    pub(crate) async fn turn(&self) -> Result<OwnedMutexGuard<()>, Status> {
        let turn = self.entry.turn.clone().lock_owned().await;
        self.refresh().await?;
        Ok(turn)
    }

    /// Puts the newest version in use.
    pub(crate) async fn refresh(&self) -> Result<(), Status> {
        self.registry.refresh(&self.id, &self.entry).await
    }
}

impl Drop for Training {
    fn drop(&mut self) {
        lock(&self.entry.usage).trainings -= 1;
        self.registry.forget(&self.id);
    }
}

impl Registry {
    pub(crate) fn new(store: ModelStore) -> Self {
        Self {
            store,
            entries: Mutex::default(),
        }
    }

    pub(crate) fn store(&self) -> &ModelStore {
        &self.store
    }

    /// Returns a trained model and its entry; loads it first if it is stored but not in memory.
    pub(crate) async fn open(
        self: &Arc<Self>,
        id: &str,
    ) -> Result<(Arc<Entry>, Arc<Stored>), Status> {
        let entry = self.entry(id);
        if let Some(stored) = entry.current() {
            self.follow(id, &entry);
            return Ok((entry, stored));
        }
        let outcome = self.refresh(id, &entry).await;
        let current = entry.current();
        let trainings = entry.usage().trainings;
        self.forget(id);
        outcome?;
        match current {
            Some(stored) => Ok((entry, stored)),
            None if trainings > 0 => Err(untrained(id)),
            None => Err(unknown(id)),
        }
    }

    /// Begins a training: the entry exists until the training fails or its model is stored.
    pub(crate) fn begin(self: &Arc<Self>, id: &str) -> Training {
        let entry = self.entry(id);
        lock(&entry.usage).trainings += 1;
        // The entry may have been removed between these two lines.
        lock(&self.entries).insert(id.to_owned(), entry.clone());
        Training {
            registry: self.clone(),
            id: id.to_owned(),
            entry,
        }
    }

    /// Loads every stored model.
    pub(crate) async fn load_all(&self) -> Result<usize, Status> {
        let ids = self.store.list().await?;
        for id in &ids {
            let entry = self.entry(id);
            self.refresh(id, &entry).await?;
        }
        Ok(ids.len())
    }

    /// Takes models out of memory that were not used for `idle`.
    pub(crate) fn unload(&self, idle: Duration) {
        // Dropped after the lock, which all calls need.
        let mut left = Vec::new();
        for (id, entry) in lock(&self.entries).iter() {
            // Each call, stream and training has the entry of its model too; others wait for the lock.
            if Arc::strong_count(entry) == 1
                && let Some(stored) = entry.leave(idle)
            {
                tracing::info!(model = id, version = stored.version, "unloaded: not used");
                left.push(stored);
            }
        }
    }

    /// Checks for a newer version from time to time, while predictions use the current one.
    pub(crate) fn follow(self: &Arc<Self>, id: &str, entry: &Arc<Entry>) {
        // While the database hangs, more checks would queue up behind the one in progress.
        if entry.loading.try_lock().is_err() || !entry.due() {
            return;
        }
        let (registry, id, entry) = (self.clone(), id.to_owned(), entry.clone());
        tokio::spawn(trace::current().scope(async move {
            if let Err(error) = registry.refresh(&id, &entry).await {
                tracing::warn!(
                    model = id,
                    error = error.message(),
                    "failed to check for a newer version"
                );
            }
        }));
    }

    async fn refresh(&self, id: &str, entry: &Entry) -> Result<(), Status> {
        let _loading = entry.loading.lock().await;
        let newest = self.store.version(id).await?.unwrap_or(0);
        if newest > entry.version()
            && let Some(stored) = self.store.load(id).await?
        {
            tracing::info!(model = id, version = stored.version, "loaded");
            entry.replace(stored);
        }
        *lock(&entry.checked) = Some(Instant::now());
        Ok(())
    }

    fn entry(&self, id: &str) -> Arc<Entry> {
        lock(&self.entries)
            .entry(id.to_owned())
            .or_default()
            .clone()
    }

    /// Removes the entry of a model that does not exist, so that such entries do not pile up.
    fn forget(&self, id: &str) {
        let mut entries = lock(&self.entries);
        let empty = |entry: &Arc<Entry>| {
            let usage = entry.usage();
            entry.current().is_none() && usage.trainings == 0 && usage.predictions == 0
        };
        if entries.get(id).is_some_and(empty) {
            entries.remove(id);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unknown(id: &str) -> Status {
    let message = format!("there is no model `{id}`: train it first");
    Problem::missing("model", id, "MODEL_NOT_FOUND", message).into()
}

fn untrained(id: &str) -> Status {
    let message = format!("model `{id}` is being trained for the first time: wait for its end");
    Problem::new(Code::FailedPrecondition, "MODEL_UNTRAINED", message)
        .with("model", id)
        .into()
}
