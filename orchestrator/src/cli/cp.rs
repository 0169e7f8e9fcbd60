//! `pspd cp`: copies files and folders to and from a domain, with the system's `scp`.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, bail, ensure};
use pspd_model::hint::{Hint as _, Hinted};
use pspd_model::spec::{Name, Spec};

use super::context::{self, Context};
use super::exit::Exit;
use super::ssh::to_domain;
use crate::guest::shell_word;

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  pspd cp data.json web-server:/tmp/\n  pspd cp database-server:/var/log/journal logs\n\nFolders are copied with all that is in them; modes and times are kept, links are followed. A relative path in a domain begins in /root. A file\nof this host whose name has a colon is written as `./a:b`."
)]
pub(super) struct Args {
    /// Files or folders, of this host or as `NAME:PATH` of a domain
    #[arg(required = true, value_name = "SRC")]
    from: Vec<String>,
    /// The destination: a file, or a folder for all of them
    #[arg(value_name = "DST")]
    to: String,
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<Exit> {
    let spec = context.deployed_spec()?;
    let copy = Copy::of(&spec, args)?;
    copy.refuse_special()?;
    let mut scp = to_domain(context, &spec, &copy.domain, "scp")?;
    // By SFTP, which passes paths as they are.
    scp.args(["-s", "-r", "-p", "--"]);
    let address = spec.domains[&copy.domain].address;
    for place in copy.from.iter().chain([&copy.to]) {
        match place {
            Place::Here(path) => scp.arg(std::path::absolute(path)?),
            Place::There(path) => scp.arg(format!("{address}:{path}")),
        };
    }
    let status = scp
        .status()
        .context("failed to run `scp`")
        .hint("Install openssh-client")?;
    if status.success() {
        return Ok(Exit::Done);
    }
    if let Place::There(path) = &copy.to
        && let Some(full) = full_disk(context, &spec, &copy.domain, path)
    {
        bail!("the file system `{full}` of `{}` is full", copy.domain);
    }
    bail!("some files were not copied; see the messages of `scp` above")
}

/// The file system of a path in a domain, if it is full: SFTP has no word for that.
fn full_disk(context: &Context, spec: &Spec, domain: &Name, path: &str) -> Option<String> {
    let path = shell_word(if path.is_empty() { "." } else { path });
    let df = "df --output=avail,iavail,itotal,target --";
    let script = format!("{df} {path} || {df} \"$(dirname -- {path})\"");
    let address = spec.domains[domain].address.to_string();
    let mut ssh = to_domain(context, spec, domain, "ssh").ok()?;
    let said = ssh
        .args(["-n", &address, &script])
        .stderr(Stdio::null())
        .output()
        .ok()?;
    full(&String::from_utf8_lossy(&said.stdout)).map(str::to_owned)
}

/// The file system of an answer of `df` that has no block left, or no inode of those that it counts.
fn full(answer: &str) -> Option<&str> {
    let mut words = answer.lines().nth(1)?.split_whitespace();
    let [blocks, inodes, all_inodes] = [words.next()?, words.next()?, words.next()?];
    let is_full = blocks == "0" || (inodes == "0" && all_inodes != "0");
    words.next().filter(|_| is_full)
}

#[derive(Debug, PartialEq)]
enum Place {
    Here(PathBuf),
    There(String),
}

/// A copy from this host to a domain, or back.
#[derive(Debug, PartialEq)]
struct Copy {
    domain: Name,
    from: Vec<Place>,
    to: Place,
}

impl Copy {
    fn of(spec: &Spec, args: &Args) -> anyhow::Result<Copy> {
        let mut domain = None;
        let mut place = |text: &str| -> anyhow::Result<Place> {
            let Some((name, path)) = in_domain(text) else {
                return Ok(Place::Here(text.into()));
            };
            let name = context::domain(spec, name)?;
            match &domain {
                Some(other) if *other != name => bail!(Hinted::new(
                    format!("`{other}` and `{name}` are two domains"),
                    "Copy to this host first, and from here to the other domain",
                )),
                _ => domain = Some(name),
            }
            Ok(Place::There(path.to_owned()))
        };
        let from: Vec<Place> = args
            .from
            .iter()
            .map(|one| place(one))
            .collect::<Result<_, _>>()?;
        let to = place(&args.to)?;
        let Some(domain) = domain else {
            bail!(Hinted::new(
                "no path names a domain",
                "Write one side as `NAME:PATH`, such as `pspd cp a.txt web-server:/tmp/`",
            ));
        };
        let is_there = |place: &Place| matches!(place, Place::There(_));
        if from.iter().any(|one| is_there(one) == is_there(&to)) {
            bail!("a copy is from this host to `{domain}`, or from `{domain}` to this host");
        }
        Ok(Copy { domain, from, to })
    }

