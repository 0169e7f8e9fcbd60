//! From what was recorded to figures, and which checks held. Pure: no clock, no network.

use std::collections::BTreeMap;
use std::time::Duration;

use pspd_model::experiment::{Bounds, Experiment, Phase};
use pspd_model::spec::Name;

use super::check::Check;
use super::result::{EventResult, FaultResult, HealthChange, PhaseResult, State};
use super::timeline::{FaultSpan, Span, Timeline};
use crate::bench::load::{End, Timed};
use crate::event::seconds;
use crate::health::Health;

/// The health of a service at one time.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub domain: Name,
    /// When it was asked, and when the answer was known.
    pub from: Duration,
    pub to: Duration,
    pub health: Health,
}

/// The calls of each phase.
///
/// A call that is under way when a phase without steps ends counts for the next phase with steps that it reaches: what
/// happened there may be why it failed.
pub(super) fn phases(spans: &[Span], calls: &[Timed]) -> Vec<PhaseResult> {
    let mut of_phase: Vec<Vec<Timed>> = vec![Vec::new(); spans.len()];
    for call in calls {
        if let Some(index) = phase_of(spans, call) {
            of_phase[index].push(*call);
        }
    }
    let phases = spans.iter().zip(of_phase);
    phases.map(|(span, calls)| figures(span, &calls)).collect()
}

fn phase_of(spans: &[Span], call: &Timed) -> Option<usize> {
    let begin = spans.iter().rposition(|span| span.from <= call.at)?;
    let end = call.at + call.latency;
    let reached = spans.iter().enumerate().skip(begin);
    let mut reached = reached.take_while(|(_, span)| span.from <= end);
    Some(
        reached
            .find(|(_, span)| span.acts)
            .map_or(begin, |(index, _)| index),
    )
}

fn figures(span: &Span, calls: &[Timed]) -> PhaseResult {
    let counted = calls.iter().filter(|call| call.end != End::Failed);
    let mut latencies: Vec<Duration> = counted.map(|call| call.latency).collect();
    latencies.sort_unstable();
    let failed = calls
        .iter()
        .filter(|call| call.end != End::Succeeded)
        .count();
    PhaseResult {
        name: span.name.clone(),
        from: seconds(span.from),
        to: seconds(span.to),
        calls: calls.len() as u64,
        failed: failed as u64,
        errors: failed as f64 / calls.len().max(1) as f64,
        p50_ms: milliseconds(percentile(&latencies, 50)),
        p99_ms: milliseconds(percentile(&latencies, 99)),
    }
}

/// The nearest rank; zero of nothing.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted
        .get(rank.saturating_sub(1))
        .copied()
        .unwrap_or_default()
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// Each fault, and how long after it everything worked again. Of faults that overlap, only the last to end can say that.
pub(super) fn faults(spans: &[FaultSpan], samples: &[Sample], calls: &[Timed]) -> Vec<FaultResult> {
    let result = |fault: &FaultSpan| {
        let overlaps = |other: &FaultSpan| other.from < fault.ended && other.ended > fault.ended;
        let recovery = match spans.iter().any(overlaps) {
            true => None,
            false => recovered(fault.ended, samples, calls),
        };
        FaultResult {
            fault: fault.words.clone(),
            from: seconds(fault.from),
            ended: seconds(fault.ended),
            to: seconds(fault.to),
            recovery: recovery.map(|at| seconds(at - fault.ended)),
        }
    };
    spans.iter().map(result).collect()
}

/// When all services are SERVING again and a call succeeds that was sent since.
fn recovered(ended: Duration, samples: &[Sample], calls: &[Timed]) -> Option<Duration> {
    let mut serving: BTreeMap<&Name, Option<Duration>> = BTreeMap::new();
    for sample in samples {
        let first = serving.entry(&sample.domain).or_default();
        if first.is_none() && sample.from >= ended && sample.health == Health::Serving {
            *first = Some(sample.to);
        }
    }
    let serving = serving
        .into_values()
        .try_fold(ended, |all, one| Some(all.max(one?)))?;
    let succeeded = calls
        .iter()
        .filter(|call| call.at >= ended && call.end == End::Succeeded);
    let succeeded = succeeded.map(|call| call.at + call.latency).min()?;
    Some(serving.max(succeeded))
}

