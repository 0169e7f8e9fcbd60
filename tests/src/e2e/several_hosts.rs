//! A deployment over several hosts: three machines that are reached by SSH, and one network over their labs.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use pspd_tests::deployment::Deployment;
use pspd_tests::machine::Machine;
use pspd_tests::process::{processes_naming, sh};
use pspd_tests::scenario::{Scenario, minutes, root, say};
use pspd_tests::wait::eventually;
use serde_json::Value;

pub(crate) const SCENARIOS: &[Scenario] = &[Scenario::new(
    "a deployment over several hosts",
    minutes(40),
    several_hosts,
)
.needs(root)];

/// For what takes seconds on a machine that is not busy.
const SOON: Duration = Duration::from_secs(120);

/// `store` on one host, on another `ai`, which needs it, and nothing on the third.
fn topology(deployment: &Deployment, machines: [&Machine; 3]) -> String {
    let Deployment { name, port, .. } = deployment;
    let [alpha, beta, gamma] = machines.map(Machine::keys);
    format!(
        "name: {name}\n\
         hosts:\n\
         \x20 alpha: {alpha}\n\
         \x20 beta: {beta}\n\
         \x20 gamma: {gamma}\n\
         domains:\n\
         \x20 store:\n\
         \x20   host: alpha\n\
         \x20   image: debian\n\
         \x20   memory: 384 MiB\n\
         \x20   disks:\n\
         \x20     data: {{size: 256 MiB, mount: /var/lib/store}}\n\
         \x20   service:\n\
         \x20     binary: services/database-server\n\
         \x20     port: 50051\n\
         \x20     health: database.DatabaseService\n\
         \x20     environment: {{DATABASE_STORE: /proc/store.sqlite}}\n\
         \x20   publish: [\"127.0.0.1:{port}:50051\"]\n\
         \x20 ai:\n\
         \x20   host: beta\n\
         \x20   image: debian\n\
         \x20   memory: 384 MiB\n\
         \x20   depends_on: [store]\n\
         \x20   service:\n\
         \x20     binary: services/ai-server\n\
         \x20     port: 50052\n\
         \x20     health: ai.AiService\n\
         \x20     environment: {{AI_DATABASE: \"https://store.pspd.internal:50051\"}}\n"
    )
}

