//! The boot information in `status`: the stages of the last boot, and the firmware that each guest reports.

use pspd_model::spec::{Firmware, Name, Spec};
use serde::Serialize;

use crate::boot::Boot;
use crate::state::Home;

/// The firmware that a guest reported when it was last reached.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct ReportedStatus {
    pub vendor: String,
    pub version: String,
    pub efi: bool,
    pub coreboot: bool,
    /// Whether it matches the firmware that the topology asks for.
    pub as_asked: bool,
}

/// Seconds since power on; `null` if the stage was not detected.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct BootStatus {
    /// RFC 3339.
    pub started: Option<String>,
    pub firmware: Option<f64>,
    pub kernel: Option<f64>,
    pub init: Option<f64>,
    pub ssh: Option<f64>,
    /// How often the guest rebooted since; `null` if that is not known.
    pub reboots: Option<usize>,
}

impl ReportedStatus {
    pub(super) fn of(boot: &Boot, asked: &Firmware) -> ReportedStatus {
        let reported = boot.reported.clone();
        ReportedStatus {
            as_asked: reported.fits(asked),
            vendor: reported.vendor,
            version: reported.version,
            efi: reported.efi,
            coreboot: reported.coreboot,
        }
    }

    /// For the table, such as `coreboot 4.15`.
    pub(super) fn shown(&self) -> String {
        format!("{} {}", self.vendor, self.version)
    }
}

impl BootStatus {
    pub(super) fn of(boot: &Boot, reboots: Option<usize>) -> BootStatus {
        let [firmware, kernel, init, ssh] =
            boot.times.all().map(|time| time.map(crate::event::seconds));
        BootStatus {
            started: boot.started.clone(),
            firmware,
            kernel,
            init,
            ssh,
            reboots,
        }
    }
}

/// The recorded boots of a spec's domains.
pub(super) fn recorded(home: &Home, spec: &Spec) -> anyhow::Result<Vec<(Name, Boot)>> {
    let mut boots = Vec::new();
    for name in spec.domains.keys() {
        if let Some(boot) = Boot::recorded(home, name)? {
            boots.push((name.clone(), boot));
        }
    }
    Ok(boots)
}

/// The table of `status --boot`, and below it which guests rebooted since.
pub(super) fn table(home: &Home, spec: &Spec) -> anyhow::Result<String> {
    let boots = recorded(home, spec)?;
    let width = crate::terminal::out_width();
    let mut text = crate::report::boots(boots.iter().map(|(name, boot)| (name, boot)), width);
    for (name, boot) in &boots {
        if let Some(note) = rebooted(boot.reboots(&home.console_log(name))?) {
            text += &format!("{name}: {note}\n");
        }
    }
    Ok(text)
}

/// Says that a guest rebooted since the boot that is shown.
fn rebooted(reboots: Option<usize>) -> Option<String> {
    let times = match reboots? {
        0 => return None,
        1 => "once".to_owned(),
        count => format!("{count} times"),
    };
    Some(format!(
        "it rebooted {times} since this boot, without pspd, which did not measure that"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reboots_are_said_where_there_are_some() {
        assert_eq!([None, Some(0)].map(rebooted), [None, None]);
        let said = [Some(1), Some(3)].map(|count| rebooted(count).unwrap());
        insta::assert_snapshot!(said.join("\n"), @"
        it rebooted once since this boot, without pspd, which did not measure that
        it rebooted 3 times since this boot, without pspd, which did not measure that
        ");
    }
}
