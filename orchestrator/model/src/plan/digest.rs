//! Digests of what definitions are made from: another one means that it is to be redefined.

use crate::spec::{Digest, DomainSpec, Push, Spec};

/// What a network's definition is made from, but for its guests, which libvirt itself reports.
pub(super) fn network_digest(spec: &Spec) -> Digest {
    digest_of(&spec.network)
}

/// What a domain's definition is made from, but for memory and vCPUs, which libvirt itself reports.
pub(super) fn domain_digest(
    spec: &Spec,
    domain: &DomainSpec,
    image: &Digest,
    rom: Option<&Digest>,
) -> Digest {
    let volumes = domain.volumes.iter();
    let volumes: Vec<_> = volumes
        .map(|volume| (volume, volume.of(&domain.name).file()))
        .collect();
    let definition = (
        &domain.name,
        &domain.firmware,
        domain.boot,
        domain.machine,
        volumes,
        domain.address,
        domain.mac,
    );
    let network = (&spec.network.name, spec.network.cidr, &spec.network.domain);
    let definition = (definition, network, image, rom, spec.accel);
    match domain.push {
        // As before there were release disks: a domain without one runs on, and gets it with its next definition.
        Push::Auto => digest_of(&definition),
        Push::Ssh => digest_of(&(definition, domain.push)),
    }
}

fn digest_of(value: &impl serde::Serialize) -> Digest {
    // Plain data of this module's own choosing: serialising it cannot fail.
    Digest::of(&serde_json::to_vec(value).expect("plain data is serialisable"))
}
