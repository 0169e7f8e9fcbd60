//! A plan as text or JSON.

use std::io::Write as _;

use pspd_model::plan::Plan;

use super::counted;

/// Prints a plan on stdout; `how` is what applies it.
pub fn plan(plan: &Plan, how: &str, json: bool) -> anyhow::Result<()> {
    let mut out = crate::terminal::out();
    if json {
        serde_json::to_writer_pretty(&mut out, plan)?;
        writeln!(out)?;
    } else {
        write!(out, "{}", render(plan, how))?;
    }
    Ok(())
}

fn render(plan: &Plan, how: &str) -> String {
    let mut text = String::new();
    for note in &plan.notes {
        text.push_str(&format!("note: {note}\n"));
    }
    if plan.is_empty() {
        text.push_str("nothing to do\n");
        return text;
    }
    let width = plan
        .steps
        .iter()
        .map(|step| step.subject().map_or(0, |name| name.as_str().len()))
        .max()
        .unwrap_or(0);
    for step in &plan.steps {
        let subject = step.subject().map_or("", |name| name.as_str());
        text.push_str(&format!(
            "{subject:width$}  {} ({})\n",
            step.title(),
            step.reason
        ));
    }
    text.push_str(&format!(
        "{}; {how} to apply\n",
        counted(plan.steps.len(), "step")
    ));
    text
}
