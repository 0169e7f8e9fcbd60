//! The models in memory: predictions read the last good version, while the next is being trained here or is looked
//! for on the shelf, where another replica may have put it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use serving::{Problem, trace};
use tokio::sync::OwnedMutexGuard;
use tonic::{Code, Status};

use crate::shelf::{Shelf, Stored};

/// How old a look at the shelf may be when a model is used.
const FRESH: Duration = Duration::from_secs(2);

/// All models that were asked for so far.
#[derive(Debug)]
pub(crate) struct Registry {
    shelf: Shelf,
    entries: Mutex<HashMap<String, Arc<Entry>>>,
}

/// One model: the version in use, who may train it, and what it predicted since the service started.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    current: RwLock<Option<Arc<Stored>>>,
    /// When the shelf was looked at.
    looked: Mutex<Option<Instant>>,
    loading: tokio::sync::Mutex<()>,
    turn: Arc<tokio::sync::Mutex<()>>,
    usage: Mutex<Usage>,
}

/// What a model predicted since the service started.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) predictions: u32,
    confidence: f64,
    /// Trainings under way.
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

    /// Puts a version in use, unless a newer one is.
    pub(crate) fn replace(&self, stored: Stored) -> Arc<Stored> {
        let stored = Arc::new(stored);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if current
            .as_ref()
            .is_none_or(|current| current.version < stored.version)
        {
            *current = Some(stored.clone());
        }
        stored
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

    /// Whether it is time to look at the shelf; says so to one of those who ask.
    fn due(&self) -> bool {
        let mut looked = lock(&self.looked);
        let due = looked.is_none_or(|looked| looked.elapsed() >= FRESH);
        if due {
            *looked = Some(Instant::now());
        }
        due
    }
}

/// A training under way: while one is, the model's id is taken.
#[derive(Debug)]
pub(crate) struct Training {
    registry: Arc<Registry>,
    id: String,
    pub(crate) entry: Arc<Entry>,
}

impl Training {
    /// Waits until no one else here trains this model, and for its newest version.
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
    pub(crate) fn new(shelf: Shelf) -> Self {
        Self {
            shelf,
            entries: Mutex::default(),
        }
    }

    pub(crate) fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    /// Returns a trained model and its entry; loads it first if it is stored and not in memory.
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

    /// Begins a training: the model exists from here on, and as long as the training goes well.
    pub(crate) fn begin(self: &Arc<Self>, id: &str) -> Training {
        let entry = self.entry(id);
        lock(&entry.usage).trainings += 1;
        // It may have been forgotten between these two lines.
        lock(&self.entries).insert(id.to_owned(), entry.clone());
        Training {
            registry: self.clone(),
            id: id.to_owned(),
            entry,
        }
    }

    /// Loads every stored model.
    pub(crate) async fn load_all(&self) -> Result<usize, Status> {
        let ids = self.shelf.list().await?;
        for id in &ids {
            let entry = self.entry(id);
            self.refresh(id, &entry).await?;
        }
        Ok(ids.len())
    }

    /// Looks for a newer version now and then, while predictions go on with the one that is there.
    pub(crate) fn follow(self: &Arc<Self>, id: &str, entry: &Arc<Entry>) {
        // Behind a look that is under way, more would queue up while the database hangs.
        if entry.loading.try_lock().is_err() || !entry.due() {
            return;
        }
        let (registry, id, entry) = (self.clone(), id.to_owned(), entry.clone());
        tokio::spawn(trace::current().scope(async move {
            if let Err(error) = registry.refresh(&id, &entry).await {
                tracing::warn!(
                    model = id,
                    error = error.message(),
                    "can't look for a newer version"
                );
            }
        }));
    }

    async fn refresh(&self, id: &str, entry: &Entry) -> Result<(), Status> {
        let _loading = entry.loading.lock().await;
        let newest = self.shelf.version(id).await?.unwrap_or(0);
        if newest > entry.version()
            && let Some(stored) = self.shelf.load(id).await?
        {
            tracing::info!(model = id, version = stored.version, "loaded");
            entry.replace(stored);
        }
        *lock(&entry.looked) = Some(Instant::now());
        Ok(())
    }

    fn entry(&self, id: &str) -> Arc<Entry> {
        lock(&self.entries)
            .entry(id.to_owned())
            .or_default()
            .clone()
    }

    /// Keeps names that no model has from piling up.
    fn forget(&self, id: &str) {
        let mut entries = lock(&self.entries);
        let idle = |entry: &Arc<Entry>| entry.current().is_none() && entry.usage().trainings == 0;
        if entries.get(id).is_some_and(idle) {
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
