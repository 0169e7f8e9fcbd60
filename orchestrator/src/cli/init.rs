//! `pspd init`: writes a topology to begin with, and the files that it names.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use clap::builder::PossibleValuesParser;
use pspd_builtin::{Content, Example};
use pspd_model::hint::Hinted;
use pspd_model::spec::Name;

use super::context::Context;
use super::exit::Exit;

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  pspd init && pspd up\n  pspd init --example ten --file ten/topology.yaml"
)]
pub(super) struct Args {
    /// The example to write; `--list` shows all
    #[arg(long, value_name = "NAME", default_value = Example::Demo.name(), value_parser = names())]
    example: String,
    /// List the examples, and write nothing
    #[arg(long, conflicts_with_all = ["example", "force"])]
    list: bool,
    /// Overwrite existing files
    #[arg(long)]
    force: bool,
}

/// More files than these are counted.
const MOST_LISTED: usize = 8;

fn names() -> PossibleValuesParser {
    Example::ALL.map(Example::name).into()
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<Exit> {
    if args.list {
        let mut out = crate::terminal::out();
        for example in Example::ALL {
            writeln!(out, "{:<10}  {}", example.name(), example.about())?;
        }
        return Ok(Exit::Done);
    }
    let example = Example::named(&args.example).context("the example is gone")?;
    let written = write(&context.file, example, args.force)?;
    let list: Vec<_> = written
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    let mut out = crate::terminal::out();
    match list.len() {
        0..=MOST_LISTED => writeln!(out, "wrote {}", list.join(", "))?,
        count => writeln!(
            out,
            "wrote {count} files, of which `{}` is the topology",
            context.file.display()
        )?,
    }
    let file = match context.file == Path::new(super::TOPOLOGY) {
        true => String::new(),
        false => format!(" --file {}", context.file.display()),
    };
    match example.build() {
        None => writeln!(out, "next: `pspd{file} up`")?,
        Some(build) => {
            let folder = context.file.parent().filter(|it| *it != Path::new(""));
            let build = folder.unwrap_or(Path::new(".")).join(build);
            writeln!(out, "next: `{} && pspd{file} up`", build.display())?;
        }
    }
    if example == Example::Demo {
        let call = r#"hello Echo '{"text": "hi"}'"#;
        writeln!(out, "then: `pspd{file} call {call}`")?;
    }
    Ok(Exit::Done)
}

/// Writes the files of an example, the topology last, and returns their paths.
fn write(topology: &Path, example: Example, force: bool) -> anyhow::Result<Vec<PathBuf>> {
    let absolute = std::path::absolute(topology)?;
    let folder = absolute.parent().unwrap_or(Path::new("/"));
    let shown = topology.parent().unwrap_or(Path::new(""));
    let files = example.files();
    let mut paths: Vec<PathBuf> = files.iter().map(|file| shown.join(&file.name)).collect();
    paths.push(topology.to_owned());
    if !force {
        refuse_existing(&paths)?;
    }
    let context = || format!("failed to write to the folder `{}`", folder.display());
    fs::create_dir_all(folder).with_context(context)?;
    // All of them, or none: the disk may be full.
    let new = tempfile::Builder::new()
        .prefix(".pspd-init-")
        .tempdir_in(folder)
        .with_context(context)?;
    let written: Vec<PathBuf> = (0..paths.len())
        .map(|number| new.path().join(number.to_string()))
        .collect();
    for (file, path) in files.iter().zip(&written) {
        write_file(&file.content, path)
            .with_context(|| format!("failed to write `{}`", shown.join(&file.name).display()))?;
    }
    let text = example.topology(deployment_name(folder).as_deref());
    let contents = written.last().context("there is a topology")?;
    fs::write(contents, text)
        .with_context(|| format!("failed to write `{}`", topology.display()))?;
    for (written, path) in written.iter().zip(&paths) {
        let context = || format!("failed to write `{}`", path.display());
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(context)?;
        }
        fs::rename(written, path).with_context(context)?;
    }
    Ok(paths)
}

fn refuse_existing(paths: &[PathBuf]) -> anyhow::Result<()> {
    let existing: Vec<String> = paths
        .iter()
        .filter(|path| path.symlink_metadata().is_ok())
        .map(|path| format!("`{}`", path.display()))
        .collect();
    let (exist, them) = match existing.len() {
        1 => ("exists", "it"),
        _ => ("exist", "them"),
    };
    ensure!(
        existing.is_empty(),
        Hinted::new(
            format!("{} already {exist}", existing.join(", ")),
            format!("Pass --force to overwrite {them}, or --file to write to another folder"),
        )
    );
    Ok(())
}

