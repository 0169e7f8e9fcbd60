//! Results for a terminal.

use super::result::{Case, Results, Row, Try};
use super::settings::Settings;
use crate::boot::STAGES;
use crate::libvirt::Medium;

/// Everything that was measured.
pub fn tables(results: &Results) -> String {
    format!(
        "Seconds since power on: minimum / median / maximum\n\n{}\n\n{}\nBoots from\n\n{}\n\nWhat can be set\n\n{}\n",
        boots(&results.cases),
        results.comparisons(),
        compatibility(&results.compatibility),
        settings(&results.settings)
    )
}

fn boots(cases: &[Case]) -> String {
    let mut head = vec!["case"];
    head.extend(STAGES);
    head.extend(["the guest reports", "failed"]);
    let rows = cases.iter().map(|case| {
        let mut row = vec![case.name.clone()];
        row.extend((0..STAGES.len()).map(|stage| {
            case.reached(stage)
                .map_or("-".into(), |spread| spread.to_string())
        }));
        row.push(case.firmware().to_owned());
        row.push(format!("{} of {}", case.failures().len(), case.runs.len()));
        row
    });
    table(&head, rows)
}

fn compatibility(rows: &[Row]) -> String {
    let mut head = vec!["firmware"];
    head.extend(Medium::ALL.map(Medium::word));
    let rows = rows.iter().map(|row| {
        let mut cells = vec![row.firmware.clone()];
        cells.extend(row.tries.iter().map(Try::word));
        cells
    });
    table(&head, rows)
}

fn settings(settings: &[Settings]) -> String {
    let rows = settings.iter().map(|one| {
        vec![
            one.firmware.to_owned(),
            one.in_topology.join("\n"),
            one.of_its_own.clone(),
            one.a_change_takes.to_owned(),
        ]
    });
    table(
        &[
            "firmware",
            "in the topology",
            "of its own",
            "a change takes",
        ],
        rows,
    )
}

pub(super) fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::ASCII_MARKDOWN);
    table.set_header(head);
    table.add_rows(rows);
    table.trim_fmt()
}
