//! `pspd credentials`: writes the files that a gRPC client needs to call the services.

use std::io::Write as _;
use std::path::PathBuf;

use super::context::Context;
use super::exit::Exit;

#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  pspd credentials secrets\n  pspd lab exec -- grpcurl -cacert secrets/ca.pem -cert secrets/client.pem -key secrets/client.key \\\n    -authority database-server.pspd.internal 10.77.0.11:50051 list"
)]
pub(super) struct Args {
    /// The directory for the files, created if missing; only you can read them
    dir: PathBuf,
}

pub(super) fn run(context: &Context, args: Args) -> anyhow::Result<Exit> {
    let spec = context.deployed_spec()?;
    context
        .identity(&spec)?
        .export_credentials(&args.dir, &spec)?;
    writeln!(
        crate::terminal::out(),
        "wrote ca.pem, client.pem, client.key and the secrets of the services to {}",
        args.dir.display()
    )?;
    Ok(Exit::Done)
}
