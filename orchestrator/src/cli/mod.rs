//! The command line, with one file per command.
//!
//! Owns arguments, exit codes and the printing of errors. Makes no decisions about deployments.

mod bench;
mod boot;
mod call;
mod capture;
mod clone;
mod completions;
mod console;
mod context;
mod cp;
mod credentials;
mod doctor;
mod down;
mod elsewhere;
mod exit;
mod experiment;
mod export;
mod fault;
mod firmware_log;
mod heal;
mod image;
mod import;
mod init;
mod lab;
mod logs;
mod ls;
mod man;
mod options;
mod placed;
mod plan;
mod power;
mod receive;
mod room;
mod run;
mod schema;
mod sending;
mod service;
mod set;
mod snapshot;
mod spread;
mod ssh;
mod status;
mod top;
mod up;
mod volume;

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use pspd_model::plan::PowerGoal;
use pspd_model::spec::Name;

use context::Context;

/// Brings a libvirt host to the state described by one topology file.
///
/// Defines and boots the virtual machines that topology.yaml describes, connects them to a network, pushes their
/// gRPC services over SSH and waits until they are healthy.
#[derive(Parser)]
#[command(name = "pspd", version, arg_required_else_help = true, after_help = EXAMPLES, after_long_help = EXAMPLES_AND_CODES)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// The topology's file if none is named.
const TOPOLOGY: &str = "topology.yaml";

#[derive(clap::Args)]
struct Global {
    /// The topology file
    #[arg(
        long,
        global = true,
        env = "PSPD_TOPOLOGY",
        default_value = TOPOLOGY,
        value_name = "FILE"
    )]
    file: PathBuf,
    /// Use a deployment that `up` recorded on this host instead of a topology file
    #[arg(long, global = true, value_name = "NAME", add = completions::deployments())]
    deployment: Option<String>,
    /// The directory for the state of deployments
    #[arg(
        long,
        global = true,
        env = "PSPD_STATE_DIR",
        value_name = "DIR",
        hide_short_help = true
    )]
    state_dir: Option<PathBuf>,
    /// The directory for cached images
    #[arg(
        long,
        global = true,
        env = "PSPD_CACHE_DIR",
        value_name = "DIR",
        hide_short_help = true
    )]
    cache_dir: Option<PathBuf>,
    /// Use a topology that another machine sent: DEPLOYMENT/FILE
    #[arg(long, value_name = "PATH", hide = true)]
    sent: Option<PathBuf>,
    /// With `--sent`: the host of the topology that this machine is
    #[arg(long, value_name = "HOST", hide = true, value_parser = name)]
    site: Option<Name>,
    /// Interrupt the command when its standard input ends
    #[arg(long, hide = true)]
    tethered: bool,
}

fn name(text: &str) -> Result<Name, String> {
    Name::new(text).map_err(|error| error.to_string())
}

macro_rules! examples {
    () => {
        "\
Examples:
  pspd init                     write a commented topology.yaml with a demo service
  pspd plan                     show what `up` would do, and why
  pspd up                       create or update the deployment
  pspd status --watch           follow domains and services
  pspd ssh web-server -- uptime
  pspd logs -f                  follow the logs of all services, merged by time
  pspd fault partition a / b    cut two domains off from each other, until `pspd heal`
  pspd export vm-export.tar.xz  pack the deployment, running or stopped
  pspd import vm-export.tar.xz  run the packed deployment on this host
  pspd stop web-server          shut one domain down; `start` starts it again
  pspd snapshot save clean      save the memory and the disks of all; `snapshot restore clean` goes back
  pspd down --save              save the memory of all; the next `up` continues from it
  pspd down                     tear it down; keep data volumes"
    };
}

const EXAMPLES: &str = examples!();

const EXAMPLES_AND_CODES: &str = concat!(
    examples!(),
    "

Exit codes:
  0    success; for `plan`, no changes; for `status`, everything is healthy
  1    failure; the error says what failed, and what was undone or left
  2    invalid usage
  3    the topology is invalid
  4    `plan`: there are changes; `status`: something is not healthy
  5    another pspd process is working on this deployment
  6    `doctor`: a prerequisite is missing
  130  interrupted; what this run created was undone"
);

