//! What disturbs a guest from within, now and at each boot: disks that are full or fail, a clock that is set off, and burnt
//! processors.
//!
//! Each is a unit of systemd on the system disk, so that all of it ends with that disk. A full disk is full by a file without
//! a name, which ends with the process that holds it: nothing of it is left on a data volume, whatever ends the guest.
//! A disk fails as its file system is shut down, until that is mounted again.
//! fallocate(1), systemd.resource-control(5); the ioctl EXT4_IOC_SHUTDOWN, which xfs calls XFS_IOC_GOINGDOWN.

use std::fmt::Write as _;

use pspd_model::harm::{Disturbance, Offset};
use pspd_model::spec::Name;

use super::find_disk::FIND_DISK;
use super::{Guest, encode, script, unit};

const BURN: &str = "pspd-burn.service";
const CLOCK: &str = "pspd-clock.service";
/// That of the system disk takes the space that other units need.
const SYSTEM: &str = "pspd-full-system.service";

impl Guest {
    /// Replaces what disturbs the guest; its clock is set by [`Guest::set_clock`].
    /// A service ends and starts again where a disk is brought back that it may use.
    pub fn disturb(&self, service: &Name, by: &Disturbance) -> anyhow::Result<()> {
        self.session
            .script("disturb the guest", &text(service, by))
            .map(drop)
    }
}

