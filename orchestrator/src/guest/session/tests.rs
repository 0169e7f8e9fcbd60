//! Commands over a real SSH server: dropbear's, in a mount namespace with a home folder of its own.

use std::fs;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use ssh_key::PrivateKey;
use ssh_key::private::Ed25519Keypair;

use super::*;

/// Serves one connection, which is its standard input and output.
const SERVE: &str = r#"
mount -t tmpfs -o mode=700 tmpfs /root
mkdir -m 700 /root/.ssh
cp "$1/authorized_keys" /root/.ssh/
exec dropbear -i -s -r "$1/host_key"
"#;

/// A session, and the server at its other end.
struct Served {
    session: Arc<Session>,
    cancel: CancellationToken,
    server: Child,
    _folder: tempfile::TempDir,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn serve() -> Served {
    let folder = tempfile::tempdir().unwrap();
    let path = |name| folder.path().join(name);
    let made = Command::new("dropbearkey")
        .args(["-t", "ed25519", "-f"])
        .arg(path("host_key"))
        .output();
    let made = made.expect("dropbearkey of dropbear-bin is installed");
    assert!(made.status.success(), "{made:?}");
    let key = PrivateKey::from(Ed25519Keypair::from_seed(&[7; 32]));
    let public = key.public_key().to_openssh().unwrap();
    fs::write(path("authorized_keys"), &public).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let socket: OwnedFd = listener.accept().unwrap().0.into();
    let namespaces: &[&str] = if rustix::process::geteuid().is_root() {
        &["--mount"]
    } else {
        &["--user", "--map-root-user", "--map-auto", "--mount"]
    };
    let paths = std::env::var("PATH").unwrap_or_default();
    let server = Command::new("unshare")
        .args(namespaces)
        .args(["sh", "-ec", SERVE, "sh"])
        .arg(folder.path())
        .env("PATH", format!("{paths}:/usr/sbin"))
        .stdin(Stdio::from(socket.try_clone().unwrap()))
        .stdout(Stdio::from(socket))
        .spawn()
        .unwrap();
    let cancel = CancellationToken::new();
    let session = Session::new(stream, &cancel).unwrap();
    let mut inner = session.inner.clone();
    let end = after(Duration::from_secs(60));
    session.complete(end, || inner.handshake()).unwrap();
    let private = key.to_openssh(ssh_key::LineEnding::LF).unwrap();
    let login = || inner.userauth_pubkey_memory("root", Some(&public), &private, None);
    session.complete(end, login).unwrap();
    Served {
        session: Arc::new(session),
        cancel,
        server,
        _folder: folder,
    }
}

/// More than any window takes: sending all of it never ends where nobody reads.
fn endless() -> impl Read {
    io::repeat(b'x')
}

#[test]
fn a_command_gets_all_of_its_input_and_its_output_is_kept() {
    let served = serve();
    let input = vec![b'x'; 3 << 20];
    let output = served.session.exec("wc -c; echo seen >&2; exit 3", &*input);
    let output = output.unwrap();
    assert_eq!(output.stdout.trim(), (3 << 20).to_string());
    assert_eq!((output.status, &*output.stderr), (3, "seen\n"));
    // The next one takes its turn.
    assert_eq!(served.session.script("say it", "echo it").unwrap(), "it\n");
}

#[test]
fn a_command_that_ends_without_its_input_is_reported_at_once() {
    let served = serve();
    let began = Instant::now();
    let output = served.session.exec("echo no room >&2; exit 1", endless());
    let output = output.unwrap();
    assert_eq!((output.status, &*output.stderr), (1, "no room\n"));
    let error = served.session.exec("exit 0", endless()).unwrap_err();
    assert!(error.to_string().contains("all of its input"), "{error:#}");
    let error = served.session.exec("kill -9 $$", endless()).unwrap_err();
    assert!(error.to_string().contains("KILL"), "{error:#}");
    assert!(began.elapsed() < Duration::from_secs(20), "{began:?}");
}

#[test]
fn a_cancellation_ends_all_waits() {
    for command in ["sleep 100", "cat >/dev/null", "yes >&2"] {
        let served = serve();
        let session = Arc::clone(&served.session);
        let waiting = std::thread::spawn(move || session.exec(command, endless()));
        std::thread::sleep(Duration::from_millis(300));
        let began = Instant::now();
        served.cancel.cancel();
        let error = waiting.join().unwrap().unwrap_err();
        assert!(Cancelled::is_cause_of(&error), "{error:#}");
        assert!(began.elapsed() < Duration::from_secs(5), "{command}");
    }
}

#[test]
fn lines_end_with_their_deadline_and_say_why_a_command_failed() {
    let served = serve();
    let (session, limit) = (&served.session, Duration::from_secs(1));
    let began = Instant::now();
    let mut count = 0;
    let error = session.lines("echo a; sleep 100", Some(limit), |_| {
        count += 1;
        true
    });
    let error = io::Error::other(error.unwrap_err().to_string());
    assert!(error.to_string().contains("in time"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(20));
    assert_eq!(count, 1);
    let error = session.lines("echo a; echo no such boot >&2; exit 2", None, |_| true);
    assert_eq!(error.unwrap_err().to_string(), "exit code 2: no such boot");
}

#[test]
fn the_output_of_a_guest_is_bounded() {
    let served = serve();
    let error = served.session.exec("yes", io::empty()).unwrap_err();
    assert!(error.to_string().contains("longer than 4 MiB"), "{error:#}");
    let served = serve();
    let output = served
        .session
        .exec("yes | head -c 1000000 >&2", io::empty());
    assert_eq!(output.unwrap().stderr.len(), ERRORS);
}
