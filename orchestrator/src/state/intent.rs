//! The record of what the user asked for beside the topology: written atomically, by steps only.

use std::path::PathBuf;

use anyhow::Context as _;
use pspd_model::intent::Intent;

use super::{Home, files};

impl Home {
    /// Reads the intent; there is none without a record. A damaged record is an error: pspd never drops what the user
    /// asked for.
    pub fn intent(&self) -> anyhow::Result<Intent> {
        let path = self.intent_file();
        let Some(text) = files::read_if_there(&path)? else {
            return Ok(Intent::default());
        };
        serde_json::from_slice(&text).with_context(|| {
            format!(
                "failed to read the recorded intent `{}`; remove the file to forget which domains were stopped and which \
                 faults are active",
                path.display()
            )
        })
    }

    pub fn record_intent(&self, intent: &Intent) -> anyhow::Result<()> {
        let path = self.intent_file();
        if intent.is_empty() {
            return files::remove_if_there(&path);
        }
        files::write_atomically(&path, &serde_json::to_vec_pretty(intent)?, 0o600)
    }

    fn intent_file(&self) -> PathBuf {
        self.path().join("intent.json")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Paths;
    use pspd_model::intent::PowerIntent;
    use pspd_model::spec::Name;

    #[test]
    fn intent_is_kept_until_it_is_empty_and_a_damaged_record_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = Some(folder.path().to_owned());
        let paths = Paths::resolve(path.clone(), path).unwrap();
        let home = paths.deployment(&Name::new("demo").unwrap());
        home.create().unwrap();
        assert_eq!(home.intent().unwrap(), Intent::default());
        let mut intent = Intent::default();
        let web = Name::new("web").unwrap();
        intent.power.insert(web, PowerIntent::Stopped);
        home.record_intent(&intent).unwrap();
        assert_eq!(home.intent().unwrap(), intent);
        std::fs::write(home.intent_file(), "{").unwrap();
        let error = format!("{:#}", home.intent().unwrap_err());
        assert!(
            error.contains("intent.json") && error.contains("remove"),
            "{error}"
        );
        home.record_intent(&Intent::default()).unwrap();
        assert!(!home.intent_file().exists());
    }
}
