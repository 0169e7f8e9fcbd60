//! Reads a domain's service: its binary, port, environment, arguments and files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::super::Found;
use super::super::fault::{Fault, Position};
use super::super::keys;
use super::super::read::{Fields, Reader};
use super::super::tree::{Key, Node, Value};
use super::Files;
use crate::spec::{Secret, ServiceSpec};

const SSH: u16 = 22;

pub(super) fn service(
    reader: &Reader,
    node: &Node,
    at: Position,
    files: &Files,
) -> Option<ServiceSpec> {
    let fields = reader.object(node, at, &keys::SERVICE)?;
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
    Some(ServiceSpec {
        secrets: secrets(reader, &fields, files, &environment),
        environment,
        arguments: arguments(reader, &fields, "arguments"),
        checkpoint: arguments(reader, &fields, "checkpoint"),
        files: beside(reader, &fields, files),
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
        if text.contains(['\n', '\0']) {
            Err(format!(
                "{what} contains a line break or a NUL, which systemd does not support"
            ))
        } else {
            Ok(text.to_owned())
        }
    })
}

fn beside(reader: &Reader, fields: &Fields, files: &Files) -> BTreeMap<PathBuf, PathBuf> {
    let entries = fields
        .get("files")
        .and_then(|node| reader.entries(node, "files"))
        .unwrap_or_default();
    let mut beside = BTreeMap::new();
    for (key, node) in entries {
        let path = Path::new(&key.name);
        if let Err(reason) = check_beside(path) {
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
    beside
}

/// Checks that a path can be used next to the binary; names of pspd's own files are reserved.
fn check_beside(path: &Path) -> Result<(), &'static str> {
    let text = path.to_str().unwrap_or_default();
    let plain = !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    let normal = path
        .components()
        .all(|part| matches!(part, std::path::Component::Normal(_)));
    let reserved = ["environment", "secrets", "mount-volumes"].contains(&text)
        || text.starts_with("tls")
        || text.starts_with('.')
        || text.ends_with(".service");
    match (plain && normal, reserved) {
        (false, _) => Err("is not a relative path of letters, digits and ./_-"),
        (true, true) => Err("is reserved for a file of pspd"),
        (true, false) => Ok(()),
    }
}
