//! A lab from start to stop with a real libvirtd, dnsmasq and QEMU: as this user, and as an ordinary user with
//! subordinate ids.
//!
//! Needs the packages that `scripts/setup` installs. Root creates the ordinary user, who needs `/dev/net/tun` open to
//! all.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // clippy exempts tests, but not the functions that they share

mod fronts;
mod hanging;
mod places;
mod ports;
mod servers;
mod user;

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use pspd::hint::told;
use pspd_lab::{Lab, Relay};
use servers::{Answering, echo_inside, exchange, exchange_on, free_address};
use user::User;

const BRIDGE_ADDRESS: &str = "10.213.0.1";
const NETWORK: &str = "<network><name>lab-test</name><forward mode='nat'/><domain name='lab.test' localOnly='yes'/>\
    <dns><host ip='10.213.0.10'><hostname>database</hostname></host></dns>\
    <ip address='10.213.0.1' netmask='255.255.255.0'><dhcp><range start='10.213.0.100' end='10.213.0.200'/></dhcp></ip>\
    </network>";
/// Without a disk: SeaBIOS finds nothing to boot and waits, which is enough for a running domain.
const DOMAIN: &str = "<domain type='qemu'><name>lab-test</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>\
    <os><type arch='x86_64' machine='pc'>hvm</type></os>\
    <devices><interface type='network'><source network='lab-test'/><model type='virtio'/></interface>\
    <serial type='pty'/></devices></domain>";

#[test]
fn a_lab_starts_works_and_stops() {
    let home = tempfile::tempdir().unwrap();
    start_use_and_stop(home.path());
}

/// Runs `a_lab_starts_works_and_stops` of this same program as another user.
#[test]
fn an_ordinary_user_needs_no_root() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can create a user; the other tests run as an ordinary one");
        return;
    }
    let user = User::new();
    let programs = tempfile::tempdir().unwrap();
    open_to_all(programs.path());
    let test = programs.path().join("test");
    let pspd = programs.path().join("pspd");
    fs::copy(std::env::current_exe().unwrap(), &test).unwrap();
    fs::copy(program(), &pspd).unwrap();
    open_to_all(&test);
    open_to_all(&pspd);

    let output = Command::new("setpriv")
        .args(["--reuid", &user.0, "--regid", &user.0, "--init-groups"])
        .arg(&test)
        .args(["--exact", "a_lab_starts_works_and_stops", "--nocapture"])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("PSPD_TEST_PROGRAM", &pspd)
        .current_dir("/")
        .output()
        .unwrap();
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn two_starts_make_one_lab() {
    let home = tempfile::tempdir().unwrap();
    let starts: Vec<_> = (0..3)
        .map(|_| {
            let dir = home.path().to_owned();
            std::thread::spawn(move || Lab::start_with(&program(), &dir).unwrap().0)
        })
        .collect();
    let labs: Vec<Lab> = starts.into_iter().map(|s| s.join().unwrap()).collect();
    let pids: Vec<String> = labs.iter().map(namespace_id).collect();
    assert!(pids.iter().all(|pid| *pid == pids[0]), "{pids:?}");
    labs.into_iter().for_each(|lab| lab.stop().unwrap());
}

/// `flock FILE pspd up` must not pass the lock on to the lab.
#[test]
fn a_lab_does_not_inherit_the_callers_open_files() {
    let home = tempfile::tempdir().unwrap();
    let lock = home.path().join("lock of the caller");
    let held = fs::File::create(&lock).unwrap();
    rustix::io::fcntl_setfd(&held, rustix::io::FdFlags::empty()).unwrap();
    let (lab, _) = Lab::start_with(&program(), &home.path().join("lab")).unwrap();
    let open = enter(&lab, "readlink /proc/[0-9]*/fd/* || :");
    assert!(open.contains("lab/lock"), "{open}");
    assert!(!open.contains("lock of the caller"), "{open}");
    lab.stop().unwrap();
}

