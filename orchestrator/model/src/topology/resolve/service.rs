//! Reads a domain's service: its binary, port, environment, arguments and files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::super::Found;
use super::super::fault::{Fault, Position};
use super::super::keys;
use super::super::read::{Fields, Reader};
use super::super::tree::{Key, Node, Value};
use super::{Files, is_plain};
use crate::spec::{KEY_LOG, Secret, ServiceSpec};

const SSH: u16 = 22;
/// In bytes: Linux refuses longer arguments and variables (`MAX_ARG_STRLEN`).
const LONGEST_LINE: usize = 100 << 10;
/// Linux's limit for one path below the release's folder.
const LONGEST_PATH: usize = 255;

/// Where a service is defined.
pub(super) struct Place<'a> {
    /// The domain's name, which is the name of the executable in the guest.
    pub domain: &'a str,
    pub at: Position,
}

pub(super) fn service(
    reader: &Reader,
    node: &Node,
    place: Place,
    files: &Files,
) -> Option<ServiceSpec> {
    let fields = reader.object(node, place.at, &keys::SERVICE)?;
    let binary = fields.get("binary").and_then(|node| {
        files.expect(
            reader,
            node,
            "binary",
            Found::File,
            "build it, or use the path of an existing executable",
        )
    });
    let port = fields.get("port").and_then(|node| {
        let port = reader.number(node, "port", 1, 65535)? as u16;
        if port == SSH {
            reader.fault(
                Fault::new(node.at, "port 22 is reserved for SSH")
                    .help("use another port, such as 50051"),
            );
        }
        Some(port)
    });
    let health = fields
        .get("health")
        .and_then(|node| reader.text(node, "health"));
    let environment = environment(reader, &fields);
    // `Some(None)` means absent, and `None` means invalid.
    let start_timeout = fields.get("start_timeout").map_or(Some(None), |node| {
        reader.duration(node, "start_timeout").map(Some)
    });
    let words = [("true", true), ("false", false)];
    let tls_key_log = fields
        .get("tls_key_log")
        .map_or(Some(false), |node| reader.word(node, "tls_key_log", &words));
    let secrets = secrets(reader, &fields, files, &environment);
    let sets_key_log = environment.contains_key(KEY_LOG) || secrets.contains_key(KEY_LOG);
    if tls_key_log == Some(true) && sets_key_log {
        let message = format!("`tls_key_log` sets `{KEY_LOG}`, which has a value already");
        let fault = Fault::new(fields.at("tls_key_log"), message);
        reader.fault(fault.help("remove one of them"));
    }
    Some(ServiceSpec {
        secrets,
        environment,
        arguments: arguments(reader, &fields, "arguments"),
        checkpoint: arguments(reader, &fields, "checkpoint"),
        start_timeout: start_timeout?,
        tls_key_log: tls_key_log?,
        files: beside(reader, &fields, place.domain, files),
        binary: binary?,
        port: port?,
        health: health?.to_owned().into(),
    })
}

fn environment(reader: &Reader, fields: &Fields) -> BTreeMap<String, String> {
    let entries = fields
        .get("environment")
        .and_then(|node| reader.entries(node, "environment"))
        .unwrap_or_default();
    let mut environment = BTreeMap::new();
    for (key, node) in entries {
        check_variable(reader, key);
        if let Some(text) = one_line(reader, node, &key.name) {
            environment.insert(key.name.clone(), text);
        }
    }
    environment
}

/// Checks that a name is valid for an environment variable, and not reserved by pspd.
fn check_variable(reader: &Reader, key: &Key) {
    let valid = !key.name.is_empty()
        && key
            .name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !key.name.starts_with(|c: char| c.is_ascii_digit());
    if !valid {
        reader.fault(Fault::new(
            key.at,
            format!("`{}` is not a valid environment variable name", key.name),
        ));
    }
    if key.name.starts_with("PSPD_") {
        reader.fault(Fault::new(
            key.at,
            format!(
                "`{}` is reserved: pspd sets the variables with the prefix PSPD_",
                key.name
            ),
        ));
    }
}

