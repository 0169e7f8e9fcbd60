use std::time::Duration;

use proptest::prelude::*;

use super::Action::{Delete, NotReplaced, Read, Replace, Update, Write};
use super::{Action, Loss, Operation, Verdict, linearize, lost};

fn at(time: u64) -> Duration {
    Duration::from_millis(time)
}

fn call(invoked: u64, returned: u64, action: Action) -> Operation {
    Operation {
        invoked: at(invoked),
        returned: Some(at(returned)),
        action,
    }
}

fn unanswered(invoked: u64, action: Action) -> Operation {
    Operation {
        invoked: at(invoked),
        returned: None,
        action,
    }
}

#[test]
fn histories_that_a_document_explains_are_linearizable() {
    for (name, calls) in [
        ("nothing", vec![]),
        (
            "one after the other",
            vec![
                call(0, 1, Write(1)),
                call(2, 3, Read(Some(1))),
                call(4, 5, Delete),
                call(6, 7, Read(None)),
            ],
        ),
        (
            "reads during a write see either",
            vec![
                call(0, 1, Write(1)),
                call(2, 9, Update(2)),
                call(3, 4, Read(Some(1))),
                call(5, 6, Read(Some(2))),
            ],
        ),
        (
            "writes at once, in any order",
            vec![
                call(0, 9, Write(1)),
                call(0, 9, Write(2)),
                call(10, 11, Read(Some(1))),
            ],
        ),
        (
            "an unanswered write that took effect",
            vec![
                call(0, 1, Write(1)),
                unanswered(2, Update(2)),
                call(8, 9, Read(Some(1))),
                call(10, 11, Read(Some(2))),
            ],
        ),
        (
            "an unanswered write that did not",
            vec![
                call(0, 1, Write(1)),
                unanswered(2, Update(2)),
                call(8, 9, Read(Some(1))),
            ],
        ),
        (
            "an unanswered delete",
            vec![
                call(0, 1, Write(1)),
                unanswered(2, Delete),
                call(8, 9, Read(None)),
            ],
        ),
        (
            "conditional updates",
            vec![
                call(0, 1, Write(1)),
                call(2, 9, Replace(1, 2)),
                call(2, 9, NotReplaced(1)),
                call(10, 11, Read(Some(2))),
            ],
        ),
        (
            "a write that makes an update possible",
            vec![unanswered(0, Write(1)), call(5, 6, Update(2))],
        ),
    ] {
        assert_eq!(linearize(&calls), Verdict::Linearizable, "{name}");
    }
}

#[test]
fn a_history_that_no_document_explains_names_the_call() {
    for (name, calls, violated) in [
        (
            "an old value",
            vec![
                call(0, 1, Write(1)),
                call(2, 3, Update(2)),
                call(4, 5, Read(Some(1))),
            ],
            2,
        ),
        (
            "a lost write",
            vec![call(0, 1, Write(1)), call(2, 3, Read(None))],
            1,
        ),
        (
            "a value of nobody",
            vec![call(0, 1, Write(1)), call(2, 3, Read(Some(7)))],
            1,
        ),
        (
            "back in time",
            vec![
                call(0, 1, Write(1)),
                call(2, 20, Update(2)),
                call(3, 4, Read(Some(2))),
                call(5, 6, Read(Some(1))),
            ],
            3,
        ),
        (
            "both replaced the same",
            vec![
                call(0, 1, Write(1)),
                call(2, 9, Replace(1, 2)),
                call(3, 10, Replace(1, 3)),
            ],
            2,
        ),
        (
            "replaced without a reason not to",
            vec![call(0, 1, Write(1)), call(2, 3, NotReplaced(1))],
            1,
        ),
        (
            "an unanswered write before it was sent",
            vec![
                call(0, 1, Write(1)),
                call(2, 3, Read(Some(2))),
                unanswered(4, Update(2)),
            ],
            1,
        ),
        (
            "an update of what was deleted",
            vec![
                call(0, 1, Write(1)),
                call(2, 3, Delete),
                call(4, 5, Update(2)),
            ],
            2,
        ),
    ] {
        assert_eq!(
            linearize(&calls),
            Verdict::Violated(calls[violated].clone()),
            "{name}"
        );
    }
}