/// `rm DIR/run/control` must not leave a lab that nothing finds.
#[test]
fn a_lab_without_its_sockets_is_really_stopped() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("lab");
    let (lab, _) = Lab::start_with(&program(), &dir).unwrap();
    let processes = outside_processes("", &dir);
    assert!(processes.len() > 2, "{processes:?}");
    let host = free_address();
    lab.publish(host, "10.213.0.9:1".parse().unwrap()).unwrap();
    fs::remove_dir_all(dir.join("run")).unwrap();
    fs::remove_file(dir.join("lock")).unwrap();
    lab.stop().unwrap();
    poll("every process to end", || {
        processes.iter().all(|process| !process.exists())
    });
    assert!(TcpStream::connect(host).is_err());
    assert!(Lab::running(&dir).unwrap().is_none());
}

/// A lab whose directory was removed cannot be reached any more: its process is named.
#[test]
fn a_lab_without_its_directory_is_named() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("lab");
    let (lab, _) = Lab::start_with(&program(), &dir).unwrap();
    let pid = supervisor(&dir);
    fs::remove_dir_all(&dir).unwrap();
    let number = pid.as_raw_nonzero();
    for error in [Lab::running(&dir).unwrap_err(), lab.stop().unwrap_err()] {
        let error = told(&error);
        assert!(error.contains(&format!("`kill {number}`")), "{error}");
    }
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    poll("the named process to end", || {
        matches!(Lab::running(&dir), Ok(None))
    });
}

#[test]
fn sockets_of_a_long_path_move_to_a_short_one() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("long".repeat(40));
    let (lab, _) = Lab::start_with(&program(), &dir).unwrap();
    let short = fs::read_link(dir.join("run")).unwrap();
    assert_eq!(virsh(&lab, &["uri"]), lab.libvirt_uri());
    lab.stop().unwrap();
    assert!(!short.exists(), "`{}` is left", short.display());
    assert!(Lab::running(&dir).unwrap().is_none());
}

#[test]
fn a_relay_needs_no_lab() {
    let home = tempfile::tempdir().unwrap();
    let relay = Relay::start_with(&program(), home.path()).unwrap();
    let (first, second) = (Answering::new("one"), Answering::new("two"));
    let host = free_address();

    relay.publish(host, first.0).unwrap();
    assert_eq!(exchange(host, b"ask"), "one: ask");
    relay.publish(host, second.0).unwrap();
    assert_eq!(exchange(host, b"ask"), "two: ask");
    assert_eq!(relay.published().unwrap(), [(host, second.0)]);

    let down = free_address();
    relay.publish(host, down).unwrap();
    assert_eq!(exchange(host, b""), "");

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let error = relay
        .publish(taken.local_addr().unwrap(), first.0)
        .unwrap_err();
    let expected = format!(
        "failed to listen on `{}`, which is used by `{}` (process {})",
        taken.local_addr().unwrap(),
        fs::read_to_string("/proc/self/comm").unwrap().trim(),
        std::process::id()
    );
    assert_eq!(error.to_string(), expected);

    let open = TcpStream::connect(host).unwrap();
    relay.unpublish(host).unwrap();
    relay.unpublish(host).unwrap();
    assert_eq!(relay.published().unwrap(), []);
    assert!(TcpStream::connect(host).is_err());
    drop(open);
    relay.stop().unwrap();
    assert!(Relay::running(home.path()).unwrap().is_none());
}

