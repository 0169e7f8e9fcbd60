//! Hosts that a fault cuts off from the others: the switch between them passes none of their frames.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use pspd_model::spec::Name;
use serde::{Deserialize, Serialize};

use crate::state::{Home, read_if_there, write_atomically};

/// When a host was cut off, and until when it is; without an end, until it is healed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cut {
    pub since: Timestamp,
    pub until: Option<Timestamp>,
}

impl Cut {
    fn is_over(self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

/// The hosts that are cut off now.
pub(crate) fn active(home: &Home) -> Result<BTreeMap<Name, Cut>> {
    let Some(text) = read_if_there(&home.cuts())? else {
        return Ok(BTreeMap::new());
    };
    let mut cuts: BTreeMap<Name, Cut> = serde_json::from_slice(&text)
        .with_context(|| format!("`{}` is damaged", home.cuts().display()))?;
    let now = Timestamp::now();
    cuts.retain(|_, cut| !cut.is_over(now));
    Ok(cuts)
}

/// Cuts a host off, for this time or until it is healed. The caller has the deployment's lock.
pub(crate) fn cut(home: &Home, host: &Name, lasts: Option<Duration>) -> Result<()> {
    let mut cuts = active(home)?;
    let since = Timestamp::now();
    let until = lasts.map(|lasts| since + lasts);
    cuts.insert(host.clone(), Cut { since, until });
    write(home, &cuts)
}

/// Connects these hosts again. The caller has the deployment's lock.
pub(crate) fn heal<'a>(home: &Home, hosts: impl IntoIterator<Item = &'a Name>) -> Result<()> {
    let mut cuts = active(home)?;
    if cuts.is_empty() {
        return Ok(());
    }
    for host in hosts {
        cuts.remove(host);
    }
    write(home, &cuts)
}

fn write(home: &Home, cuts: &BTreeMap<Name, Cut>) -> Result<()> {
    write_atomically(&home.cuts(), &serde_json::to_vec(cuts)?, 0o600)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_healed_where_nothing_is_up() {
        let folder = tempfile::tempdir().unwrap();
        let paths = crate::state::Paths {
            state: folder.path().join("state"),
            cache: folder.path().join("cache"),
        };
        let (home, host) = (
            paths.deployment(&Name::new("demo").unwrap()),
            Name::new("beta").unwrap(),
        );
        heal(&home, [&host]).unwrap();
        assert!(active(&home).unwrap().is_empty());
        assert!(!paths.state.exists());
    }
}
