use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::topology::Found;

/// Words of faults begin with `kill` here; of power, with `stop`.
fn read(text: &str) -> Result<Experiment, String> {
    let around = Surroundings {
        folder: Path::new("/base"),
        look: &|path| match path.extension() {
            Some(_) => Found::File,
            None => Found::Nothing,
        },
        domains: &["database-server", "web-server"],
        check: &|action| match action {
            Action::Fault { words, .. } if !words.starts_with("kill ") => {
                Err(format!("no fault `{words}`"))
            }
            Action::Power { words } if !words.starts_with("stop ") => {
                Err(format!("no command `{words}`"))
            }
            _ => Ok(()),
        },
    };
    parse(text, &around)
        .map_err(|found| faults(Path::new("/base/experiment.yaml"), text, found).to_string())
}

const SMALL: &str =
    "name: small\nload: {target: web-server, call: Check}\nphases: [{name: only, for: 5s}]\n";

#[test]
fn the_starter_is_valid() {
    let experiment = read(starter()).unwrap();
    assert_eq!(experiment.load.call, Call::Documents(8));
    let seconds = Duration::from_secs;
    let fault = Action::Fault {
        words: "kill database-server".into(),
        lasts: Some(seconds(5)),
    };
    assert_eq!(
        experiment.phases[1].steps,
        [Step {
            at: seconds(2),
            action: fault
        }]
    );
    let bounds = Bounds {
        errors: Some(0.0),
        p99: Some(seconds(1)),
    };
    assert_eq!(
        (experiment.phases[2].bounds, experiment.recovery),
        (bounds, Some(seconds(60)))
    );
}

#[test]
fn what_is_left_out_has_a_default() {
    let experiment = read(SMALL).unwrap();
    let load = Load {
        target: Name::new("web-server").unwrap(),
        call: Call::Grpc {
            method: "Check".into(),
            data: None,
        },
        pace: Pace::Rate(20.0),
        limit: Duration::from_secs(10),
    };
    assert_eq!(experiment.load, load);
    assert_eq!(experiment.phases[0].bounds, Bounds::default());
    let http = SMALL.replace("call: Check", "http: /a, data: a.jsonl, users: 3");
    let load = read(&http).unwrap().load;
    let data = Some(PathBuf::from("/base/a.jsonl"));
    assert_eq!(
        (load.call, load.pace),
        (
            Call::Http {
                path: "/a".into(),
                data
            },
            Pace::Users(3)
        )
    );
}

#[test]
fn steps_are_in_the_order_in_which_they_are_due() {
    let text = SMALL.replace(
        "for: 5s}",
        "for: 5s, steps: [{at: 3s, power: stop web-server}, {fault: kill web-server}, {at: 3s, heal: all}, {at: 4s, up: next.yaml}]}",
    );
    let steps = read(&text).unwrap().phases.remove(0).steps;
    let shown: Vec<String> = steps
        .iter()
        .map(|step| format!("{} {}", step.at.as_secs(), step.action))
        .collect();
    assert_eq!(
        shown,
        [
            "0 fault kill web-server",
            "3 stop web-server",
            "3 heal",
            "4 up next.yaml"
        ]
    );
}

