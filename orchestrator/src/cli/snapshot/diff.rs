//! How two states of a deployment differ: their topologies, and what was deployed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;

use pspd_model::spec::{Name, Spec};
use serde_json::Value;

use super::super::exit::Exit;
use super::find;
use crate::report;
use crate::state::{Home, Snapshot};

/// Values by their place, such as `domains.web.memory.current`.
type Values = BTreeMap<String, String>;

/// Prints a line for each value that differs; without `to`, from what is deployed now.
pub(super) fn run(home: &Home, now: &Spec, from: &Name, to: Option<&Name>) -> anyhow::Result<Exit> {
    let old = of_snapshot(&find(home, from)?)?;
    let new = match to {
        Some(name) => of_snapshot(&find(home, name)?)?,
        None => deployed(home, now)?,
    };
    let lines = differences(&old, &new);
    if lines.is_empty() {
        report::say("the topologies and the releases are the same\n");
    }
    for line in lines {
        writeln!(crate::terminal::out(), "{line}")?;
    }
    Ok(Exit::Done)
}

fn of_snapshot(snapshot: &Snapshot) -> anyhow::Result<Values> {
    let mut values = Values::new();
    flatten("", &serde_json::to_value(&snapshot.spec)?, &mut values);
    for (domain, of) in &snapshot.domains {
        if let Some(deployed) = &of.deployed {
            values.insert(release(domain), deployed.release.short().to_string());
        }
    }
    Ok(values)
}

fn deployed(home: &Home, spec: &Spec) -> anyhow::Result<Values> {
    let mut values = Values::new();
    flatten("", &serde_json::to_value(spec)?, &mut values);
    for domain in spec.domains.keys() {
        if let Some(deployed) = home.deployed_record(domain)? {
            values.insert(release(domain), deployed.release.short().to_string());
        }
    }
    Ok(values)
}

fn release(domain: &Name) -> String {
    format!("release of {domain}")
}

fn flatten(place: &str, value: &Value, values: &mut Values) {
    let below = |key: &str| match place {
        "" => key.to_owned(),
        place => format!("{place}.{key}"),
    };
    match value {
        Value::Object(object) if !object.is_empty() => {
            for (key, value) in object {
                flatten(&below(key), value, values);
            }
        }
        Value::Array(list) if !list.is_empty() => {
            for (index, value) in list.iter().enumerate() {
                flatten(&below(&index.to_string()), value, values);
            }
        }
        Value::String(text) => _ = values.insert(place.to_owned(), text.clone()),
        value => _ = values.insert(place.to_owned(), value.to_string()),
    }
}

fn differences(old: &Values, new: &Values) -> Vec<String> {
    let places: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let line = |place: &String| match (old.get(place), new.get(place)) {
        (Some(old), Some(new)) if old == new => None,
        (Some(old), Some(new)) => Some(format!("~ {place}: {old} -> {new}")),
        (Some(old), None) => Some(format!("- {place}: {old}")),
        (None, new) => Some(format!("+ {place}: {}", new.map_or("", String::as_str))),
    };
    places.into_iter().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_value_that_differs_has_a_line() {
        let values = |value: Value| {
            let mut values = Values::new();
            flatten("", &value, &mut values);
            values
        };
        let old = values(json!({"a": {"b": 1, "c": "same"}, "list": [1, 2], "gone": {}}));
        let new = values(json!({"a": {"b": 2, "c": "same"}, "list": [1], "new": true}));
        assert_eq!(
            differences(&old, &new),
            ["~ a.b: 1 -> 2", "- gone: {}", "- list.1: 2", "+ new: true"]
        );
        assert!(differences(&old, &old).is_empty());
    }
}