#[derive(Subcommand)]
enum Command {
    /// Create or update the deployment, and wait until it is healthy
    Up(up::Args),
    /// Tear the deployment down; keep data volumes and keys
    Down(down::Args),
    /// Show what `up` would do, and why
    Plan(plan::Args),
    /// Start domains that were stopped, paused or saved
    #[command(after_help = "Examples:\n  pspd start\n  pspd start web-server ai-server")]
    Start(power::Args),
    /// Shut domains down; they stay stopped until `start` or `up`
    #[command(after_help = "Examples:\n  pspd stop web-server\n  pspd stop --force web-server")]
    Stop(power::StopArgs),
    /// Restart the guests of domains
    #[command(after_help = "Examples:\n  pspd restart web-server\n  pspd restart --cold")]
    Restart(power::RestartArgs),
    /// Pause domains: stop their virtual CPUs and keep their memory
    #[command(after_help = "Example:\n  pspd pause database-server")]
    Pause(power::Args),
    /// Resume paused domains
    #[command(after_help = "Example:\n  pspd resume database-server")]
    Resume(power::Args),
    /// Give a domain other memory or vCPUs, until the next `up`
    Set(set::Args),
    /// Save the memory of domains to files, all of one instant, and end their processes
    #[command(after_help = "Example:\n  pspd save")]
    Save(power::Args),
    /// Continue domains from their saved memory, together
    #[command(after_help = "Example:\n  pspd restore")]
    Restore(power::Args),
    /// Save the whole deployment, memory and disks, and go back to it
    Snapshot(snapshot::Args),
    /// Make a second deployment of the same state on this host
    Clone(clone::Args),
    /// Pack the deployment, running or stopped, into one archive
    Export(export::Args),
    /// Create and start the deployment of an archive on this host
    Import(import::Args),
    /// List the deployments of this host
    Ls(ls::Args),
    /// Show domains, services and addresses
    Status(status::Args),
    /// Show what each domain uses of the host: processors, memory, disks, network
    Top(top::Args),
    /// Inject a fault: cut, unplug, pause or kill a part of the deployment
    Fault(fault::Args),
    /// End faults
    Heal(heal::Args),
    /// Run experiments: load, faults and checks on a timeline
    Experiment(experiment::Args),
    /// Capture packets of the deployment's network, for Wireshark
    Capture(capture::Args),
    /// Open a shell in a domain, or run a command in it
    Ssh(ssh::Args),
    /// Call a gRPC method of a service, with JSON
    Call(call::Args),
    /// Copy files and folders to and from a domain
    Cp(cp::Args),
    /// Show the services' logs, merged by time
    Logs(logs::Args),
    /// Attach to a domain's serial console (leave with Ctrl-])
    Console(console::Args),
    /// Check the prerequisites on this host, and suggest a fix for each problem
    Doctor(doctor::Args),
    /// Write a topology.yaml to begin with, or an example
    Init(init::Args),
    /// Print the topology's JSON Schema
    #[command(after_help = "Example:\n  pspd schema >topology.schema.json")]
    Schema,
    /// Start the deployment with this host, by systemd
    Service(service::Args),
    /// Build, list and remove guest images
    Image(image::Args),
    /// Delete data volumes that no domain uses
    Volume(volume::Args),
    /// Run benchmarks
    Bench(bench::Args),
    /// Run programs inside the deployment's lab
    Lab(lab::Args),
    /// Write the CA certificate and a client certificate for gRPC clients
    Credentials(credentials::Args),
    /// Print a shell completion script
    Completions(completions::Args),
    /// Write the manual pages, one for each command
    #[command(hide = true)]
    Man(man::Args),
    /// Take a topology from another machine, on standard input
    #[command(hide = true)]
    Receive,
    /// Say what this machine has room for, for a deployment over several hosts
    #[command(hide = true)]
    Room {
        #[arg(value_name = "DEPLOYMENT", value_parser = name)]
        of: Name,
    },
    /// The process that connects the labs of several hosts; started by `up`
    #[command(hide = true)]
    Links,
    /// A lab's end of these connections, inside the lab
    #[command(hide = true)]
    Uplink,
    /// The process that runs a lab; started by `up`
    #[command(hide = true)]
    LabSupervisor { dir: PathBuf },
}