/// Ends what is not wanted, writes the units that differ, and starts them, the one that fills the system disk last.
fn text(service: &Name, by: &Disturbance) -> String {
    let units = units(by);
    let mut names: Vec<&str> = units.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_by_key(|name| *name == SYSTEM);
    let wanted = names.join(" ");
    let mut text = format!(
        r#"set -e
umask 022
{}manager
wanted='{wanted}'
service={} volumes={}
{FIND_DISK}{BRING_BACK}mkdir -p /usr/local/lib/pspd /etc/systemd/system/multi-user.target.wants
cd /etc/systemd/system
for unit in pspd-fail-*.service pspd-full-*.service {BURN} {CLOCK}; do
    [ -e "$unit" ] || continue
    case " $wanted " in *" $unit "*) [ "$unit" = {SYSTEM} ] || continue ;; esac
    systemctl stop "$unit"
    rm -f "$unit" "multi-user.target.wants/$unit"
    disk=${{unit#pspd-fail-}}
    [ "$disk" = "$unit" ] || bring_back "${{disk%.service}}"
done
changed=
# A quota is of all processors together.
quota=$(($(nproc) * {}))
put() {{ # UNIT, with its text on stdin
    sed "s/{QUOTA}/$quota/" >"$1.new"
    if cmp -s "$1.new" "$1"; then rm "$1.new"; return; fi
    mv "$1.new" "$1"
    ln -sf "../$1" "multi-user.target.wants/$1"
    changed="$changed $1"
}}
"#,
        script::MANAGER,
        unit::file_name(service),
        unit::volumes_file_name(service),
        by.burn
    );
    if !by.full.is_empty() {
        text.push_str(
            "command -v fallocate >/dev/null || { echo 'the guest has no `fallocate`; add `util-linux` to its image' >&2; exit 1; }\n",
        );
        let _ = write!(
            text,
            "cat >{FILL} <<'END'\n{FILL_TEXT}END\nchmod 755 {FILL}\n"
        );
    }
    if !by.failing.is_empty() {
        text.push_str(
            "command -v perl >/dev/null || { echo 'the guest has no `perl`; add `perl-base` to its image' >&2; exit 1; }\n",
        );
        let _ = write!(
            text,
            "cat >{FAIL} <<'END'\n{FAIL_TEXT}END\nchmod 755 {FAIL}\n"
        );
    }
    if by.burn != 0 {
        text.push_str(
            "grep -qw cpu /sys/fs/cgroup/cgroup.controllers || { echo 'the kernel of the guest needs CONFIG_CFS_BANDWIDTH, \
             and its systemd the unified hierarchy of control groups' >&2; exit 1; }\n",
        );
        let _ = write!(
            text,
            "cat >{BURNER} <<'END'\n{BURNER_TEXT}END\nchmod 755 {BURNER}\n"
        );
    }
    for (name, unit) in &units {
        let _ = write!(text, "put {name} <<'END'\n{unit}END\n");
    }
    text.push_str("systemctl daemon-reload\n");
    for name in names.into_iter().filter(|name| *name != CLOCK) {
        let _ = writeln!(
            text,
            "case \"$changed \" in *' {name} '*) systemctl restart {name} ;; *) systemctl start {name} ;; esac || \
             {{ systemctl status --no-pager --lines=5 {name} >&2 || :; exit 1; }}"
        );
    }
    text
}

/// Replaced by the number that only the guest knows.
const QUOTA: &str = "@QUOTA@";

/// The units by their names.
fn units(by: &Disturbance) -> Vec<(String, String)> {
    let mut units = Vec::new();
    for (disk, mount) in &by.full {
        let mount = encode::argument(&mount.to_string_lossy());
        let unit = format!(
            "[Unit]\n\
             Description=The disk {disk} is full, a fault that pspd injected\n\
             [Service]\n\
             Type=forking\n\
             TimeoutStartSec=10min\n\
             Restart=on-failure\n\
             ExecStart={FILL} {mount}\n"
        );
        units.push((format!("pspd-full-{disk}.service"), unit));
    }
    for (disk, mount) in &by.failing {
        let mount = encode::argument(&mount.to_string_lossy());
        let unit = format!(
            "[Unit]\n\
             Description=The disk {disk} fails, a fault that pspd injected\n\
             [Service]\n\
             Type=oneshot\n\
             RemainAfterExit=yes\n\
             ExecStart={FAIL} {mount}\n"
        );
        units.push((format!("pspd-fail-{disk}.service"), unit));
    }
    if by.burn != 0 {
        let unit = format!(
            "[Unit]\n\
             Description=Burnt processors, a fault that pspd injected\n\
             [Service]\n\
             Restart=always\n\
             CPUQuota={QUOTA}%\n\
             CPUWeight=1\n\
             ExecStart={BURNER}\n"
        );
        units.push((BURN.to_owned(), unit));
    }
    if by.clock != Offset(0) {
        let unit = format!(
            "[Unit]\n\
             Description=A clock that is set off, a fault that pspd injected\n\
             [Service]\n\
             Type=oneshot\n\
             RemainAfterExit=yes\n\
             ExecStart=/bin/sh -c 'date -u -s @$$(($$(cat /sys/class/rtc/rtc0/since_epoch) + {}))'\n",
            by.clock.0
        );
        units.push((CLOCK.to_owned(), unit));
    }
    units
}

const FILL: &str = "/usr/local/lib/pspd/fill";
const FILL_TEXT: &str = r#"#!/bin/sh
# Fills the file system of a folder with a file without a name, which a process holds until it is ended.
set -eu
fail() { echo "$*" >&2; exit 1; }
tries=0
until mountpoint -q "$1"; do
    tries=$((tries + 1))
    [ $tries -lt 300 ] || fail "$1 is not mounted"
    sleep 0.2
done
exec 3>"$1/.pspd-full"
rm "$1/.pspd-full"
file=/proc/self/fd/3
fallocate -l 4096 $file || fail "the file system of $1 cannot be filled by \`fallocate\`, or is full"
# Blocks that are kept for root are taken, too. Those that the file system keeps for itself are not: it says so by a failure.
set -- $(stat -f -c '%f %S' "$1")
step=$(($1 * $2))
at=0
while [ $step -ge 65536 ]; do
    if fallocate -o $at -l $step $file 2>/dev/null; then at=$((at + step)); else step=$((step / 2)); fi
done
dd if=/dev/zero of=$file bs=4096 oflag=append conv=notrunc 2>/dev/null || :
sleep infinity &
"#;

const FAIL: &str = "/usr/local/lib/pspd/fail";
const FAIL_TEXT: &str = r#"#!/bin/sh
# Shuts the file system of a folder down: each read and write fails then. It is frozen first (0), so that all that was written
# is on its disk.
set -eu
tries=0
until mountpoint -q "$1"; do
    tries=$((tries + 1))
    [ $tries -lt 300 ] || { echo "$1 is not mounted" >&2; exit 1; }
    sleep 0.2
done
exec perl -e '
    my $how = pack "L", 0;
    # Error 5: it is shut down already.
    open F, "<", $ARGV[0] or exit($! == 5 ? 0 : die "$ARGV[0]: $!\n");
    ioctl F, 0x8004587d, $how or die "the file system of $ARGV[0] cannot be shut down: $!\n";
' "$1"
"#;

/// A shell function that mounts the file system of a disk again that was shut down, which takes the end of all that uses it.
const BRING_BACK: &str = r#"bring_back() { # DISK
    find_disk "$1"
    [ -n "$device" ] || return 0
    state=$(systemctl is-active $service) || :
    for user in $service "pspd-full-$1.service"; do
        [ ! -e "$user" ] || systemctl stop "$user"
    done
    if grep -q "^$device " /proc/mounts && ! umount "$device"; then
        echo "something in the guest still uses the disk $1. Run \`pspd restart\` for its domain" >&2
        exit 1
    fi
    for unit in $volumes pspd-volumes.service; do
        [ ! -e "$unit" ] || systemctl restart "$unit"
    done
    # One that a fault stopped stays so.
    [ "$state" != inactive ] || return 0
    systemctl reset-failed $service 2>/dev/null || :
    systemctl start $service || echo "$service does not start" >&2
}
"#;

