//! What is done every day beside `up`: lists, copies, and calls by hand.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;

use anyhow::ensure;
use pspd_tests::deployment::Deployment;
use serde_json::{Value, json};

/// `pspd ls` has this deployment, as it is.
pub(super) fn listed(deployment: &Deployment, state: &str) -> anyhow::Result<()> {
    let list = deployment.run(&["ls", "--json"])?.expect(0)?.json()?;
    let list = list.as_array().cloned().unwrap_or_default();
    let [one] = &list[..] else {
        anyhow::bail!("expected one deployment: {list:?}");
    };
    ensure!(
        one["name"] == deployment.name.as_str() && one["state"] == state,
        "{one}"
    );
    let shown = deployment.run(&["ls"])?.expect(0)?.stdout;
    ensure!(shown.contains(state), "{shown}");
    Ok(())
}

/// `pspd top` shows that a guest computes, writes and talks.
pub(super) fn watched(deployment: &Deployment) -> anyhow::Result<()> {
    let load = "timeout 20 sh -c 'while dd if=/dev/urandom of=/root/load bs=1M count=4 conv=fsync 2>/dev/null; do :; done' >/dev/null 2>&1 &";
    deployment.ssh("store", load)?;
    let seen = deployment.run(&["top", "store", "--json", "--once", "--interval", "6s"])?;
    let seen = seen.expect(0)?.json()?;
    ensure!(seen["interval"].as_f64() >= Some(6.0), "{seen}");
    let store = &seen["domains"][0];
    ensure!(
        store["name"] == "store" && store["state"] == "running",
        "{seen}"
    );
    for key in ["cpu_percent", "written_per_second", "memory", "resident"] {
        ensure!(store[key].as_f64() > Some(0.0), "{key}: {seen}");
    }
    let shown = deployment
        .run(&["top", "--interval", "1s"])?
        .expect(0)?
        .stdout;
    ensure!(shown.contains(" store ") && shown.contains('%'), "{shown}");
    deployment
        .run(&["top", "stroe"])?
        .expect(1)?
        .says("has no domain `stroe`")?;
    Ok(())
}

/// Files and folders go to the guest and come back as they were.
pub(super) fn copied(deployment: &Deployment) -> anyhow::Result<()> {
    let folder = deployment.folder().join("copied");
    fs::create_dir_all(folder.join("a b/empty"))?;
    let names = ["$HOME %h", "-x", "ä:'\""];
    for (number, name) in names.iter().enumerate() {
        fs::write(folder.join("a b").join(name), number.to_string())?;
    }
    let program = folder.join("a b/program");
    fs::write(&program, vec![7; 3 << 20])?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o750))?;
    deployment
        .run(&["cp", "copied/a b", "store:/tmp/c d"])?
        .expect(0)?;
    let mode = deployment.ssh("store", "stat -c %a '/tmp/c d/program'")?;
    ensure!(mode == "750", "{mode}");
    deployment
        .run(&["cp", "store:/tmp/c d", "copied/back"])?
        .expect(0)?;
    for name in names.iter().chain(&["program"]) {
        let (sent, back) = (folder.join("a b"), folder.join("back"));
        let same = fs::read(sent.join(name))? == fs::read(back.join(name))?;
        ensure!(same, "`{name}` came back as something else");
    }
    ensure!(folder.join("back/empty").is_dir());
    deployment
        .run(&["cp", "gone", "store:/tmp"])?
        .expect(1)?
        .says("No such file or directory")?;
    let socket = folder.join("socket");
    UnixListener::bind(&socket)?;
    deployment
        .run(&["cp", "copied/socket", "store:/tmp"])?
        .expect(1)?
        .says("`copied/socket` is not a file or a directory")?;
    fs::remove_file(socket)?;
    deployment.ssh(
        "store",
        "mkdir -p /run/small && mount -t tmpfs -o size=1m small /run/small",
    )?;
    deployment
        .run(&["cp", "copied/a b/program", "store:/run/small/"])?
        .expect(1)?
        .says("the file system `/run/small` of `store` is full")?;
    deployment.ssh("store", "umount /run/small")?;
    deployment
        .run(&["cp", "copied", "stroe:/tmp"])?
        .expect(1)?
        .says("has no domain `stroe`")?;
    Ok(())
}

