//! The models in memory: predictions read the last good one while the next is being trained.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::sync::OwnedMutexGuard;
use tonic::Status;

use crate::model::Model;
use crate::shelf::Shelf;

/// All models that were asked for so far.
#[derive(Debug)]
pub(crate) struct Registry {
    shelf: Shelf,
    entries: Mutex<HashMap<String, Arc<Entry>>>,
}

/// One model: the version in use, who may train it, and what it predicted since the service started.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    current: RwLock<Option<Arc<Model>>>,
    training: Arc<tokio::sync::Mutex<()>>,
    loading: tokio::sync::Mutex<()>,
    usage: Mutex<Usage>,
}

/// What a model predicted since the service started.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) predictions: u32,
    confidence: f64,
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
    pub(crate) fn current(&self) -> Option<Arc<Model>> {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Puts a new version in use.
    pub(crate) fn replace(&self, model: Model) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(model));
    }

    /// Waits until no one else trains this model.
    pub(crate) async fn train(&self) -> OwnedMutexGuard<()> {
        self.training.clone().lock_owned().await
    }

    pub(crate) fn count(&self, confidence: f32) {
        let mut usage = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        usage.predictions = usage.predictions.saturating_add(1);
        usage.confidence += f64::from(confidence);
    }

    pub(crate) fn usage(&self) -> Usage {
        *self.usage.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Returns a model's entry, loading the model first if it is stored and not in memory.
    pub(crate) async fn entry(&self, id: &str) -> Result<Arc<Entry>, Status> {
        if let Some(entry) = self.known(id) {
            return Ok(entry);
        }
        let entry = Arc::new(Entry::default());
        let entry = self.lock().entry(id.to_owned()).or_insert(entry).clone();
        let outcome = self.fill(id, &entry).await;
        if !matches!(outcome, Ok(true)) {
            self.forget(id, &entry);
        }
        outcome?;
        Ok(entry)
    }

    /// Remembers the entry of a model that was trained for the first time.
    pub(crate) fn keep(&self, id: &str, entry: &Arc<Entry>) {
        self.lock().insert(id.to_owned(), entry.clone());
    }

    /// Loads every stored model.
    pub(crate) async fn load_all(&self) -> Result<usize, Status> {
        let ids = self.shelf.list().await?;
        for id in &ids {
            self.entry(id).await?;
        }
        Ok(ids.len())
    }

    fn known(&self, id: &str) -> Option<Arc<Entry>> {
        let entry = self.lock().get(id)?.clone();
        entry.current().is_some().then_some(entry)
    }

    async fn fill(&self, id: &str, entry: &Entry) -> Result<bool, Status> {
        let _loading = entry.loading.lock().await;
        if entry.current().is_none()
            && let Some(model) = self.shelf.load(id).await?
        {
            entry.replace(model);
        }
        Ok(entry.current().is_some())
    }

    /// Keeps names that no model has from piling up; an entry that others hold stays.
    fn forget(&self, id: &str, entry: &Arc<Entry>) {
        let mut entries = self.lock();
        let idle = Arc::strong_count(entry) <= 2 && entry.current().is_none();
        if idle && entries.get(id).is_some_and(|kept| Arc::ptr_eq(kept, entry)) {
            entries.remove(id);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Entry>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
