//! What the recorded calls on documents say, with what is found at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pspd_model::history::{Action, Loss, Operation, Verdict, linearize, lost};
use serde::Serialize;

use super::check::Check;
use crate::bench::load::{Document, Found, Outcome, Recorded};
use crate::hint::told;

/// The maximum number of violations that are described.
const SHOWN: usize = 5;

/// Calls on documents by what became of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct History {
    /// The collection that has the documents.
    pub collection: String,
    pub documents: usize,
    pub reads: usize,
    pub acknowledged_writes: usize,
    /// Also those that were never sent, for want of a connection.
    pub refused_writes: usize,
    /// Writes without an answer: they may have taken effect.
    pub unanswered_writes: usize,
}

/// Checks that acknowledged writes are there and refused ones are not, and that each document is linearizable. `end` is
/// when the documents began to be read, and `found` what was found.
pub(super) fn judge(
    collection: &str,
    recorded: &[Recorded],
    found: anyhow::Result<Vec<Found>>,
    end: Duration,
) -> (History, Vec<Check>) {
    let mut history = History {
        collection: collection.to_owned(),
        ..History::default()
    };
    let mut documents: BTreeMap<Document, Vec<Operation>> = BTreeMap::new();
    let mut refused = BTreeSet::new();
    for call in recorded {
        let operation = |action, returned| Operation {
            invoked: call.invoked,
            returned,
            action,
        };
        match call.outcome {
            Outcome::Answered(action) => {
                match action {
                    Action::Read(_) => history.reads += 1,
                    _ => history.acknowledged_writes += 1,
                }
                let operations = documents.entry(call.document).or_default();
                operations.push(operation(action, Some(call.returned)));
            }
            Outcome::Unknown(action) => {
                history.unanswered_writes += 1;
                let operations = documents.entry(call.document).or_default();
                operations.push(operation(action, None));
            }
            Outcome::Refused(action) => {
                history.refused_writes += 1;
                refused.extend(written(action));
            }
            Outcome::Nothing => {}
        }
    }
    history.documents = documents.len();
    let found = match found {
        Ok(found) => found,
        Err(error) => {
            let cause = format!(
                "the documents could not be read at the end: {}",
                told(&error)
            );
            let checks = ["acknowledged writes", "linearizable"];
            let checks = checks.map(|name| Check::failed(name, cause.clone()));
            return (history, checks.to_vec());
        }
    };
    let (found, mut wrong) = by_document(found, &mut documents);
    for (document, operations) in &documents {
        let value = found.get(document).copied();
        if let Some(loss) = lost(operations, value) {
            wrong.push(describe_loss(*document, &loss, &refused));
        }
    }
    let whole = format!(
        "found all {} acknowledged writes, and none of the {} that were refused or never sent; unanswered writes: {}",
        history.acknowledged_writes, history.refused_writes, history.unanswered_writes
    );
    let mut broken = Vec::new();
    for (document, operations) in &mut documents {
        let value = found.get(document).copied();
        operations.push(Operation {
            invoked: end,
            returned: Some(end),
            action: Action::Read(value),
        });
        match linearize(operations) {
            Verdict::Linearizable => {}
            Verdict::Violated(call) => broken.push(format!(
                "no order of the calls on {} explains this one: {}",
                name(*document),
                describe(&call)
            )),
            Verdict::Undecided => broken.push(format!(
                "{} had too many calls at once to decide; use more documents or a lower rate",
                name(*document)
            )),
        }
    }
    let calls = history.reads + history.acknowledged_writes + history.unanswered_writes;
    let explained = format!("{calls} calls on {} documents", history.documents);
    let checks = vec![
        verdict("acknowledged writes", whole, wrong),
        verdict("linearizable", explained, broken),
    ];
    (history, checks)
}

/// The value of each document that is found. A document of which nothing is known is a violation.
fn by_document(
    found: Vec<Found>,
    documents: &mut BTreeMap<Document, Vec<Operation>>,
) -> (BTreeMap<Document, u64>, Vec<String>) {
    let (mut values, mut wrong) = (BTreeMap::new(), Vec::new());
    for one in found {
        let Some(value) = one.value else {
            wrong.push("a document has content that no call wrote".to_owned());
            continue;
        };
        let document = one
            .shared
            .map_or(Document::Created(value), Document::Shared);
        documents.entry(document).or_default();
        if values.insert(document, value).is_some() {
            wrong.push(format!("{} exists twice", name(document)));
        }
    }
    (values, wrong)
}

fn verdict(name: &'static str, whole: String, wrong: Vec<String>) -> Check {
    if wrong.is_empty() {
        return Check::passed(name, whole);
    }
    let more = match wrong.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    let shown = &wrong[..wrong.len().min(SHOWN)];
    Check::failed(name, shown.join("; ") + &more)
}

fn written(action: Action) -> Option<u64> {
    match action {
        Action::Write(value) | Action::Update(value) => Some(value),
        _ => None,
    }
}

