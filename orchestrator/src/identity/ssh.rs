//! Ed25519 keys in OpenSSH's format.

use std::path::Path;

use anyhow::{Context as _, ensure};
use ssh_key::rand_core::OsRng;
use ssh_key::{Algorithm, LineEnding, PrivateKey};

use super::store;

/// The key in the file; `None` where it does not exist.
pub(super) fn load(path: &Path) -> anyhow::Result<Option<PrivateKey>> {
    let Some(text) = store::read(path)? else {
        return Ok(None);
    };
    let key = PrivateKey::from_openssh(&text).ok();
    Ok(Some(key.ok_or_else(|| store::damaged(path))?))
}

/// Refuses a text that is not a private key without a passphrase.
pub(super) fn check(text: &str) -> anyhow::Result<()> {
    let key = PrivateKey::from_openssh(text).context("it is not a valid SSH key")?;
    ensure!(!key.is_encrypted(), "the SSH key has a passphrase");
    Ok(())
}

/// Creates the key's file unless it exists.
pub(super) fn create(path: &Path, comment: &str) -> anyhow::Result<()> {
    store::read_or_create(path, || {
        let mut key = PrivateKey::random(&mut OsRng, Algorithm::Ed25519)
            .context("failed to generate an SSH key")?;
        key.set_comment(comment);
        to_openssh(&key)
    })
    .map(drop)
}

fn to_openssh(key: &PrivateKey) -> anyhow::Result<String> {
    Ok(key
        .to_openssh(LineEnding::LF)
        .context("failed to encode an SSH key")?
        .to_string())
}
