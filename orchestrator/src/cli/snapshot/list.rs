//! Snapshots as a tree, and one of them in detail.

use std::collections::BTreeMap;
use std::io::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use pspd_model::spec::{Name, Size};
use serde_json::json;

use super::super::exit::Exit;
use crate::report;
use crate::state::{Home, Snapshot};

pub(super) fn list(home: &Home, json: bool) -> anyhow::Result<Exit> {
    let snapshots = home.snapshots()?;
    let head = home.head_snapshot()?;
    let mut out = crate::terminal::out();
    if json {
        let rows = snapshots.iter().map(|(name, snapshot)| {
            json!({
                "name": name,
                "parent": snapshot.parent,
                "taken": snapshot.taken,
                "bytes": home.snapshot_size(name, snapshot).0,
                "note": snapshot.note,
                "memory": has_memory(snapshot),
                "current": head.as_ref() == Some(name),
            })
        });
        writeln!(out, "{}", serde_json::to_string(&rows.collect::<Vec<_>>())?)?;
        return Ok(Exit::Done);
    }
    if snapshots.is_empty() {
        report::say("no snapshots. Run `pspd snapshot save NAME` to save one\n");
        return Ok(Exit::Done);
    }
    let size = |name: &Name, snapshot: &Snapshot| home.snapshot_size(name, snapshot);
    for line in tree(&snapshots, head.as_ref(), size) {
        writeln!(out, "{line}")?;
    }
    Ok(Exit::Done)
}

pub(super) fn show(
    home: &Home,
    name: &Name,
    snapshot: &Snapshot,
    json: bool,
) -> anyhow::Result<Exit> {
    let mut out = crate::terminal::out();
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(snapshot)?)?;
        return Ok(Exit::Done);
    }
    let parent = snapshot.parent.as_ref().map_or("none", Name::as_str);
    writeln!(out, "name     {name}")?;
    writeln!(out, "parent   {parent}")?;
    writeln!(out, "saved    {}", when(snapshot.taken))?;
    writeln!(out, "size     {}", home.snapshot_size(name, snapshot))?;
    if !snapshot.note.is_empty() {
        writeln!(out, "note     {}", snapshot.note)?;
    }
    for (domain, of) in &snapshot.domains {
        let state = match (&of.memory, of.runs) {
            (Some(_), true) => "memory and disks",
            (Some(_), false) => "disks, and the memory that was saved before",
            (None, true) => "disks, as after a power cut",
            (None, false) => "disks; it was off",
        };
        let disks: Vec<&str> = of.disks.keys().map(String::as_str).collect();
        match disks[..] {
            [] => writeln!(out, "{domain}  nothing")?,
            _ => writeln!(out, "{domain}  {state}: {}", disks.join(", "))?,
        }
        if let Some(deployed) = &of.deployed {
            writeln!(out, "{domain}  release {}", deployed.release.short())?;
        }
    }
    Ok(Exit::Done)
}

fn has_memory(snapshot: &Snapshot) -> bool {
    let mut domains = snapshot.domains.values();
    domains.any(|domain| domain.memory.is_some())
}

/// In local time, to the second.
fn when(taken: u64) -> String {
    let seconds = i64::try_from(taken).unwrap_or(i64::MAX);
    match Timestamp::from_second(seconds) {
        Ok(time) => time
            .to_zoned(TimeZone::system())
            .strftime("%Y-%m-%d %H:%M:%S")
            .to_string(),
        Err(_) => "unknown".to_owned(),
    }
}

/// A line for each snapshot below the one before it, and one for the current state.
fn tree(
    snapshots: &BTreeMap<Name, Snapshot>,
    head: Option<&Name>,
    size: impl Fn(&Name, &Snapshot) -> Size,
) -> Vec<String> {
    let mut rows = Vec::new();
    branch(snapshots, head, None, "", &mut rows);
    let width = rows.iter().map(|(label, _)| label.chars().count()).max();
    let width = width.unwrap_or_default();
    let line = |(label, name): (String, Option<&Name>)| match name {
        None => label,
        Some(name) => {
            let snapshot = &snapshots[name];
            let pad = " ".repeat(width - label.chars().count());
            let kind = if has_memory(snapshot) {
                ""
            } else {
                "  disks only"
            };
            let (when, size) = (when(snapshot.taken), size(name, snapshot).to_string());
            format!("{label}{pad}  {when}  {size:>9}{kind}  {}", snapshot.note)
                .trim_end()
                .to_owned()
        }
    };
    rows.into_iter().map(line).collect()
}

