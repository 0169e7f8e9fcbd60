//! Values of services' secrets: generated once, or read from a file of the user's.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use pspd_model::spec::Secret;
use pspd_model::topology::control;
use ssh_key::rand_core::{OsRng, RngCore as _};

use super::store;

/// 256 bits.
const BYTES: usize = 32;
/// The maximum length of a value, in bytes. Linux accepts variables of 128 KiB; an archive has keys of up to this.
pub const LONGEST: u64 = 64 << 10;

/// Generates the secret `key` in `folder` unless it exists.
pub(super) fn create(folder: &Path, key: &str) -> anyhow::Result<()> {
    store::read_or_create(&folder.join(key), || {
        let mut bytes = [0; BYTES];
        OsRng.fill_bytes(&mut bytes);
        Ok(BASE64.encode(bytes))
    })
    .map(drop)
}

/// The values of all secrets that were generated in the folders of `folder`.
pub(super) fn generated(folder: &Path) -> anyhow::Result<Vec<String>> {
    let context = || format!("failed to read `{}`", folder.display());
    let entries = |folder: &Path| match fs::read_dir(folder) {
        Ok(entries) => entries.collect::<io::Result<Vec<_>>>(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    };
    let mut values = Vec::new();
    for services in entries(folder).with_context(context)? {
        for file in entries(&services.path()).with_context(context)? {
            values.extend(store::read(&file.path())?);
        }
    }
    Ok(values)
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
            let text = read(path).with_context(|| {
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

/// Reads what can be a value, with its line break, and one byte more of what is too long.
fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?
        .take(LONGEST + 2)
        .read_to_string(&mut text)?;
    Ok(text)
}

/// Refuses what cannot be the value of a variable.
pub(super) fn check(value: &str) -> anyhow::Result<()> {
    ensure!(!value.is_empty(), "it is empty");
    ensure!(
        value.len() as u64 <= LONGEST,
        "it is longer than {} KiB",
        LONGEST >> 10
    );
    let unusable = control(value).or_else(|| value.contains('\t').then(|| "a tab".to_owned()));
    match unusable {
        None => Ok(()),
        Some(character) => bail!("it contains {character}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

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
        let other = generated("OTHER");
        assert_ne!(other, first);
        let mut all = super::generated(&folder.path().join("secrets")).unwrap();
        all.sort();
        assert_eq!(
            all,
            BTreeSet::from([first, other])
                .into_iter()
                .collect::<Vec<_>>()
        );
        assert!(
            super::generated(&folder.path().join("none"))
                .unwrap()
                .is_empty()
        );
        let path = folder.path().join("token");
        let of_file = |text: &str| {
            fs::write(&path, text).unwrap();
            value(&keys, "WEB_TOKEN", &Secret::File(path.clone()))
        };
        assert_eq!(of_file("hunter2 $x\n").unwrap(), "hunter2 $x");
        let longest = "s".repeat(64 << 10);
        assert_eq!(of_file(&format!("{longest}\n")).unwrap(), longest);
        for (wrong, why) in [
            ("", "it is empty"),
            ("\n", "it is empty"),
            ("two\nlines\n", "it contains a line break"),
            ("a\0b", "it contains the character U+0000"),
            ("a\tb", "it contains a tab"),
            // systemd leaves out the whole variable.
            ("a\u{ffff}b", "it contains the character U+FFFF"),
            ("a\u{fdd0}b", "it contains the character U+FDD0"),
            (&format!("{longest}s\n"), "it is longer than 64 KiB"),
        ] {
            let error = format!("{:#}", of_file(wrong).unwrap_err());
            assert!(
                error.contains("WEB_TOKEN") && error.ends_with(why),
                "{error}"
            );
        }
    }
}