pub(super) fn events(timeline: &Timeline) -> Vec<EventResult> {
    let events = timeline.events.iter().map(|event| EventResult {
        what: event.what.clone(),
        from: seconds(event.from),
        to: seconds(event.to),
        error: event.error.clone(),
    });
    events.collect()
}

/// The samples of each service, where its health changed.
pub(super) fn health(samples: &[Sample]) -> BTreeMap<String, Vec<HealthChange>> {
    let mut changes: BTreeMap<String, Vec<HealthChange>> = BTreeMap::new();
    for sample in samples {
        let changes = changes.entry(sample.domain.to_string()).or_default();
        let (state, cause) = match &sample.health {
            Health::Serving => (State::Serving, None),
            Health::NotServing => (State::NotServing, None),
            Health::Unreachable(cause) => (State::Unreachable, Some(cause.clone())),
        };
        if changes.last().is_none_or(|last| last.state != state) {
            let at = seconds(sample.from);
            changes.push(HealthChange { at, state, cause });
        }
    }
    changes
}

/// What must hold of the steps, the phases and the faults.
pub(super) fn checks(
    experiment: &Experiment,
    phases: &[PhaseResult],
    events: &[EventResult],
    faults: &[FaultResult],
) -> Vec<Check> {
    let failed = events
        .iter()
        .find_map(|event| Some((&event.what, event.error.as_ref()?)));
    let mut checks = vec![match failed {
        Some((what, error)) => Check::failed("steps", format!("{what}: {error}")),
        None => Check::passed("steps", format!("{} done", events.len())),
    }];
    for phase in &experiment.phases {
        let measured = phases.iter().find(|measured| measured.name == phase.name);
        checks.extend(bounds(phase, measured));
    }
    if let Some(limit) = experiment.recovery {
        let last = |fault: &&FaultResult| {
            let overlaps =
                |other: &FaultResult| other.from < fault.ended && other.ended > fault.ended;
            !faults.iter().any(overlaps)
        };
        for fault in faults.iter().filter(last) {
            let name = format!("recovery of {}", fault.fault);
            let limit = limit.as_secs_f64();
            checks.push(match fault.recovery {
                Some(time) => Check::of(name, time <= limit, format!("{time:.1} s of {limit} s")),
                None => Check::failed(name, "it never recovered".to_owned()),
            });
        }
    }
    checks
}

