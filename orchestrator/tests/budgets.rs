//! Small inputs cost little, whatever is in them: 1 s of processor time and 128 MiB for 1 MiB.

#![allow(clippy::unwrap_used)] // clippy exempts tests, but not the functions that they share

#[path = "crafted/costly.rs"]
mod costly;
mod crafted;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use costly::{
    all_names, deep, disk_of_zeros, gz, long_file, long_window, of_spec, one_table_everywhere,
    with_image, xz, zeros,
};

/// A program under test, and the processor time that it has for one input.
struct Program {
    path: PathBuf,
    seconds: f64,
}

impl Program {
    /// `$PSPD`, the program as users have it; or this build's, which may not be optimized.
    fn new() -> Program {
        let (path, seconds) = match std::env::var_os("PSPD") {
            Some(path) => (path.into(), 1.0),
            None if cfg!(debug_assertions) => (env!("CARGO_BIN_EXE_pspd").into(), 15.0),
            None => (env!("CARGO_BIN_EXE_pspd").into(), 1.0),
        };
        Program { path, seconds }
    }
}

const MEMORY: u64 = 128 << 20;
const LARGEST: usize = 1 << 20;

/// What a process took.
#[derive(Debug)]
struct Cost {
    seconds: f64,
    /// The most that was resident at once, in bytes.
    memory: u64,
}

struct Place {
    folder: tempfile::TempDir,
    program: Program,
}

impl Place {
    fn new() -> Place {
        Place {
            folder: tempfile::tempdir().unwrap(),
            program: Program::new(),
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program.path);
        command
            .args(["--state-dir", "state", "--cache-dir", "cache"])
            .args(arguments)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(self.at("said")).unwrap());
        command
    }

    /// Runs `pspd`, which must refuse `input` within the budget and leave nothing. Returns what it said.
    #[track_caller]
    fn refuses(&self, what: &str, input: &Path, arguments: &[&str]) -> String {
        assert!(
            fs::metadata(input).unwrap().len() as usize <= LARGEST,
            "{what}"
        );
        let (code, cost) = self.measured(arguments);
        let said = String::from_utf8_lossy(&fs::read(self.at("said")).unwrap()).into_owned();
        let start = said.chars().take(600).collect::<String>();
        assert!(
            code != Some(0) && code.is_some(),
            "{what}: {code:?}, {start}"
        );
        assert!(
            cost.seconds <= self.program.seconds,
            "{what}: {cost:?}, {start}"
        );
        assert!(cost.memory <= MEMORY, "{what}: {cost:?}, {start}");
        assert!(said.len() < 100_000, "{what}: said {} bytes", said.len());
        self.assert_unchanged(&format!("{what}: {start}"));
        said
    }

    #[track_caller]
    fn assert_unchanged(&self, what: &str) {
        let deployments = self.at("state/deployments");
        for left in ["cache/images", "demo", ".demo.importing"].map(|name| self.at(name)) {
            assert!(!left.exists(), "{what}: it left `{}`", left.display());
        }
        let left: Vec<_> = fs::read_dir(deployments).into_iter().flatten().collect();
        assert!(left.is_empty(), "{what}: it left {left:?}");
    }

    /// Runs `pspd` to its end and looks at its costs all the time: both only grow.
    fn measured(&self, arguments: &[&str]) -> (Option<i32>, Cost) {
        self.measured_until(arguments, |_, _| {})
    }

    /// The same, and shows each look at the running process to `look`.
    fn measured_until(
        &self,
        arguments: &[&str],
        mut look: impl FnMut(Pid, &Cost),
    ) -> (Option<i32>, Cost) {
        let mut child = self.command(arguments).spawn().unwrap();
        let folder = PathBuf::from(format!("/proc/{}", child.id()));
        let mut cost = Cost {
            seconds: 0.0,
            memory: 0,
        };
        let began = Instant::now();
        loop {
            if let Some((seconds, memory)) = observed(&folder) {
                cost.seconds = cost.seconds.max(seconds);
                cost.memory = cost.memory.max(memory);
            }
            if let Some(status) = child.try_wait().unwrap() {
                return (status.code(), cost);
            }
            look(Pid::from_child(&child), &cost);
            if cost.seconds > 4.0 * self.program.seconds
                || cost.memory > 8 * MEMORY
                || began.elapsed().as_secs() > 300
            {
                child.kill().unwrap();
            }
            std::thread::sleep(Duration::from_millis(3));
        }
    }
}

