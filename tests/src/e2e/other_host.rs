//! A deployment on another machine, which is reached by SSH.

use std::fs::{self, File};
use std::io::Seek as _;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use pspd_tests::deployment::Deployment;
use pspd_tests::loopback::free_port;
use pspd_tests::process::{Running, output, processes_naming, run};
use pspd_tests::scenario::{Scenario, minutes, root, say};
use pspd_tests::wait::eventually;

pub(crate) const SCENARIOS: &[Scenario] =
    &[Scenario::new("a deployment on another machine", minutes(30), other_host).needs(root)];

/// The other machine: a mount namespace with an SSH server on loopback, a home and a state directory of its own. The
/// cache of images is that of this machine.
const SERVE: &str = r#"
mount --bind "$1/home" /root
mkdir -p /var/lib/pspd
mount --bind "$1/state-there" /var/lib/pspd
exec /usr/sbin/dropbear -F -s -r "$1/host_key" -P "$1/dropbear.pid" -p "127.0.0.1:$2"
"#;

fn other_host() -> anyhow::Result<()> {
    let deployment = Deployment::single("")?;
    let folder = deployment.folder();
    let port = free_port()?;
    let key = prepare(folder)?;
    let mut machine = Command::new("unshare");
    machine.args(["--mount", "sh", "-ec", SERVE, "sh"]);
    machine.arg(folder).arg(port.to_string());
    let _machine = Running::start(&mut machine, "an SSH server".into(), minutes(60))?;
    let known_hosts = folder.join("known_hosts");
    let name = format!("name: {}\n", deployment.name);
    let hosts =
        format!("hosts: {{beyond: {{ssh: root@127.0.0.1, port: {port}, config: ssh_config}}}}\n");
    deployment.edit(&name, &format!("{name}{hosts}"))?;
    let connect = || Ok(TcpStream::connect(("127.0.0.1", port)).is_ok());
    eventually("the SSH server", Duration::from_secs(60), connect)?;
    deployment
        .run(&["up"])?
        .expect(1)?
        .says("the key of host `beyond` is not known")?;
    let mine = fs::read_to_string(folder.join("key.pub"))?;
    fs::write(&known_hosts, format!("[127.0.0.1]:{port} {mine}"))?;
    deployment
        .run(&["up"])?
        .expect(1)?
        .says("another key than the one that is known")?;
    fs::write(&known_hosts, format!("[127.0.0.1]:{port} {key}"))?;

    deployment
        .run(&["down"])?
        .expect(0)?
        .says("nothing to do")?;
    deployment
        .run(&["status"])?
        .expect(1)?
        .says("does not exist on this host")?;

    say("an interrupted `up` is undone there");
    let there = folder
        .join("state-there/deployments")
        .join(&deployment.name);
    let up = deployment.spawn(&["up"])?;
    eventually("the domain's disk", Duration::from_secs(300), || {
        Ok(there.join("disks/store.qcow2").exists())
    })?;
    up.signal("INT")?;
    up.wait()?.expect(130)?;
    ensure!(!there.join("disks/store.qcow2").exists(), "a disk is left");

    say("it is brought up, used and changed from here");
    deployment.run(&["up"])?.expect(0)?;
    let again = deployment.run(&["up"])?.expect(0)?;
    ensure!(!again.stderr.contains("copy"), "{}", again.stderr);
    let status = deployment.status()?;
    let health = &status["domains"][0]["service"]["health"];
    ensure!(health == "serving", "{status}");
    deployment.run(&["plan"])?.expect(0)?;
    ensure!(
        deployment.ssh("store", "hostname")? == "store",
        "another host name"
    );
    deployment
        .run(&["ssh", "store", "--", "exit 7"])?
        .expect(7)?;
    // A script that calls it reads on: the position in a file is that of all who have it open.
    let mut input = File::open(&deployment.file)?;
    let mut command = deployment.command(["ssh", "store", "--", "true"]);
    run(command.stdin(input.try_clone()?))?.expect(0)?;
    ensure!(input.stream_position()? == 0, "the script's input was read");
    let read = ["ssh", "-i", "store", "--", "wc -l"];
    let read = run(deployment.command(read).stdin(input.try_clone()?))?.expect(0)?;
    ensure!(read.stdout.trim() != "0", "its input did not arrive");
    TcpStream::connect(("127.0.0.1", deployment.port)).context("the published port")?;
    let listed = deployment.run(&["ls"])?.expect(0)?;
    ensure!(listed.stdout.contains("on beyond"), "{}", listed.stdout);
    deployment
        .run(&["cp", "store:/etc/hostname", "."])?
        .expect(1)?
        .says("is on host `beyond`")?;
    deployment.edit("{DATABASE_STORE:", "{OTHER: value, DATABASE_STORE:")?;
    deployment.run(&["plan"])?.expect(4)?;
    deployment.run(&["up"])?.expect(0)?;
    deployment.run(&["plan"])?.expect(0)?;

    say("it is on one machine at a time");
    deployment.run(&["down"])?.expect(0)?;
    deployment.edit(&hosts, "")?;
    deployment
        .run(&["up"])?
        .expect(1)?
        .says("is on host `beyond`, and the topology says this machine")?;
    deployment.remove()?;
    let left = processes_naming(&format!("/var/lib/pspd/deployments/{}", deployment.name))?;
    ensure!(left.is_empty(), "processes are left there: {left:?}");
    for left in [
        there.clone(),
        folder.join("state-there/sent").join(&deployment.name),
    ] {
        ensure!(!left.exists(), "`{}` is left", left.display());
    }
    Ok(())
}

/// Prepares the other machine and how `ssh` reaches it, and returns its public key.
fn prepare(folder: &Path) -> anyhow::Result<String> {
    let path = |name: &str| folder.join(name).display().to_string();
    for name in ["home/.ssh", "state-there"] {
        fs::create_dir_all(folder.join(name))?;
    }
    output(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &path("key")]))?;
    fs::copy(
        folder.join("key.pub"),
        folder.join("home/.ssh/authorized_keys"),
    )?;
    let key = ["-t", "ed25519", "-f", &path("host_key")];
    let printed = output(Command::new("dropbearkey").args(key))?;
    let public = printed.lines().find(|line| line.starts_with("ssh-"));
    let known_hosts = path("known_hosts");
    File::create(&known_hosts)?;
    let config = format!(
        "IdentityFile {}\nIdentitiesOnly yes\nUserKnownHostsFile {known_hosts}\nGlobalKnownHostsFile /dev/null\n",
        path("key"),
    );
    fs::write(folder.join("ssh_config"), config)?;
    Ok(public.context("dropbearkey prints no key")?.to_owned())
}
