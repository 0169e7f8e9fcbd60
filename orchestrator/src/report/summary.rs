//! The summary of a run: times per stage, and the steps that failed, were undone or were not started.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;

use pspd_model::hint::joined;
use pspd_model::plan::{Phase, Step};
use pspd_model::publish::Publish;
use pspd_model::spec::{Name, Spec};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Style, columns, counted, say};
use crate::address;
use crate::event::{self, seconds};
use crate::execute::Outcome;
use crate::hint::Told;

/// The result of a run as text and JSON need it, of this host or sent by another.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Summary {
    pub command: String,
    pub success: bool,
    pub cancelled: bool,
    steps: Vec<Spent>,
    failed: Vec<Said>,
    undone: Vec<Said>,
    /// The steps that were not started.
    left: Vec<String>,
    /// How many were still under way when a cancelled run ended.
    #[serde(default)]
    abandoned: usize,
}

/// A step that ended well.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Spent {
    step: String,
    subject: Option<String>,
    phase: Phase,
    /// Since the run began, in seconds.
    started: f64,
    seconds: f64,
}

/// A step that failed or was undone; the error is that of undoing it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Said {
    step: String,
    subject: Option<String>,
    title: String,
    error: Option<String>,
    hint: Option<String>,
}

impl Summary {
    pub fn of(outcome: &Outcome, command: &str) -> Summary {
        let said = |step: &Step, error: Option<&anyhow::Error>| {
            let told = error.map(Told::of);
            let (error, hint) = told.map_or((None, None), |told| (Some(told.error), told.hint));
            Said {
                step: step.id.to_string(),
                subject: step.subject().map(Name::to_string),
                title: step.title(),
                error,
                hint,
            }
        };
        let spent = outcome.ended.iter().map(|ended| Spent {
            step: ended.step.id.to_string(),
            subject: ended.step.subject().map(Name::to_string),
            phase: ended.step.id.phase(),
            started: seconds(ended.started),
            seconds: seconds(ended.elapsed),
        });
        let failed = outcome.failed.iter();
        let undone = outcome.undone.iter();
        Summary {
            command: command.to_owned(),
            success: outcome.is_success(),
            cancelled: outcome.cancelled,
            steps: spent.collect(),
            failed: failed
                .map(|(step, error)| said(step, Some(error)))
                .collect(),
            undone: undone
                .map(|(step, error)| said(step, error.as_ref()))
                .collect(),
            left: outcome
                .left
                .iter()
                .map(|step| step.id.to_string())
                .collect(),
            abandoned: outcome.abandoned.len(),
        }
    }

    /// That of several hosts, of which none is added yet.
    pub fn new(command: &str) -> Summary {
        Summary {
            command: command.to_owned(),
            success: true,
            ..Summary::default()
        }
    }

    /// Adds a host whose run has no result.
    pub fn add_failure(&mut self, host: &Name, error: &str) {
        let error = error.trim();
        self.success = false;
        self.failed.push(Said {
            step: host.to_string(),
            subject: Some(host.to_string()),
            title: format!("`pspd {}`", self.command),
            error: Some(error.strip_prefix("error: ").unwrap_or(error).to_owned()),
            hint: None,
        });
    }

    /// Adds the result of a host, of which each step then has the name.
    pub fn add(&mut self, host: &Name, summary: Summary) {
        let Summary {
            command: _,
            success,
            cancelled,
            steps,
            failed,
            undone,
            left,
            abandoned,
        } = summary;
        self.success &= success;
        self.cancelled |= cancelled;
        self.abandoned += abandoned;
        self.left
            .extend(left.iter().map(|step| event::step_on(host, step)));
        self.steps.extend(steps.into_iter().map(|spent| {
            Spent {
                step: event::step_on(host, &spent.step),
                subject: spent
                    .subject
                    .map(|name| event::subject_on(host, Some(&name))),
                ..spent
            }
        }));
        for (own, of_host) in [(&mut self.failed, failed), (&mut self.undone, undone)] {
            own.extend(of_host.into_iter().map(|said| Said {
                step: event::step_on(host, &said.step),
                subject: Some(event::subject_on(host, said.subject.as_deref())),
                ..said
            }));
        }
    }
}

