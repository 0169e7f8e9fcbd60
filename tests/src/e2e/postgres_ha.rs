//! The example with a PostgreSQL cluster: the leader's power is cut under load, and a replica takes its place.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use pspd_proto::database::CreateRequest;
use pspd_tests::deployment::Deployment;
use pspd_tests::scenario::{Scenario, minutes, say, time};
use pspd_tests::wait::eventually;
use serde_json::Value;
use tonic::Code;
use tonic::transport::Endpoint;
use tonic_types::StatusExt as _;

use super::power_cut::{COLLECTION, connected, endpoint, read_back};

pub(crate) const SCENARIOS: &[Scenario] =
    &[
        Scenario::new("PostgreSQL without its leader", minutes(40), failover)
            .large()
            .needs(time)
            .optional(),
    ];

const WRITERS: usize = 8;
/// Acknowledged before the power is cut, and by the next leader.
const ENOUGH: usize = 200;
const SOON: Duration = Duration::from_secs(180);
/// From the cut to the next acknowledged write. A leader is replaced 20 s after it was last seen.
const WITHOUT_LEADER: Duration = Duration::from_secs(60);
/// After a call that was refused.
const PAUSE: Duration = Duration::from_millis(200);

fn failover() -> anyhow::Result<()> {
    let deployment = Deployment::example("postgres-ha", Some(50051))?;
    deployment.run(&["up"])?.expect(0)?;
    deployment.run(&["plan"])?.expect(0)?;
    let leader = leader_of_all(&deployment, "db-1")?;
    let endpoint = endpoint(&deployment, "database-server")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let calls = Arc::new(Calls::default());
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| runtime.spawn(write(endpoint.clone(), writer, calls.clone())))
        .collect();
    eventually("many acknowledged writes", SOON, || {
        Ok(calls.acknowledged().len() >= ENOUGH)
    })?;
    say(&format!("cutting the power of `{leader}`"));
    let cut = Instant::now();
    deployment
        .run(&["lab", "exec", "--", "virsh", "destroy", &leader])?
        .expect(0)?;
    // No call that is made from here on is answered by the old leader.
    let gone = Instant::now();
    eventually("writes to the next leader", SOON, || {
        let written = calls.acknowledged();
        Ok(written.iter().filter(|it| it.called > gone).count() >= ENOUGH)
    })?;
    calls.end.store(true, Ordering::Relaxed);
    for writer in writers {
        runtime.block_on(writer)??;
    }
    let written = calls.acknowledged();
    let later = written.iter().filter(|it| it.called > gone);
    let first = later.map(|it| it.answered).min().context("no write")?;
    let (without, refused) = (first - cut, calls.refused.load(Ordering::Relaxed));
    say(&format!(
        "{:.1} s without a leader, {refused} calls were refused",
        without.as_secs_f64()
    ));
    ensure!(without < WITHOUT_LEADER, "no leader for {without:.1?}");
    ensure!(refused > 0, "no call was refused");
    let documents: Vec<_> = written.into_iter().map(|it| it.document).collect();
    runtime.block_on(read_back(&endpoint, &documents))?;

    deployment.run(&["up"])?.expect(0)?;
    let next = leader_of_all(&deployment, &leader)?;
    ensure!(next != leader, "`{leader}` leads again");
    runtime.block_on(read_back(&endpoint, &documents))?;
    deployment.remove()
}

/// Waits until the cluster is complete, as a node of it sees it, and returns its leader.
fn leader_of_all(deployment: &Deployment, node: &str) -> anyhow::Result<String> {
    let command = format!("patronictl -c /var/lib/{node}/patroni.yaml list -f json");
    let mut leader = String::new();
    eventually("a leader and two replicas that follow it", SOON, || {
        let members: Value = serde_json::from_str(&deployment.ssh(node, &command)?)?;
        let members = members.as_array().context("no list of members")?;
        let named = |role: &str, state: &str| {
            let is_wanted = |it: &&Value| it["Role"] == role && it["State"] == state;
            members.iter().find(is_wanted).map(|it| &it["Member"])
        };
        leader = named("Leader", "running")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        let standbys = [
            named("Sync Standby", "streaming"),
            named("Replica", "streaming"),
        ];
        Ok(!leader.is_empty() && standbys.iter().all(Option::is_some))
    })?;
    Ok(leader)
}

/// What the writers' calls ended with.
#[derive(Default)]
struct Calls {
    acknowledged: Mutex<Vec<Acknowledged>>,
    refused: AtomicUsize,
    /// Whether the writers are to end.
    end: AtomicBool,
}

#[derive(Clone)]
struct Acknowledged {
    called: Instant,
    answered: Instant,
    /// Its id and its text.
    document: (String, String),
}

impl Calls {
    fn acknowledged(&self) -> Vec<Acknowledged> {
        let acknowledged = self.acknowledged.lock();
        acknowledged.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn acknowledge(&self, one: Acknowledged) {
        let acknowledged = self.acknowledged.lock();
        acknowledged
            .unwrap_or_else(PoisonError::into_inner)
            .push(one);
    }
}

/// Creates documents, also while calls are refused, which must be in the way that callers can retry.
async fn write(endpoint: Endpoint, writer: usize, calls: Arc<Calls>) -> anyhow::Result<()> {
    let mut client = connected(&endpoint).await?;
    for turn in 0.. {
        if calls.end.load(Ordering::Relaxed) {
            break;
        }
        let data = format!(r#"{{"writer":{writer},"turn":{turn}}}"#);
        let request = CreateRequest {
            collection: COLLECTION.to_owned(),
            data: data.clone(),
        };
        let called = Instant::now();
        match client.create(request).await {
            Ok(created) => calls.acknowledge(Acknowledged {
                called,
                answered: Instant::now(),
                document: (created.into_inner().id, data),
            }),
            Err(status) => {
                let is_retriable = status.get_details_retry_info().is_some();
                ensure!(
                    status.code() == Code::Unavailable && is_retriable,
                    "a call was refused without RetryInfo: {status:?}"
                );
                calls.refused.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    Ok(())
}
