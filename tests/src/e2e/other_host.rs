//! A deployment on another machine, which is reached by SSH.

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use pspd_tests::deployment::Deployment;
use pspd_tests::loopback::free_port;
use pspd_tests::process::{Running, output, processes_naming};
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
    let machine = tempfile::Builder::new().prefix("pspd-test-").tempdir()?;
    let folder = machine.path();
    let port = free_port()?;
    let key = prepare(folder)?;
    let mut server = Command::new("unshare");
    server.args(["--mount", "sh", "-ec", SERVE, "sh"]);
    server.arg(folder).arg(port.to_string());
    // Before the deployment, which is removed through it.
    let _server = Running::start(&mut server, "an SSH server".into(), minutes(60))?;
    let deployment = Deployment::single("")?;
    let known_hosts = folder.join("known_hosts");
    let name = format!("name: {}\n", deployment.name);
    let config = folder.join("ssh_config");
    let hosts = format!(
        "hosts: {{beyond: {{ssh: root@127.0.0.1, port: {port}, config: {}}}}}\n",
        config.display()
    );
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
    let size = fs::metadata(&deployment.file)?.len().to_string();
    let left = left_of_input(&deployment, &["ssh", "store", "--", "true"])?;
    ensure!(left == size, "the input of a script was read: {left}");
    let left = left_of_input(&deployment, &["ssh", "-i", "store", "--", "cat >/dev/null"])?;
    ensure!(left == "0", "the input was not read: {left}");
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

/// Runs a command with the topology's text as its input, and returns how many bytes of it are left for the caller.
fn left_of_input(deployment: &Deployment, words: &[&str]) -> anyhow::Result<String> {
    let command = deployment.command(words);
    let mut shell = Command::new("sh");
    shell
        .args(["-ec", r#"exec <"$0"; "$@"; wc -c"#])
        .arg(&deployment.file)
        .arg(command.get_program())
        .args(command.get_args())
        .env_remove("XDG_RUNTIME_DIR")
        .current_dir(deployment.folder());
    Ok(output(&mut shell)?.trim().to_owned())
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