fn start_use_and_stop(home: &Path) {
    let dir = home.join("lab");
    assert!(Lab::running(&dir).unwrap().is_none());
    let started = Instant::now();
    let (lab, notes) = Lab::start_with(&program(), &dir).unwrap();
    println!("first start {:?}, notes {notes:?}", started.elapsed());
    let _guard = StopOnDrop(dir.clone());
    assert!(Lab::running(&dir).unwrap().is_some());
    assert!(virsh(&lab, &["version"]).contains("Running hypervisor: QEMU"));

    let started = Instant::now();
    define(&lab, home, "net-define", NETWORK);
    virsh(&lab, &["net-start", "lab-test"]);
    println!("network {:?}", started.elapsed());
    let inside = enter(&lab, "ip -4 -o address");
    assert!(inside.contains(BRIDGE_ADDRESS), "{inside}");
    let outside = fs::read_to_string("/proc/net/fib_trie").unwrap();
    assert!(!outside.contains(BRIDGE_ADDRESS), "{outside}");
    assert_eq!(enter(&lab, "cat /proc/sys/net/ipv4/ip_forward"), "1");

    let started = Instant::now();
    define(&lab, home, "define", DOMAIN);
    virsh(&lab, &["start", "lab-test"]);
    println!("domain {:?}", started.elapsed());
    assert_eq!(virsh(&lab, &["domstate", "lab-test"]), "running");

    dials_reach_only_the_lab(&lab);
    published_addresses_reach_the_lab(&lab);
    fronts::front_reaches_the_lab(&lab, format!("{BRIDGE_ADDRESS}:7002").parse().unwrap());
    libvirtd_is_restarted(&lab, &dir);
    removed_files_are_restored(&lab, &dir);
    a_request_of_another_version_is_answered(&dir);
    a_stopped_supervisor_is_named(&dir);
    report_memory(&lab);

    let qemu = outside_processes("guest=lab-test", &dir);
    let (again, _) = Lab::start_with(&program(), &dir).unwrap();
    assert_eq!(namespace_id(&again), namespace_id(&lab));
    assert_eq!(qemu.len(), 1, "{qemu:?}");
    a_killed_supervisor_ends_every_process(&dir, &qemu);

    // libvirtd then probes QEMU while it starts, in processes that the supervisor must reap.
    fs::remove_dir_all(dir.join("cache")).unwrap();
    let started = Instant::now();
    let (lab, _) = Lab::start_with(&program(), &dir).unwrap();
    println!("second start {:?}", started.elapsed());
    assert!(started.elapsed() < Duration::from_secs(60));
    assert_eq!(virsh(&lab, &["list", "--all", "--name"]), "lab-test");
    assert_eq!(virsh(&lab, &["net-list", "--all", "--name"]), "lab-test");
    assert_eq!(virsh(&lab, &["domstate", "lab-test"]), "shut off");
    virsh(&lab, &["net-start", "lab-test"]);
    virsh(&lab, &["undefine", "lab-test"]);
    let started = Instant::now();
    lab.stop().unwrap();
    println!("stop {:?}", started.elapsed());
    assert!(Lab::running(&dir).unwrap().is_none());
    assert!(!dir.join("run").exists());
    // A file of another user (a subordinate id) must not prevent this.
    fs::remove_dir_all(&dir).unwrap();
}

fn dials_reach_only_the_lab(lab: &Lab) {
    let address: SocketAddr = format!("{BRIDGE_ADDRESS}:7000").parse().unwrap();
    let second = Duration::from_secs(1);
    let refused = lab.dial(address, second).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    let started = Instant::now();
    let unanswered = lab
        .dial("10.213.0.77:1".parse().unwrap(), second)
        .unwrap_err();
    assert_eq!(unanswered.kind(), std::io::ErrorKind::TimedOut);
    assert!(started.elapsed() < 20 * second);

    let _echo = echo_inside(lab, address);
    let mut stream = lab.dial(address, second).unwrap();
    assert_eq!(exchange_on(&mut stream, b"dialled"), "dialled");
}

