//! Linearizability of one document: is there an order of all calls, each at one moment between when it was sent and when it
//! was answered, that a document which does one thing at a time would answer like that?
//!
//! The search of Wing and Gong ("Testing and Verifying Concurrent Objects", 1993), with the memory of Lowe ("Testing for
//! linearizability", 2017): what was reached once is not tried again. Two orders with the same effect are tried once.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::{Action, Operation};

/// The maximum number of states that are tried: some hundred MiB, and seconds.
const MOST: usize = 1 << 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Linearizable,
    /// However the calls before it are ordered, this one cannot be answered like that.
    Violated(Operation),
    /// Too many calls at once.
    Undecided,
}

/// Checks the calls on one document, which does not exist before them. Refused calls are not among them.
pub fn linearize(operations: &[Operation]) -> Verdict {
    let search = Search::new(operations);
    let mut tried = HashSet::new();
    let mut open = vec![search.settled(State::default())];
    // How many calls took effect at most, and the one that could not be next.
    let mut stuck = (0, 0);
    while let Some(state) = open.pop() {
        if state.first == search.answered.len() {
            return Verdict::Linearizable;
        }
        let next = search.next(&state);
        stuck = stuck.max((state.count(), next.due));
        for reached in search.after(&state, &next) {
            if let Some(read) = search.stranded(state.value, &reached) {
                stuck = stuck.max((reached.count(), read));
            } else if tried.insert(reached.clone()) {
                open.push(reached);
            }
        }
        if tried.len() > MOST {
            return Verdict::Undecided;
        }
    }
    Verdict::Violated(search.answered[stuck.1].clone())
}

/// Which calls have taken effect, and what they made of the document.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
struct State {
    /// All answered calls before this one have taken effect.
    first: usize,
    /// Answered calls after it that have, in ascending order.
    beyond: Vec<usize>,
    /// Calls without an answer that have, in ascending order.
    unanswered: Vec<usize>,
    value: Option<u64>,
}

/// The calls that can be the next to take effect: those that were sent before any other was answered.
struct Next {
    answered: Vec<usize>,
    unanswered: Vec<usize>,
    /// The one that was answered first.
    due: usize,
}

struct Search<'a> {
    /// In the order in which they were sent.
    answered: Vec<&'a Operation>,
    unanswered: Vec<&'a Operation>,
    /// The answered reads of each value.
    reads: HashMap<u64, Vec<usize>>,
    /// How many calls write a value.
    writers: HashMap<u64, usize>,
    /// Values on which the answer of a call depends.
    noticed: HashSet<u64>,
    /// Whether a call depends on a value that the document does not have.
    excluding: bool,
}

