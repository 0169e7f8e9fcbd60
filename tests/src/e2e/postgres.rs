//! The example with PostgreSQL in a separate virtual machine: the same contract, and data that survives `down`.

use anyhow::ensure;
use pspd_proto::database::database_service_client::DatabaseServiceClient;
use pspd_proto::database::{CreateRequest, ReadRequest};
use pspd_tests::deployment::Deployment;
use pspd_tests::scenario::{Scenario, minutes};

use super::power_cut::endpoint;
use super::third_party;

pub(crate) const SCENARIOS: &[Scenario] =
    &[
        Scenario::new("PostgreSQL in a domain of its own", minutes(40), postgres)
            .needs(third_party::python_client),
    ];

const COLLECTION: &str = "kept";
const DATA: &str = r#"{"n": 1}"#;

fn postgres() -> anyhow::Result<()> {
    let deployment = Deployment::example("postgres", Some(50051))?;
    deployment.run(&["up"])?.expect(0)?;
    third_party::inside(&deployment, &[("database-server", 50051)])?;
    closed_to_others(&deployment)?;

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let endpoint = endpoint(&deployment, "database-server")?;
    let id = runtime.block_on(async {
        let mut client = DatabaseServiceClient::new(endpoint.connect().await?);
        let (collection, data) = (COLLECTION.to_owned(), DATA.to_owned());
        let created = client.create(CreateRequest { collection, data }).await?;
        anyhow::Ok(created.into_inner().id)
    })?;
    // Both domains are undefined and their system disks recreated; only the volume is kept.
    deployment.run(&["down"])?.expect(0)?;
    deployment.run(&["up"])?.expect(0)?;
    let read = runtime.block_on(async {
        let mut client = DatabaseServiceClient::new(endpoint.connect().await?);
        let collection = COLLECTION.to_owned();
        let read = client.read(ReadRequest { collection, id }).await?;
        anyhow::Ok(read.into_inner().data)
    })?;
    ensure!(
        read == DATA,
        "the document differs after down and up: {read}"
    );
    deployment.remove()
}

/// PostgreSQL refuses a certificate for another name, a missing certificate, and a connection without TLS.
fn closed_to_others(deployment: &Deployment) -> anyhow::Result<()> {
    let identity = "/opt/pspd/store/identity";
    let certificate = format!("sslcert={identity}/cert.pem sslkey={identity}/key.pem");
    let cases = [
        (certificate.as_str(), "certificate authentication failed"),
        ("sslcert=none", "requires a valid client certificate"),
        ("sslmode=disable", "no encryption"),
    ];
    for (options, expected) in cases {
        let connection = format!(
            "host=127.0.0.1 dbname=database-server user=database-server sslmode=require {options}"
        );
        let command = format!("psql -c 'SELECT 1' '{connection}' 2>&1 || true");
        let said = deployment.ssh("store", &command)?;
        ensure!(said.contains(expected), "`{options}`: {said}");
    }
    Ok(())
}
