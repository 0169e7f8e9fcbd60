//! The summary of a run: times per stage, and the steps that failed, were undone or were not started.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::time::Duration;

use pspd_model::plan::{Phase, Step};
use pspd_model::spec::Spec;
use serde_json::json;

use super::{Style, columns, counted, say};
use crate::address;
use crate::event::seconds;
use crate::execute::{Ended, Outcome};
use crate::hint::{Told, told};

/// Prints the result of a run on stderr, or with [`Style::Json`] as the last line on stdout.
pub fn summary(outcome: &Outcome, command: &str, spec: &Spec, style: Style) {
    if style == Style::Json {
        // A reader that went away changes no exit code.
        let _ = writeln!(crate::terminal::out(), "{}", as_json(outcome, command));
    } else {
        say(render(outcome, command, spec));
    }
}

fn as_json(outcome: &Outcome, command: &str) -> serde_json::Value {
    let steps: Vec<_> = outcome
        .ended
        .iter()
        .map(|ended| json!({"step": ended.step.id, "started": seconds(ended.started), "seconds": seconds(ended.elapsed)}))
        .collect();
    let told = |step: &Step, error: Option<&anyhow::Error>| {
        let told = error.map(Told::of);
        let (error, hint) = told.map_or((None, None), |told| (Some(told.error), told.hint));
        json!({"step": step.id, "error": error, "hint": hint})
    };
    let failed = outcome.failed.iter();
    let failed: Vec<_> = failed
        .map(|(step, error)| told(step, Some(error)))
        .collect();
    let undone = outcome.undone.iter();
    let undone: Vec<_> = undone
        .map(|(step, error)| told(step, error.as_ref()))
        .collect();
    let left: Vec<_> = outcome.left.iter().map(|step| &step.id).collect();
    json!({"event": "summary", "command": command, "success": outcome.is_success(), "cancelled": outcome.cancelled, "steps": steps, "failed": failed, "undone": undone, "left": left})
}

fn render(outcome: &Outcome, command: &str, spec: &Spec) -> String {
    let mut text = match command {
        "up" => table(&outcome.ended),
        _ => String::new(),
    };
    for (step, error) in &outcome.failed {
        text.push_str(&format!(
            "\nerror: {} failed: {}\n",
            named(step),
            told(error)
        ));
    }
    let power = power_done(command);
    if power.is_none() && !matches!(command, "up" | "down" | "snapshot restore") {
        // What the command leaves, it says itself: undoing is a part of it, unless it fails.
        text.extend(outcome.undone.iter().filter_map(not_undone));
        return text;
    }
    if outcome.cancelled {
        text.push_str(&undone(outcome));
    }
    if !outcome.failed.is_empty() || (outcome.cancelled && outcome.undone.is_empty()) {
        let left = match outcome.left.len() {
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
    if outcome.is_success() && command == "up" {
        text.push_str(&format!("`{}` is up\n", spec.name));
        for publish in spec.domains.values().flat_map(|domain| &domain.publish) {
            for place in publish.reached_at(address::of_this_host()) {
                text.push_str(&format!("published on {place}\n"));
            }
        }
    }
    if let Some(done) = power.filter(|_| outcome.is_success()) {
        text.push_str(&done_to(done, outcome));
    }
    if outcome.is_success() && command == "snapshot restore" {
        text.push_str(&format!("`{}` is restored\n", spec.name));
    }
    if outcome.is_success() && command == "down" {
        text.push_str(&format!("`{}` is down\n", spec.name));
    }
    text
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

fn done_to(done: &str, outcome: &Outcome) -> String {
    let names = outcome
        .ended
        .iter()
        .filter_map(|ended| ended.step.subject());
    let names: BTreeSet<String> = names.map(|name| format!("`{name}`")).collect();
    if names.is_empty() {
        return "nothing to do\n".to_owned();
    }
    let names: Vec<String> = names.into_iter().collect();
    format!("{done} {}\n", names.join(", "))
}

fn undone(outcome: &Outcome) -> String {
    let mut text = String::from("interrupted; undone:\n");
    if outcome.undone.is_empty() {
        text = String::from(if outcome.abandoned.is_empty() {
            "interrupted; nothing to undo\n"
        } else {
            "interrupted; nothing was undone, because some steps were still running\n"
        });
    }
    for one in &outcome.undone {
        text.push_str(&match not_undone(one) {
            None => format!("  {}\n", named(&one.0)),
            Some(failed) => format!("  {failed}"),
        });
    }
    text
}

fn not_undone((step, error): &(Step, Option<anyhow::Error>)) -> Option<String> {
    let error = error.as_ref()?;
    Some(format!(
        "{}: failed to undo: {}\n",
        named(step),
        told(error)
    ))
}

fn named(step: &Step) -> String {
    match step.subject() {
        Some(name) => format!("`{name}`: {}", step.title()),
        None => step.title(),
    }
}

/// Seconds per phase and domain, and the total since the run began.
fn table(ended: &[Ended]) -> String {
    let mut domains: BTreeMap<&str, Vec<&Ended>> = BTreeMap::new();
    for step in ended {
        if let Some(name) = step.step.subject() {
            domains.entry(name.as_str()).or_default().push(step);
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
            let of_phase = steps.iter().filter(|ended| ended.step.id.phase() == phase);
            let spent: Duration = of_phase.map(|ended| ended.elapsed).sum();
            row.push(if spent.is_zero() {
                "-".into()
            } else {
                format!("{:.1} s", spent.as_secs_f64())
            });
        }
        let ready = steps
            .iter()
            .map(|step| step.started + step.elapsed)
            .max()
            .unwrap_or_default();
        row.push(format!("{:.1} s", ready.as_secs_f64()));
        rows.push(row);
    }
    columns(&head, &rows, crate::terminal::err_width())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use pspd_model::plan::{Action, Existing};
    use pspd_model::spec::{Digest, Name};
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
        insta::assert_snapshot!(render(&outcome, "export", &spec), @"

        error: write `a.tar.xz` failed: no space left
        `two`: freeze its disks: failed to undo: the connection was lost
        ");
    }
}