impl<'a> Search<'a> {
    fn new(operations: &'a [Operation]) -> Search<'a> {
        let mut search = Search {
            answered: operations
                .iter()
                .filter(|one| one.returned.is_some())
                .collect(),
            unanswered: Vec::new(),
            reads: HashMap::new(),
            writers: HashMap::new(),
            noticed: HashSet::new(),
            excluding: false,
        };
        search.answered.sort_by_key(|one| one.invoked);
        for one in operations {
            match one.action {
                Action::Read(Some(value)) | Action::Replace(value, _) => {
                    search.noticed.insert(value);
                }
                Action::NotReplaced(_) => search.excluding = true,
                _ => {}
            }
            if let Some(value) = one.action.written() {
                *search.writers.entry(value).or_default() += 1;
            }
        }
        for (index, one) in search.answered.iter().enumerate() {
            if let Action::Read(Some(value)) = one.action {
                search.reads.entry(value).or_default().push(index);
            }
        }
        let unanswered = operations.iter().filter(|one| one.returned.is_none());
        let unanswered =
            unanswered.filter(|one| one.action.is_write() && !search.is_unnoticed(one.action));
        search.unanswered = unanswered.collect();
        search
    }

    /// Whether no answer shows that it took effect: it leaves a document where one was, with a value that nobody asks for.
    fn is_unnoticed(&self, action: Action) -> bool {
        match action {
            Action::Update(to) | Action::Replace(_, to) => {
                !self.excluding && !self.noticed.contains(&to)
            }
            _ => false,
        }
    }

    fn next(&self, state: &State) -> Next {
        let mut next = Next {
            answered: Vec::new(),
            unanswered: Vec::new(),
            due: state.first,
        };
        let mut until = Duration::MAX;
        for (index, one) in self.answered.iter().enumerate().skip(state.first) {
            if one.invoked > until {
                break;
            }
            if state.beyond.binary_search(&index).is_ok() {
                continue;
            }
            next.answered.push(index);
            let returned = one.returned.unwrap_or(Duration::MAX);
            if returned < until {
                (until, next.due) = (returned, index);
            }
        }
        let unanswered = self.unanswered.iter().enumerate();
        let unanswered = unanswered
            .filter(|(index, one)| one.invoked <= until && !state.unanswered.contains(index));
        next.unanswered = unanswered.map(|(index, _)| index).collect();
        next
    }

    /// The states after each of the next calls; that of the call which was sent first is the last.
    fn after(&self, state: &State, next: &Next) -> Vec<State> {
        let unanswered = next.unanswered.iter().filter_map(|&index| {
            let action = self.unanswered[index].action;
            let mut state = self.with_unnoticed(state, next, action);
            state.value = action.apply(state.value)?;
            let at = state.unanswered.partition_point(|other| *other < index);
            state.unanswered.insert(at, index);
            Some(state)
        });
        let answered = next.answered.iter().rev().filter_map(|&index| {
            let action = self.answered[index].action;
            let mut state = self.with_unnoticed(state, next, action);
            if state.has(index) {
                // It is one of those that nobody notices.
                return Some(state);
            }
            state.value = action.apply(state.value)?;
            state.add(index);
            Some(state)
        });
        let reached = unanswered.chain(answered);
        reached.map(|state| self.settled(state)).collect()
    }

    /// Before a call that overwrites the document, whatever nobody notices may just as well take effect.
    fn with_unnoticed(&self, state: &State, next: &Next, action: Action) -> State {
        let mut state = state.clone();
        let overwrites = matches!(
            action,
            Action::Write(_) | Action::Update(_) | Action::Delete
        );
        if overwrites && state.value.is_some() {
            for &index in &next.answered {
                let action = self.answered[index].action;
                if matches!(action, Action::Update(_)) && self.is_unnoticed(action) {
                    state.value = action.apply(state.value).unwrap_or(state.value);
                    state.add(index);
                }
            }
        }
        state
    }

    /// Calls that change nothing and can be answered now are.
    fn settled(&self, mut state: State) -> State {
        loop {
            let next = self.next(&state);
            let fits = |index: &&usize| {
                let action = self.answered[**index].action;
                !action.is_write() && action.apply(state.value).is_some()
            };
            let fitting: Vec<usize> = next.answered.iter().filter(fits).copied().collect();
            if fitting.is_empty() {
                return state;
            }
            fitting.into_iter().for_each(|index| state.add(index));
        }
    }

    /// A read that is left of a value that is gone, and that nobody writes again.
    fn stranded(&self, before: Option<u64>, state: &State) -> Option<usize> {
        let value = before.filter(|_| before != state.value)?;
        let mut reads = self.reads.get(&value)?.iter();
        let once = self.writers.get(&value) == Some(&1);
        reads.find(|index| once && !state.has(**index)).copied()
    }
}

impl State {
    fn count(&self) -> usize {
        self.first + self.beyond.len()
    }

    fn has(&self, index: usize) -> bool {
        index < self.first || self.beyond.binary_search(&index).is_ok()
    }

    /// An answered call has taken effect.
    fn add(&mut self, index: usize) {
        let at = self.beyond.partition_point(|other| *other < index);
        self.beyond.insert(at, index);
        let gapless = (self.first..).zip(&self.beyond);
        let count = gapless
            .take_while(|(wanted, index)| wanted == *index)
            .count();
        self.first += count;
        self.beyond.drain(..count);
    }
}
