//! Writes credentials for gRPC clients.

use std::path::Path;

use pspd_model::spec::Name;

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

/// The file of a service's secret. The secrets of domains `ca` and `client` have names apart from the files above.
pub(super) fn secret_file(domain: &Name, key: &str) -> String {
    match domain.as_str() {
        "ca" | "client" => format!("{domain}.secret.{key}"),
        _ => format!("{domain}.{key}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_secret_has_a_file_of_its_own() {
        let file = |domain: &str, key: &str| secret_file(&Name::new(domain).unwrap(), key);
        assert_eq!(file("web", "TOKEN"), "web.TOKEN");
        let own = ["ca.pem", "client.pem", "client.key"].map(str::to_owned);
        let keys = ["pem", "key", "secret"];
        let domains = ["ca", "client", "web"];
        let secrets = domains
            .iter()
            .flat_map(|domain| keys.map(|key| file(domain, key)));
        let all: Vec<String> = own.into_iter().chain(secrets).collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
    }
}
