//! `pspd experiment`: load, faults and checks on a timeline.

mod act;

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use pspd_model::experiment::{self, Call, Experiment, Pace, Surroundings};
use pspd_model::hint::Hinted;
use pspd_model::spec::{Program, Spec};
use pspd_model::topology::{Faults, Found};
use tokio_util::sync::CancellationToken;

use super::bench::load::{GRPC_CONNECTIONS, HTTP_CONNECTIONS, http_port, payload};
use super::bench::make_writable;
use super::context::{Context, block_on, cancelled_by_signals};
use super::exit::{Coded, Exit};
use super::snapshot;
use super::up::positive;
use crate::accel;
use crate::bench::load::{Line, Load, Schedule};
use crate::experiment::{Check, Domain, Payload, Report, Run, Sending, Setup, Versions, page};
use crate::hint::told;
use crate::reflection::Target;
use crate::report;
use crate::state::write_atomically;
use crate::terminal;
use crate::topology::read_text;

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  pspd experiment init\n  pspd experiment run experiment.yaml --out results\n  pspd experiment run experiment.yaml --repeat 3"
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: ExperimentCommand,
}

#[derive(clap::Subcommand)]
enum ExperimentCommand {
    /// Run an experiment on the running deployment; the exit code is 0 only if all checks hold
    #[command(
        after_help = "Example:\n  pspd experiment run experiment.yaml --out results --repeat 3"
    )]
    Run(RunArgs),
    /// Write a commented starter file
    #[command(after_help = "Example:\n  pspd experiment init partition.yaml")]
    Init {
        /// The file to write
        #[arg(value_name = "FILE", default_value = "experiment.yaml")]
        path: PathBuf,
        /// Overwrite an existing file
        #[arg(long)]
        force: bool,
    },
    /// Print the JSON Schema of experiments
    #[command(after_help = "Example:\n  pspd experiment schema >experiment.schema.json")]
    Schema,
}

impl Args {
    /// Whether it needs a running deployment.
    pub(super) fn runs(&self) -> bool {
        matches!(self.command, ExperimentCommand::Run(_))
    }
}

#[derive(clap::Args)]
struct RunArgs {
    /// The experiment's file
    #[arg(value_name = "FILE")]
    path: PathBuf,
    /// The directory for NAME.json and NAME.html; existing files are overwritten
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
    /// Run it this many times, each from the snapshot if one is named
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = positive)]
    repeat: usize,
    /// Print the report as JSON on stdout instead of tables
    #[arg(long)]
    json: bool,
}

pub(super) fn run(context: &Context, args: Args) -> anyhow::Result<Exit> {
    match args.command {
        ExperimentCommand::Run(args) => run_file(context, &args),
        ExperimentCommand::Init { path, force } => init(&path, force),
        ExperimentCommand::Schema => {
            write!(terminal::out(), "{}", experiment::schema())?;
            Ok(Exit::Done)
        }
    }
}

fn init(path: &Path, force: bool) -> anyhow::Result<Exit> {
    let shown = path.display();
    let mut options = OpenOptions::new();
    options
        .write(true)
        .create_new(!force)
        .create(true)
        .truncate(force);
    let mut file = match options.open(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!(Hinted::new(
                format!("`{shown}` already exists"),
                "Pass `--force` to overwrite it, or another path",
            ))
        }
        opened => opened.with_context(|| format!("failed to create `{shown}`"))?,
    };
    let written = file.write_all(experiment::starter().as_bytes());
    written.with_context(|| format!("failed to write `{shown}`"))?;
    writeln!(
        terminal::out(),
        "wrote {shown}. Next, set the target, then run `pspd experiment run {shown}`"
    )?;
    Ok(Exit::Done)
}

fn run_file(context: &Context, args: &RunArgs) -> anyhow::Result<Exit> {
    let spec = context.existing_spec()?;
    let (experiment, text) = load(&args.path, &spec)?;
    if let Some(name) = &experiment.snapshot {
        snapshot::find(&context.paths.deployment(&spec.name), name)?;
    }
    make_writable(&args.out)?;
    let (runs, topology) = block_on(async {
        let cancel = cancelled_by_signals()?;
        let mut runs = Vec::new();
        for number in 1..=args.repeat {
            if args.repeat > 1 {
                report::say(format!("run {number} of {}\n", args.repeat));
            }
            runs.push(one(context, &experiment, &cancel).await?);
        }
        Ok((runs, topology(context, &spec)?))
    })?;
    let report = Report {
        name: experiment.name.to_string(),
        about: experiment.about,
        passed: runs.iter().all(|run| run.passed),
        runs,
        versions: Versions {
            pspd: env!("CARGO_PKG_VERSION").to_owned(),
            hypervisor: accel::hypervisor()?,
            kernel: kernel()?,
        },
        deployment: spec.name.to_string(),
        topology,
        file: text,
    };
    show(&report, args)
}