#[test]
fn many_calls_at_once_are_decided() {
    let mut calls = vec![call(0, 1, Write(0))];
    // Twenty writers and their unanswered calls, for a thousand rounds.
    for round in 0..1000 {
        let begin = 10 + round * 100;
        let value = |writer: u64| round * 20 + writer + 1;
        for writer in 0..20 {
            calls.push(call(begin, begin + 50 + writer, Update(value(writer))));
        }
        calls.push(unanswered(begin, Update(1_000_000 + round)));
        calls.push(call(begin + 80, begin + 90, Read(Some(value(round % 20)))));
    }
    assert_eq!(linearize(&calls), Verdict::Linearizable);
    calls.push(call(200_000, 200_001, Read(Some(3))));
    assert!(matches!(
        linearize(&calls),
        Verdict::Violated(_) | Verdict::Undecided
    ));
}

#[test]
fn what_was_acknowledged_must_be_found() {
    let (first, second) = (call(0, 1, Write(1)), call(2, 3, Update(2)));
    let both = [first.clone(), second.clone()];
    assert_eq!(lost(&both, Some(2)), None);
    assert_eq!(
        lost(&both, Some(1)),
        Some(Loss::Overwritten(second.clone()))
    );
    assert_eq!(lost(&both, None), Some(Loss::Gone(first.clone())));
    assert_eq!(lost(&both, Some(9)), Some(Loss::Unknown(9)));
    // At once: either can be the last.
    let at_once = [call(0, 3, Write(1)), call(2, 5, Update(2))];
    assert_eq!(
        (lost(&at_once, Some(1)), lost(&at_once, Some(2))),
        (None, None)
    );
    // Without an answer: it can be the last, or nothing.
    let maybe = [
        first.clone(),
        unanswered(2, Update(2)),
        call(4, 5, Update(3)),
    ];
    assert_eq!((lost(&maybe, Some(2)), lost(&maybe, Some(3))), (None, None));
    assert_eq!(
        lost(&maybe, Some(1)),
        Some(Loss::Overwritten(call(4, 5, Update(3))))
    );
    // Nothing was acknowledged.
    assert_eq!(lost(&[unanswered(0, Write(1))], None), None);
    let deleted = [first, call(2, 3, Delete)];
    assert_eq!(lost(&deleted, None), None);
    assert_eq!(
        lost(&deleted, Some(1)),
        Some(Loss::Overwritten(deleted[1].clone()))
    );
}

/// Every order and every choice of unanswered calls, tried one by one.
fn brute_force(calls: &[Operation]) -> bool {
    fn search(calls: &[Operation], used: u32, value: Option<u64>) -> bool {
        let open = |index: &usize| used & (1 << index) == 0;
        let left: Vec<usize> = (0..calls.len()).filter(open).collect();
        if left.iter().all(|index| calls[*index].returned.is_none()) {
            return true;
        }
        left.iter().any(|index| {
            let before = |other: &usize| {
                calls[*other]
                    .returned
                    .is_some_and(|returned| returned < calls[*index].invoked)
            };
            let next = calls[*index].action.apply(value);
            !left.iter().any(before)
                && next.is_some_and(|value| search(calls, used | (1 << index), value))
        })
    }
    search(calls, 0, None)
}

fn action() -> impl Strategy<Value = Action> {
    let value = 0..4u64;
    prop_oneof![
        value.clone().prop_map(Write),
        value.clone().prop_map(Update),
        (value.clone(), value.clone()).prop_map(|(from, to)| Replace(from, to)),
        value.clone().prop_map(NotReplaced),
        Just(Delete),
        proptest::option::of(value).prop_map(Read),
    ]
}

