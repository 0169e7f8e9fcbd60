//! What the machine that started this run says of the other hosts, by this process's standard input.

use std::collections::BTreeSet;
use std::io::BufRead;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pspd_model::plan::Meeting;
use pspd_model::spec::Name;
use serde::{Deserialize, Serialize};

/// What is said, one JSON value in each line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Said {
    /// A host's run failed, so that nothing more comes from it.
    Failed(Name),
    /// All hosts are as far.
    Met(Meeting),
}

#[derive(Debug)]
struct Heard {
    failed: BTreeSet<Name>,
    met: BTreeSet<Meeting>,
}

/// Of this process, as its input is.
static HEARD: Mutex<Heard> = Mutex::new(Heard {
    failed: BTreeSet::new(),
    met: BTreeSet::new(),
});

impl Said {
    pub(crate) fn line(&self) -> String {
        let mut line = serde_json::to_string(self).expect("names and words are text");
        line.push('\n');
        line
    }
}

/// Keeps what is said until the input ends.
pub(crate) fn listen(input: impl BufRead) {
    // An error is an end, too.
    for line in input.lines().map_while(Result::ok) {
        match serde_json::from_str(&line) {
            Ok(Said::Failed(host)) => _ = heard().failed.insert(host),
            Ok(Said::Met(when)) => _ = heard().met.insert(when),
            Err(_) => {}
        }
    }
}

pub(crate) fn has_failed(host: &Name) -> bool {
    heard().failed.contains(host)
}

/// A host whose run failed.
pub(crate) fn first_failed() -> Option<Name> {
    heard().failed.first().cloned()
}

pub(crate) fn have_met(when: Meeting) -> bool {
    heard().met.contains(&when)
}

fn heard() -> MutexGuard<'static, Heard> {
    HEARD.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_heard() {
        let [one, two] = ["others-one", "others-two"].map(|name| Name::new(name).unwrap());
        let said = [Said::Failed(one.clone()), Said::Met(Meeting::Saved)];
        let lines: String = said.iter().map(Said::line).collect();
        listen(format!("nonsense\n{{\"failed\":\"???\"}}\n{lines}").as_bytes());
        assert!(has_failed(&one));
        assert!(!has_failed(&two));
        assert_eq!(first_failed(), Some(one));
        assert!(have_met(Meeting::Saved));
        assert!(!have_met(Meeting::Paused));
    }
}