/// proc_pid_stat(5) and proc_pid_status(5).
fn observed(folder: &Path) -> Option<(f64, u64)> {
    let status = fs::read_to_string(folder.join("status")).ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak: u64 = peak?.trim().strip_suffix(" kB")?.parse().ok()?;
    let stat = fs::read_to_string(folder.join("stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().ok()? + fields[12].parse::<u64>().ok()?;
    // The unit of all of Linux's architectures that pspd runs on.
    Some((ticks as f64 / 100.0, peak << 10))
}

const HEAD: &str = "name: demo\nimages: {debian: {recipe: .}}\n";

fn domains(count: usize, of: impl Fn(usize) -> String) -> String {
    let domains: Vec<String> = (0..count)
        .map(|index| format!("d{index}: {{image: debian, {}}}", of(index)))
        .collect();
    format!("{HEAD}domains: {{{}}}\n", domains.join(", "))
}

const SERVICE: &str = "service: {binary: topology.yaml, port: 1, health: h}";

#[test]
fn small_topologies_cost_little() {
    let long = "x".repeat(500_000);
    let list = |count: usize| {
        (0..count)
            .map(|index| format!("d{index}"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let keys: String = (0..5000).map(|index| format!("k{index}: 1, ")).collect();
    let anchors: String = (0..20).map(|index| format!("&a{index} [")).collect();
    let levels: String = ('b'..='z')
        .zip('a'..='y')
        .map(|(to, from)| {
            format!(
                "{to}: &{to} {{<<: [{}]}}\n",
                vec![format!("*{from}"); 40].join(", ")
            )
        })
        .collect();
    let names = |count: usize| domains(count, |_| "depends_on: [nobody, none]".to_owned());
    let cases = [
        (
            "aliases of a text",
            format!(
                "{HEAD}domains: {{}}\na: &a {long}\nb: [{}]\n",
                "*a, ".repeat(49_000)
            ),
        ),
        (
            "nested aliases",
            format!(
                "{HEAD}domains: {{}}\na: &a {{x: 1}}\n{}",
                levels.replace("<<: [", "x: [")
            ),
        ),
        (
            "nested merges",
            format!("{HEAD}domains: {{}}\na: &a {{x: 1}}\n{levels}"),
        ),
        (
            "many merges",
            format!(
                "{HEAD}domains: {{}}\na: &a {{{keys}}}\nb: {{{}}}\n",
                "<<: *a, ".repeat(4000)
            ),
        ),
        (
            "nested anchors",
            format!(
                "{HEAD}domains: {{}}\na: {anchors}{}{}\n",
                "1, ".repeat(40_000),
                "]".repeat(20)
            ),
        ),
        ("all names in each fault", names(1000)),
        (
            "long names in each fault",
            names(900).replace("d", &"d".repeat(40)),
        ),
        (
            "a circle",
            domains(1000, |index| {
                format!("depends_on: [d{}], {SERVICE}", (index + 1) % 1000)
            }),
        ),
        (
            "a dense network",
            domains(180, |_| format!("depends_on: [{}], {SERVICE}", list(180))),
        ),
        (
            "many dependencies",
            domains(1, |_| {
                format!("depends_on: [{}]", "nobody, ".repeat(45_000))
            }),
        ),
        (
            "many ports",
            domains(1, |_| {
                format!(
                    "publish: [{}]",
                    (0..40_000)
                        .map(|index| format!(
                            "\"127.0.{}.{}:80:80\", ",
                            index / 200,
                            index % 200 + 1
                        ))
                        .collect::<String>()
                )
            }) + "x: 1\n",
        ),
        (
            "one port",
            domains(1, |_| {
                format!("publish: [{}]", "\"80:80\", ".repeat(45_000))
            }),
        ),
        (
            "many disks",
            domains(1, |_| {
                format!(
                    "disks: {{{}}}",
                    (0..12_000)
                        .map(|index| format!("v{index}: {{size: 1 GiB, mount: /data/{index}}}, "))
                        .collect::<String>()
                )
            }) + "x: 1\n",
        ),
        (
            "many variables",
            domains(1, |_| {
                format!(
                    "service: {{environment: {{{}}}}}",
                    (0..45_000)
                        .map(|index| format!("A{index}: \"\\r\", "))
                        .collect::<String>()
                )
            }),
        ),
        (
            "many images",
            format!("{HEAD}domains: {{}}\n").replace(
                "images: {",
                &format!(
                    "images: {{{}",
                    (0..12_000)
                        .map(|index| format!("i{index}: {{recipe: .}}, "))
                        .collect::<String>()
                ),
            ),
        ),
        (
            "many unknown keys",
            format!(
                "{HEAD}domains: {{}}\n{}",
                (0..20_000)
                    .map(|index| format!("domain{index}: 1\n"))
                    .collect::<String>()
            ),
        ),
        (
            "one long key",
            format!("{HEAD}domains: {{}}\n? {long}\n: 1\n"),
        ),
        (
            "deep lists",
            format!("{HEAD}domains: {}\n", "[".repeat(500_000)),
        ),
        (
            "deep mappings",
            format!("{HEAD}domains: {}\n", "{a: ".repeat(200_000)),
        ),
        (
            "many quotes",
            format!("{HEAD}domains: {}\n", "\"".repeat(900_000)),
        ),
        (
            "many question marks",
            format!("{HEAD}domains: {}\n", "? ".repeat(400_000)),
        ),
        (
            "many dashes",
            format!("{HEAD}domains:\n {}\n", "- ".repeat(400_000)),
        ),
        (
            "many documents",
            format!("{HEAD}domains: {{}}\n{}", "---\n".repeat(200_000)),
        ),
        (
            "many comments",
            format!("{HEAD}{}", "# domains:\n".repeat(90_000)),
        ),
        (
            "many tags",
            format!("{HEAD}domains: {}\n", "!a ".repeat(300_000)),
        ),
        (
            "spaces",
            format!("{HEAD}domains:{}\n", " \n".repeat(500_000)),
        ),
    ];
    for (what, text) in cases {
        let place = Place::new();
        let path = place.at("topology.yaml");
        fs::write(&path, text).unwrap();
        place.refuses(what, &path, &["plan", "--file", "topology.yaml"]);
    }
}

#[test]
fn what_is_not_a_topology_is_refused_at_once() {
    let place = Place::new();
    let pipe = place.at("pipe");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let (code, cost) = place.measured(&["plan", "--file", "pipe"]);
    assert_eq!(code, Some(3), "{cost:?}");
    let secret = place.at("shadow");
    fs::write(&secret, "root:$6$sesame:19000:0:99999:7:::\n").unwrap();
    let said = place.refuses("a secret", &secret, &["plan", "--file", "shadow"]);
    assert!(!said.contains("sesame"), "{said}");
    let huge = place.at("huge");
    fs::File::create(&huge).unwrap().set_len(1 << 40).unwrap();
    let (code, cost) = place.measured(&["plan", "--file", "huge"]);
    assert_eq!(code, Some(3), "{cost:?}");
    assert!(cost.memory < MEMORY, "{cost:?}");
}

#[test]
#[ignore = "takes minutes with a program that is not optimized; `make unit` runs it with one that is"]
fn small_archives_cost_little() {
    let entries = || xz(&with_image(&one_table_everywhere(4 << 20)), 1 << 20);
    type Case<'a> = (&'a str, &'a dyn Fn() -> Vec<u8>);
    let cases: [Case; 10] = [
        ("many entries of one table", &entries),
        ("all names in each fault", &all_names),
        ("maps in the manifest", &|| {
            of_spec((0..400_000).map(|_| json!({"": 0})).collect())
        }),
        ("lists in the manifest", &|| {
            of_spec((0..400_000).map(|_| json!([[]])).collect())
        }),
        ("a deep manifest", &deep),
        ("zeros in xz", &|| xz(&zeros(), 64 << 20)),
        ("zeros in gzip", &|| gz(&zeros())),
        ("zeros in zstd", &|| {
            zstd::encode_all(&zeros()[..], 1).unwrap()
        }),
        ("a long window of zstd", &long_window),
        ("a disk of zeros", &disk_of_zeros),
    ];
    for (what, archive) in cases {
        let place = Place::new();
        let path = place.at("archive");
        fs::write(&path, archive()).unwrap();
        for arguments in [
            ["export", "--verify", "archive"],
            ["import", "--dry-run", "archive"],
            ["import", "--no-up", "archive"],
        ] {
            place.refuses(
                &format!("{what}, {}", arguments[..2].join(" ")),
                &path,
                &arguments,
            );
        }
    }
}

/// Whatever takes long ends within one more second of the processor's time, and leaves nothing.
#[test]
fn what_takes_long_ends_at_a_signal() {
    let place = Place::new();
    long_file(3 << 30, &place.at("archive"));
    for arguments in [
        ["export", "--verify", "archive"],
        ["import", "--dry-run", "archive"],
        ["import", "--no-up", "archive"],
    ] {
        let what = arguments[..2].join(" ");
        let mut before = None;
        let (code, cost) = place.measured_until(&arguments, |pid, cost| {
            // It reads the archive by now.
            if before.is_none() && cost.seconds > 0.25 {
                before = Some(cost.seconds);
                kill_process(pid, Signal::INT).unwrap();
            }
        });
        let said = fs::read_to_string(place.at("said")).unwrap();
        assert_eq!(code, Some(130), "{what}: {cost:?}, {said}");
        let after = cost.seconds - before.unwrap();
        assert!(after <= place.program.seconds, "{what}: {cost:?}, {said}");
        place.assert_unchanged(&what);
    }
}
