//! The generated files of a release: the systemd unit, its environment, and the script that mounts volumes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use pspd_model::spec::{KEY_LOG, Name, Program, ServiceSpec, Spec, VolumeSpec};

use super::encode;
use super::find_disk::FIND_DISK;

pub(super) const ENVIRONMENT: &str = "environment";
/// A link next to the releases to the current certificate, which is renewed without a new release.
pub(super) const IDENTITY: &str = "identity";
pub(super) const CA: &str = "ca.pem";
pub(super) const CERTIFICATE: &str = "cert.pem";
pub(super) const KEY: &str = "key.pem";
pub(super) const SECRETS: &str = "secrets";
pub(super) const MOUNT_VOLUMES: &str = "mount-volumes";
/// The script that prepares a release before it is started.
pub(super) const SETUP: &str = "setup";

/// Linux's limit for a user name is 32 bytes including the NUL.
const LONGEST_USER: usize = 31;

pub(super) fn file_name(service: &Name) -> String {
    format!("{service}.service")
}

pub(super) fn volumes_file_name(service: &Name) -> String {
    format!("{service}-volumes.service")
}

/// Returns the directory of a service's releases.
pub(super) fn home(service: &Name) -> String {
    format!("/opt/pspd/{service}")
}

/// Returns the user of a service.
pub(super) fn user(service: &Name) -> &str {
    let name = service.as_str();
    name[..name.len().min(LONGEST_USER)].trim_end_matches('-')
}

/// Returns the runtime directory of a service. It is in the guest's memory, and no disk has its files.
pub(super) fn runtime_directory(service: &Name) -> String {
    format!("/run/{}", runtime_name(service))
}

/// Returns the name of a service's runtime directory for its unit.
fn runtime_name(service: &Name) -> String {
    format!("pspd-{service}")
}

/// Returns the path of a service's TLS key log. Only the service and root can read it.
pub(super) fn key_log(service: &Name) -> String {
    format!("{}/tls-keys.log", runtime_directory(service))
}

/// Returns the systemd unit. The service runs as its own user and can write only to its state directory and volumes.
pub(super) fn unit(spec: &Spec, name: &Name, service: &ServiceSpec) -> String {
    let (home, user) = (home(name), user(name));
    let volumes = &spec.domains[name].volumes;
    let program = program(name, service);
    let arguments = quoted_list(&service.arguments);
    // Makes the unit reloadable: an export reloads it before it reads the disks.
    let checkpoint = match service.checkpoint.as_slice() {
        [] => String::new(),
        arguments => format!("ExecReload={program}{}\n", quoted_list(arguments)),
    };
    let after = if volumes.is_empty() {
        String::new()
    } else {
        format!("Requires={0}\nAfter={0}\n", volumes_file_name(name))
    };
    // Read by systemd, so that the service's user needs no permission for the file.
    let secrets = if service.secrets.is_empty() {
        String::new()
    } else {
        format!("EnvironmentFile={home}/current/{SECRETS}\n")
    };
    // Kept when the service restarts, and removed when it stops.
    let runtime = match service.tls_key_log {
        false => String::new(),
        true => format!(
            "RuntimeDirectory={}\n\
             RuntimeDirectoryMode=0700\n\
             RuntimeDirectoryPreserve=restart\n",
            runtime_name(name)
        ),
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
         StateDirectoryMode=0750\n\
         {runtime}"
    );
    let _ = write!(
        unit,
        "ExecStart={program}{arguments}\n\
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
         SystemCallArchitectures=native\n\
         SystemCallFilter=@system-service\n\
         SystemCallErrorNumber=EPERM\n"
    );
    // Interpreters such as Node.js compile while they run.
    if let Program::Binary(_) = service.program {
        unit.push_str("MemoryDenyWriteExecute=yes\n");
    }
    for volume in volumes {
        let _ = writeln!(unit, "ReadWritePaths=-{}", volume.mount.display());
    }
    unit.push_str("\n[Install]\nWantedBy=multi-user.target\n");
    unit
}

/// Returns the unit that mounts a service's volumes. It is separate because the service's unit has no access to disks.
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