fn several_hosts() -> anyhow::Result<()> {
    // Before the deployment, which is removed through them.
    let (alpha, mut beta, gamma) = (Machine::start()?, Machine::start()?, Machine::start()?);
    let machines = [&alpha, &beta, &gamma];
    let deployment = Deployment::of(|deployment| topology(deployment, machines))?;
    alpha.trust()?;
    gamma.trust()?;
    deployment
        .run(&["up"])?
        .expect(1)?
        .says("the key of host `beta` is not known")?;
    ensure!(
        !deployment.home().join("switch").exists(),
        "hosts were connected"
    );
    beta.trust()?;
    deployment
        .run(&["fault", "host", "beta", "--cut"])?
        .expect(1)?
        .says("does not exist")?;

    say("a domain without a host is placed, and stays where it is");
    let named = "    host: beta\n    image";
    deployment.edit(named, "    image")?;
    deployment
        .run(&["plan"])?
        .expect(4)?
        .says("note: `ai` is placed on `")?;
    let ai = "  ai:\n    image";
    deployment.edit(ai, &format!("  ai:\n{named}"))?;

    say("an interrupted `up` is undone on all hosts");
    let disk = |machine: &Machine, domain| {
        let home = machine.state().join("deployments").join(&deployment.name);
        home.join(format!("disks/{domain}.qcow2"))
    };
    let disks = [disk(&alpha, "store"), disk(&beta, "ai")];
    let up = deployment.spawn(&["up"])?;
    eventually("the domains' disks", SOON, || {
        Ok(disks.iter().all(|disk| disk.exists()))
    })?;
    up.signal("INT")?;
    up.wait()?.expect(130)?;
    ensure!(!disks.iter().any(|disk| disk.exists()), "a disk is left");
    let left = processes_naming(&format!("--deployment {} links", deployment.name))?;
    ensure!(left.is_empty(), "processes are left: {left:?}");

    say("a host does not wait for one whose part failed");
    deployment
        .run(&["up"])?
        .expect(1)?
        .says("`store on alpha`: wait until SERVING failed")?
        .says("what `pspd up` did on host `alpha` failed")?;
    deployment.edit("/proc/store.sqlite", "/var/lib/store/store.sqlite")?;

    say("all hosts are brought up at the same time, into one network");
    let up = deployment.run(&["up"])?.expect(0)?;
    for said in ["store on alpha", "ai on beta", "of host alpha"] {
        ensure!(
            up.stderr.contains(said),
            "`{said}` is missing: {}",
            up.stderr
        );
    }
    deployment.run(&["plan"])?.expect(0)?;
    deployment.run(&["up"])?.expect(0)?.says("nothing to do")?;
    deployment.edit(named, "    image")?;
    let again = deployment.run(&["up"])?.expect(0)?.says("nothing to do")?;
    ensure!(!again.stderr.contains("is placed"), "{}", again.stderr);
    deployment.edit(ai, &format!("  ai:\n{named}"))?;
    let status = deployment.status()?;
    ensure!(status["healthy"] == true, "{status}");
    ensure!(host_of(&status, "ai")? == "beta", "{status}");
    let shown = deployment.run(&["status"])?.expect(0)?;
    ensure!(shown.stdout.contains("alpha"), "{}", shown.stdout);
    // Whole packets, and no larger ones.
    deployment.ssh("ai", "ping -c 2 -W 10 -M do -s 1472 store.pspd.internal")?;
    ensure!(
        deployment
            .ssh("ai", "getent hosts store")?
            .contains("store.pspd.internal"),
        "no name"
    );
    let health = deployment
        .run(&["call", "ai", "grpc.health.v1.Health/Check"])?
        .expect(0)?;
    ensure!(health.stdout.contains("SERVING"), "{}", health.stdout);

    say("a broken connection between the hosts is told, and restored");
    let uplinks = processes_naming(&format!(
        "--sent={}/topology.yaml --site=beta lab uplink",
        deployment.name
    ))?;
    let ssh = uplinks.iter().find(|(_, line)| line.starts_with("ssh"));
    let (ssh, _) = ssh.with_context(|| format!("no connection: {uplinks:?}"))?;
    sh("kill", ["-STOP".to_owned(), ssh.to_string()])?;
    ensure!(
        deployment.ssh("ai", "ping -c 1 -W 3 store").is_err(),
        "the network is not through the connection"
    );
    sh("kill", ["-KILL".to_owned(), ssh.to_string()])?;
    eventually("the connection", SOON, || {
        Ok(deployment.ssh("ai", "ping -c 1 -W 3 store").is_ok())
    })?;

    say("the logs of all hosts are merged by time");
    let logs = deployment.run(&["logs"])?.expect(0)?.stdout;
    let hours = || logs.lines().filter_map(|line| line.split(' ').next());
    ensure!(hours().count() > 2 && hours().is_sorted(), "{logs}");
    let of_one = deployment.run(&["logs", "ai"])?.expect(0)?.stdout;
    for domain in ["store", "ai"] {
        let has = |text: &str| text.contains(&format!(" {domain} "));
        ensure!(
            has(&logs) && has(&of_one) == (domain == "ai"),
            "{logs}{of_one}"
        );
    }

    let top = deployment.run(&["top", "--once"])?.expect(0)?.stdout;
    for (domain, host) in [("ai", "beta"), ("store", "alpha")] {
        let shown = |row: &&str| row.trim().starts_with(domain) && row.trim().ends_with(host);
        let row = top.lines().find(shown);
        ensure!(row.is_some_and(|row| row.contains("running")), "{top}");
    }

    say("a fault names its host, and a host is cut off from the others");
    let answers = || deployment.ssh("ai", "ping -c 1 -W 3 store").is_ok();
    deployment
        .run(&["fault", "host", "bet", "--cut"])?
        .expect(1)?
        .says("has no host `bet`: did you mean `beta`?")?;
    deployment
        .run(&["fault", "host", "beta", "--cut"])?
        .expect(0)?
        .says("fault `beta:cut` is active")?;
    deployment
        .run(&["fault", "isolate", "store"])?
        .expect(0)?
        .says("fault `alpha:isolate-1` is active")?;
    ensure!(faults(&deployment)? == ["alpha:isolate-1", "beta:cut"]);
    ensure!(!answers(), "the hosts are not cut off");
    deployment
        .run(&["heal", "isolate-1"])?
        .expect(1)?
        .says("each begins with its host")?;
    deployment.run(&["heal", "beta:cut"])?.expect(0)?;
    deployment
        .run(&["heal", "beta:cut"])?
        .expect(1)?
        .says("no fault has the id `beta:cut`")?;
    ensure!(!answers(), "`store` is not isolated");
    deployment.run(&["heal", "alpha:isolate-1"])?.expect(0)?;
    eventually("the network", SOON, || Ok(answers()))?;
    deployment
        .run(&["fault", "host", "alpha", "--cut", "--for", "1s"])?
        .expect(0)?
        .says("fault `alpha:cut` ended")?;
    deployment.run(&["heal"])?.expect(0)?;
    eventually("the network", SOON, || Ok(answers()))?;
    ensure!(faults(&deployment)?.is_empty(), "a fault is left");

    say("faults between domains of two hosts");
    deployment
        .run(&["fault", "partition", "store", "/", "ai"])?
        .expect(0)?
        .says("fault `alpha:partition-1` is active")?;
    ensure!(!answers(), "`store` and `ai` are not parted");
    deployment.run(&["heal", "alpha:partition-1"])?.expect(0)?;
    eventually("the network", SOON, || Ok(answers()))?;
    let delay = ["fault", "delay", "store", "ai", "--latency", "100ms"];
    deployment
        .run(&delay)?
        .expect(0)?
        .says("fault `beta:delay-1` is active")?;
    ensure!(faults(&deployment)? == ["alpha:delay-1", "beta:delay-1"]);
    // Each guest delays what it sends.
    let pinged = deployment.ssh("ai", "ping -c 1 store")?;
    let time = pinged
        .split_once("time=")
        .and_then(|(_, time)| time.split_once(' '));
    let time: f64 = time.context("no time")?.0.parse()?;
    ensure!(time >= 200.0, "{pinged}");
    deployment.run(&["heal"])?.expect(0)?;
    ensure!(faults(&deployment)?.is_empty(), "a fault is left");
    deployment
        .run(&[&delay[..], &["--one-way", "--for", "1s"]].concat())?
        .expect(0)?
        .says("fault `alpha:delay-1` is active for 1 s")?;
    // `beta` refuses its part.
    deployment.run(&["pause", "ai"])?.expect(0)?;
    deployment
        .run(&delay)?
        .expect(1)?
        .says("`ai` is not running")?;
    ensure!(faults(&deployment)?.is_empty(), "a part of a fault is left");
    let ending = [&delay[..], &["--for", "1s"]].concat();
    let refused = deployment.run(&ending)?.expect(1)?.stderr;
    ensure!(!refused.contains("no fault has the id"), "{refused}");
    deployment.run(&["resume", "ai"])?.expect(0)?;
    ensure!(faults(&deployment)?.is_empty(), "a part of a fault is left");

    say("domains of several hosts are stopped and started by one command");
    deployment.run(&["stop"])?.expect(0)?;
    let status = deployment.run(&["status", "--json"])?.expect(4)?.json()?;
    for name in ["store", "ai"] {
        ensure!(domain(&status, name)?["state"] == "shut off", "{status}");
    }
    deployment.run(&["start", "store", "ai"])?.expect(0)?;
    deployment.run(&["up"])?.expect(0)?.says("is up")?;
    deployment.run(&["save"])?.expect(0)?;
    let status = deployment.run(&["status", "--json"])?.expect(4)?.json()?;
    for name in ["store", "ai"] {
        ensure!(
            domain(&status, name)?["detail"] == "saved by the user",
            "{status}"
        );
    }
    deployment.run(&["restore"])?.expect(0)?;

    say("no host keeps a snapshot without the others");
    let home = beta.state().join("deployments").join(&deployment.name);
    fs::write(home.join("snapshots"), "in the way")?;
    deployment
        .run(&["snapshot", "save", "one"])?
        .expect(1)?
        .says("host `beta` did not do its part")?;
    fs::remove_file(home.join("snapshots"))?;
    deployment
        .run(&["snapshot", "restore", "one"])?
        .expect(1)?
        .says("host `alpha`: no snapshots")?;
    deployment.run(&["up"])?.expect(0)?.says("nothing to do")?;

    say("all hosts go back to one instant, and forth again");
    let write = |mark: &str| {
        ["store", "ai"].iter().try_for_each(|name| {
            let line = format!("echo {mark} >/root/mark; sync");
            deployment.ssh(name, &line).map(drop)
        })
    };
    let marks = || -> anyhow::Result<Vec<String>> {
        let read = |name: &&str| deployment.ssh(name, "cat /root/mark /run/mark");
        ["store", "ai"].iter().map(read).collect()
    };
    deployment.ssh("store", "echo kept >/run/mark")?;
    deployment.ssh("ai", "echo kept >/run/mark")?;
    write("before")?;
    deployment
        .run(&["snapshot", "save", "one"])?
        .expect(0)?
        .says("saved the snapshot `one` on alpha, beta")?;
    write("after")?;
    deployment
        .run(&["snapshot", "restore", "one"])?
        .expect(0)?
        .says("the snapshot `before-1`")?;
    // Files in memory are what they were, too.
    ensure!(marks()? == ["before\nkept"; 2], "{:?}", marks()?);
    deployment.run(&["up"])?.expect(0)?.says("nothing to do")?;
    deployment
        .run(&["snapshot", "restore", "before-1", "--discard"])?
        .expect(0)?;
    ensure!(marks()? == ["after\nkept"; 2], "{:?}", marks()?);
    deployment
        .run(&["snapshot", "rm", "one", "before-1"])?
        .expect(0)?;
    deployment.edit("host: beta", "host: alpha")?;
    deployment
        .run(&["up"])?
        .expect(1)?
        .says("`ai` is on host `beta`, and the topology says host `alpha`")?;
    deployment.edit(
        "    host: alpha\n    image: debian\n    memory: 384 MiB\n    depends_on",
        "    host: beta\n    image: debian\n    memory: 384 MiB\n    depends_on",
    )?;

    say("what is on a host that left the topology is taken down");
    let lab = format!(
        "lab-supervisor /var/lib/pspd/deployments/{}/lab",
        deployment.name
    );
    let labs = || Ok::<_, anyhow::Error>(processes_naming(&lab)?.len());
    let before = labs()?;
    deployment.edit(&format!("  gamma: {}\n", gamma.keys()), "")?;
    deployment.run(&["up"])?.expect(0)?;
    ensure!(labs()? < before, "a lab is left: {before}");

    say("a host that does not answer holds up nothing else");
    let following = deployment.spawn(&["logs", "--follow"])?;
    eventually("logs of `ai`", SOON, || {
        Ok(following.stdout()?.contains(" ai "))
    })?;
    beta.cut();
    eventually("the note about the host", SOON, || {
        let note = "the logs of host `beta` are missing: failed to reach host `beta`: the connection ended";
        Ok(following.stderr()?.contains(note))
    })?;
    following.signal("INT")?;
    following.wait()?.expect(0)?;
    let status = deployment.run(&["status", "--json"])?.expect(4)?.json()?;
    ensure!(domain(&status, "store")?["state"] == "running", "{status}");
    ensure!(domain(&status, "ai")?["state"] == "unknown", "{status}");
    let shown = deployment.run(&["status"])?.expect(4)?.stdout;
    ensure!(shown.contains("failed to reach host `beta`"), "{shown}");
    // Before it ends, too.
    let following = deployment.spawn(&["logs", "--follow"])?;
    eventually("the note about the host", SOON, || {
        Ok(following
            .stderr()?
            .contains("the logs of host `beta` are missing"))
    })?;
    following.signal("INT")?;
    following.wait()?.expect(0)?;
    beta.serve()?;
    deployment.run(&["up"])?.expect(0)?;
    deployment.remove()?;
    // The machines notice the end of a connection within a second.
    eventually("the end of all processes", SOON, || {
        Ok(processes_naming(&deployment.name)?.is_empty())
    })?;
    for machine in [&alpha, &beta] {
        for folder in ["deployments", "sent"] {
            let folder = machine.state().join(folder).join(&deployment.name);
            ensure!(!folder.exists(), "`{}` is left", folder.display());
        }
    }
    Ok(())
}

/// The ids of the active faults.
fn faults(deployment: &Deployment) -> anyhow::Result<Vec<String>> {
    let status = deployment.status()?;
    let faults = status["faults"].as_array().context("no faults")?;
    let ids = faults.iter().filter_map(|fault| fault["id"].as_str());
    Ok(ids.map(str::to_owned).collect())
}

fn domain<'a>(status: &'a Value, name: &str) -> anyhow::Result<&'a Value> {
    let domains = status["domains"].as_array().context("no domains")?;
    let found = domains.iter().find(|domain| domain["name"] == name);
    found.with_context(|| format!("no `{name}`: {status}"))
}

fn host_of<'a>(status: &'a Value, name: &str) -> anyhow::Result<&'a str> {
    domain(status, name)?["host"].as_str().context("no host")
}
