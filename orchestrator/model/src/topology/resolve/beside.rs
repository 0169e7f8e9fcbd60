//! Reads the files and directories beside a service's program.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::super::fault::Fault;
use super::super::read::{Fields, Reader};
use super::{Files, is_plain};

/// Linux's limit for one path below the release's folder.
const LONGEST_PATH: usize = 255;

/// Returns the paths on this host by those in the release. `executable` is the name of the service's own.
pub(super) fn beside(
    reader: &Reader,
    fields: &Fields,
    executable: Option<&str>,
    files: &Files,
) -> BTreeMap<PathBuf, PathBuf> {
    let entries = fields
        .get("files")
        .and_then(|node| reader.entries(node, "files"))
        .unwrap_or_default();
    let mut beside = BTreeMap::new();
    for (key, node) in &entries {
        let path = Path::new(&key.name);
        if let Err(reason) = check_beside(&key.name, executable) {
            reader.fault(
                Fault::new(key.at, format!("`{}` {reason}", key.name))
                    .help("write it like `config.toml` or `data/words.txt`"),
            );
        }
        let help = "use the path of a file or a directory on this host";
        if let Some(from) = files.expect_any(reader, node, "files", help) {
            beside.insert(path.to_owned(), from);
        }
    }
    for (key, _) in &entries {
        let mut folders = Path::new(&key.name).ancestors().skip(1);
        if let Some(folder) = folders.find(|folder| beside.contains_key(*folder)) {
            let message = format!(
                "`{}` is in `{}`, which is also one of the `files`",
                key.name,
                folder.display()
            );
            reader.fault(Fault::new(key.at, message));
        }
    }
    beside
}

/// Checks that a path can be used next to the binary of a domain's service. Names of pspd's own files and folders are
/// reserved, and so is `.new`, the ending of files that earlier versions were writing.
fn check_beside(text: &str, executable: Option<&str>) -> Result<(), &'static str> {
    if text.len() > LONGEST_PATH || !text.split('/').all(is_plain) {
        return Err("is not a relative path of letters, digits and ._- between single slashes");
    }
    let first = text.split('/').next().unwrap_or_default();
    let reserved = ["environment", "secrets", "mount-volumes", "setup"].contains(&first)
        || first.starts_with("tls")
        || first.starts_with(['.', '-'])
        || first.ends_with(".service")
        || text.split('/').any(|part| part.ends_with(".new"));
    if reserved {
        return Err("is reserved for a file of pspd");
    }
    if executable == Some(first) {
        return Err("is the name of the service's executable");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_beside_a_service_collides_with_none_of_pspd() {
        for good in [
            "words.txt",
            "data/words.txt",
            "a/secrets",
            "web.toml",
            "webs",
            "new",
            "a.newer",
        ] {
            check_beside(good, Some("web")).unwrap();
        }
        check_beside("web/main.py", None).unwrap();
        for bad in [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            "./a",
            "a/.",
            "a/./b",
            "../a",
            "a/../b",
            "a b",
            "a'b",
            "a\tb",
            "ä",
            "web",
            "web/x",
            "environment",
            "environment/x",
            "secrets",
            "secrets/x",
            "secrets.new",
            "words.new",
            "a.new/b",
            "environment.new/x",
            "mount-volumes",
            "mount-volumes/x",
            "setup",
            "tls",
            "tls/key.pem",
            "x.service",
            "x.service/y",
            ".complete",
            ".started/x",
            "-n",
        ] {
            assert!(check_beside(bad, Some("web")).is_err(), "{bad:?}");
        }
    }
}