/// Returns what a unit's command begins with: the executable of the release, or the topology's command.
fn program(name: &Name, service: &ServiceSpec) -> String {
    let current = format!("{}/current", home(name));
    match &service.program {
        Program::Binary(_) => format!("{current}/{name}"),
        Program::Command(words) => {
            let (program, arguments) = words.split_first().expect("a command has a program");
            let program = match is_in_release(program) {
                true => format!("{current}/{program}"),
                false => program.clone(),
            };
            format!("{program}{}", quoted_list(arguments))
        }
    }
}

/// Whether a command's program is a path below the release's folder.
pub(super) fn is_in_release(program: &str) -> bool {
    program.contains('/') && !program.starts_with('/')
}

/// Returns the script that prepares a release, in its folder. It says what it runs.
pub(super) fn setup(commands: &[Vec<String>]) -> String {
    let mut script = "#!/bin/sh\nset -e\nrun() { echo \"$ $*\"; \"$@\"; }\n".to_owned();
    for command in commands {
        script.push_str("run");
        for word in command {
            script.push(' ');
            script.push_str(&encode::word(word));
        }
        script.push('\n');
    }
    script
}

/// Formats the arguments of a command.
fn quoted_list(arguments: &[String]) -> String {
    arguments
        .iter()
        .map(|argument| format!(" {}", encode::argument(argument)))
        .collect()
}

/// Returns the environment file: pspd's variables for every service, then those of the topology.
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
        list(callers(spec, name))
    );
    let peers = &spec.domains[name].peers;
    if !peers.is_empty() {
        let _ = writeln!(text, "PSPD_PEERS={}", list(peers));
    }
    if service.tls_key_log {
        let _ = writeln!(text, "{KEY_LOG}={}", key_log(name));
    }
    text.push_str(&variables(&service.environment));
    text
}

/// Formats the lines of an environment file.
pub(super) fn variables(values: &BTreeMap<String, String>) -> String {
    let lines = values
        .iter()
        .map(|(key, value)| encode::assignment(key, value));
    lines.collect()
}

/// Before each line of the file of secrets. By it, an archive without secrets finds also those of earlier releases, whose
/// names and values nobody knows any more.
pub(crate) const SECRET_BELOW: &str = "# A secret, set by pspd:";

/// Formats the file of secrets.
pub(crate) fn secrets(values: &BTreeMap<String, String>) -> String {
    let lines = values.iter();
    let lines =
        lines.map(|(key, value)| format!("{SECRET_BELOW}\n{}", encode::assignment(key, value)));
    lines.collect()
}

/// Returns the clients that may call a service: the domains that depend on it, and its peers.
fn callers<'a>(spec: &'a Spec, name: &Name) -> impl Iterator<Item = &'a Name> {
    let callers = spec
        .all()
        .filter(|it| it.depends_on.contains(name) || it.peers.contains(name));
    callers.map(|it| &it.name)
}

fn list<'a>(names: impl IntoIterator<Item = &'a Name>) -> String {
    let names: Vec<&str> = names.into_iter().map(Name::as_str).collect();
    names.join(",")
}

/// Returns the script that mounts volumes, and gives them to the user of a service before that starts.
///
/// It formats a disk only if it has no signature and its first MiB is zero.
pub(super) fn mount_volumes(volumes: &[VolumeSpec], user: Option<&str>) -> String {
    let mut script = format!("{MOUNT_VOLUMES_HEAD}{FIND_DISK}{MOUNT_VOLUME}");
    let user = user.unwrap_or("''");
    // A volume that is mounted in another one comes after it.
    let mut volumes: Vec<&VolumeSpec> = volumes.iter().collect();
    volumes.sort_by(|one, other| one.mount.cmp(&other.mount));
    for volume in volumes {
        let _ = writeln!(
            script,
            "mount_volume {} {} {user}",
            volume.name,
            encode::word(&volume.mount.to_string_lossy())
        );
    }
    script
}

const MOUNT_VOLUMES_HEAD: &str = r#"#!/bin/sh
# Mounts data volumes. Finds each disk by its serial number, and formats it only if it is blank.
set -eu
fail() { echo "mount-volumes: $*" >&2; exit 1; }
"#;