/// People get formatted lines, and those that they ask for.
pub(super) fn filtered(deployment: &Deployment) -> anyhow::Result<()> {
    let logs = |args: &[&str]| deployment.run(&[&["logs"], args].concat());
    let lines = |args: &[&str]| -> anyhow::Result<Vec<String>> {
        let shown = logs(args)?.expect(0)?.stdout;
        // The date is a line of its own.
        let lines = shown.lines().filter(|line| !line.starts_with("-- "));
        Ok(lines.map(str::to_owned).collect())
    };
    let last = lines(&["store", "--grep", "\"serving\"", "--tail", "1"])?;
    let [serving] = &last[..] else {
        anyhow::bail!("expected one line: {last:?}");
    };
    let (time, text) = serving.split_once(' ').unwrap_or_default();
    ensure!(
        time.len() == "12:03:04.567".len() && text.starts_with("store | INFO  serving "),
        "{serving}"
    );
    ensure!(!serving.contains(['{', '\x1b']), "{serving}");
    let level = ["--grep", "\"serving\"", "--level", "error"];
    ensure!(lines(&level)?.is_empty(), "`--level error` shows {serving}");
    ensure!(lines(&["--since", "2h"])?.contains(serving), "{serving}");
    ensure!(lines(&["--until", "2000-01-01"])?.is_empty());
    for (args, code, says) in [
        (&["--since", "soon"][..], 2, "write a time like `05:00`"),
        (&["--level", "eror"], 2, "'error'"),
        (&["--grep", "["], 2, "unclosed character class"),
        (&["--since", "1h", "--until", "2h"], 1, "is after --until"),
        (&["store", "stroe"], 1, "has no domain `stroe`"),
    ] {
        logs(args)?.expect(code)?.says(says)?;
    }
    Ok(())
}

/// The methods of the service are listed, described and called.
pub(super) fn called(deployment: &Deployment) -> anyhow::Result<()> {
    let call = |args: &[&str]| deployment.run(&[&["call", "store"], args].concat());
    for (args, says) in [
        (
            &["--list"][..],
            "database.DatabaseService\n  rpc Create (CreateRequest)",
        ),
        (
            &[],
            "database.DatabaseService\n  rpc Create (CreateRequest) returns (CreateResponse);\n",
        ),
        (
            &["Query", "--describe"],
            "returns (stream QueryResponse);\n\nmessage QueryRequest {\n",
        ),
    ] {
        let shown = call(args)?.expect(0)?.stdout;
        ensure!(shown.contains(says), "{shown}");
    }
    let data = json!({"from": "a call"}).to_string();
    let message = json!({"collection": "calls", "data": data}).to_string();
    let created = call(&[
        "Create",
        &message,
        "-H",
        "x-request-id: 7",
        "--timeout",
        "30s",
    ])?
    .expect(0)?
    .json()?;
    let read = json!({"collection": "calls", "id": created["id"]}).to_string();
    let found = call(&["database.DatabaseService/Read", &read])?
        .expect(0)?
        .json()?;
    let found: Value = serde_json::from_str(found["data"].as_str().unwrap_or_default())?;
    ensure!(found["from"] == "a call", "{found}");
    let answers = call(&["Query", r#"{"collection": "calls"}"#])?.expect(0)?;
    ensure!(answers.stdout.lines().count() == 1, "{}", answers.stdout);
    for (args, code, says) in [
        (
            &["Read", r#"{"collection": "calls", "id": "none"}"#][..],
            1,
            "error: NOT_FOUND: ",
        ),
        (
            &["Read", r#"{"colection": ""}"#],
            1,
            "unrecognized field name 'colection'",
        ),
        (&["Read", "{"], 1, "value 1 is not valid JSON"),
        (&["Raed"], 1, "the service has no method `Raed`"),
        (&["Read", "-H", "tenant"], 2, "write it like `key: value`"),
    ] {
        call(args)?.expect(code)?.says(says)?;
    }
    Ok(())
}
