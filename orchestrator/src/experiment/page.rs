//! The report as one self-contained HTML page: each run with its charts and checks, then what it was run on.

use std::fmt::Write as _;

use super::chart::{bands, strip};
use super::check::Check;
use super::result::{Report, Run};
use crate::bench::html::{document, escaped, table};
use crate::bench::load::chart;

/// The whole page.
pub fn page(report: &Report) -> String {
    let passed = report.runs.iter().filter(|run| run.passed).count();
    let (class, verdict) = match report.passed {
        true => ("yes", "all checks hold"),
        false => ("no", "not all checks hold"),
    };
    let mut body = String::new();
    if let Some(about) = &report.about {
        let _ = writeln!(body, "<p>{}</p>", escaped(about));
    }
    let _ = writeln!(
        body,
        "<p class=\"verdict {class}\">{verdict}: {passed} of {} runs passed</p>",
        report.runs.len()
    );
    for (index, run) in report.runs.iter().enumerate() {
        if report.runs.len() > 1 {
            let _ = writeln!(body, "<h1>Run {}</h1>", index + 1);
        }
        body.push_str(&one(run));
    }
    let versions = &report.versions;
    let _ = write!(
        body,
        "<h2>Topology</h2>\n<p>Deployment <b>{}</b>; pspd {}, {}, Linux {}.</p>\n{}\n<h2>The experiment's file</h2>\n<pre>{}</pre>\n",
        escaped(&report.deployment),
        escaped(&versions.pspd),
        escaped(&versions.hypervisor),
        escaped(&versions.kernel),
        topology(report),
        escaped(&report.file)
    );
    document(&format!("Experiment {}", escaped(&report.name)), &body)
}

fn one(run: &Run) -> String {
    let across = run.seconds.max(1.0);
    let bands = bands(run);
    format!(
        "<p>{}; {:.1} s; {} to {}.</p>\n<h2>Checks</h2>\n{}\n<h2>Calls by second</h2>\n<p>Shaded: from the start of a fault to \
         the end of its heal.</p>\n{}\n<h2>Latency by second, in milliseconds</h2>\n{}\n<h2>Events and health</h2>\n{}\n\
         <h2>Phases</h2>\n{}\n{}{}",
        escaped(&run.started),
        run.seconds,
        escaped(&run.load.call),
        escaped(&run.load.target),
        checks(&run.checks),
        chart::calls(&run.load.per_second, across, &bands),
        chart::latencies(&run.load.per_second, across, &bands),
        strip(run, across),
        phases(run),
        faults(run),
        failures(run),
    )
}

fn checks(checks: &[Check]) -> String {
    let mut rows = String::new();
    for check in checks {
        let (class, word) = if check.passed {
            ("yes", "holds")
        } else {
            ("no", "fails")
        };
        let _ = write!(
            rows,
            "<tr><td class=\"{class}\">{word}</td><th>{}</th><td>{}</td></tr>",
            escaped(&check.name),
            escaped(&check.detail)
        );
    }
    table(&["", "check", "measured"], &rows)
}

fn phases(run: &Run) -> String {
    let mut rows = String::new();
    for phase in &run.phases {
        let _ = write!(
            rows,
            "<tr><th>{}</th><td class=\"n\">{:.1} s to {:.1} s</td><td class=\"n\">{}</td><td class=\"n\">{} ({:.2} %)</td>\
             <td class=\"n\">{:.1}</td><td class=\"n\">{:.1}</td></tr>",
            escaped(&phase.name),
            phase.from,
            phase.to,
            phase.calls,
            phase.failed,
            phase.errors * 100.0,
            phase.p50_ms,
            phase.p99_ms
        );
    }
    table(
        &["phase", "time", "calls", "failed", "p50 (ms)", "p99 (ms)"],
        &rows,
    )
}

fn faults(run: &Run) -> String {
    if run.faults.is_empty() {
        return String::new();
    }
    let mut rows = String::new();
    for fault in &run.faults {
        let recovery = fault
            .recovery
            .map_or("-".to_owned(), |time| format!("{time:.1} s"));
        let _ = write!(
            rows,
            "<tr><th>{}</th><td class=\"n\">{:.1} s to {:.1} s</td><td class=\"n\">{recovery}</td></tr>",
            escaped(&fault.fault),
            fault.from,
            fault.ended
        );
    }
    let rows = table(&["fault", "time", "recovery"], &rows);
    format!("<h2>Faults</h2>\n{rows}\n")
}