/// What follows `parent`, in the order in which it was saved; the current state comes last.
fn branch<'a>(
    snapshots: &'a BTreeMap<Name, Snapshot>,
    head: Option<&Name>,
    parent: Option<&Name>,
    indent: &str,
    rows: &mut Vec<(String, Option<&'a Name>)>,
) {
    let follows = |snapshot: &Snapshot| match &snapshot.parent {
        // One whose record is lost.
        Some(name) if !snapshots.contains_key(name) => parent.is_none(),
        of => of.as_ref() == parent,
    };
    let mut children: Vec<(u64, Option<&Name>)> = snapshots
        .iter()
        .filter(|(_, snapshot)| follows(snapshot))
        .map(|(name, snapshot)| (snapshot.taken, Some(name)))
        .collect();
    children.sort();
    if head == parent {
        children.push((u64::MAX, None));
    }
    let count = children.len();
    for (index, (_, name)) in children.into_iter().enumerate() {
        let last = index + 1 == count;
        let (twig, below) = match (parent, last) {
            (None, _) => ("", ""),
            (Some(_), true) => ("└─ ", "   "),
            (Some(_), false) => ("├─ ", "│  "),
        };
        let label = name.map_or("(now)", Name::as_str);
        rows.push((format!("{indent}{twig}{label}"), name));
        if name.is_some() {
            branch(snapshots, head, name, &format!("{indent}{below}"), rows);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use pspd_model::topology::{self, Found};

    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn snapshots(all: &[(&str, Option<&str>, u64)]) -> BTreeMap<Name, Snapshot> {
        let text = format!(
            "name: demo\nimages: {{debian: {{path: /image, sha256: {}}}}}\ndomains: {{web: {{image: debian}}}}\n",
            "0".repeat(64)
        );
        let spec = topology::parse(&text, Path::new("/"), &|_| Found::File).unwrap();
        let snapshot = |parent: Option<&str>, taken| {
            let mut snapshot = Snapshot::new(spec.clone(), String::new(), taken);
            snapshot.parent = parent.map(name);
            snapshot
        };
        all.iter()
            .map(|(one, parent, taken)| (name(one), snapshot(*parent, *taken)))
            .collect()
    }

    /// The names of the tree's lines, without the columns beside them.
    fn drawn(all: &[(&str, Option<&str>, u64)], head: Option<&str>) -> Vec<String> {
        let lines = tree(&snapshots(all), head.map(name).as_ref(), |_, _| Size(0));
        let label = |line: &String| {
            line.split("  20")
                .next()
                .unwrap_or_default()
                .split("  19")
                .next()
                .unwrap_or_default()
                .trim_end()
                .to_owned()
        };
        lines.iter().map(label).collect()
    }

    #[test]
    fn branches_are_below_what_they_follow() {
        let all = [
            ("clean", None, 1),
            ("broken", Some("clean"), 3),
            ("loaded", Some("clean"), 2),
            ("more", Some("loaded"), 4),
        ];
        assert_eq!(
            drawn(&all, Some("clean")),
            ["clean", "├─ loaded", "│  └─ more", "├─ broken", "└─ (now)"]
        );
        assert_eq!(
            drawn(&all, Some("more")),
            [
                "clean",
                "├─ loaded",
                "│  └─ more",
                "│     └─ (now)",
                "└─ broken"
            ]
        );
    }

    #[test]
    fn a_snapshot_without_its_parent_is_still_shown() {
        let all = [("one", Some("lost"), 1), ("two", None, 2)];
        assert_eq!(drawn(&all, None), ["one", "two", "(now)"]);
    }
}