/// The release of this host's kernel.
fn kernel() -> anyhow::Result<String> {
    let path = "/proc/sys/kernel/osrelease";
    let text = std::fs::read_to_string(path).with_context(|| format!("failed to read `{path}`"))?;
    Ok(text.trim().to_owned())
}

/// Reads and validates the file, with the domains of the deployment.
fn load(path: &Path, spec: &Spec) -> anyhow::Result<(Experiment, String)> {
    let invalid = |faults: Faults| Coded {
        exit: Exit::InvalidTopology,
        message: faults.to_string(),
        hint: None,
    };
    let text = read_text(path, "Run `pspd experiment init` to create one");
    let text = text.map_err(|message| invalid(Faults::of_file(path, message)))?;
    let folder = std::path::absolute(path)?;
    let domains: Vec<&str> = spec.domains.keys().map(|name| name.as_str()).collect();
    let around = Surroundings {
        folder: folder.parent().unwrap_or(Path::new("/")),
        look: &|path| match path.is_file() {
            true => Found::File,
            false => Found::Nothing,
        },
        domains: &domains,
        check: &|action| act::check(spec, action).map_err(|error| told(&error)),
    };
    let experiment = experiment::parse(&text, &around);
    let experiment =
        experiment.map_err(|faults| invalid(experiment::faults(path, &text, faults)))?;
    Ok((experiment, text))
}

/// Runs it once, from its snapshot.
async fn one(
    context: &Context,
    experiment: &Experiment,
    cancel: &CancellationToken,
) -> anyhow::Result<Run> {
    let mut spec = context.existing_spec()?;
    if let Some(name) = &experiment.snapshot {
        let rewound = snapshot::rewind(context, &spec, name.clone(), cancel).await?;
        act::succeeded(rewound).context("failed to restore the snapshot")?;
        spec = context.existing_spec()?;
    }
    let intent = context.paths.deployment(&spec.name).intent()?;
    ensure!(
        intent.faults.is_empty(),
        Hinted::new("there are active faults", "Run `pspd heal` first")
    );
    let (reach, identity) = (context.reach(&spec)?, context.identity(&spec)?);
    let sending = sending(context, experiment, &spec)?;
    let setup = Setup {
        experiment,
        spec: &spec,
        reach: &reach,
        identity: &identity,
        about: (
            format!("{} ({})", experiment.load.target, sending.target.address()),
            call(&experiment.load.call),
        ),
        sending,
    };
    let mut actor = act::Actor::new(context, spec.clone(), cancel);
    crate::experiment::run(&setup, async |deed| actor.act(deed).await, cancel).await
}

fn sending(context: &Context, experiment: &Experiment, spec: &Spec) -> anyhow::Result<Sending> {
    let load = &experiment.load;
    let reach = context.reach(spec)?;
    let lines = |data: &Option<PathBuf>| data.as_deref().map_or(Ok(Vec::new()), payload);
    let (payload, target) = match &load.call {
        Call::Http { path, data } => {
            let domain = &spec.domains[&load.target];
            let address = SocketAddr::from((domain.address, http_port(domain, None)?));
            let path = Line::parse("`http`", path)?;
            let bodies = lines(data)?;
            (
                Payload::Http { path, bodies },
                Target::plain(reach, address),
            )
        }
        call => {
            let identity = context.identity(spec)?;
            let target = Target::service(reach, spec, &load.target, &identity)?;
            let payload = match call {
                Call::Grpc { method, data } => {
                    let mut lines = lines(data)?;
                    if lines.is_empty() {
                        lines.push(Line::parse("the empty message", "{}")?);
                    }
                    Payload::Grpc {
                        method: method.clone(),
                        lines,
                    }
                }
                Call::Documents(count) => {
                    let run = uuid::Uuid::new_v4().simple().to_string();
                    Payload::Documents(format!("experiment-{}", &run[..12]), *count)
                }
                Call::Http { .. } => unreachable!("handled above"),
            };
            (payload, target)
        }
    };
    let schedule = match load.pace {
        Pace::Rate(rate) => Schedule::Open { rate },
        Pace::Users(users) => Schedule::Closed { users },
    };
    let connections = match (&payload, schedule) {
        (Payload::Http { .. }, Schedule::Closed { users }) => users,
        (Payload::Http { .. }, Schedule::Open { .. }) => HTTP_CONNECTIONS,
        (_, Schedule::Closed { users }) => users.min(GRPC_CONNECTIONS),
        (_, Schedule::Open { .. }) => GRPC_CONNECTIONS,
    };
    let load = Load {
        schedule,
        warm_up: Duration::ZERO,
        // That of the phases.
        time: Duration::ZERO,
        limit: load.limit,
    };
    Ok(Sending {
        target,
        payload,
        load,
        connections,
    })
}

