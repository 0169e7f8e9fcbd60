//! Deployments over several hosts, which are machines of their own as far as SSH can tell: what their network carries, beside
//! what SSH itself does over the same two connections, and `pspd up`, beside the same domains in one lab.

use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use pspd_model::spec::Spec;
use pspd_tests::deployment::Deployment;
use pspd_tests::machine::Machine;
use pspd_tests::process::output;

use super::{row, say};

const RUNS: usize = 3;
const MEGABYTES: u64 = 600;

/// Takes one connection, and prints the seconds until its end.
const RECEIVE: &str = r#"
import socket, time
server = socket.create_server(("0.0.0.0", 5001))
connection, _ = server.accept()
began = time.monotonic()
part = bytearray(1 << 20)
while connection.recv_into(part): pass
print(time.monotonic() - began)
"#;

/// Connects as soon as there is one that receives.
const SEND: &str = r#"
import socket, sys, time
for _ in range(100):
    connection = socket.socket()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
    if connection.connect_ex((sys.argv[1], 5001)) == 0: break
    time.sleep(0.1)
part = bytes(1000000)
for _ in range(int(sys.argv[2])): connection.sendall(part)
"#;

pub(crate) fn measure() -> anyhow::Result<()> {
    network()?;
    up()
}

pub(crate) fn machines<const COUNT: usize>() -> anyhow::Result<[Machine; COUNT]> {
    let machines: Vec<Machine> = (0..COUNT)
        .map(|_| {
            let machine = Machine::start()?;
            machine.trust()?;
            Ok(machine)
        })
        .collect::<anyhow::Result<_>>()?;
    machines.try_into().ok().context("a machine is missing")
}

/// The topology's text about hosts `h0`, `h1` and so on.
pub(crate) fn hosts(machines: &[Machine]) -> String {
    let hosts = machines.iter().enumerate();
    let hosts = hosts.map(|(index, machine)| format!("  h{index}: {}\n", machine.keys()));
    format!("hosts:\n{}", hosts.collect::<String>())
}

fn network() -> anyhow::Result<()> {
    let machines: [Machine; 2] = machines()?;
    let [one, two] = &machines;
    let deployment = Deployment::of(|deployment| {
        let (name, hosts) = (&deployment.name, hosts(&machines));
        format!(
            "name: {name}\n{hosts}domains: {{guest: {{image: debian, memory: 384 MiB, host: h0}}}}\n"
        )
    })?;
    deployment.run(&["up"])?.expect(0)?;
    // Its lab stays, and the guest takes none of the time.
    deployment.run(&["stop"])?.expect(0)?;
    let spec = std::fs::read(deployment.home().join("spec.json"))?;
    let spec: Spec = serde_json::from_slice(&spec)?;
    let gateway = spec.hosts.values().next().and_then(|host| host.gateway);
    let gateway = gateway.context("no gateway")?;
    let in_lab = |script: &str, words: &str| {
        format!(
            "$HOME/.cache/pspd/programs/*/pspd --deployment {} lab exec -- python3 -c '{script}' {words}",
            deployment.name
        )
    };
    let mut runs = [Vec::new(), Vec::new()];
    for _ in 0..RUNS {
        let mut receiver = one.shell(&in_lab(RECEIVE, ""));
        let receiver = thread::spawn(move || output(&mut receiver));
        output(&mut two.shell(&in_lab(SEND, &format!("{gateway} {MEGABYTES}"))))?;
        let seconds = receiver.join().ok().context("the receiver panicked")??;
        runs[0].push(Duration::from_secs_f64(seconds.trim().parse()?));

        let began = Instant::now();
        let bytes = MEGABYTES * 1_000_000;
        let mut from = two.shell(&format!("head -c {bytes} /dev/zero"));
        let mut from = from.stdout(Stdio::piped()).spawn()?;
        let pipe = from.stdout.take().context("no pipe")?;
        output(one.shell("cat >/dev/null").stdin(pipe))?;
        from.wait()?;
        runs[1].push(began.elapsed());
    }
    let network = row(&format!("{MEGABYTES} MB from lab to lab"), &runs[0]);
    let ssh = row(
        "the same by `ssh` from host to host through this machine",
        &runs[1],
    );
    say(&format!("rate, of that of ssh: {:.2}", ssh / network));
    deployment.remove()
}

fn up() -> anyhow::Result<()> {
    let machines: [Machine; 3] = machines()?;
    let text = |deployment: &Deployment, hosts: &str| {
        let domains = (0..3).map(|index| {
            let host = if hosts.is_empty() {
                String::new()
            } else {
                format!(", host: h{index}")
            };
            format!("  d{index}: {{image: debian, memory: 384 MiB{host}}}\n")
        });
        format!(
            "name: {}\n{hosts}domains:\n{}",
            deployment.name,
            domains.collect::<String>()
        )
    };
    let spread = Deployment::of(|deployment| text(deployment, &hosts(&machines)))?;
    let single = Deployment::of(|deployment| text(deployment, ""))?;
    let mut runs = [Vec::new(), Vec::new()];
    for _ in 0..RUNS {
        for (deployment, runs) in [&spread, &single].into_iter().zip(&mut runs) {
            runs.push(deployment.run(&["up"])?.expect(0)?.elapsed);
            deployment.run(&["down"])?.expect(0)?;
        }
    }
    let over = row("pspd up, three domains over three hosts", &runs[0]);
    let one = row("the same in one lab", &runs[1]);
    say(&format!("ratio of medians: {:.2}", over / one));
    spread.remove()?;
    single.remove()
}
