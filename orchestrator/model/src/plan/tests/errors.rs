//! What errors say, and what they advise.

use std::collections::HashSet;
use std::mem::discriminant;

use super::*;
use crate::spec::VolumeId;

/// One error of each kind.
fn one_of_each() -> Vec<PlanError> {
    use PlanError::*;
    let domain = || name("web");
    let deployment = || name("demo");
    let fault = || name("link-1");
    let text = || "data".to_owned();
    let (small, large) = (Size::mib(64), Size::gib(4));
    let volume = |volume: &str| VolumeId {
        domain: domain(),
        volume: name(volume),
    };
    vec![
        Foreign {
            kind: "domain",
            name: text(),
        },
        Shrinks {
            disk: text(),
            have: large,
            want: small,
        },
        SmallerThanImage {
            domain: text(),
            have: small,
            image: text(),
            least: large,
        },
        ProcessStopped {
            domain: domain(),
            pid: 7,
        },
        NotUp {
            deployment: deployment(),
        },
        NotDefined { domain: domain() },
        NotRunning {
            domain: domain(),
            power: Power::Off,
            saved: false,
        },
        NotRunning {
            domain: domain(),
            power: Power::Off,
            saved: true,
        },
        NotRunning {
            domain: domain(),
            power: Power::Saved,
            saved: false,
        },
        Faulty {
            domain: domain(),
            fault: fault(),
        },
        Running { domain: domain() },
        NotSaved { domain: domain() },
        NothingSaved {
            deployment: deployment(),
        },
        Unusable {
            domain: domain(),
            problem: "its file is damaged",
        },
        TooLittle {
            domain: domain(),
            asked: small,
            least: large,
        },
        OverMaximum {
            domain: domain(),
            asked: text(),
            maximum: text(),
        },
        NoKeys {
            deployment: deployment(),
        },
        NotCached { image: text() },
        Unmerged { domain: domain() },
        UnclearVolume {
            file: text(),
            one: volume("a"),
            other: volume("b"),
        },
        OldVolume { file: text() },
        VolumeGone {
            domain: domain(),
            file: text(),
        },
        DiskOverwritten {
            domain: domain(),
            disk: text(),
        },
        DiskReplaced { domain: domain() },
        OtherBase { domain: domain() },
        NeedsRunning { domain: domain() },
        NeedsLab {
            deployment: deployment(),
            connection: Connection::Uri("qemu:///system".into()),
        },
        OneDomain { domain: domain() },
        Unplugged { domain: domain() },
        TooManyDelays {
            domain: domain(),
            most: 4,
        },
        Delayed { domain: domain() },
        Disturbed { domain: domain() },
        SystemDiskFails { domain: domain() },
        NoService { domain: domain() },
        MoreMemory {
            domain: domain(),
            has: small,
        },
        SnapshotExists {
            snapshot: name("a"),
        },
        FaultActive { fault: fault() },
        UnknownFault {
            id: fault(),
            active: "none".into(),
        },
    ]
}

#[test]
fn each_error_says_what_is_wrong_and_its_hint_what_to_do() {
    let errors = one_of_each();
    let kinds: HashSet<_> = errors.iter().map(discriminant).collect();
    let all = include_str!("../error.rs").matches("#[error(").count();
    assert_eq!(kinds.len(), all, "some kinds of errors are not tested");
    for error in errors {
        let message = error.to_string();
        assert!(!message.contains("Run `"), "{message}");
        assert!(!message.contains("; "), "{message}");
        assert!(!message.ends_with('.'), "{message}");
        let Some(hint) = error.hint() else {
            continue;
        };
        assert!(hint.starts_with(char::is_uppercase), "{hint}");
        assert!(!hint.ends_with('.'), "{hint}");
        assert!(!message.contains(&*hint), "{message}: {hint}");
    }
}
