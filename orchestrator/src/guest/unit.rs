//! What a release has beside the user's own files: the systemd unit, its environment, and the mounting of volumes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::spec::{DomainSpec, Name, ServiceSpec, Spec};

pub(super) const ENVIRONMENT: &str = "environment";
/// Beside the releases: a link to the certificate in use, which is renewed without a new release.
pub(super) const IDENTITY: &str = "identity";
pub(super) const CA: &str = "ca.pem";
pub(super) const CERTIFICATE: &str = "cert.pem";
pub(super) const KEY: &str = "key.pem";
pub(super) const SECRETS: &str = "secrets";
pub(super) const MOUNT_VOLUMES: &str = "mount-volumes";

/// Linux's limit of a user name is 32 with its end.
const LONGEST_USER: usize = 31;

pub(super) fn file_name(service: &Name) -> String {
    format!("{service}.service")
}

pub(super) fn volumes_file_name(service: &Name) -> String {
    format!("{service}-volumes.service")
}

/// Where the releases of a service are.
pub(super) fn home(service: &Name) -> String {
    format!("/opt/pspd/{service}")
}

/// The user that a service runs as.
pub(super) fn user(service: &Name) -> &str {
    let name = service.as_str();
    name[..name.len().min(LONGEST_USER)].trim_end_matches('-')
}

/// The unit: its own user, and nothing of the system writable but the state directory and the volumes.
pub(super) fn unit(spec: &Spec, name: &Name, service: &ServiceSpec) -> String {
    let (home, user) = (home(name), user(name));
    let volumes = &spec.domains[name].volumes;
    let arguments = words(&service.arguments);
    // What makes a unit one that can be reloaded: an export does it before it reads the disks.
    let checkpoint = match service.checkpoint.as_slice() {
        [] => String::new(),
        given => format!("ExecReload={home}/current/{name}{}\n", words(given)),
    };
    let after = if volumes.is_empty() {
        String::new()
    } else {
        format!("Requires={0}\nAfter={0}\n", volumes_file_name(name))
    };
    // Read by systemd itself, so that the service's user needs no right to the file.
    let secrets = match service.secrets.is_empty() {
        true => String::new(),
        false => format!("EnvironmentFile={home}/current/{SECRETS}\n"),
    };
    let mut unit = format!(
        "[Unit]\n\
         Description={name}, deployed by pspd\n\
         {after}\
         StartLimitIntervalSec=60\n\
         StartLimitBurst=5\n\
         \n\
         [Service]\n\
         Type=exec\n\
         User={user}\n\
         Group={user}\n\
         EnvironmentFile={home}/current/{ENVIRONMENT}\n\
         {secrets}\
         WorkingDirectory={home}/current\n\
         StateDirectory={name}\n\
         StateDirectoryMode=0750\n"
    );
    let _ = write!(
        unit,
        "ExecStart={home}/current/{name}{arguments}\n\
         {checkpoint}\
         Restart=on-failure\n\
         RestartSec=1\n\
         TimeoutStopSec=30\n\
         UMask=0077\n\
         NoNewPrivileges=yes\n\
         CapabilityBoundingSet=\n\
         AmbientCapabilities=\n\
         ProtectSystem=strict\n\
         ProtectHome=yes\n\
         PrivateTmp=yes\n\
         PrivateDevices=yes\n\
         ProtectClock=yes\n\
         ProtectHostname=yes\n\
         ProtectKernelLogs=yes\n\
         ProtectKernelModules=yes\n\
         ProtectKernelTunables=yes\n\
         ProtectControlGroups=yes\n\
         ProtectProc=invisible\n\
         RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX\n\
         RestrictNamespaces=yes\n\
         RestrictRealtime=yes\n\
         RestrictSUIDSGID=yes\n\
         LockPersonality=yes\n\
         MemoryDenyWriteExecute=yes\n\
         SystemCallArchitectures=native\n\
         SystemCallFilter=@system-service\n\
         SystemCallErrorNumber=EPERM\n"
    );
    for volume in volumes {
        let _ = writeln!(unit, "ReadWritePaths=-{}", volume.mount.display());
    }
    unit.push_str("\n[Install]\nWantedBy=multi-user.target\n");
    unit
}