fn name(document: Document) -> String {
    match document {
        Document::Shared(index) => format!("shared document {index}"),
        Document::Created(value) => format!("the document created with {value}"),
    }
}

fn describe_loss(document: Document, loss: &Loss, refused: &BTreeSet<u64>) -> String {
    let document = name(document);
    match loss {
        Loss::Overwritten(call) => {
            format!(
                "{document} has an older value than this acknowledged write: {}",
                describe(call)
            )
        }
        Loss::Gone(call) => {
            format!(
                "{document} is missing, after this acknowledged write: {}",
                describe(call)
            )
        }
        Loss::Unknown(value) if refused.contains(value) => {
            format!("{document} has the value {value}, whose write was refused")
        }
        Loss::Unknown(value) => format!("{document} has the value {value}, which no call wrote"),
    }
}

fn describe(call: &Operation) -> String {
    let action = match call.action {
        Action::Read(None) => "read nothing".to_owned(),
        Action::Read(Some(value)) => format!("read {value}"),
        Action::Write(value) => format!("create {value}"),
        Action::Update(value) => format!("update to {value}"),
        other => format!("{other:?}"),
    };
    let from = call.invoked.as_secs_f64();
    match call.returned {
        Some(to) => format!("{action}, from {from:.3} s to {:.3} s", to.as_secs_f64()),
        None => format!("{action}, from {from:.3} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: u64) -> Duration {
        Duration::from_secs(time)
    }

    fn call(document: Document, time: u64, outcome: Outcome) -> Recorded {
        Recorded {
            document,
            invoked: at(time),
            returned: at(time + 1),
            outcome,
        }
    }

    fn judged(calls: &[Recorded], found: &[(Option<usize>, u64)]) -> Vec<Check> {
        let found = found.iter().map(|(shared, value)| Found {
            shared: *shared,
            value: Some(*value),
        });
        judge("it", calls, Ok(found.collect()), at(100)).1
    }

    #[test]
    fn what_is_found_is_compared_with_what_was_answered() {
        let (shared, created) = (Document::Shared(0), Document::Created(5));
        let calls = [
            call(shared, 0, Outcome::Answered(Action::Write(0))),
            call(shared, 2, Outcome::Answered(Action::Update(3))),
            call(shared, 4, Outcome::Answered(Action::Read(Some(3)))),
            call(shared, 6, Outcome::Refused(Action::Update(4))),
            call(created, 8, Outcome::Answered(Action::Write(5))),
            call(Document::Created(6), 9, Outcome::Unknown(Action::Write(6))),
            call(Document::Created(7), 9, Outcome::Refused(Action::Write(7))),
        ];
        let text = |checks: Vec<Check>| {
            checks
                .into_iter()
                .map(|one| (one.passed, one.detail))
                .collect::<Vec<_>>()
        };
        let whole = "found all 3 acknowledged writes, and none of the 2 that were refused or never sent; unanswered writes: 1"
            .to_owned();
        let explained = "5 calls on 3 documents".to_owned();
        let good = vec![(true, whole), (true, explained)];
        assert_eq!(text(judged(&calls, &[(Some(0), 3), (None, 5)])), good);
        assert_eq!(
            text(judged(&calls, &[(Some(0), 3), (None, 5), (None, 6)])),
            good
        );
        for (found, expected) in [
            (
                vec![(Some(0), 3)],
                "the document created with 5 is missing, after this acknowledged write: create 5, from 8.000 s to 9.000 s",
            ),
            (
                vec![(Some(0), 0), (None, 5)],
                "shared document 0 has an older value than this acknowledged write: update to 3, from 2.000 s to 3.000 s",
            ),
            (
                vec![(Some(0), 4), (None, 5)],
                "shared document 0 has the value 4, whose write was refused",
            ),
            (
                vec![(Some(0), 3), (None, 5), (None, 7)],
                "the document created with 7 has the value 7, whose write was refused",
            ),
            (
                vec![(Some(0), 3), (None, 5), (None, 9)],
                "the document created with 9 has the value 9, which no call wrote",
            ),
        ] {
            let checks = judged(&calls, &found);
            assert_eq!(
                checks[0],
                Check::failed("acknowledged writes", expected.to_owned())
            );
            assert!(!checks[1].passed);
        }
    }

    #[test]
    fn a_stale_read_is_a_violation_although_nothing_is_lost() {
        let shared = Document::Shared(0);
        let calls = [
            call(shared, 0, Outcome::Answered(Action::Write(0))),
            call(shared, 2, Outcome::Answered(Action::Update(3))),
            call(shared, 4, Outcome::Answered(Action::Read(Some(0)))),
        ];
        let checks = judged(&calls, &[(Some(0), 3)]);
        assert!(checks[0].passed);
        let expected = "no order of the calls on shared document 0 explains this one: read 0, from 4.000 s to 5.000 s";
        assert_eq!(
            checks[1],
            Check::failed("linearizable", expected.to_owned())
        );
        let (_, checks) = judge("it", &calls, Err(anyhow::anyhow!("no connection")), at(100));
        assert!(checks.iter().all(|check| !check.passed));
    }
}
