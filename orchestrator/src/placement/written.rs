//! Writes a spec in topology.yaml's keys, everything resolved.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pspd_model::publish::{Front, FrontTls, Publish};
use pspd_model::spec::{
    Accel, Boot, DomainSpec, Firmware, ImageSource, ImageSpec, Machine, NetworkSpec, Payload,
    Program, Push, Range, Secret, Seed, ServiceSpec, Size, Spec, VolumeSpec,
};
use serde_json::{Map, Value, json};

use super::Mapping;

/// What a topology says of what the spec has on this host.
pub trait Sources {
    /// All images by their keys.
    fn images(&self, spec: &Spec) -> Mapping;
    /// The key of a domain's image.
    fn image(&self, domain: &DomainSpec) -> String;
    /// Of a domain whose firmware is not QEMU's own.
    fn rom(&self, domain: &DomainSpec) -> Value;
    /// `None` where the topology does not say how a domain boots.
    fn boot(&self, domain: &DomainSpec) -> Option<&'static str>;
    /// An executable, or a file or a directory beside it.
    fn file(&self, path: &Path) -> Value;
    fn secret(&self, secret: &Secret) -> Value;
    /// The certificate of a published HTTP server.
    fn tls(&self, tls: &FrontTls) -> Value;
}

/// A topology of the same host: it names the files that the spec names.
pub struct Here;

impl Sources for Here {
    fn images(&self, spec: &Spec) -> Mapping {
        let images = spec.images.iter();
        images
            .map(|(key, image)| (key.clone(), self::image(image)))
            .collect()
    }

    fn image(&self, domain: &DomainSpec) -> String {
        domain.image.clone()
    }

    fn rom(&self, domain: &DomainSpec) -> Value {
        match &domain.firmware {
            Firmware::Coreboot(Payload::Linux {
                cmdline: Some(cmdline),
            }) => json!({"coreboot": {"payload": "linux", "cmdline": cmdline}}),
            Firmware::Coreboot(Payload::Linux { cmdline: None }) => {
                json!({"coreboot": {"payload": "linux"}})
            }
            Firmware::Rom { path, sha256 } => json!({"rom": path, "sha256": sha256}),
            firmware => json!(firmware.word()),
        }
    }

    fn boot(&self, domain: &DomainSpec) -> Option<&'static str> {
        match domain.boot {
            _ if domain.firmware.holds_kernel() => None,
            Boot::Disk => Some("disk"),
            Boot::Kernel => Some("kernel"),
        }
    }

    fn file(&self, path: &Path) -> Value {
        json!(path)
    }

    fn secret(&self, secret: &Secret) -> Value {
        match secret {
            Secret::Generate => json!("generate"),
            Secret::File(path) => json!({"file": path}),
        }
    }

    fn tls(&self, tls: &FrontTls) -> Value {
        match tls {
            FrontTls::SelfSigned => json!("self-signed"),
            FrontTls::Files { cert, key } => json!({"cert": cert, "key": key}),
        }
    }
}

/// As topology.yaml has it.
pub fn image(image: &ImageSpec) -> Value {
    let ImageSpec {
        name: _,
        source,
        packages,
        seed,
    } = image;
    let mut value = match source {
        ImageSource::Builtin(builtin) => json!({"builtin": builtin}),
        ImageSource::Recipe(path) => json!({"recipe": path}),
        ImageSource::Path { path, sha256 } => json!({"path": path, "sha256": sha256}),
        ImageSource::Url { url, sha256 } => json!({"url": url, "sha256": sha256}),
    };
    if !packages.is_empty() {
        value["packages"] = json!(packages);
    }
    value["seed"] = json!(self::seed(*seed));
    value
}

/// As topology.yaml has it.
pub fn seed(seed: Seed) -> &'static str {
    match seed {
        Seed::Nocloud => "nocloud",
        Seed::Credentials => "credentials",
    }
}

/// A whole topology.
///
/// Every field of the spec is named here, so that a new one cannot be forgotten. The connection is not part of it: where
/// domains live is the choice of who places it.
pub fn topology(spec: &Spec, sources: &impl Sources) -> Mapping {
    let Spec {
        name,
        // The machine is the choice of who places it, too.
        hosts: _,
        elsewhere: _,
        connection: _,
        // Whether it starts with its host is that host's to say.
        autostart: _,
        accel,
        network,
        images: _,
        domains,
    } = spec;
    let NetworkSpec {
        name: _,
        cidr,
        gateway: _,
        domain,
    } = network;
    let accel = match accel {
        Accel::Auto => "auto",
        Accel::Kvm => "kvm",
        Accel::Tcg => "tcg",
    };
    let domains: Map<String, Value> = domains
        .values()
        .map(|domain| (domain.name.to_string(), domain_topology(domain, sources)))
        .collect();
    Mapping::from_iter([
        ("name".to_owned(), json!(name)),
        ("accel".to_owned(), json!(accel)),
        (
            "network".to_owned(),
            json!({"cidr": cidr.to_string(), "domain": domain}),
        ),
        ("images".to_owned(), Value::Object(sources.images(spec))),
        ("domains".to_owned(), Value::Object(domains)),
    ])
}

