//! The options of commands that change a deployment by one plan.

#[derive(clap::Args, Clone, Copy, Debug)]
pub(super) struct Options {
    /// Show the plan and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print one JSON event per line on stdout; with `--dry-run`, the plan as JSON
    #[arg(long)]
    pub json: bool,
    /// Fail with exit code 5 instead of waiting while another pspd process works on this deployment
    #[arg(long)]
    pub no_wait: bool,
}
