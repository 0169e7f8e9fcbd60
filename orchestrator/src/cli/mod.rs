//! The command line: one file per command, each telling that command's story.
//!
//! Owns arguments, exit codes and the last word on errors. Decides nothing about deployments.

mod bench;
mod boot;
mod completions;
mod console;
mod context;
mod credentials;
mod doctor;
mod down;
mod exit;
mod export;
mod firmware_log;
mod image;
mod import;
mod init;
mod lab;
mod logs;
mod plan;
mod run;
mod schema;
mod ssh;
mod status;
mod up;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use context::Context;

/// Makes one topology file true on a libvirt host.
///
/// Defines, boots and networks the virtual machines that topology.yaml describes, pushes their gRPC services
/// over SSH and waits until they are healthy.
#[derive(Parser)]
#[command(name = "pspd", version, arg_required_else_help = true, after_help = EXAMPLES, after_long_help = EXAMPLES_AND_CODES)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Args)]
struct Global {
    /// The topology file
    #[arg(
        long,
        global = true,
        env = "PSPD_TOPOLOGY",
        default_value = "topology.yaml",
        value_name = "FILE"
    )]
    file: PathBuf,
    /// A deployment of this host by name, as its last `up` recorded it, in place of a topology file
    #[arg(long, global = true, value_name = "NAME")]
    deployment: Option<String>,
    /// Where deployments keep their state
    #[arg(
        long,
        global = true,
        env = "PSPD_STATE_DIR",
        value_name = "DIR",
        hide_short_help = true
    )]
    state_dir: Option<PathBuf>,
    /// Where images are cached
    #[arg(
        long,
        global = true,
        env = "PSPD_CACHE_DIR",
        value_name = "DIR",
        hide_short_help = true
    )]
    cache_dir: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  pspd init                    write a commented topology.yaml
  pspd plan                    what `up` would do, and why
  pspd up                      make the topology true
  pspd status --watch          follow domains and services
  pspd ssh web-server -- uptime
  pspd logs -f                 all domains, merged by time
  pspd export vm-export.tar.xz pack it, as it runs
  pspd import vm-export.tar.xz make it run elsewhere
  pspd down                    take it away; data volumes stay";

const EXAMPLES_AND_CODES: &str = "\
Examples:
  pspd init                    write a commented topology.yaml
  pspd plan                    what `up` would do, and why
  pspd up                      make the topology true
  pspd status --watch          follow domains and services
  pspd ssh web-server -- uptime
  pspd logs -f                 all domains, merged by time
  pspd export vm-export.tar.xz pack it, as it runs
  pspd import vm-export.tar.xz make it run elsewhere
  pspd down                    take it away; data volumes stay

Exit codes:
  0    done; for `plan`, nothing to do; for `status`, everything is healthy
  1    failed; the error says what, and what was undone or left
  2    wrong usage
  3    the topology is invalid
  4    `plan`: there are changes; `status`: something is not healthy
  5    another pspd works on this deployment
  6    `doctor`: something that is needed is missing
  130  interrupted; what this run created was undone";

#[derive(Subcommand)]
enum Command {
    /// Make the topology true: define, boot, deploy, wait until healthy
    Up(up::Args),
    /// Take the deployment away; data volumes and keys stay
    Down(down::Args),
    /// Show what `up` would do, and why
    Plan(plan::Args),
    /// Pack the deployment, running or stopped, into one archive
    Export(export::Args),
    /// Make an archive's deployment run here
    Import(import::Args),
    /// Show domains, services and addresses
    Status(status::Args),
    /// Open a shell in a domain, or run a command there
    Ssh(ssh::Args),
    /// Show the services' logs, merged by time
    Logs(logs::Args),
    /// Attach to a domain's serial console (leave with Ctrl-])
    Console(console::Args),
    /// Check everything that pspd needs on this host, each with its fix
    Doctor(doctor::Args),
    /// Write a commented starter topology.yaml
    Init(init::Args),
    /// Print the topology's JSON Schema
    Schema,
    /// Build, list and remove guest images
    Image(image::Args),
    /// Measure what is otherwise answered by feel
    Bench(bench::Args),
    /// Work inside the deployment's lab
    Lab(lab::Args),
    /// Write the CA and a client certificate, for any gRPC client
    Credentials(credentials::Args),
    /// Print a completion script
    Completions(completions::Args),
    /// The process that holds a lab; started by `up`
    #[command(hide = true)]
    LabSupervisor { dir: PathBuf },
}

/// Runs the command line to its exit code.
pub fn main() -> ExitCode {
    let Cli { global, command } = Cli::parse();
    if let Command::LabSupervisor { dir } = &command {
        return exit::code(crate::lab::supervise(dir).map(|()| exit::Exit::Done));
    }
    let result = Context::new(global).and_then(|context| match command {
        Command::Up(args) => up::run(&context, args),
        Command::Down(args) => down::run(&context, args),
        Command::Plan(args) => plan::run(&context, args),
        Command::Export(args) => export::run(&context, args),
        Command::Import(args) => import::run(&context, args),
        Command::Status(args) => status::run(&context, args),
        Command::Ssh(args) => ssh::run(&context, args),
        Command::Logs(args) => logs::run(&context, args),
        Command::Console(args) => console::run(&context, args),
        Command::Doctor(args) => doctor::run(&context, args),
        Command::Init(args) => init::run(&context, args),
        Command::Schema => schema::run(),
        Command::Image(args) => image::run(&context, args),
        Command::Bench(args) => bench::run(&context, args),
        Command::Lab(args) => lab::run(&context, args),
        Command::Credentials(args) => credentials::run(&context, args),
        Command::Completions(args) => completions::run(args),
        Command::LabSupervisor { .. } => {
            unreachable!("it was run above, before anything else could start a thread")
        }
    });
    exit::code(result)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