fn domain_topology(domain: &DomainSpec, sources: &impl Sources) -> Value {
    let DomainSpec {
        name: _,
        host: _,
        image: _,
        firmware,
        boot: _,
        machine,
        memory,
        vcpus,
        system_disk,
        volumes,
        depends_on,
        peers,
        service,
        publish,
        boot_timeout,
        push,
        address,
        mac: _,
    } = domain;
    let firmware = match firmware {
        Firmware::Seabios | Firmware::Uefi => json!(firmware.word()),
        Firmware::Coreboot(_) | Firmware::Rom { .. } => sources.rom(domain),
    };
    let machine = match machine {
        Machine::Pc => "pc",
        Machine::Q35 => "q35",
    };
    let mut disks = Map::from_iter([("system".to_owned(), json!(size(*system_disk)))]);
    for VolumeSpec {
        name,
        size: bytes,
        mount,
    } in volumes
    {
        disks.insert(
            name.to_string(),
            json!({"size": size(*bytes), "mount": mount}),
        );
    }
    let publish: Vec<Value> = publish.iter().map(|one| published(one, sources)).collect();
    let mut value = json!({
        "image": sources.image(domain),
        "address": address,
        "firmware": firmware,
        "machine": machine,
        "memory": range(memory, |bytes| json!(size(*bytes))),
        "vcpus": range(vcpus, |count| json!(count)),
        "disks": disks,
        "depends_on": depends_on,
        "publish": publish,
    });
    if let Some(service) = service {
        value["service"] = service_topology(service, sources);
    }
    if let Some(boot) = sources.boot(domain) {
        value["boot"] = json!(boot);
    }
    if let Some(timeout) = boot_timeout {
        value["boot_timeout"] = json!(format!("{}s", timeout.as_secs()));
    }
    // Earlier versions, which do not have these keys, read an archive with the defaults.
    if !peers.is_empty() {
        value["peers"] = json!(peers);
    }
    if *push == Push::Ssh {
        value["push"] = json!(push);
    }
    value
}

fn published(publish: &Publish, sources: &impl Sources) -> Value {
    let Publish {
        host,
        guest_port,
        http,
    } = publish;
    let Some(Front { hosts, tls }) = http else {
        return json!(format!("{host}:{guest_port}"));
    };
    let mut value = json!({"http": guest_port, "listen": host});
    if !hosts.is_empty() {
        value["hosts"] = json!(hosts);
    }
    if let Some(tls) = tls {
        value["tls"] = sources.tls(tls);
    }
    value
}

fn service_topology(service: &ServiceSpec, sources: &impl Sources) -> Value {
    let ServiceSpec {
        program,
        port,
        health,
        environment,
        secrets,
        arguments,
        checkpoint,
        start_timeout,
        tls_key_log,
        files,
        setup,
        setup_timeout,
    } = service;
    let files: BTreeMap<&PathBuf, _> = files
        .iter()
        .map(|(guest, host)| (guest, sources.file(host)))
        .collect();
    let secrets: BTreeMap<&String, _> = secrets
        .iter()
        .map(|(name, secret)| (name, sources.secret(secret)))
        .collect();
    let mut value = json!({
        "port": port,
        "health": health,
        "environment": environment,
        "secrets": secrets,
        "arguments": arguments,
        "checkpoint": checkpoint,
        "files": files,
    });
    match program {
        Program::Binary(path) => value["binary"] = sources.file(path),
        Program::Command(words) => value["command"] = json!(words),
    }
    if !setup.is_empty() {
        value["setup"] = json!(setup);
    }
    for (key, timeout) in [
        ("start_timeout", start_timeout),
        ("setup_timeout", setup_timeout),
    ] {
        if let Some(timeout) = timeout {
            value[key] = json!(format!("{}s", timeout.as_secs()));
        }
    }
    // As with `push`: earlier versions do not have the key.
    if *tls_key_log {
        value["tls_key_log"] = json!(true);
    }
    value
}

fn range<T>(range: &Range<T>, value: impl Fn(&T) -> Value) -> Value {
    json!({"current": value(&range.current), "maximum": value(&range.maximum)})
}

/// Exact, where [`Size`]'s own text rounds: a topology's sizes are whole KiB.
fn size(size: Size) -> String {
    format!("{} KiB", size.0.div_ceil(1024))
}
