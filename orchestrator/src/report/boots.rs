//! The table of boots: when each stage was reached, and the firmware that the guest reports.

use std::time::Duration;

use pspd_model::spec::Name;

use super::columns;
use crate::boot::{Boot, STAGES};

/// Returns one row for each boot, or an empty string if there are no boots. `width` is that of the terminal, if there is one.
pub fn boots<'a>(
    boots: impl IntoIterator<Item = (&'a Name, &'a Boot)>,
    width: Option<usize>,
) -> String {
    let mut head = vec!["domain"];
    head.extend(STAGES);
    head.push("reported firmware");
    let mut rows = Vec::new();
    for (name, boot) in boots {
        let mut row = vec![name.to_string()];
        row.extend(boot.times.all().map(after));
        row.push(boot.reported.to_string());
        rows.push(row);
    }
    if rows.is_empty() {
        return String::new();
    }
    columns(&head, &rows, width)
}

/// The time since power on.
fn after(time: Option<Duration>) -> String {
    time.map_or("-".into(), |time| format!("{:.2} s", time.as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::Times;
    use crate::firmware::Reported;

    #[test]
    fn the_table_has_a_row_for_each_boot() {
        let boot = Boot {
            started: None,
            times: Times {
                firmware: Some(Duration::from_millis(312)),
                kernel: Some(Duration::from_millis(2500)),
                init: None,
                ssh: Some(Duration::from_secs(7)),
            },
            reported: Reported {
                vendor: "coreboot".into(),
                version: "4.15".into(),
                efi: false,
                coreboot: true,
            },
            console: None,
        };
        let name = Name::new("ai-server").unwrap();
        insta::assert_snapshot!(boots([(&name, &boot)], None), @"
         domain     firmware  kernel  init  ssh     reported firmware
         ai-server  0.31 s    2.50 s  -     7.00 s  coreboot 4.15, coreboot's tables
        ");
        assert_eq!(boots([], None), "");
    }
}