fn any_call() -> impl Strategy<Value = Operation> {
    (0..12u64, proptest::option::weighted(0.8, 0..8u64), action()).prop_map(
        |(invoked, time, action)| {
            // A read without an answer says nothing.
            let reads = !action.is_write();
            let time = if reads { time.or(Some(1)) } else { time };
            Operation {
                invoked: at(invoked),
                returned: time.map(|time| at(invoked + time)),
                action,
            }
        },
    )
}

/// What a client asks for; the answer is the document's.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Read,
    Update,
    ReplaceLast,
    Delete,
    Create,
}

/// A history of a real document: each call takes effect at one moment, in the order of the list.
fn real() -> impl Strategy<Value = Vec<Operation>> {
    let asked = prop_oneof![
        4 => Just(Asked::Read),
        3 => Just(Asked::Update),
        2 => Just(Asked::ReplaceLast),
        1 => Just(Asked::Delete),
        1 => Just(Asked::Create),
    ];
    let one = (asked, 0..40u64, 0..40u64, 0..10u32);
    proptest::collection::vec(one, 1..60).prop_map(|all| {
        let (mut value, mut calls) = (None, Vec::new());
        for (index, (asked, before, after, luck)) in all.into_iter().enumerate() {
            let new = index as u64 + 1;
            let action = match asked {
                Asked::Create => Write(new),
                Asked::Update if value.is_some() => Update(new),
                Asked::Delete if value.is_some() => Delete,
                // Of a guess that is wrong at times.
                Asked::ReplaceLast => match value {
                    Some(old) if luck > 3 => Replace(old, new),
                    _ if value == Some(1) => Read(value),
                    _ => NotReplaced(1),
                },
                _ => Read(value),
            };
            let moment = 100 + 10 * index as u64;
            let (invoked, returned) = (moment - before, moment + after);
            let lost = luck == 0 && action.is_write();
            // Half of the calls without an answer had no effect.
            if !lost || new.is_multiple_of(2) {
                value = action.apply(value).expect("the answer is the document's");
            }
            calls.push(Operation {
                invoked: at(invoked),
                returned: (!lost).then(|| at(returned)),
                action,
            });
        }
        calls
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_search_decides_like_trying_every_order(calls in proptest::collection::vec(any_call(), 0..7)) {
        let linearizable = linearize(&calls) == Verdict::Linearizable;
        prop_assert_eq!(linearizable, brute_force(&calls));
    }
}

proptest! {
    #[test]
    fn a_real_document_is_linearizable_and_loses_nothing(calls in real()) {
        prop_assert_eq!(linearize(&calls), Verdict::Linearizable);
        let found = calls.iter().rev().find_map(|one| match one.action {
            Read(value) => Some(value),
            _ => None,
        });
        let last = calls.last().map(|one| one.action);
        if let (Some(found), Some(Read(_))) = (found, last) {
            // Creations after a deletion make the end of a document ambiguous.
            let deletes = calls.iter().any(|one| one.action == Delete);
            prop_assume!(!deletes);
            prop_assert_eq!(lost(&calls, found), None);
        }
    }

    #[test]
    fn a_read_of_what_was_overwritten_is_found(mut calls in real(), pick in any::<prop::sample::Index>()) {
        let end = calls.iter().filter_map(|one| one.returned).max().unwrap_or_default();
        let after = |time: u64| end + at(time);
        let old = pick.index(1000) as u64 + 10_000;
        for (from, action) in [(1, Write(old)), (3, Write(old + 1)), (5, Read(Some(old)))] {
            calls.push(Operation { invoked: after(from), returned: Some(after(from + 1)), action });
        }
        let read = calls.last().cloned().expect("there are calls");
        prop_assert_eq!(linearize(&calls), Verdict::Violated(read));
    }

    #[test]
    fn an_answer_that_the_document_never_gave_is_found(mut calls in real(), pick in any::<prop::sample::Index>()) {
        let reads: Vec<usize> = (0..calls.len()).filter(|index| matches!(calls[*index].action, Read(_))).collect();
        prop_assume!(!reads.is_empty());
        let read = reads[pick.index(reads.len())];
        calls[read].action = Read(Some(99_999));
        prop_assert!(matches!(linearize(&calls), Verdict::Violated(_)));
    }
}