#[test]
fn each_fault_says_what_where_and_what_to_do() {
    for (from, to, expected) in [
        (
            "phases:",
            "phasis:",
            "experiment.yaml:3:1: unknown key `phasis` in an experiment\n3 | phasis: [{name: only, for: 5s}]\n  | ^ did you mean `phases`?",
        ),
        ("for: 5s", "fro: 5s", "unknown key `fro` in a phase"),
        (
            "web-server",
            "web-sever",
            "2:16: the deployment has no domain `web-sever`\n2 | load: {target: web-sever, call: Check}\n  |                ^ did you mean `web-server`?",
        ),
        (
            ", call: Check",
            "",
            "a load needs one of `documents`, `call`, `http`",
        ),
        (
            "call: Check",
            "call: Check, http: /",
            "a load can have only one of `documents`, `call`, `http`, not `call` and `http`",
        ),
        ("call: Check", "http: a", "`a` does not begin with `/`"),
        (
            "call: Check",
            "documents: 0",
            "documents must be a number from 1 to 10000, not `0`",
        ),
        (
            "call: Check",
            "documents: 2, data: a.jsonl",
            "`data` can be used only with `call` or `http`",
        ),
        (
            "call: Check",
            "call: Check, data: gone",
            "no such file: `/base/gone`",
        ),
        (
            "call: Check",
            "call: Check, rate: 5/s, users: 2",
            "a load has `rate` or `users`, not both",
        ),
        (
            "call: Check",
            "call: Check, rate: fast",
            "`fast` is not a valid rate",
        ),
        ("for: 5s", "for: 5", "`5` is not a valid duration"),
        ("for: 5s", "for: 5s, errors: 2", "`2` is not a share"),
        ("for: 5s", "for: 5s, errors: 101%", "`101%` is not a share"),
        ("for: 5s", "for: 5s, p99: 0ms", "`0ms` is not a valid time"),
        (
            "for: 5s",
            "for: 5s, steps: [{at: 1s}]",
            "a step needs one of `fault`, `heal`, `power`, `up`",
        ),
        (
            "for: 5s",
            "for: 5s, steps: [{heal: some}]",
            "invalid value `some` for heal",
        ),
        (
            "for: 5s",
            "for: 5s, steps: [{power: stop a, for: 3s}]",
            "`for` can be used only with `fault`, not with `power`",
        ),
        (
            "for: 5s",
            "for: 5s, steps: [{at: 6s, heal: all}]",
            "this step is due after the end of its phase",
        ),
        (
            "for: 5s",
            "for: 5s, steps: [{fault: explode}]",
            "3:48: no fault `explode`",
        ),
        (
            "for: 5s",
            "for: 5s, steps: [{power: boil}]",
            "no command `boil`",
        ),
        (
            "for: 5s",
            "for: 5s, steps: [{up: next}]",
            "no such file: `/base/next`",
        ),
        (
            "[{name: only, for: 5s}]",
            "[]",
            "an experiment needs at least one phase",
        ),
        (
            "[{name: only, for: 5s}]",
            "[{name: a, for: 1s}, {name: a, for: 1s}]",
            "two phases have the name `a`",
        ),
        ("name: small", "name: A b", "1:7: "),
    ] {
        assert!(SMALL.contains(from), "{from}");
        let shown = read(&SMALL.replace(from, to)).unwrap_err();
        assert!(shown.contains(expected), "{to}: {shown}");
    }
    let empty = read("").unwrap_err();
    assert!(
        !empty.contains("pspd init") && empty.contains("the file is empty"),
        "{empty}"
    );
}

#[test]
fn the_content_of_another_file_is_not_shown() {
    let shown = read("password: secret\n").unwrap_err();
    assert!(!shown.contains("secret"), "{shown}");
}

#[test]
fn the_schema_file_is_the_schema() {
    let text = include_str!("../../../../docs/experiment.schema.json");
    assert!(
        text == schema(),
        "it is outdated: run `pspd experiment schema > docs/experiment.schema.json`"
    );
}

#[test]
fn the_reference_names_every_key() {
    let text = include_str!("../../../../docs/experiments.md");
    let objects = [&keys::EXPERIMENT, &keys::LOAD, &keys::PHASE, &keys::STEP];
    let keys = objects
        .into_iter()
        .flat_map(|object| object.keys.iter().map(|key| key.name));
    let missing: Vec<_> = keys
        .filter(|name| !text.contains(&format!("`{name}`")))
        .collect();
    assert_eq!(missing, [""; 0]);
}

proptest::proptest! {
    #[test]
    fn no_yaml_shaped_text_panics(lines in proptest::collection::vec("[ ]{0,4}(name|load|phases|steps|fault|for|at|target|documents|&a|\\*a|-|<<)?:? ?[\\[\\]{}a-z0-9:., %]{0,12}", 0..20)) {
        let _ = read(&lines.join("\n"));
    }
}