fn published_addresses_reach_the_lab(lab: &Lab) {
    let guest: SocketAddr = format!("{BRIDGE_ADDRESS}:7001").parse().unwrap();
    let _echo = echo_inside(lab, guest);
    let host = free_address();
    lab.publish(host, guest).unwrap();
    lab.publish(host, guest).unwrap();
    assert_eq!(lab.published().unwrap(), [(host, guest)]);

    // More than all buffers on the way hold, so that both directions must flow at once.
    let large: Vec<u8> = (0..8_000_000_u32).map(|n| (n % 251) as u8).collect();
    let started = Instant::now();
    let stream = TcpStream::connect(host).unwrap();
    let mut sending = stream.try_clone().unwrap();
    let sent = large.clone();
    let sender = std::thread::spawn(move || {
        sending.write_all(&sent).unwrap();
        sending.shutdown(Shutdown::Write).unwrap();
    });
    let mut back = Vec::new();
    (&stream).read_to_end(&mut back).unwrap();
    sender.join().unwrap();
    assert!(
        back == large,
        "{} of {} bytes back",
        back.len(),
        large.len()
    );
    println!(
        "8 MB echoed through a published port in {:?}",
        started.elapsed()
    );

    lab.unpublish(host).unwrap();
    assert!(TcpStream::connect(host).is_err());
}

fn libvirtd_is_restarted(lab: &Lab, dir: &Path) {
    let before = enter(lab, "pidof libvirtd");
    enter(lab, "kill -9 $(pidof libvirtd)");
    let started = Instant::now();
    poll("libvirtd to come back", || {
        let now = output(lab, "pidof libvirtd && virsh domstate lab-test");
        now.status.success()
            && text(&now.stdout).ends_with("running")
            && !text(&now.stdout).starts_with(&before)
    });
    println!("libvirtd restarted after {:?}", started.elapsed());
    let log = fs::read_to_string(dir.join("supervisor.log")).unwrap();
    assert!(log.contains("libvirtd ended (signal 9)"), "{log}");
    poll("ended processes to be reaped", || {
        enter(lab, "ps -eo stat= | grep -c '^Z' || true") == "0"
    });
}

/// Anybody may remove a file or socket: the lab is found, and continues.
fn removed_files_are_restored(lab: &Lab, dir: &Path) {
    let namespace = namespace_id(lab);
    let run = fs::read_link(dir.join("run")).unwrap_or(dir.join("run"));
    let control = run.join("control");
    let damages: [(&str, &dyn Fn()); 5] = [
        ("the control socket", &|| fs::remove_file(&control).unwrap()),
        ("the control socket, replaced", &|| {
            fs::remove_file(&control).unwrap();
            fs::write(&control, "no socket").unwrap();
        }),
        ("libvirt's socket", &|| {
            fs::remove_file(run.join("libvirt-sock")).unwrap()
        }),
        ("the lock", &|| fs::remove_file(dir.join("lock")).unwrap()),
        ("the runtime directory", &|| {
            fs::remove_dir_all(&run).unwrap()
        }),
    ];
    for (what, damage) in damages {
        let started = Instant::now();
        damage();
        let (again, _) = Lab::start_with(&program(), dir).unwrap();
        assert_eq!(namespace_id(&again), namespace, "{what}: another lab");
        poll(&format!("libvirt to answer without {what}"), || {
            let state = output(lab, "virsh domstate lab-test");
            state.status.success() && text(&state.stdout) == "running"
        });
        poll(&format!("files to be restored after {what}"), || {
            let lock = fs::File::open(dir.join("lock"));
            run.join("libvirt-sock").exists() && lock.is_ok_and(|lock| lock.try_lock().is_err())
        });
        println!("restored after the loss of {what}: {:?}", started.elapsed());
    }
}

/// What a later version asks for is answered by the version that does not know it.
fn a_request_of_another_version_is_answered(dir: &Path) {
    let run = fs::read_link(dir.join("run")).unwrap_or(dir.join("run"));
    let mut stream = UnixStream::connect(run.join("control")).unwrap();
    stream
        .write_all(b"{\"request\": \"from-the-future\"}\n")
        .unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    assert!(reply.contains("does not support this request"), "{reply}");
}