fn secrets(
    reader: &Reader,
    fields: &Fields,
    files: &Files,
    environment: &BTreeMap<String, String>,
) -> BTreeMap<String, Secret> {
    let entries = fields
        .get("secrets")
        .and_then(|node| reader.entries(node, "secrets"))
        .unwrap_or_default();
    let mut secrets = BTreeMap::new();
    for (key, node) in entries {
        check_variable(reader, key);
        if environment.contains_key(&key.name) {
            let fault = Fault::new(key.at, format!("duplicate key `{}`", key.name));
            reader.fault(fault.help(
                "it is also defined in `environment`, which is not secret; remove one of them",
            ));
        }
        if let Some(secret) = secret(reader, node, files) {
            secrets.insert(key.name.clone(), secret);
        }
    }
    secrets
}

fn secret(reader: &Reader, node: &Node, files: &Files) -> Option<Secret> {
    if !matches!(node.value, Value::Map(_)) {
        return reader
            .word(node, "a secret", &[("generate", ())])
            .map(|()| Secret::Generate);
    }
    let fields = reader.object(node, node.at, &keys::SECRET)?;
    let help = "the file must contain the secret in one line";
    let file = files.expect(reader, fields.get("file")?, "file", Found::File, help)?;
    Some(Secret::File(file))
}

fn arguments(reader: &Reader, fields: &Fields, key: &'static str) -> Vec<String> {
    let items = fields
        .get(key)
        .map(|node| reader.list(node, key))
        .unwrap_or_default();
    items
        .iter()
        .filter_map(|node| one_line(reader, node, "an argument"))
        .collect()
}

/// Reads a string that can be used in a unit file.
fn one_line(reader: &Reader, node: &Node, what: &str) -> Option<String> {
    reader.parsed(node, what, |text| {
        if text.len() > LONGEST_LINE {
            Err(format!(
                "{what} has {} bytes; the maximum is {LONGEST_LINE}",
                text.len()
            ))
        } else {
            Ok(text.to_owned())
        }
    })
}

fn beside(
    reader: &Reader,
    fields: &Fields,
    domain: &str,
    files: &Files,
) -> BTreeMap<PathBuf, PathBuf> {
    let entries = fields
        .get("files")
        .and_then(|node| reader.entries(node, "files"))
        .unwrap_or_default();
    let mut beside = BTreeMap::new();
    for (key, node) in &entries {
        let path = Path::new(&key.name);
        if let Err(reason) = check_beside(&key.name, domain) {
            reader.fault(
                Fault::new(key.at, format!("`{}` {reason}", key.name))
                    .help("write it like `config.toml` or `data/words.txt`"),
            );
        }
        if let Some(from) = files.expect(
            reader,
            node,
            "files",
            Found::File,
            "use the path of a file on this host",
        ) {
            beside.insert(path.to_owned(), from);
        }
    }
    for (key, _) in &entries {
        let mut folders = Path::new(&key.name).ancestors().skip(1);
        if let Some(folder) = folders.find(|folder| beside.contains_key(*folder)) {
            let message = format!(
                "`{}` is in `{}`, which is a file",
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
fn check_beside(text: &str, domain: &str) -> Result<(), &'static str> {
    if text.len() > LONGEST_PATH || !text.split('/').all(is_plain) {
        return Err("is not a relative path of letters, digits and ._- between single slashes");
    }
    let first = text.split('/').next().unwrap_or_default();
    let reserved = ["environment", "secrets", "mount-volumes", domain].contains(&first)
        || first.starts_with("tls")
        || first.starts_with(['.', '-'])
        || first.ends_with(".service")
        || text.split('/').any(|part| part.ends_with(".new"));
    if reserved {
        return Err("is reserved for a file of pspd");
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
            check_beside(good, "web").unwrap();
        }
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
            "tls",
            "tls/key.pem",
            "x.service",
            "x.service/y",
            ".complete",
            ".started/x",
            "-n",
        ] {
            assert!(check_beside(bad, "web").is_err(), "{bad:?}");
        }
    }
}
