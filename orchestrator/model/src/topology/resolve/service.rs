//! Reads a domain's service: its program, port, health check, deadlines and preparation.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::Found;
use super::super::fault::{Fault, Position};
use super::super::keys;
use super::super::read::{Fields, Reader};
use super::super::tree::{Node, Value};
use super::beside::beside;
use super::environment::{environment, secrets};
use super::line::one_line;
use super::{Files, is_plain};
use crate::spec::{KEY_LOG, Program, SSH_PORT, ServiceSpec};

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
    let executable = fields.get("binary").map(|_| place.domain);
    let beside = beside(reader, &fields, executable, files);
    let program = program(reader, &fields, files, &beside);
    let port = fields.get("port").and_then(|node| {
        let port = reader.number(node, "port", 1, 65535)? as u16;
        if port == SSH_PORT {
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
    let environment = environment(reader, &fields, files);
    let words = [("true", true), ("false", false)];
    let tls_key_log = fields
        .get("tls_key_log")
        .map_or(Some(false), |node| reader.word(node, "tls_key_log", &words));
    let secrets = secrets(reader, &fields, files, &environment);
    let sets_key_log = environment.contains_key(KEY_LOG) || secrets.contains_key(KEY_LOG);
    if tls_key_log == Some(true) && sets_key_log {
        let message = format!("`tls_key_log` sets `{KEY_LOG}`, which already has a value");
        let fault = Fault::new(fields.at("tls_key_log"), message);
        reader.fault(fault.help("remove one of them"));
    }
    Some(ServiceSpec {
        secrets,
        environment,
        arguments: arguments(reader, &fields, "arguments"),
        checkpoint: arguments(reader, &fields, "checkpoint"),
        start_timeout: timeout(reader, &fields, "start_timeout")?,
        tls_key_log: tls_key_log?,
        files: beside,
        setup: setup(reader, &fields),
        setup_timeout: timeout(reader, &fields, "setup_timeout")?,
        program: program?,
        port: port?,
        health: health?.to_owned().into(),
    })
}

/// `None` if it is invalid, and `Some(None)` if it is absent.
fn timeout(reader: &Reader, fields: &Fields, key: &'static str) -> Option<Option<Duration>> {
    let Some(node) = fields.get(key) else {
        return Some(None);
    };
    reader.duration(node, key).map(Some)
}

fn program(
    reader: &Reader,
    fields: &Fields,
    files: &Files,
    beside: &BTreeMap<PathBuf, PathBuf>,
) -> Option<Program> {
    match (fields.get("binary"), fields.get("command")) {
        (Some(node), None) => {
            let help = "build it, or use the path of an existing executable";
            let path = files.expect(reader, node, "binary", Found::File, help);
            path.map(Program::Binary)
        }
        (None, Some(node)) => {
            let words = command(reader, node)?;
            if let Err((message, help)) = check_program(&words[0], beside) {
                reader.fault(Fault::new(node.at, message).help(help));
            }
            Some(Program::Command(words))
        }
        (binary, _) => {
            let message = "a service needs exactly one of `binary` and `command`";
            let help = "`binary` is an executable or a script on this host, `command` runs a program of the guest, such as \
                        `[python3, app/main.py]`";
            // At the second of the two, or at the service.
            let at = binary.map_or(fields.at, |_| fields.at("command"));
            reader.fault(Fault::new(at, message).help(help));
            None
        }
    }
}

/// Reads a list of one word at least.
fn command(reader: &Reader, node: &Node) -> Option<Vec<String>> {
    let items = reader.list(node, "a command");
    if !matches!(node.value, Value::List(_)) {
        return None;
    }
    let words: Vec<_> = items
        .iter()
        .filter_map(|node| one_line(reader, node, "an argument"))
        .collect();
    if words.first().is_none_or(String::is_empty) {
        let fault = Fault::new(node.at, "a command needs a program");
        reader.fault(fault.help("write it like `[python3, app/main.py]`"));
        return None;
    }
    (words.len() == items.len()).then_some(words)
}

/// Checks that a command begins with the name of a program, its path in the guest, or a path below the service's folder. The
/// error has a hint.
fn check_program(
    program: &str,
    beside: &BTreeMap<PathBuf, PathBuf>,
) -> Result<(), (String, &'static str)> {
    // systemd gives a meaning to other first characters, also in quotes.
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._+-".contains(c);
    if !program.chars().all(plain) || program.starts_with(['-', '+']) {
        return Err((
            format!("`{program}` is not a program of letters, digits and /._+-"),
            "write it like `python3`, `/usr/bin/python3` or `app/run`",
        ));
    }
    if program.starts_with('/') || !program.contains('/') {
        return Ok(());
    }
    let help = "add the file, or its directory, to `files`, or use a program of the guest, such as `python3`";
    if !program.split('/').all(is_plain) {
        return Err((
            format!("`{program}` is not a path of the service's `files`"),
            help,
        ));
    }
    let mut folders = Path::new(program).ancestors();
    if folders.any(|path| beside.contains_key(path)) {
        return Ok(());
    }
    Err((
        format!("`{program}` is not among the service's `files`"),
        help,
    ))
}

fn setup(reader: &Reader, fields: &Fields) -> Vec<Vec<String>> {
    let Some(node) = fields.get("setup") else {
        return Vec::new();
    };
    let commands = reader.list(node, "setup");
    if commands
        .iter()
        .any(|node| !matches!(node.value, Value::List(_)))
    {
        let fault = Fault::new(
            node.at,
            "`setup` is a list of commands, each of which is a list",
        );
        reader.fault(fault.help("write it like `[[python3, -m, compileall, app]]`"));
        return Vec::new();
    }
    let commands = commands.iter();
    commands.filter_map(|node| command(reader, node)).collect()
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
