//! `pspd man`: writes the manual pages, one for each command. For packages.

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::CommandFactory as _;

use super::exit::Exit;

#[derive(clap::Args)]
pub(super) struct Args {
    /// The directory to write to
    dir: PathBuf,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let context = || format!("failed to write to `{}`", args.dir.display());
    fs::create_dir_all(&args.dir).with_context(context)?;
    // A page shows what the short help leaves out.
    let command = super::Cli::command().mut_args(|argument| argument.hide_short_help(false));
    clap_mangen::generate_to(command, &args.dir).with_context(context)?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_page_and_each_option_an_explanation() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().to_owned();
        run(&Args { dir: dir.clone() }).unwrap();
        let pages: Vec<_> = fs::read_dir(dir).unwrap().flatten().collect();
        assert!(
            pages
                .iter()
                .any(|page| page.file_name() == "pspd-snapshot-save.1")
        );
        for page in pages {
            let text = fs::read_to_string(page.path()).unwrap();
            let mut lines = text.lines().peekable();
            while let Some(line) = lines.next() {
                // An option or an argument is followed by its explanation.
                let begins = ["\\fB\\-", "<\\fI", "[\\fI"];
                if begins.iter().any(|begin| line.starts_with(begin)) {
                    let explained = lines.peek().is_some_and(|next| !next.is_empty());
                    assert!(explained, "{}: {line}", page.path().display());
                }
            }
        }
    }
}
