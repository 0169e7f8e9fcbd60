//! Something that must hold, and whether it did.

use serde::Serialize;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    pub name: String,
    pub passed: bool,
    /// What was measured or found.
    pub detail: String,
}

impl Check {
    pub(super) fn passed(name: impl Into<String>, detail: String) -> Check {
        Check {
            name: name.into(),
            passed: true,
            detail,
        }
    }

    pub(super) fn failed(name: impl Into<String>, detail: String) -> Check {
        Check {
            name: name.into(),
            passed: false,
            detail,
        }
    }

    pub(super) fn of(name: impl Into<String>, passed: bool, detail: String) -> Check {
        Check {
            name: name.into(),
            passed,
            detail,
        }
    }
}
