//! The keys that the hosts of one deployment share: so their guests trust the same certificates, and let the same pspd in.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use pspd_model::hint::Hinted;
use pspd_model::spec::Name;

use super::certificate::Authority;
use super::{AUTHORITY, KeyFile, SSH, check, missing, ssh, store};

/// The texts of the shared keys by their files, created where they are missing; `folder` is the folder of keys.
pub fn shared(folder: &Path, deployment: &Name) -> Result<BTreeMap<String, String>> {
    Authority::create(&folder.join(AUTHORITY), deployment)?;
    ssh::create(&folder.join(SSH), &format!("pspd@{deployment}"))?;
    let keys = [AUTHORITY, SSH].into_iter().map(|file| {
        let path = folder.join(file);
        let text = store::read(&path)?.with_context(|| missing(&path))?;
        Ok((file.to_owned(), text))
    });
    keys.collect()
}

/// Places shared keys of another machine, which are the only ones.
pub fn place(folder: &Path, keys: &BTreeMap<String, String>) -> Result<()> {
    for (file, text) in keys {
        let kind = match file.as_str() {
            AUTHORITY => KeyFile::Authority,
            SSH => KeyFile::Ssh,
            _ => bail!("`{file}` is not a key that hosts share"),
        };
        check(kind, text).with_context(|| format!("the key `{file}` cannot be used"))?;
        let there = store::read_or_create(&folder.join(file), || Ok(text.clone()))?;
        ensure!(
            there == *text,
            Hinted::new(
                format!(
                    "the deployment there has another `{file}` in `{}`",
                    folder.display()
                ),
                "Take it down there with `pspd down --volumes` first",
            )
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_keys_are_placed_once_and_never_replaced() {
        let [here, there] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let name = Name::new("demo").unwrap();
        let keys = shared(here.path(), &name).unwrap();
        assert_eq!(shared(here.path(), &name).unwrap(), keys);
        for _ in 0..2 {
            place(there.path(), &keys).unwrap();
        }
        assert_eq!(shared(there.path(), &name).unwrap(), keys);

        let others = shared(tempfile::tempdir().unwrap().path(), &name).unwrap();
        let error = place(there.path(), &others).unwrap_err();
        assert!(
            error.to_string().contains("has another `ca.pem`"),
            "{error}"
        );
        assert_eq!(shared(there.path(), &name).unwrap(), keys);
    }

    #[test]
    fn what_is_not_a_shared_key_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for (file, text) in [
            ("../spec.json", ""),
            ("client.pem", ""),
            (AUTHORITY, "no key"),
        ] {
            let keys = BTreeMap::from([(file.to_owned(), text.to_owned())]);
            place(folder.path(), &keys).unwrap_err();
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
