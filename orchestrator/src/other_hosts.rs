//! What the machine that started this run says of the other hosts, by this process's standard input.

use std::collections::BTreeSet;
use std::io::BufRead;
use std::sync::{Mutex, PoisonError};

use pspd_model::spec::Name;

/// Before the name of a host whose run failed.
const FAILED: &str = "failed ";

/// Of this process, as its input is.
static ALL: Mutex<BTreeSet<Name>> = Mutex::new(BTreeSet::new());

/// The line that says that a host's run failed.
pub(crate) fn failed_line(host: &Name) -> String {
    format!("{FAILED}{host}\n")
}

/// Keeps what is said until the input ends.
pub(crate) fn listen(input: impl BufRead) {
    // An error is an end, too.
    for line in input.lines().map_while(Result::ok) {
        let host = line
            .strip_prefix(FAILED)
            .and_then(|name| Name::new(name).ok());
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend(host);
    }
}

/// Whether a host's run failed, so that nothing more comes from it.
pub(crate) fn has_failed(host: &Name) -> bool {
    ALL.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .contains(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_failed_once_that_is_said() {
        let [one, two] = ["others-one", "others-two"].map(|name| Name::new(name).unwrap());
        listen(format!("nonsense\nfailed ???\n{}", failed_line(&one)).as_bytes());
        assert!(has_failed(&one));
        assert!(!has_failed(&two));
    }
}
