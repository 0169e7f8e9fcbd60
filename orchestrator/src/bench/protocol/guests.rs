//! Both sides in guests of a lab of their own: the server is one guest's service, the caller runs in the other guest by SSH.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use pspd_model::plan;
use pspd_model::spec::{ImageSpec, Name};
use tokio_util::sync::CancellationToken;

use super::caller::Caller;
use super::plan::Plan;
use super::result::Results;
use crate::accel;
use crate::apply::Now;
use crate::bench::own_lab::OwnLab;
use crate::bench::result::host;
use crate::event::{Events, Scope};
use crate::guest::Guest;
use crate::identity::Identity;
use crate::image;
use crate::observe::Host;
use crate::placement::written;

const PORT: u16 = 50061;
/// For the SSH connection to a guest that has just become healthy.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program of both sides, and what their lab is made of.
pub struct Guests<'a> {
    pub program: &'a Path,
    /// For the lab alone.
    pub folder: &'a Path,
    /// Of images.
    pub cache: &'a Path,
    pub image: &'a ImageSpec,
}

impl Guests<'_> {
    /// Measures; `cancel` ends the run. The lab is removed in any case.
    pub async fn measure(
        &self,
        plan: &Plan,
        events: &Events,
        cancel: &CancellationToken,
    ) -> anyhow::Result<Results> {
        let topology = topology(self.program, self.image)?;
        let lab = OwnLab::new(self.folder, self.cache, &topology, "measuring protocols")?;
        let up = |now: Now<'_>| Ok(plan::up(now.spec, now.intent, now.observed)?);
        let measured = match lab.change(events, cancel, up).await {
            Ok(()) => measured(&lab, plan, events, cancel).await,
            Err(error) => Err(error),
        };
        let removed = lab.remove(events).await;
        let results = measured?;
        removed?;
        Ok(results)
    }
}

fn topology(program: &Path, image: &ImageSpec) -> anyhow::Result<String> {
    let program = program.to_str();
    let program = program.context("the path of `protocol-bench` is not UTF-8")?;
    let domain = serde_json::json!({
        "image": "guest",
        "memory": "512 MiB",
        "service": {
            "binary": program,
            "arguments": ["serve"],
            "port": PORT,
            "health": "records.v1.Records",
        },
    });
    // JSON is YAML.
    Ok(serde_json::json!({
        "name": "bench-protocol",
        "network": {"cidr": "10.79.0.0/24"},
        "images": {"guest": written::image(image)},
        "domains": {"server": domain, "caller": domain},
    })
    .to_string())
}

async fn measured(
    lab: &OwnLab,
    plan: &Plan,
    events: &Events,
    cancel: &CancellationToken,
) -> anyhow::Result<Results> {
    let site = Host::attach(&lab.paths, &lab.spec).await?;
    let identity = Identity::load(&site.home.keys())?.context("the deployment has no keys")?;
    let image = image::cached(&lab.paths.cache, &lab.spec.images["guest"])?;
    let image = image.context("the image is gone")?;
    let proof = accel::decide(lab.spec.accel, &lab.paths.cache, image.kernel.as_ref())?;
    let reach = site.reach(&lab.spec).context("the lab runs")?;
    let [server, caller] = ["server", "caller"].map(Name::new);
    let (server, caller) = (server?, caller?);
    let address = format!("{}:{PORT}", lab.spec.domains[&server].address);
    let arguments = plan.arguments(&address, server.as_str());
    let (spec, cancel, mut said) = (lab.spec.clone(), cancel.clone(), Caller::new(events));
    let cases = tokio::task::spawn_blocking(move || {
        let scope = Scope::ignored();
        let guest = Guest::connect(&reach, &spec, &caller, &identity, PATIENCE, &scope, &cancel)?;
        let run = guest.run_program(&caller, &arguments, |line| said.line(line));
        run.context("the caller failed")?;
        said.results()
    });
    let between = "Between two guests";
    let host = host(Some(proof.accelerator));
    Ok(Results::new(host, between, plan, cases.await??))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pspd_model::spec::{ImageSource, Seed};

    #[test]
    fn both_guests_have_the_program_as_their_service() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("protocol-bench");
        std::fs::write(&program, "").unwrap();
        let image = ImageSpec {
            name: "guest".into(),
            source: ImageSource::Recipe(folder.path().to_owned()),
            packages: Default::default(),
            seed: Seed::Credentials,
        };
        let text = topology(&program, &image).unwrap();
        let lab = OwnLab::new(folder.path(), folder.path(), &text, "testing").unwrap();
        let services: Vec<_> = lab.spec.domains.values().collect();
        assert_eq!(services.len(), 2);
        for domain in services {
            let service = domain.service.as_ref().unwrap();
            assert_eq!(service.program.binary(), Some(program.as_path()));
            assert_eq!(service.port, PORT);
        }
    }
}