/// Prints the result of a run on stderr, or with [`Style::Json`] as the last line on stdout.
pub fn summary(summary: &Summary, spec: &Spec, style: Style) {
    if style == Style::Json {
        let line = serde_json::to_value(summary).map(|mut line| {
            line["event"] = json!("summary");
            line
        });
        // A reader that went away changes no exit code.
        let _ = line.map(|line| writeln!(crate::terminal::out(), "{line}"));
    } else {
        say(render(summary, spec));
    }
}

fn render(summary: &Summary, spec: &Spec) -> String {
    let command = summary.command.as_str();
    let mut text = match command {
        "up" => table(&summary.steps),
        _ => String::new(),
    };
    for failed in &summary.failed {
        text.push_str(&format!(
            "\nerror: {} failed: {}\n",
            failed.named(),
            failed.told()
        ));
    }
    let power = power_done(command);
    if power.is_none() && !matches!(command, "up" | "down" | "snapshot restore") {
        // What the command leaves, it says itself: undoing is a part of it, unless it fails.
        text.extend(summary.undone.iter().filter_map(Said::not_undone));
        return text;
    }
    if summary.cancelled {
        text.push_str(&undone(summary));
    }
    if !summary.failed.is_empty() || (summary.cancelled && summary.undone.is_empty()) {
        let left = match summary.left.len() {
            0 => String::new(),
            count => format!("{} not started; ", counted(count, "step")),
        };
        text.push_str(&match command {
            "up" | "snapshot restore" => {
                format!("{left}run `pspd up` to continue, or `pspd down` to clean up\n")
            }
            _ => format!("{left}run `pspd {command}` to continue\n"),
        });
    }
    if summary.success && command == "up" {
        text.push_str(&format!("`{}` is up\n", spec.name));
        for domain in spec.domains.values() {
            for publish in &domain.publish {
                text.push_str(&published(publish, domain.host.as_ref()));
            }
        }
    }
    if let Some(done) = power.filter(|_| summary.success) {
        text.push_str(&done_to(done, summary));
    }
    if summary.success && command == "snapshot restore" {
        text.push_str(&format!("`{}` is restored\n", spec.name));
    }
    if summary.success && command == "down" {
        text.push_str(&format!("`{}` is down\n", spec.name));
    }
    text
}

/// Where a port is reached, on this host or on another.
fn published(publish: &Publish, host: Option<&Name>) -> String {
    match host {
        Some(host) => format!("published on {} of host {host}\n", publish.host),
        None => {
            let places = publish.reached_at(address::of_this_host());
            let places = places.into_iter();
            places
                .map(|place| format!("published on {place}\n"))
                .collect()
        }
    }
}

/// What a command for power did to its domains.
fn power_done(command: &str) -> Option<&'static str> {
    Some(match command {
        "start" => "started",
        "stop" => "stopped",
        "restart" => "restarted",
        "pause" => "paused",
        "resume" => "resumed",
        "save" => "saved",
        "restore" => "restored",
        "set" => "set",
        _ => return None,
    })
}

fn done_to(done: &str, summary: &Summary) -> String {
    let names = summary
        .steps
        .iter()
        .filter_map(|spent| spent.subject.as_ref());
    let names: BTreeSet<String> = names.map(|name| format!("`{name}`")).collect();
    if names.is_empty() {
        return "nothing to do\n".to_owned();
    }
    let names: Vec<String> = names.into_iter().collect();
    format!("{done} {}\n", names.join(", "))
}

fn undone(summary: &Summary) -> String {
    let mut text = String::from("interrupted; undone:\n");
    if summary.undone.is_empty() {
        text = String::from(if summary.abandoned == 0 {
            "interrupted; nothing to undo\n"
        } else {
            "interrupted; nothing was undone, because some steps were still running\n"
        });
    }
    for one in &summary.undone {
        text.push_str(&match one.not_undone() {
            None => format!("  {}\n", one.named()),
            Some(failed) => format!("  {failed}"),
        });
    }
    text
}

impl Said {
    fn named(&self) -> String {
        match &self.subject {
            Some(name) => format!("`{name}`: {}", self.title),
            None => self.title.clone(),
        }
    }

    fn told(&self) -> String {
        joined(
            self.error.as_deref().unwrap_or_default(),
            self.hint.as_deref(),
        )
    }

