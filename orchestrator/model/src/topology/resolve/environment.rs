//! Reads the environment variables of a service: plain ones, those of files, and secrets.

use std::collections::BTreeMap;

use super::super::Found;
use super::super::env_file;
use super::super::fault::Fault;
use super::super::keys;
use super::super::read::{Fields, Reader, control};
use super::super::tree::{Key, Node, Value};
use super::Files;
use super::line::{fits, one_line};
use crate::spec::Secret;

/// Each is read, whatever is in it.
const MOST_FILES: usize = 16;
/// The maximum length of all files of a topology, in bytes; one that several services name counts for each. Values become
/// part of an exported topology, which has at most [`LARGEST`](crate::topology::LARGEST).
const MOST_READ: usize = 256 << 10;

/// Returns the variables of `env_file` and `environment`, which goes before.
pub(super) fn environment(
    reader: &Reader,
    fields: &Fields,
    files: &Files,
) -> BTreeMap<String, String> {
    let entries = fields
        .get("environment")
        .and_then(|node| reader.entries(node, "environment"))
        .unwrap_or_default();
    let mut environment = BTreeMap::new();
    for node in files_of(reader, fields) {
        let help = "its lines are like `NAME=VALUE`";
        let path = files.expect(reader, node, "env_file", Found::File, help);
        let Some(path) = path.filter(|path| files.host.look(path) == Found::File) else {
            continue;
        };
        if files.read.get() > MOST_READ {
            break;
        }
        let read = files.host.read(&path).and_then(|text| {
            files.read.set(files.read.get() + text.len());
            if files.read.get() > MOST_READ {
                return Err(format!(
                    "with it, the services read more than {} KiB of environment files",
                    MOST_READ >> 10
                ));
            }
            of_file(&text)
        });
        match read {
            Ok(variables) => environment.extend(variables),
            Err(error) => reader
                .fault(Fault::new(node.at, format!("`{}`: {error}", path.display())).help(help)),
        }
    }
    for (key, node) in entries {
        check_variable(reader, key);
        if let Some(text) = one_line(reader, node, &key.name) {
            environment.insert(key.name.clone(), text);
        }
    }
    environment
}

fn files_of<'a>(reader: &Reader, fields: &Fields<'a>) -> Vec<&'a Node> {
    let Some(node) = fields.get("env_file") else {
        return Vec::new();
    };
    match &node.value {
        Value::List(items) if items.len() > MOST_FILES => {
            let message = format!(
                "`env_file` has at most {MOST_FILES} files, not {}",
                items.len()
            );
            reader.fault(Fault::new(node.at, message));
            Vec::new()
        }
        Value::List(items) => items.iter().collect(),
        _ => vec![node],
    }
}

/// The variables of a file.
fn of_file(text: &str) -> Result<Vec<(String, String)>, String> {
    let variables = env_file::parse(text)?.into_iter();
    variables
        .map(|env_file::Variable { line, name, value }| {
            let what = format!("`{name}`");
            check_name(&name)
                .and_then(|()| fits(&value, &what))
                .and_then(|()| match control(&value) {
                    Some(control) => Err(format!("{what} contains {control}")),
                    None => Ok((name, value)),
                })
                .map_err(|error| format!("line {line}: {error}"))
        })
        .collect()
}

fn check_variable(reader: &Reader, key: &Key) {
    if let Err(message) = check_name(&key.name) {
        reader.fault(Fault::new(key.at, message));
    }
}

/// Checks that a name is valid for an environment variable, and not reserved by pspd.
fn check_name(name: &str) -> Result<(), String> {
    let valid = !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !name.starts_with(|c: char| c.is_ascii_digit());
    if !valid {
        return Err(format!("`{name}` is not a valid environment variable name"));
    }
    if name.starts_with("PSPD_") {
        return Err(format!(
            "`{name}` is reserved: pspd sets the variables with the prefix PSPD_"
        ));
    }
    Ok(())
}

pub(super) fn secrets(
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
                "it is also defined in `environment` or `env_file`, which is not secret; remove one of them",
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
