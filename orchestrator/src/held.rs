//! A lock on a file that ends when it is dropped.

use std::fs::File;

/// A file whose lock this process holds.
///
/// It is unlocked, not only closed: a program that another thread is starting has a copy of the descriptor until it runs, and
/// would keep the lock for that moment.
#[derive(Debug)]
pub(crate) struct Held(File);

impl Held {
    pub(crate) fn new(locked: File) -> Held {
        Held(locked)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Closing it, which follows, unlocks it as well.
        let _ = self.0.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_ends_although_a_copy_of_its_descriptor_is_open() {
        let folder = tempfile::tempdir().unwrap();
        let open = || File::create(folder.path().join("lock")).unwrap();
        let (first, second) = (open(), open());
        first.try_lock().unwrap();
        let _copy = first.try_clone().unwrap();
        let held = Held::new(first);
        assert!(second.try_lock().is_err());
        drop(held);
        second.try_lock().unwrap();
    }
}