    fn not_undone(&self) -> Option<String> {
        self.error.as_ref()?;
        Some(format!(
            "{}: failed to undo: {}\n",
            self.named(),
            self.told()
        ))
    }
}

/// Seconds per phase and domain, and the total since the run began.
fn table(ended: &[Spent]) -> String {
    let mut domains: BTreeMap<&str, Vec<&Spent>> = BTreeMap::new();
    for step in ended {
        if let Some(name) = &step.subject {
            domains.entry(name).or_default().push(step);
        }
    }
    if domains.is_empty() {
        return String::new();
    }
    let mut head = vec!["domain"];
    head.extend(Phase::ALL.iter().map(|phase| phase.word()));
    head.push("ready after");
    let mut rows = Vec::new();
    for (name, steps) in domains {
        let mut row = vec![name.to_owned()];
        for phase in Phase::ALL {
            let of_phase = steps.iter().filter(|ended| ended.phase == phase);
            let spent: f64 = of_phase.map(|ended| ended.seconds).sum();
            row.push(if spent == 0.0 {
                "-".into()
            } else {
                format!("{spent:.1} s")
            });
        }
        let ends = steps.iter().map(|step| step.started + step.seconds);
        row.push(format!("{:.1} s", ends.fold(0.0, f64::max)));
        rows.push(row);
    }
    columns(&head, &rows, crate::terminal::err_width())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use pspd_model::plan::{Action, Existing};
    use pspd_model::spec::Digest;
    use pspd_model::topology::{self, Found};

    use super::*;

    fn step(action: Action) -> Step {
        Step {
            id: action.id(),
            action,
            after: Vec::new(),
            reason: String::new(),
        }
    }

    #[test]
    fn the_results_of_hosts_become_one() {
        let text = "name: demo\nhosts: {alpha: {ssh: a}, beta: {ssh: b}}\ndomains: {one: {image: debian, host: alpha}}\n";
        let spec = topology::parse(text, Path::new("/"), &|_| Found::File).unwrap();
        let [one, two] = ["one", "two"].map(|name| Action::Snapshot {
            domain: Name::new(name).unwrap(),
        });
        let outcome = Outcome {
            failed: vec![(step(one), anyhow::anyhow!("no space left"))],
            left: vec![step(two)],
            ..Outcome::default()
        };
        let sent = serde_json::to_string(&Summary::of(&outcome, "up")).unwrap();
        let [alpha, beta] = ["alpha", "beta"].map(|name| Name::new(name).unwrap());
        let mut all = Summary::new("up");
        assert!(all.success);
        all.add(&alpha, serde_json::from_str(&sent).unwrap());
        all.add_failure(
            &beta,
            "error: another pspd process is working on this deployment\n",
        );
        assert!(!all.success);
        insta::assert_snapshot!(render(&all, &spec), @"

        error: `one on alpha`: freeze its disks failed: no space left

        error: `beta`: `pspd up` failed: another pspd process is working on this deployment
        1 step not started; run `pspd up` to continue, or `pspd down` to clean up
        ");
    }

    #[test]
    fn a_failed_export_says_its_cause_first_and_then_what_could_not_be_undone() {
        let text = format!(
            "name: demo\nimages: {{debian: {{path: disk, sha256: {}}}}}\ndomains: {{one: {{image: debian}}}}\n",
            Digest::of(b"")
        );
        let spec = topology::parse(&text, Path::new("/"), &|_| Found::File).unwrap();
        let pack = Action::Pack {
            archive: "a.tar.xz".into(),
            existing: Existing::Refuse,
            flatten: false,
            with_secrets: false,
            snapshot: None,
        };
        let [one, two] = ["one", "two"].map(|name| Action::Snapshot {
            domain: Name::new(name).unwrap(),
        });
        let lost = anyhow::anyhow!("the connection was lost");
        let outcome = Outcome {
            failed: vec![(step(pack), anyhow::anyhow!("no space left"))],
            undone: vec![(step(two), Some(lost)), (step(one), None)],
            ..Outcome::default()
        };
        insta::assert_snapshot!(render(&Summary::of(&outcome, "export"), &spec), @"

        error: write `a.tar.xz` failed: no space left
        `two`: freeze its disks: failed to undo: the connection was lost
        ");
    }
}
