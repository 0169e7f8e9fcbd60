//! Power cuts: a domain that is destroyed under load loses no acknowledged write, its documents are linearizable, and its
//! store stays consistent.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use pspd_model::history::{Action, Operation, Verdict, linearize};
use pspd_proto::database::database_service_client::DatabaseServiceClient;
use pspd_proto::database::{CreateRequest, QueryRequest, ReadRequest, UpdateRequest};
use pspd_tests::deployment::Deployment;
use pspd_tests::scenario::{Scenario, minutes, say};
use pspd_tests::wait::eventually;
use tonic::Code;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

pub(crate) const SCENARIOS: &[Scenario] =
    &[Scenario::new("power cuts under load", minutes(30), power_cuts).large()];

const ROUNDS: usize = 3;
/// Of what the writers create.
pub(super) const COLLECTION: &str = "power";
const WRITERS: usize = 64;
/// Of one document at a time.
const EDITORS: usize = 8;
const EDITED: usize = 2;
/// Acknowledged in a round before the power is cut.
const ENOUGH: usize = 200;
const CALL: Duration = Duration::from_secs(30);

fn power_cuts() -> anyhow::Result<()> {
    let deployment = Deployment::single("")?;
    deployment.run(&["up"])?.expect(0)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let endpoint = endpoint(&deployment, "store")?;
    let mut acknowledged: Vec<(String, String)> = Vec::new();
    let edited = runtime.block_on(Edited::create(&endpoint))?;
    for round in 0..ROUNDS {
        let count = Arc::new(AtomicUsize::new(0));
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let name = format!("{round}-{writer}");
                runtime.spawn(write(endpoint.clone(), name, count.clone()))
            })
            .collect();
        let editors: Vec<_> = (0..EDITORS)
            .map(|editor| runtime.spawn(edit(endpoint.clone(), edited.clone(), editor)))
            .collect();
        eventually("many acknowledged writes", CALL * 4, || {
            Ok(count.load(Ordering::Relaxed) >= ENOUGH)
        })?;
        if round == 0 {
            backup(&deployment)?;
        }
        deployment
            .run(&["lab", "exec", "--", "virsh", "destroy", "store"])?
            .expect(0)?;
        for writer in writers {
            acknowledged.extend(runtime.block_on(writer)?);
        }
        for editor in editors {
            runtime.block_on(editor)?;
        }
        deployment.run(&["up"])?.expect(0)?;
        // A service checks its store before it reports SERVING.
        runtime.block_on(read_back(&endpoint, &acknowledged))?;
        runtime.block_on(edited.check(&endpoint))?;
    }
    ensure!(
        acknowledged.len() >= ROUNDS * ENOUGH,
        "only {} writes were acknowledged",
        acknowledged.len()
    );
    say(&format!(
        "{} acknowledged writes survived {ROUNDS} power cuts",
        acknowledged.len()
    ));
    deployment.remove()
}

/// How to call the service of a domain whose gRPC port is published.
pub(super) fn endpoint(deployment: &Deployment, domain: &str) -> anyhow::Result<Endpoint> {
    let folder = deployment.folder().join("credentials");
    deployment
        .run(&["credentials", &folder.display().to_string()])?
        .expect(0)?;
    let identity = Identity::from_pem(
        fs::read(folder.join("client.pem"))?,
        fs::read(folder.join("client.key"))?,
    );
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(fs::read(folder.join("ca.pem"))?))
        .identity(identity)
        .domain_name(domain);
    let url = format!("https://127.0.0.1:{}", deployment.port);
    Ok(Endpoint::from_shared(url)?
        .tls_config(tls)?
        .connect_timeout(CALL)
        // A call that the destroyed domain cannot answer ends.
        .timeout(CALL)
        .http2_keep_alive_interval(Duration::from_secs(2))
        .keep_alive_timeout(Duration::from_secs(20)))
}