/// The unit that mounts a service's volumes: one of its own, because a service's unit may use no disk.
pub(super) fn volumes_unit(name: &Name) -> String {
    let home = home(name);
    format!(
        "[Unit]\n\
         Description=data volumes of {name}, mounted by pspd\n\
         \n\
         [Service]\n\
         Type=oneshot\n\
         RemainAfterExit=yes\n\
         ExecStart={home}/current/{MOUNT_VOLUMES}\n"
    )
}

/// Words that follow a command.
fn words(given: &[String]) -> String {
    given
        .iter()
        .map(|word| format!(" {}", quoted(word)))
        .collect()
}

/// A word of a command line, so that systemd takes it as it is.
fn quoted(word: &str) -> String {
    let escaped = word
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('%', "%%")
        .replace('$', "$$");
    format!("\"{escaped}\"")
}

/// The environment file: what pspd tells every service, then what the topology says.
pub(super) fn environment(spec: &Spec, name: &Name, service: &ServiceSpec) -> String {
    let identity = format!("{}/{IDENTITY}", home(name));
    let mut text = format!(
        "PSPD_NAME={name}\n\
         PSPD_LISTEN=0.0.0.0:{}\n\
         PSPD_CALLERS={}\n\
         PSPD_TLS_CA={identity}/{CA}\n\
         PSPD_TLS_CERT={identity}/{CERTIFICATE}\n\
         PSPD_TLS_KEY={identity}/{KEY}\n",
        service.port,
        callers(spec, name)
    );
    text.push_str(&variables(&service.environment));
    text
}

/// Lines of an environment file.
pub(super) fn variables(values: &BTreeMap<String, String>) -> String {
    let mut text = String::new();
    for (key, value) in values {
        let escaped = value
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('$', "\\$")
            .replace('`', "\\`");
        let _ = writeln!(text, "{key}=\"{escaped}\"");
    }
    text
}

/// Who may call a service: those that depend on it.
fn callers(spec: &Spec, name: &Name) -> String {
    let dependants = spec.domains.values();
    let dependants = dependants.filter(|other| other.depends_on.contains(name));
    let names: Vec<&str> = dependants.map(|other| other.name.as_str()).collect();
    names.join(",")
}

/// Mounts a domain's volumes before its service starts.
///
/// There may be no udev in the guest, so a disk is found by its serial and not by a link. A disk is only ever
/// formatted when it has no signature and its first MiB is zero.
pub(super) fn mount_volumes(domain: &DomainSpec) -> String {
    let user = user(&domain.name);
    let mut script = String::from(MOUNT_VOLUMES_HEAD);
    for volume in &domain.volumes {
        let _ = writeln!(
            script,
            "mount_volume {} {} {user}",
            volume.name,
            volume.mount.display()
        );
    }
    script
}

const MOUNT_VOLUMES_HEAD: &str = r#"#!/bin/sh
# Mounts data volumes, each found by its disk's serial and formatted only where it is blank.
set -eu
fail() { echo "mount-volumes: $*" >&2; exit 1; }
mount_volume() { # SERIAL FOLDER USER
    if mountpoint -q "$2"; then return; fi
    device=
    for serial in /sys/block/*/serial; do
        if [ "$(cat "$serial")" = "$1" ]; then
            device=${serial%/serial}
            device=/dev/${device##*/}
        fi
    done
    [ -n "$device" ] || fail "no disk has the serial $1"
    status=0
    blkid -p "$device" >/dev/null 2>&1 || status=$?
    if [ "$status" = 2 ] && cmp -s -n 1048576 "$device" /dev/zero; then
        mkfs.ext4 -q -m 0 -E nodiscard "$device"
    elif [ "$status" != 0 ]; then
        fail "$device ($1) is neither blank nor a known file system; nothing was changed on it"
    fi
    mkdir -p "$2"
    mount -o noatime "$device" "$2"
    resize2fs "$device" >/dev/null 2>&1 || fail "$device ($1) cannot be grown to its disk's size"
    # A guest that was made anew may number its users differently.
    [ "$(stat -c %U "$2")" = "$3" ] || chown -R "$3": "$2"
    chmod 0750 "$2"
}
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_the_service_as_they_are() {
        assert_eq!(
            quoted(r#"a "b" $HOME 100% \"#),
            r#""a \"b\" $$HOME 100%% \\""#
        );
    }

    #[test]
    fn a_user_name_fits_linux() {
        let long = Name::new(&format!("{}-{}", "a".repeat(30), "b".repeat(20))).unwrap();
        assert_eq!(user(&long), "a".repeat(30));
    }
}