fn failures(run: &Run) -> String {
    if run.load.failures.is_empty() {
        return String::new();
    }
    let mut rows = String::new();
    for one in &run.load.failures {
        let _ = write!(
            rows,
            "<tr><th>{}</th><td class=\"n\">{}</td><td>{}</td></tr>",
            escaped(&one.status),
            one.calls,
            escaped(&one.message)
        );
    }
    let rows = table(&["status", "calls", "the first message"], &rows);
    format!("<h2>Failed calls</h2>\n{rows}\n")
}

fn topology(report: &Report) -> String {
    let mut rows = String::new();
    for domain in &report.topology {
        let _ = write!(
            rows,
            "<tr><th>{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td><code>{}</code></td></tr>",
            escaped(&domain.name),
            escaped(&domain.address),
            escaped(&domain.memory),
            domain.vcpus,
            escaped(domain.service.as_deref().unwrap_or("-")),
            escaped(domain.release.as_deref().unwrap_or("-"))
        );
    }
    table(
        &["domain", "address", "memory", "vCPUs", "service", "release"],
        &rows,
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::bench::load::sample;
    use crate::experiment::result::{
        Domain, EventResult, FaultResult, HealthChange, PhaseResult, State, Versions,
    };

    fn report() -> Report {
        let text = "<b>".to_owned();
        let change = |at, state| HealthChange {
            at,
            state,
            cause: None,
        };
        let run = Run {
            started: text.clone(),
            seconds: 2.0,
            passed: false,
            checks: vec![
                Check::failed(text.clone(), text.clone()),
                Check::passed("p99", text.clone()),
            ],
            phases: vec![PhaseResult {
                name: text.clone(),
                from: 0.0,
                to: 2.0,
                calls: 100,
                failed: 1,
                errors: 0.01,
                p50_ms: 1.5,
                p99_ms: 20.0,
            }],
            events: vec![EventResult {
                what: text.clone(),
                from: 0.5,
                to: 1.0,
                error: Some(text.clone()),
            }],
            faults: vec![FaultResult {
                fault: text.clone(),
                from: 0.5,
                ended: 1.0,
                to: 1.5,
                recovery: Some(0.7),
            }],
            health: BTreeMap::from([(
                text.clone(),
                vec![
                    change(0.0, State::Serving),
                    change(0.5, State::Unreachable),
                    change(1.5, State::Serving),
                ],
            )]),
            history: None,
            load: sample(),
        };
        Report {
            name: text.clone(),
            about: Some(text.clone()),
            passed: false,
            runs: vec![
                run.clone(),
                Run {
                    passed: true,
                    ..run
                },
            ],
            versions: Versions {
                pspd: text.clone(),
                hypervisor: text.clone(),
                kernel: text.clone(),
            },
            deployment: text.clone(),
            topology: vec![Domain {
                name: text.clone(),
                address: text.clone(),
                memory: text.clone(),
                vcpus: 1,
                service: Some(text.clone()),
                release: None,
            }],
            file: text,
        }
    }

    #[test]
    fn everything_is_shown_and_text_is_escaped() {
        let html = page(&report());
        let body = html
            .replace("Deployment <b>", "")
            .replace("<b>&lt;b&gt;</b>", "");
        assert!(!body.contains("<b>"), "{html}");
        assert!(
            html.contains("not all checks hold: 1 of 2 runs passed"),
            "{html}"
        );
        assert_eq!(html.matches("<svg ").count(), 6);
        // One fault, in both charts of both runs.
        assert_eq!(html.matches("class=\"band\"").count(), 4);
        // Of 870 units for two seconds: half a second.
        assert!(
            html.contains("class=\"down\" x=\"287.5\" y=\"26\" width=\"217.5\""),
            "{html}"
        );
        assert!(
            html.contains(">fails</td>") && html.contains("100</td>"),
            "{html}"
        );
        // It loads nothing.
        assert!(
            !html.contains("http://") && !html.contains("https://"),
            "{html}"
        );
    }

    #[test]
    fn the_json_has_these_keys() {
        let json = serde_json::to_value(report()).unwrap();
        let keys = |value: &serde_json::Value| -> Vec<String> {
            value.as_object().unwrap().keys().cloned().collect()
        };
        assert_eq!(
            keys(&json),
            [
                "about",
                "deployment",
                "file",
                "name",
                "passed",
                "runs",
                "topology",
                "versions"
            ]
        );
        let run = &json["runs"][0];
        assert_eq!(
            keys(run),
            [
                "checks", "events", "faults", "health", "history", "load", "passed", "phases",
                "seconds", "started"
            ]
        );
        assert_eq!(run["health"]["<b>"][1]["state"], "unreachable");
        assert_eq!(run["faults"][0]["recovery"], 0.7);
    }
}
