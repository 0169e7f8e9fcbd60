//! Ed25519 keys in OpenSSH's format.

use std::path::Path;

use anyhow::Context as _;
use ssh_key::rand_core::OsRng;
use ssh_key::{Algorithm, LineEnding, PrivateKey};

use super::store;

pub fn load_or_create(path: &Path, comment: &str) -> anyhow::Result<PrivateKey> {
    let text = store::read_or_make(path, || {
        let mut key = PrivateKey::random(&mut OsRng, Algorithm::Ed25519)
            .context("failed to generate an SSH key")?;
        key.set_comment(comment);
        to_openssh(&key)
    })?;
    PrivateKey::from_openssh(&text).with_context(|| {
        format!(
            "`{}` is not a valid SSH key. Remove it, then recreate the guests with `pspd down && pspd up`",
            path.display()
        )
    })
}

pub fn to_openssh(key: &PrivateKey) -> anyhow::Result<String> {
    Ok(key
        .to_openssh(LineEnding::LF)
        .context("failed to encode an SSH key")?
        .to_string())
}
