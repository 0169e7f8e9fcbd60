//! Values of services' secrets: generated once, or read from a user's file.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ssh_key::rand_core::{OsRng, RngCore as _};

use super::store;
use crate::spec::Secret;

/// 256 bits.
const BYTES: usize = 32;

/// Returns the value of the secret `key`. Generated values are stored in `folder`.
pub fn value(folder: &Path, key: &str, from: &Secret) -> anyhow::Result<String> {
    match from {
        Secret::Generate => store::read_or_make(&folder.join(key), || {
            let mut bytes = [0; BYTES];
            OsRng.fill_bytes(&mut bytes);
            Ok(BASE64.encode(bytes))
        }),
        Secret::File(path) => {
            let text = fs::read_to_string(path).with_context(|| {
                format!(
                    "failed to read the secret `{key}` from `{}`",
                    path.display()
                )
            })?;
            let value = text.strip_suffix('\n').unwrap_or(&text);
            ensure!(
                !value.is_empty() && !value.contains(char::is_control),
                "`{}` must contain the secret `{key}` in one line",
                path.display()
            );
            Ok(value.to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_secret_is_stable_and_a_secret_file_has_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let keys = folder.path().join("secrets/web");
        let first = value(&keys, "WEB_TOKEN", &Secret::Generate).unwrap();
        assert_eq!(first.len(), 43);
        assert_eq!(value(&keys, "WEB_TOKEN", &Secret::Generate).unwrap(), first);
        assert_ne!(value(&keys, "OTHER", &Secret::Generate).unwrap(), first);
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