    /// Fails for what has no content to copy: of a FIFO, `scp` would wait for some forever.
    fn refuse_special(&self) -> anyhow::Result<()> {
        for place in &self.from {
            let Place::Here(path) = place else { continue };
            // What is missing, `scp` says itself, and continues with the rest.
            let Ok(found) = path.metadata() else { continue };
            ensure!(
                found.is_file() || found.is_dir(),
                "`{}` is not a file or a directory",
                path.display()
            );
        }
        Ok(())
    }
}

/// The name of a domain and a path in it.
fn in_domain(text: &str) -> Option<(&str, &str)> {
    let (name, path) = text.split_once(':')?;
    let is_path = Path::new(name).components().count() != 1 || name.contains('/') || name == ".";
    (!is_path).then_some((name, path))
}

#[cfg(test)]
mod tests {
    use pspd_model::topology::{Found, parse};

    use super::*;

    fn copy(texts: &[&str]) -> Result<Copy, String> {
        let text = "name: demo\nimages: {debian: {recipe: recipe}}\ndomains: {web: {image: debian}, store: {image: debian}}\n";
        let spec = parse(text, Path::new("/"), &|_| Found::Folder).unwrap();
        let (to, from) = texts.split_last().unwrap();
        let args = Args {
            from: from.iter().map(|&text| text.to_owned()).collect(),
            to: (*to).to_owned(),
        };
        Copy::of(&spec, &args).map_err(|error| error.to_string())
    }

    #[test]
    fn a_full_file_system_is_one_without_blocks_or_inodes() {
        for (line, expected) in [
            ("  100 20 30 /", None),
            ("    0 20 30 /var/lib/store", Some("/var/lib/store")),
            ("  100  0 30 /tmp", Some("/tmp")),
            // FAT counts none.
            ("  100  0  0 /boot/efi", None),
            ("  100  -  - /boot/efi", None),
        ] {
            let answer = format!("Avail IFree Inodes Mounted on\n{line}\n");
            assert_eq!(full(&answer), expected, "{line}");
        }
        assert_eq!(full(""), None);
    }

    #[test]
    fn one_side_is_a_domain_and_the_other_this_host() {
        let web = Name::new("web").unwrap();
        let here = |path: &str| Place::Here(path.into());
        let there = |path: &str| Place::There(path.to_owned());
        assert_eq!(
            copy(&["a", "./b:c", "web:/tmp/"]).unwrap(),
            Copy {
                domain: web.clone(),
                from: vec![here("a"), here("./b:c")],
                to: there("/tmp/")
            }
        );
        assert_eq!(
            copy(&["web:", "web:a:b", "."]).unwrap(),
            Copy {
                domain: web,
                from: vec![there(""), there("a:b")],
                to: here(".")
            }
        );
        for (texts, problem) in [
            (&["a", "b"][..], "no path names a domain"),
            (&["wbe:a", "b"], "has no domain `wbe`: did you mean `web`?"),
            (&["web:a", "store:b"], "are two domains"),
            (
                &["web:a", "web:b"],
                "from this host to `web`, or from `web`",
            ),
            (
                &["web:a", "b", "c"],
                "from this host to `web`, or from `web`",
            ),
        ] {
            let error = copy(texts).unwrap_err();
            assert!(error.contains(problem), "{texts:?}: {error}");
        }
    }
}