const BURNER: &str = "/usr/local/lib/pspd/burn";
const BURNER_TEXT: &str = r#"#!/bin/sh
# Burns every processor.
count=$(nproc)
while [ $count -gt 1 ]; do
    (while :; do :; done) &
    count=$((count - 1))
done
while :; do :; done
"#;

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Disturbance {
        let name = |text| Name::new(text).unwrap();
        let full = [("system", "/"), ("data", "/srv/a b$c")];
        Disturbance {
            full: full.map(|(disk, mount)| (name(disk), mount.into())).into(),
            failing: [(name("old"), "/srv/old".into())].into(),
            clock: Offset(-90),
            burn: 80,
        }
    }

    fn script_of(by: &Disturbance) -> String {
        text(&Name::new("web").unwrap(), by)
    }

    /// The scripts are for the guest's `sh`; here another shell reads them without running them.
    #[test]
    fn scripts_are_valid() {
        let scripts = [script_of(&all()), script_of(&Disturbance::default())];
        let kept = [FILL_TEXT, FAIL_TEXT, BURNER_TEXT].map(str::to_owned);
        for script in scripts.into_iter().chain(kept) {
            let status = std::process::Command::new("sh")
                .args(["-n", "-c", &script])
                .status()
                .unwrap();
            assert!(status.success(), "{script}");
        }
    }

    #[test]
    fn each_disturbance_is_a_unit() {
        let units: Vec<String> = units(&all())
            .into_iter()
            .map(|(name, unit)| format!("# {name}\n{unit}"))
            .collect();
        insta::assert_snapshot!(units.join(""), @r#"
        # pspd-full-data.service
        [Unit]
        Description=The disk data is full, a fault that pspd injected
        [Service]
        Type=forking
        TimeoutStartSec=10min
        Restart=on-failure
        ExecStart=/usr/local/lib/pspd/fill "/srv/a b$$c"
        # pspd-full-system.service
        [Unit]
        Description=The disk system is full, a fault that pspd injected
        [Service]
        Type=forking
        TimeoutStartSec=10min
        Restart=on-failure
        ExecStart=/usr/local/lib/pspd/fill "/"
        # pspd-fail-old.service
        [Unit]
        Description=The disk old fails, a fault that pspd injected
        [Service]
        Type=oneshot
        RemainAfterExit=yes
        ExecStart=/usr/local/lib/pspd/fail "/srv/old"
        # pspd-burn.service
        [Unit]
        Description=Burnt processors, a fault that pspd injected
        [Service]
        Restart=always
        CPUQuota=@QUOTA@%
        CPUWeight=1
        ExecStart=/usr/local/lib/pspd/burn
        # pspd-clock.service
        [Unit]
        Description=A clock that is set off, a fault that pspd injected
        [Service]
        Type=oneshot
        RemainAfterExit=yes
        ExecStart=/bin/sh -c 'date -u -s @$$(($$(cat /sys/class/rtc/rtc0/since_epoch) + -90))'
        "#);
    }

    #[test]
    fn the_system_disk_is_filled_last() {
        let text = script_of(&all());
        let at = |unit: &str| text.find(&format!("systemctl start {unit}")).unwrap();
        assert!(at(SYSTEM) > at(BURN) && at(SYSTEM) > at("pspd-full-data.service"));
        assert!(!text.contains(&format!("systemctl start {CLOCK}")));
    }
}