fn call(call: &Call) -> String {
    match call {
        Call::Documents(count) => format!("reads and writes of {count} documents, and of new ones"),
        Call::Grpc { method, .. } => method.clone(),
        Call::Http { path, data: None } => format!("GET {path}"),
        Call::Http { path, .. } => format!("POST {path}"),
    }
}

fn topology(context: &Context, spec: &Spec) -> anyhow::Result<Vec<Domain>> {
    let home = context.paths.deployment(&spec.name);
    let domains = spec.domains.values().map(|domain| {
        let service = domain.service.as_ref().map(|service| {
            let program = match &service.program {
                Program::Binary(path) => path.file_name().unwrap_or_default().to_string_lossy(),
                Program::Command(words) => words.join(" ").into(),
            };
            format!("{program}:{}", service.port)
        });
        let deployed = home.deployed_record(&domain.name)?;
        Ok(Domain {
            name: domain.name.to_string(),
            address: domain.address.to_string(),
            memory: domain.memory.current.to_string(),
            vcpus: domain.vcpus.current,
            service,
            release: deployed.map(|deployed| deployed.release.to_string()),
        })
    });
    domains.collect()
}

fn show(report: &Report, args: &RunArgs) -> anyhow::Result<Exit> {
    let json = serde_json::to_string_pretty(report)?;
    for (kind, content) in [("json", &json), ("html", &page(report))] {
        let path = args.out.join(format!("{}.{kind}", report.name));
        write_atomically(&path, content.as_bytes(), 0o644)?;
        writeln!(terminal::err(), "wrote {}", path.display())?;
    }
    if args.json {
        writeln!(terminal::out(), "{json}")?;
    } else {
        for run in &report.runs {
            write!(terminal::out(), "{}", table(&run.checks))?;
        }
    }
    Ok(if report.passed {
        Exit::Done
    } else {
        Exit::Failed
    })
}

/// One line for each check.
fn table(checks: &[Check]) -> String {
    let width = checks
        .iter()
        .map(|check| check.name.len())
        .max()
        .unwrap_or(0);
    let lines = checks.iter().map(|check| {
        let word = if check.passed { "holds" } else { "FAILS" };
        format!("{word}  {:width$}  {}\n", check.name, check.detail)
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology;

    #[test]
    fn the_examples_and_the_starter_are_valid() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let spec = topology::load_before_build(&root.join("topology.yaml")).unwrap();
        let mut names = Vec::new();
        for entry in std::fs::read_dir(root.join("examples/experiments")).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().is_some_and(|name| name == "next.yaml") {
                let next = topology::load_before_build(&path).unwrap();
                assert_eq!(next.name, spec.name);
                continue;
            }
            let (experiment, _) = load(&path, &spec).unwrap();
            names.push(experiment.name.to_string());
        }
        names.sort();
        let expected = [
            "partition",
            "power-cut",
            "rolling-update",
            "slow-disk",
            "slow-network",
        ];
        assert_eq!(names, expected);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("experiment.yaml");
        init(&file, false).unwrap();
        load(&file, &spec).unwrap();
        let error = init(&file, false).unwrap_err().to_string();
        assert!(error.contains("already exists"), "{error}");
    }

    #[test]
    fn words_of_commands_are_checked_with_their_line() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let spec = topology::load_before_build(&root.join("topology.yaml")).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("experiment.yaml");
        for (step, expected) in [
            (
                "fault: kil web-server",
                "7:24: `kil web-server`: unrecognized subcommand 'kil'; tip: ",
            ),
            ("fault: kill web", "has no domain `web`"),
            (
                "fault: disk web-server system",
                "`disk web-server system`: the following required arguments were not provided",
            ),
            (
                "fault: kill web-server --for 3s",
                "write the time as the key `for`",
            ),
            (
                "fault: kill web-server --json",
                "works only on the command line",
            ),
            (
                "power: stop web-server --dry-run",
                "works only on the command line",
            ),
            ("power: boil web-server", "unrecognized subcommand 'boil'"),
            ("power: stop web", "has no domain `web`"),
            ("power: --help", "is not complete"),
        ] {
            let text = format!(
                "name: small\nload:\n  target: web-server\n  call: Check\nphases:\n  - {{name: only, for: 5s, steps: [\n      {{at: 1s,  {step}}}]}}\n"
            );
            std::fs::write(&file, text).unwrap();
            let error = load(&file, &spec).unwrap_err().to_string();
            assert!(error.contains(expected), "{step}: {error}");
        }
    }
}