fn write_file(content: &Content, path: &Path) -> anyhow::Result<()> {
    match content {
        Content::Program(program) => program.write(path)?,
        Content::Text(text) => {
            let mode = match text.starts_with(b"#!") {
                true => 0o755,
                false => 0o644,
            };
            let mut options = OpenOptions::new();
            let options = options.write(true).create_new(true).mode(mode);
            options.open(path)?.write_all(text)?;
        }
        Content::Service(name) => {
            fs::copy(service(name)?, path)?;
        }
    }
    Ok(())
}

/// An executable of the reference deployment, installed with this program or compiled beside it.
fn service(name: &str) -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe().context("failed to find this program's own file")?;
    let beside = program.parent().unwrap_or(Path::new("/"));
    let places = ["../lib/pspd/services", "../services"].map(|place| beside.join(place).join(name));
    let found = places.iter().find(|place| place.is_file());
    found.cloned().with_context(|| {
        let [installed, compiled] = places.map(|place| place.display().to_string());
        format!(
            "the executable `{name}` is neither in `{installed}` nor in `{compiled}`; `make services` compiles it in pspd's source"
        )
    })
}

/// The deployment's name in a new folder: the folder's own, as far as it can be one.
fn deployment_name(folder: &Path) -> Option<String> {
    let name = folder.file_name()?.to_str()?.to_ascii_lowercase();
    let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let name = name.replace(|c| !valid(c), "-");
    let name = name.trim_matches('-');
    Name::new(name).is_ok().then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::topology;

    fn written(folder: &Path, example: Example) -> anyhow::Result<Vec<PathBuf>> {
        write(&folder.join("new/topology.yaml"), example, false)
    }

    #[test]
    fn each_example_is_valid_where_it_is_written() {
        for example in Example::ALL {
            let folder = tempfile::tempdir().unwrap();
            let paths = match written(folder.path(), example) {
                Ok(paths) => paths,
                // Unit tests run without the services.
                Err(error) if format!("{error:#}").contains("make services") => {
                    assert!(
                        fs::read_dir(folder.path().join("new"))
                            .unwrap()
                            .next()
                            .is_none()
                    );
                    continue;
                }
                Err(error) => panic!("{error:#}"),
            };
            let (topology, files) = paths.split_last().unwrap();
            if example.build().is_some() {
                // As built: whatever else the topology names.
                let made = |name: &str| topology.parent().unwrap().join(name);
                for folder in [
                    "database-server/dist",
                    "database-server/node_modules",
                    "ai-server/vendor",
                ] {
                    fs::create_dir_all(made(folder)).unwrap();
                }
                fs::write(made("web-server/web-server"), "").unwrap();
            }
            let spec = topology::load(topology).unwrap();
            let name = match example {
                Example::Demo => "new",
                _ => example.name(),
            };
            assert_eq!(spec.name.as_str(), name);
            for file in files {
                let mode = fs::metadata(file).unwrap().permissions().mode();
                let head = fs::read(file).unwrap();
                let runs = head.starts_with(b"#!") || head.starts_with(b"\x7fELF");
                assert_eq!(mode & 0o111 == 0o111, runs, "{}", file.display());
            }
        }
    }

    #[test]
    fn existing_files_are_left_alone_unless_forced() {
        let folder = tempfile::tempdir().unwrap();
        let topology = folder.path().join("topology.yaml");
        let program = folder.path().join("echo-server");
        fs::write(&program, "mine").unwrap();
        let error = write(&topology, Example::Demo, false)
            .unwrap_err()
            .to_string();
        assert!(error.contains("echo-server` already exists"), "{error}");
        assert_eq!(fs::read_to_string(&program).unwrap(), "mine");
        assert!(!topology.exists());
        write(&topology, Example::Demo, true).unwrap();
        assert!(fs::read(&program).unwrap().starts_with(b"\x7fELF"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn the_deployment_has_the_name_of_its_folder() {
        let named = |folder: &str| deployment_name(Path::new(folder));
        assert_eq!(named("/home/me/My Shop_2").as_deref(), Some("my-shop-2"));
        assert_eq!(named("/home/me/-.shop-").as_deref(), Some("shop"));
        assert_eq!(named("/"), None);
        assert_eq!(named("/home/\u{e4}"), None);
    }
}
