//! The boot information of commands: the stages of each domain's last boot.

use pspd_model::spec::{Name, Spec};

use crate::boot::Boot;
use crate::state::Home;

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
