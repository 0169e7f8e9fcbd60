//! Writes credentials for gRPC clients.

use std::path::Path;

use super::Certificate;
use crate::state::{create_private, write_atomically};

pub(super) fn export(client: &Certificate, folder: &Path) -> anyhow::Result<()> {
    create_private(folder)?;
    write_atomically(&folder.join("ca.pem"), client.ca.as_bytes(), 0o644)?;
    write_atomically(
        &folder.join("client.pem"),
        client.certificate.as_bytes(),
        0o644,
    )?;
    write_atomically(&folder.join("client.key"), client.key.as_bytes(), 0o600)
}
