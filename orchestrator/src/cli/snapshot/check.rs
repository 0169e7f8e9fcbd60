//! Whether a snapshot can be restored here: its layers and their images are there, and its memory is the one that was written.

use std::thread;

use anyhow::{Context as _, anyhow, ensure};
use pspd_model::hint::Hinted;
use pspd_model::spec::Name;

use crate::digest;
use crate::disk::layers;
use crate::state::{Home, MemoryImage, Snapshot};

const FROM_DISKS: &str = "Pass `--disk-only` to boot from its disks";

/// `hypervisor` is QEMU's version; without it the memory is left out. Reads all memory.
pub(super) fn check(
    home: &Home,
    name: &Name,
    snapshot: &Snapshot,
    hypervisor: Option<&str>,
) -> anyhow::Result<()> {
    for (domain, of) in &snapshot.domains {
        for (serial, file) in &of.disks {
            let chain = layers::chain(&home.layer(serial, file));
            let end = chain.and_then(|mut chain| {
                let end = chain.pop().unwrap_or_default();
                ensure!(end.exists(), "`{}` is missing", end.display());
                Ok(())
            });
            end.with_context(|| {
                format!("the disk `{serial}` of `{domain}` in the snapshot `{name}` is damaged")
            })?;
        }
    }
    let Some(hypervisor) = hypervisor else {
        return Ok(());
    };
    let memory = |domain: &Name, image: &MemoryImage| {
        ensure!(
            image.hypervisor == hypervisor,
            Hinted::new(
                format!(
                    "the snapshot `{name}` is from another version of QEMU ({}; this host has {hypervisor})",
                    image.hypervisor
                ),
                FROM_DISKS,
            )
        );
        ensure!(
            digest::is_of_file(&image.digest, &home.snapshot_memory(name, domain)),
            Hinted::new(
                format!("the memory of `{domain}` in the snapshot `{name}` is damaged"),
                FROM_DISKS,
            )
        );
        Ok(())
    };
    let memory = &memory;
    thread::scope(|threads| {
        let domains = snapshot.domains.iter();
        let images = domains.filter_map(|(domain, of)| Some((domain, of.memory.as_ref()?)));
        let readers: Vec<_> = images
            .map(|(domain, image)| threads.spawn(move || memory(domain, image)))
            .collect();
        readers.into_iter().try_for_each(|reader| {
            let read = reader.join();
            read.map_err(|_| anyhow!("a thread that reads memory panicked"))?
        })
    })
}