const MOUNT_VOLUME: &str = r#"mount_volume() { # SERIAL FOLDER USER
    mountpoint -q "$2" || mount_disk "$1" "$2"
    [ -n "$3" ] || return 0
    # A recreated guest may have other user ids.
    [ "$(stat -c %U "$2")" = "$3" ] || chown -R "$3": "$2"
    chmod 0750 "$2"
}
mount_disk() { # SERIAL FOLDER
    find_disk "$1"
    [ -n "$device" ] || fail "no disk has the serial number $1"
    status=0
    blkid -p "$device" >/dev/null 2>&1 || status=$?
    if [ "$status" = 2 ] && cmp -s -n 1048576 "$device" /dev/zero; then
        mkfs.ext4 -q -m 0 -E nodiscard "$device"
    elif [ "$status" != 0 ]; then
        fail "$device ($1) is not blank and has no known file system; it was not changed"
    fi
    mkdir -p "$2"
    mount -o noatime "$device" "$2"
    resize2fs "$device" >/dev/null 2>&1 || fail "failed to grow the file system on $device ($1) to the size of the disk"
}
"#;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use pspd_model::topology::{self, Found};

    use super::*;

    fn generated(key: &str) -> (String, String) {
        let text = format!(
            "name: demo\nimages: {{debian: {{recipe: recipe}}}}\ndomains: {{web: {{image: debian, \
             service: {{binary: web, port: 80, health: web.Web{key}}}}}}}"
        );
        let look = |path: &Path| match path.ends_with("recipe") {
            true => Found::Folder,
            false => Found::File,
        };
        let spec = topology::parse(&text, Path::new("/"), &look).unwrap();
        let web = Name::new("web").unwrap();
        let service = spec.domains[&web].service.as_ref().unwrap();
        (
            unit(&spec, &web, service),
            environment(&spec, &web, service),
        )
    }

    #[test]
    fn tls_keys_are_logged_only_on_request_and_not_to_a_disk() {
        let (unit, environment) = generated("");
        let (logging_unit, logging_environment) = generated(", tls_key_log: true");
        let added = |before: &str, after: &str| -> Vec<String> {
            let lines = after.lines().filter(|line| !before.contains(line));
            lines.map(str::to_owned).collect()
        };
        assert_eq!(
            added(&unit, &logging_unit),
            [
                "RuntimeDirectory=pspd-web",
                "RuntimeDirectoryMode=0700",
                "RuntimeDirectoryPreserve=restart"
            ]
        );
        assert_eq!(
            added(&environment, &logging_environment),
            ["SSLKEYLOGFILE=/run/pspd-web/tls-keys.log"]
        );
    }

    #[test]
    fn callers_are_domains_that_depend_on_it_and_peers() {
        let domain = |name: &str, key: &str| {
            format!(
                "{name}: {{image: debian, {key}, service: {{command: [a], port: 80, health: tcp}}}}"
            )
        };
        let text = format!(
            "name: demo\ndomains: {{{}, {}, {}, {}}}",
            domain("db-1", "peers: [db-2, db-3]"),
            domain("db-2", "peers: [db-3]"),
            domain("db-3", "peers: []"),
            domain("web", "depends_on: [db-3]")
        );
        let spec = topology::parse(&text, Path::new("/"), &|_: &Path| Found::File).unwrap();
        let line = |name: &str, variable: &str| {
            let name = Name::new(name).unwrap();
            let service = spec.domains[&name].service.as_ref().unwrap();
            let environment = environment(&spec, &name, service);
            let mut lines = environment.lines().map(str::to_owned);
            lines.find(|line| line.starts_with(variable))
        };
        let callers = |name| line(name, "PSPD_CALLERS").unwrap();
        assert_eq!(callers("db-1"), "PSPD_CALLERS=db-2,db-3");
        assert_eq!(callers("db-3"), "PSPD_CALLERS=db-1,db-2,web");
        assert_eq!(callers("web"), "PSPD_CALLERS=");
        let peers = |name| line(name, "PSPD_PEERS");
        assert_eq!(peers("db-3").unwrap(), "PSPD_PEERS=db-1,db-2");
        assert_eq!(peers("web"), None);
    }

    #[test]
    fn a_user_name_fits_linux() {
        let long = Name::new(&format!("{}-{}", "a".repeat(30), "b".repeat(20))).unwrap();
        assert_eq!(user(&long), "a".repeat(30));
    }
}