fn a_stopped_supervisor_is_named(dir: &Path) {
    let pid = supervisor(dir);
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    poll("the supervisor to stop", || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap();
        stat.contains(") T ")
    });
    let started = Instant::now();
    let error = told(&Lab::running(dir).unwrap_err());
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    let number = pid.as_raw_nonzero();
    let expected = format!("process {number} is stopped. Run `kill -CONT {number}` to continue it");
    assert!(error.ends_with(&expected), "{error}");
    assert!(started.elapsed() < Duration::from_secs(2));
}

fn report_memory(lab: &Lab) {
    println!("kB resident (proportional) of the lab's processes:");
    println!(
        "{}",
        enter(
            lab,
            "for p in /proc/[0-9]*; do read -r name < $p/comm || continue; \
             awk -v n=$name '/^Rss/{r=$2} /^Pss:/{s=$2} END{print n, r, \"(\" s \")\"}' $p/smaps_rollup; done; \
             cat /proc/1/stat | cut -d' ' -f14,15"
        )
    );
}

fn a_killed_supervisor_ends_every_process(dir: &Path, qemu: &[PathBuf]) {
    let supervisor = outside_processes("lab-supervisor", dir);
    let pid = self::supervisor(dir);
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let started = Instant::now();
    poll("every process of the lab to end", || {
        qemu.iter()
            .chain(&supervisor)
            .all(|process| !process.exists())
    });
    println!("every process ended after {:?}", started.elapsed());
    assert!(Lab::running(dir).unwrap().is_none());
}

/// The supervisor itself, and not the `unshare` that waits for it.
fn supervisor(dir: &Path) -> rustix::process::Pid {
    let supervisor = outside_processes("lab-supervisor", dir);
    let inner = supervisor
        .iter()
        .find(|process| !text(&fs::read(process.join("cmdline")).unwrap()).contains("unshare"));
    let pid = inner.unwrap().file_name().unwrap().to_str().unwrap();
    rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap()
}

/// Processes of the lab in `dir` with a word in their command line, as seen from outside.
fn outside_processes(word: &str, dir: &Path) -> Vec<PathBuf> {
    let lab = network_of(dir);
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let line = text(&fs::read(path.join("cmdline")).unwrap_or_default());
            line.contains(word)
                && (line.contains(dir.to_str().unwrap())
                    || fs::read_link(path.join("ns/net")).is_ok_and(|n| n.to_str() == Some(&lab)))
        })
        .collect()
}

fn network_of(dir: &Path) -> String {
    enter(
        &Lab::running(dir).unwrap().unwrap(),
        "readlink /proc/1/ns/net",
    )
}

fn namespace_id(lab: &Lab) -> String {
    enter(lab, "readlink /proc/1/ns/pid")
}

fn define(lab: &Lab, home: &Path, command: &str, xml: &str) {
    let file = home.join(command);
    fs::write(&file, xml).unwrap();
    virsh(lab, &[command, file.to_str().unwrap()]);
}

/// Runs virsh outside the lab, through the URI.
fn virsh(lab: &Lab, arguments: &[&str]) -> String {
    let output = Command::new("virsh")
        .args(["--quiet", "--connect", &lab.libvirt_uri()])
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "virsh {arguments:?}: {}",
        text(&output.stderr)
    );
    text(&output.stdout)
}

fn enter(lab: &Lab, script: &str) -> String {
    let output = output(lab, script);
    assert!(output.status.success(), "{script}: {output:?}");
    text(&output.stdout)
}

fn output(lab: &Lab, script: &str) -> Output {
    lab.enter(["sh", "-c", script]).unwrap().output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

fn poll(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(
            Instant::now() < deadline,
            "timed out after 30 s waiting for {what}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn program() -> PathBuf {
    std::env::var_os("PSPD_TEST_PROGRAM")
        .unwrap_or_else(|| env!("CARGO_BIN_EXE_pspd").into())
        .into()
}

fn open_to_all(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Stops the lab of a failed test.
struct StopOnDrop(PathBuf);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        if let Ok(Some(lab)) = Lab::running(&self.0) {
            let _ = lab.stop();
        }
    }
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{program}: {}",
        text(&output.stderr)
    );
}
