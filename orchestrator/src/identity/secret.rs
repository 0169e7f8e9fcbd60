//! Values of services' secrets: generated once, or read from a file of the user's.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use pspd_model::spec::Secret;
use ssh_key::rand_core::{OsRng, RngCore as _};

use super::store;

/// 256 bits.
const BYTES: usize = 32;

/// Generates the secret `key` in `folder` unless it exists.
pub(super) fn create(folder: &Path, key: &str) -> anyhow::Result<()> {
    store::read_or_create(&folder.join(key), || {
        let mut bytes = [0; BYTES];
        OsRng.fill_bytes(&mut bytes);
        Ok(BASE64.encode(bytes))
    })
    .map(drop)
}

/// The value of the secret `key`; `folder` is where generated secrets are.
pub(super) fn value(folder: &Path, key: &str, from: &Secret) -> anyhow::Result<String> {
    match from {
        Secret::Generate => {
            let path = folder.join(key);
            let value = store::read(&path)?.with_context(|| super::missing(&path))?;
            ensure!(check(&value).is_ok(), store::damaged(&path));
            Ok(value)
        }
        Secret::File(path) => {
            let text = fs::read_to_string(path).with_context(|| {
                format!(
                    "failed to read the secret `{key}` from `{}`",
                    path.display()
                )
            })?;
            let value = text.strip_suffix('\n').unwrap_or(&text);
            check(value).with_context(|| {
                format!(
                    "`{}` must contain the secret `{key}` in one line",
                    path.display()
                )
            })?;
            Ok(value.to_owned())
        }
    }
}

/// Refuses what cannot be the value of a variable.
pub(super) fn check(value: &str) -> anyhow::Result<()> {
    ensure!(
        !value.is_empty() && !value.contains(char::is_control),
        "a secret is one line of text without control characters"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_secret_is_stable_and_a_secret_file_has_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let keys = folder.path().join("secrets/web");
        let generated = |key| {
            create(&keys, key).unwrap();
            value(&keys, key, &Secret::Generate).unwrap()
        };
        let first = generated("WEB_TOKEN");
        assert_eq!(first.len(), 43);
        assert_eq!(generated("WEB_TOKEN"), first);
        assert_ne!(generated("OTHER"), first);
        let path = folder.path().join("token");
        let of_file = |text: &str| {
            fs::write(&path, text).unwrap();
            value(&keys, "WEB_TOKEN", &Secret::File(path.clone()))
        };
        assert_eq!(of_file("hunter2 $x\n").unwrap(), "hunter2 $x");
        for wrong in ["", "\n", "two\nlines\n", "a\0b"] {
            let error = of_file(wrong).unwrap_err().to_string();
            assert!(
                error.contains("WEB_TOKEN") && error.contains("one line"),
                "{error}"
            );
        }
    }
}
