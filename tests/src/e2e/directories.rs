//! A service that is a command: its directories, what prepares them, and its environment from a file.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use pspd_tests::deployment::Deployment;
use pspd_tests::scenario::{Scenario, minutes, say};
use pspd_tests::wait::eventually;
use serde_json::{Map, json};

pub(crate) const SCENARIOS: &[Scenario] = &[Scenario::new(
    "directories, commands and their preparation",
    minutes(20),
    directories,
)];

/// In the guest.
const CODE: &str = "/opt/pspd/hello/current/code";
/// More than a script or a packet has room for.
const MANY: usize = 2000;

fn directories() -> anyhow::Result<()> {
    let deployment = Deployment::demo()?;
    let at = |path: &str| deployment.folder().join(path);
    fs::create_dir_all(at("src/bin"))?;
    fs::rename(at("echo-server"), at("src/bin/echo-server"))?;
    fs::write(
        at("src/run"),
        "#!/bin/sh\nexec code/bin/echo-server \"$@\"\n",
    )?;
    fs::set_permissions(at("src/run"), fs::Permissions::from_mode(0o700))?;
    std::os::unix::fs::symlink("bin/echo-server", at("src/link"))?;
    for number in 0..MANY {
        fs::write(at(&format!("src/bin/{number}")), number.to_string())?;
    }
    fs::write(at(".env"), "WHO='the world' # of the file\n")?;
    let setup = "id -un >code/user; echo \"$WHO\" >code/who; [ ! -e slow ] || sleep 3600";
    deployment.edit(
        "binary: echo-server",
        &format!(
            "command: [code/run]\n      files: {{code: src, slow: slow}}\n      env_file: .env\n      \
             setup: [[sh, -c, '{setup}']]\n     "
        ),
    )?;

    say("killed while a release is prepared");
    fs::write(at("slow"), "")?;
    let run = deployment.spawn(&["up"])?;
    eventually("the preparation", Duration::from_secs(240), || {
        Ok(run.stderr()?.contains("setting up: sh -c"))
    })?;
    run.signal("KILL")?;
    run.wait()?;
    fs::remove_file(at("slow"))?;
    deployment.edit("{code: src, slow: slow}", "{code: src}")?;
    deployment.run(&["up"])?.expect(0)?;
    deployment.run(&["plan"])?.expect(0)?;
    serves(&deployment)?;
    let ssh = |command: &str| deployment.ssh("hello", command);
    let made = ssh(&format!(
        "cat {CODE}/user {CODE}/who; readlink {CODE}/link; ls {CODE}/bin | wc -l"
    ))?;
    ensure!(
        made == format!("hello\nthe world\nbin/echo-server\n{}", MANY + 1),
        "{made}"
    );
    let environment = ssh("tr '\\0' '\\n' <\"/proc/$(pidof echo-server)/environ\"")?;
    ensure!(environment.contains("WHO=the world"), "{environment}");

    say("what changed is pushed, and the rest is shared");
    let inodes = || ssh(&format!("stat -c %i {CODE}/run {CODE}/bin/1"));
    let before = inodes()?;
    fs::write(
        at("src/run"),
        "#!/bin/sh\n# Changed.\nexec code/bin/echo-server\n",
    )?;
    fs::remove_file(at("src/bin/0"))?;
    deployment.run(&["up"])?.expect(0)?;
    serves(&deployment)?;
    let after = inodes()?;
    let same: Vec<bool> = before
        .lines()
        .zip(after.lines())
        .map(|(one, other)| one == other)
        .collect();
    ensure!(same == [false, true], "{before}{after}");
    let gone = ssh(&format!("test ! -e {CODE}/bin/0 && echo gone"))?;
    ensure!(gone == "gone", "{gone}");

    say("what cannot be pushed changes nothing");
    let socket = UnixListener::bind(at("src/socket"))?;
    deployment
        .run(&["plan"])?
        .expect(1)?
        .says("src/socket` is a socket")?;
    drop(socket);
    fs::remove_file(at("src/socket"))?;
    std::os::unix::fs::symlink("/etc/passwd", at("src/outside"))?;
    deployment
        .run(&["plan"])?
        .expect(1)?
        .says("may be outside of the directory")?;
    fs::remove_file(at("src/outside"))?;

    say("a preparation that fails, or hangs; a program that the guest lacks");
    let broken = |from: &str, to: &str, says: &str| -> anyhow::Result<()> {
        deployment.edit(from, to)?;
        deployment
            .run(&["up"])?
            .expect(1)?
            .says(says)?
            .says("hello")?;
        serves(&deployment)?;
        deployment.edit(to, from)
    };
    broken(
        "id -un >code/user;",
        "echo first; echo no room; exit 3;",
        "exit code 3\nits last lines:\n    $ sh -c",
    )?;
    let hanging = "setup_timeout: 2s\n      setup: [[sleep, \"60\"], ";
    broken("setup: [", hanging, "it did not end within 2 s")?;
    broken(
        "[code/run]",
        "[python9, code/main.py]",
        "needs `python9`, which the guest does not have",
    )?;
    deployment.run(&["plan"])?.expect(0)?;

    say("values arrive as they are in the topology");
    values(&deployment).context("values")?;
    deployment.remove()
}