/// Creates documents until a call fails, and returns those that were acknowledged.
async fn write(endpoint: Endpoint, name: String, count: Arc<AtomicUsize>) -> Vec<(String, String)> {
    let mut kept = Vec::new();
    // The power may be cut before the connection is made.
    let Ok(mut client) = connected(&endpoint).await else {
        return kept;
    };
    loop {
        let data = format!(r#"{{"writer":"{name}","turn":{}}}"#, kept.len());
        let request = CreateRequest {
            collection: COLLECTION.to_owned(),
            data: data.clone(),
        };
        match client.create(request).await {
            Ok(response) => kept.push((response.into_inner().id, data)),
            Err(_) => return kept,
        }
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Documents that several tasks read and update, and the record of all calls on each.
#[derive(Clone)]
struct Edited {
    ids: Arc<Vec<String>>,
    calls: Arc<Mutex<Vec<Vec<Operation>>>>,
    values: Arc<AtomicUsize>,
    epoch: Instant,
}

const EDITED_COLLECTION: &str = "edited";

impl Edited {
    async fn create(endpoint: &Endpoint) -> anyhow::Result<Edited> {
        let mut client = connected(endpoint).await?;
        let (epoch, mut ids, mut calls) = (Instant::now(), Vec::new(), Vec::new());
        for value in 0..EDITED as u64 {
            let invoked = epoch.elapsed();
            let request = CreateRequest {
                collection: EDITED_COLLECTION.to_owned(),
                data: data(value),
            };
            ids.push(client.create(request).await?.into_inner().id);
            calls.push(vec![Operation {
                invoked,
                returned: Some(epoch.elapsed()),
                action: Action::Write(value),
            }]);
        }
        Ok(Edited {
            ids: Arc::new(ids),
            calls: Arc::new(Mutex::new(calls)),
            values: Arc::new(AtomicUsize::new(EDITED)),
            epoch,
        })
    }

    fn record(&self, document: usize, invoked: Duration, answered: bool, action: Action) {
        let returned = answered.then(|| self.epoch.elapsed());
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls[document].push(Operation {
            invoked,
            returned,
            action,
        });
    }

    async fn read(
        &self,
        client: &mut DatabaseServiceClient<Channel>,
        document: usize,
    ) -> Result<(), tonic::Status> {
        let invoked = self.epoch.elapsed();
        let request = ReadRequest {
            collection: EDITED_COLLECTION.to_owned(),
            id: self.ids[document].clone(),
        };
        let value = match client.read(request).await {
            Ok(read) => Some(value(&read.into_inner().data)),
            Err(status) if status.code() == Code::NotFound => None,
            Err(status) => return Err(status),
        };
        self.record(document, invoked, true, Action::Read(value));
        Ok(())
    }

    /// An update that fails may have taken effect.
    async fn update(
        &self,
        client: &mut DatabaseServiceClient<Channel>,
        document: usize,
    ) -> Result<(), tonic::Status> {
        let value = self.values.fetch_add(1, Ordering::Relaxed) as u64;
        let invoked = self.epoch.elapsed();
        let request = UpdateRequest {
            collection: EDITED_COLLECTION.to_owned(),
            id: self.ids[document].clone(),
            data: data(value),
        };
        let updated = client.update(request).await;
        self.record(document, invoked, updated.is_ok(), Action::Update(value));
        updated.map(drop)
    }

    /// Reads each document, and finds an order of all calls on it.
    async fn check(&self, endpoint: &Endpoint) -> anyhow::Result<()> {
        let mut client = connected(endpoint).await?;
        for document in 0..EDITED {
            self.read(&mut client, document).await?;
        }
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        for calls in calls.iter() {
            let verdict = linearize(calls);
            ensure!(
                verdict == Verdict::Linearizable,
                "{verdict:?} of {} calls on one document",
                calls.len()
            );
            ensure!(
                calls.len() > EDITORS,
                "only {} calls on one document",
                calls.len()
            );
        }
        Ok(())
    }
}

/// Reads and updates the documents until a call fails.
async fn edit(endpoint: Endpoint, edited: Edited, editor: usize) {
    // The power may be cut before the connection is made.
    let Ok(mut client) = connected(&endpoint).await else {
        return;
    };
    for turn in editor.. {
        let document = turn % EDITED;
        if edited.update(&mut client, document).await.is_err()
            || edited.read(&mut client, document).await.is_err()
        {
            return;
        }
    }
}

fn data(value: u64) -> String {
    format!(r#"{{"value":{value}}}"#)
}

/// `u64::MAX` is not the value of any call.
fn value(data: &str) -> u64 {
    let data: serde_json::Value = serde_json::from_str(data).unwrap_or_default();
    data["value"].as_u64().unwrap_or(u64::MAX)
}

pub(super) async fn read_back(
    endpoint: &Endpoint,
    expected: &[(String, String)],
) -> anyhow::Result<()> {
    let request = QueryRequest {
        collection: COLLECTION.to_owned(),
        query: String::new(),
    };
    let mut stored = connected(endpoint)
        .await?
        .query(request)
        .await?
        .into_inner();
    let mut found = BTreeMap::new();
    while let Some(document) = stored.message().await? {
        found.insert(document.id, document.data);
    }
    for (id, data) in expected {
        let read = found
            .get(id)
            .with_context(|| format!("the acknowledged document `{id}` ({data}) is lost"))?;
        ensure!(read == data, "`{id}` is {read}, expected {data}");
    }
    Ok(())
}

pub(super) async fn connected(
    endpoint: &Endpoint,
) -> anyhow::Result<DatabaseServiceClient<Channel>> {
    let channel = endpoint
        .connect()
        .await
        .context("failed to connect to the published port")?;
    Ok(DatabaseServiceClient::new(channel))
}

/// Backs the store up while it is written to; the command verifies the copy.
fn backup(deployment: &Deployment) -> anyhow::Result<()> {
    let command = "set -a; . /opt/pspd/store/current/environment; \
        runuser -u store -- /opt/pspd/store/current/store backup /var/lib/store/copy.sqlite";
    let said = deployment.ssh("store", command)?;
    ensure!(said.contains(r#""message":"copied""#), "{said}");
    Ok(())
}