fn bounds(phase: &Phase, measured: Option<&PhaseResult>) -> Vec<Check> {
    let Bounds { errors, p99 } = phase.bounds;
    let name = |what: &str| format!("{what} of `{}`", phase.name);
    let words = [errors.map(|_| "errors"), p99.map(|_| "p99")];
    let Some(measured) = measured.filter(|measured| measured.calls > 0) else {
        let words = words.into_iter().flatten();
        let none = |what| Check::failed(name(what), "no call was measured".to_owned());
        return words.map(none).collect();
    };
    let mut checks = Vec::new();
    if let Some(most) = errors {
        let detail = format!(
            "{:.2} % of {:.2} % ({} of {} calls failed)",
            measured.errors * 100.0,
            most * 100.0,
            measured.failed,
            measured.calls
        );
        checks.push(Check::of(name("errors"), measured.errors <= most, detail));
    }
    if let Some(most) = p99 {
        let most = milliseconds(most);
        // Calls that failed at once have no latency.
        let answered = measured.p99_ms > 0.0;
        let detail = match answered {
            true => format!("{:.1} ms of {most} ms", measured.p99_ms),
            false => "no call was answered".to_owned(),
        };
        checks.push(Check::of(
            name("p99"),
            answered && measured.p99_ms <= most,
            detail,
        ));
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn span(name: &str, from: u64, to: u64, acts: bool) -> Span {
        Span {
            name: name.to_owned(),
            from: at(from),
            to: at(to),
            acts,
        }
    }

    fn call(from: u64, latency: u64, end: End) -> Timed {
        Timed {
            at: at(from),
            latency: at(latency),
            end,
        }
    }

    fn sample(domain: &str, from: u64, health: Health) -> Sample {
        let domain = Name::new(domain).unwrap();
        Sample {
            domain,
            from: at(from),
            to: at(from + 100),
            health,
        }
    }

    #[test]
    fn a_call_counts_for_the_phase_whose_steps_it_met() {
        let spans = [
            span("before", 0, 1000, false),
            span("cut", 1000, 3000, true),
            span("after", 3000, 4000, false),
        ];
        let phases = phases(
            &spans,
            &[
                call(100, 10, End::Succeeded),
                // Sent before the cut, and its victim.
                call(990, 5000, End::TimedOut),
                call(1500, 1, End::Failed),
                // Sent in the cut, and answered after it.
                call(2000, 1500, End::Succeeded),
                call(3500, 20, End::Succeeded),
                call(3600, 40, End::Succeeded),
            ],
        );
        let counts: Vec<_> = phases.iter().map(|one| (one.calls, one.failed)).collect();
        assert_eq!(counts, [(1, 0), (3, 2), (2, 0)]);
        assert_eq!((phases[1].p50_ms, phases[1].p99_ms), (1500.0, 5000.0));
        assert_eq!((phases[2].p50_ms, phases[2].p99_ms), (20.0, 40.0));
    }

    #[test]
    fn recovery_needs_all_services_and_a_call() {
        let fault = |words: &str, from, ended| FaultSpan {
            words: words.to_owned(),
            from: at(from),
            ended: at(ended),
            to: at(ended + 500),
        };
        let kill = [fault("kill a", 1000, 5000)];
        let samples = [
            // Asked before the end of the fault.
            sample("a", 4900, Health::Serving),
            sample("a", 6000, Health::NotServing),
            sample("a", 7000, Health::Serving),
            sample("b", 5500, Health::Serving),
        ];
        let calls = [
            call(4000, 1500, End::Succeeded),
            call(6500, 200, End::Succeeded),
        ];
        let recovery =
            |faults: &[FaultSpan], samples: &[Sample], calls: &[Timed]| -> Vec<Option<f64>> {
                super::faults(faults, samples, calls)
                    .iter()
                    .map(|one| one.recovery)
                    .collect()
            };
        assert_eq!(recovery(&kill, &samples, &calls), [Some(2.1)]);
        assert_eq!(recovery(&kill, &samples[..2], &calls), [None]);
        assert_eq!(recovery(&kill, &samples, &calls[..1]), [None]);
        let overlapping = [fault("kill a", 1000, 5000), fault("pause b", 2000, 6000)];
        assert_eq!(recovery(&overlapping, &samples, &calls), [None, None]);
        let samples = [samples.as_slice(), &[sample("b", 6500, Health::Serving)]].concat();
        assert_eq!(recovery(&overlapping, &samples, &calls), [None, Some(1.1)]);
    }

    #[test]
    fn bounds_hold_or_do_not() {
        let phase = Phase {
            name: "only".into(),
            lasts: at(1000),
            steps: Vec::new(),
            bounds: Bounds {
                errors: Some(0.1),
                p99: Some(at(50)),
            },
        };
        let spans = [span("only", 0, 1000, false)];
        let passed = |calls: &[Timed]| -> Vec<bool> {
            let measured = phases(&spans, calls);
            bounds(&phase, measured.first())
                .iter()
                .map(|check| check.passed)
                .collect()
        };
        let ok = call(0, 10, End::Succeeded);
        assert_eq!(passed(&[ok; 10]), [true, true]);
        assert_eq!(passed(&[ok, call(5, 10, End::Failed)]), [false, true]);
        assert_eq!(passed(&[ok, call(5, 60, End::Succeeded)]), [true, false]);
        assert_eq!(passed(&[call(5, 60, End::Failed)]), [false, false]);
        // Nothing that was measured is not a success.
        assert_eq!(passed(&[]), [false, false]);
        assert!(bounds(&phase, None).iter().all(|check| !check.passed));
    }
}