/// Runs the command that the arguments name, and returns the exit code.
pub fn main() -> ! {
    completions::answer();
    let Cli { global, command } = Cli::parse();
    if let Command::LabSupervisor { dir } = &command {
        exit::end_with(pspd_lab::supervise(dir).map(|()| exit::Exit::Done));
    }
    if global.tethered {
        context::end_with_input();
    }
    let context = Context::new(global);
    match context
        .as_ref()
        .map(|context| elsewhere::run(context, &command))
    {
        Ok(Ok(Some(code))) => exit::pass_on(code),
        Ok(Err(error)) => exit::end_with(Err(error)),
        Ok(Ok(None)) | Err(_) => {}
    }
    let result = context.and_then(|context| match command {
        Command::Up(args) => up::run(&context, args),
        Command::Down(args) => down::run(&context, args),
        Command::Plan(args) => plan::run(&context, args),
        Command::Start(args) => power::run(&context, PowerGoal::Start, args),
        Command::Stop(args) => power::stop(&context, args),
        Command::Restart(args) => power::restart(&context, args),
        Command::Pause(args) => power::run(&context, PowerGoal::Pause, args),
        Command::Resume(args) => power::run(&context, PowerGoal::Resume, args),
        Command::Set(args) => set::run(&context, args),
        Command::Save(args) => power::run(&context, PowerGoal::Save, args),
        Command::Restore(args) => power::run(&context, PowerGoal::Restore, args),
        Command::Snapshot(args) => snapshot::run(&context, args),
        Command::Clone(args) => clone::run(&context, &args),
        Command::Export(args) => export::run(&context, args),
        Command::Import(args) => import::run(&context, args),
        Command::Ls(args) => ls::run(&context, &args),
        Command::Status(args) => status::run(&context, args),
        Command::Top(args) => top::run(&context, &args),
        Command::Fault(args) => fault::run(&context, args),
        Command::Heal(args) => heal::run(&context, args),
        Command::Experiment(args) => experiment::run(&context, args),
        Command::Capture(args) => capture::run(&context, args),
        Command::Ssh(args) => ssh::run(&context, args),
        Command::Call(args) => call::run(&context, args),
        Command::Cp(args) => cp::run(&context, &args),
        Command::Logs(args) => logs::run(&context, args),
        Command::Console(args) => console::run(&context, args),
        Command::Doctor(args) => doctor::run(&context, args),
        Command::Init(args) => init::run(&context, &args),
        Command::Schema => schema::run(),
        Command::Service(args) => service::run(&context, args),
        Command::Image(args) => image::run(&context, args),
        Command::Volume(args) => volume::run(&context, args),
        Command::Bench(args) => bench::run(&context, args),
        Command::Lab(args) => lab::run(&context, args),
        Command::Credentials(args) => credentials::run(&context, args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
        Command::Receive => receive::run(&context),
        Command::Room { of } => room::run(&context, &of),
        Command::Links => {
            let spec = context.deployed_spec()?;
            crate::remote::links::run(&context.paths, &spec).map(|()| exit::Exit::Done)
        }
        Command::Uplink => crate::remote::uplink::run().map(|()| exit::Exit::Done),
        Command::LabSupervisor { .. } => {
            unreachable!("handled above, before any thread was started")
        }
    });
    exit::end_with(result)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use clap::{CommandFactory as _, Parser as _};

    use super::Cli;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn each_command_shows_examples_that_it_accepts() {
        let mut commands = vec![Cli::command()];
        while let Some(command) = commands.pop() {
            let shown = command.get_subcommands().filter(|one| !one.is_hide_set());
            commands.extend(shown.cloned());
            let help = command.get_after_help().map(ToString::to_string);
            let help = help.unwrap_or_default();
            let examples: Vec<_> = help
                .lines()
                .skip_while(|line| !line.starts_with("Example"))
                .filter_map(|line| line.strip_prefix("  pspd "))
                .collect();
            assert!(!examples.is_empty(), "{}: {help}", command.get_name());
            for example in examples {
                // What stands further right is an explanation.
                let line = example.split("  ").next().unwrap();
                for words in commands_of(line) {
                    let parsed = Cli::try_parse_from(words);
                    assert!(parsed.is_ok(), "{example}: {}", parsed.err().unwrap());
                }
            }
        }
    }

    /// The words of each `pspd` in a line, by a shell that has no other program.
    fn commands_of(line: &str) -> Vec<Vec<String>> {
        let line = line
            .split(" <")
            .flat_map(|part| part.split(" >"))
            .next()
            .unwrap();
        let script = format!(
            "exec 3>&1; pspd() {{ printf '%s\\0' pspd \"$@\" >&3; printf '\\n' >&3; }}; pspd {line}"
        );
        let folder = tempfile::tempdir().unwrap();
        let mut shell = Command::new("/bin/sh");
        let output = shell
            .args(["-c", &script])
            .current_dir(&folder)
            .env("PATH", "")
            .output();
        let output = String::from_utf8(output.unwrap().stdout).unwrap();
        let words = |line: &str| line.split_terminator('\0').map(str::to_owned).collect();
        let commands: Vec<_> = output.lines().map(words).collect();
        assert!(!commands.is_empty(), "{line}");
        commands
    }
}