/// Arguments, environment and secrets go through systemd's own parser, and a shell.
fn values(deployment: &Deployment) -> anyhow::Result<()> {
    let at = |path: &str| deployment.folder().join(path);
    let report = "printf '%s\\0' \"$@\" >\"$STATE_DIRECTORY/arguments\"";
    let program = "exec code/bin/echo-server";
    fs::write(at("src/run"), format!("#!/bin/sh\n{report}\n{program}\n"))?;
    let mut draw = fastrand::Rng::with_seed(2026);
    let arguments: Vec<String> = (0..60).map(|_| odd_value(&mut draw)).collect();
    let mut environment = Map::new();
    let mut secrets = Map::new();
    let mut expected = BTreeMap::new();
    for number in 0..60 {
        let value = odd_value(&mut draw);
        expected.insert(format!("VALUE_{number}"), value.clone());
        environment.insert(format!("VALUE_{number}"), value.into());
    }
    for number in 0..20 {
        // A secret is not empty, and has no tab.
        let value = format!("{}.", odd_value(&mut draw).replace('\t', " "));
        let (name, file) = (format!("SECRET_{number}"), format!("secret-{number}"));
        fs::write(at(&file), &value)?;
        expected.insert(name.clone(), value);
        secrets.insert(name, json!({"file": file}));
    }
    deployment.edit(
        "command: [code/run]\n",
        &format!(
            "command: [code/run]\n      arguments: {}\n      environment: {}\n      secrets: {}\n",
            json!(arguments),
            json!(environment),
            json!(secrets)
        ),
    )?;
    deployment.run(&["up"])?.expect(0)?;
    serves(deployment)?;
    let arrived = |path: &str| {
        let encoded = deployment.ssh("hello", &format!("base64 -w 0 {path}"))?;
        let text = String::from_utf8(BASE64_STANDARD.decode(encoded.trim())?)?;
        let values = text.split_terminator('\0').map(str::to_owned);
        anyhow::Ok(values.collect::<Vec<String>>())
    };
    let seen = arrived("/var/lib/hello/arguments")?;
    ensure!(seen == arguments, "{seen:#?} instead of {arguments:#?}");
    let variables = arrived("\"/proc/$(pidof echo-server)/environ\"")?;
    let seen: BTreeMap<String, String> = variables
        .iter()
        .filter_map(|variable| variable.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .filter(|(name, _)| expected.contains_key(name))
        .collect();
    ensure!(seen == expected, "{seen:#?} instead of {expected:#?}");
    Ok(())
}

/// What a unit, an environment file or a shell may take for something else, beside letters of any script.
fn odd_value(draw: &mut fastrand::Rng) -> String {
    const PARTS: [&str; 34] = [
        "\"",
        "'",
        "\\",
        "$",
        "%",
        "`",
        ";",
        " ",
        "\t",
        "#",
        "&",
        "|",
        "<",
        "*",
        "~",
        "!",
        "{}",
        "=",
        "@",
        "-",
        "+",
        ":",
        "${HOME}",
        "$$",
        "%h",
        "%%",
        "\\x41",
        "\\n",
        "\\\"",
        " ; ",
        "$(id)",
        "\u{a0}",
        "\u{200b}",
        "\u{1f600}",
    ];
    let mut value = String::new();
    for _ in 0..draw.usize(..8) {
        match draw.bool() {
            true => value.push_str(PARTS[draw.usize(..PARTS.len())]),
            false => value.push(draw.char('!'..='\u{2fff}')),
        }
    }
    value.retain(|c| c == '\t' || !c.is_control());
    value
}

fn serves(deployment: &Deployment) -> anyhow::Result<()> {
    let status = deployment.run(&["status", "--json"])?.json()?;
    ensure!(
        status["domains"][0]["service"]["health"] == "serving",
        "{status:#}"
    );
    Ok(())
}
