//! The file systems of a guest's disks: grown, and mounted where no service mounts them.

use pspd_model::spec::VolumeSpec;

use super::{Guest, encode, script, unit};

/// Where the guest keeps the script that its unit runs at each boot.
const MOUNT: &str = "/usr/local/lib/pspd/mount-volumes";
const UNIT: &str = "pspd-volumes.service";
const UNIT_TEXT: &str = "[Unit]\n\
     Description=data volumes, mounted by pspd\n\
     \n\
     [Service]\n\
     Type=oneshot\n\
     RemainAfterExit=yes\n\
     ExecStart=/usr/local/lib/pspd/mount-volumes\n";
/// pspd's own image has this file, and this unit, where its disk is larger than its root file system.
const GROW: &str = "[ ! -e /run/pspd/grow ] || systemctl start grow.service\n";

impl Guest {
    /// Returns when the root file system is as large as its disk, and the volumes are mounted, now and at each boot.
    pub fn file_systems(&self, volumes: &[VolumeSpec]) -> anyhow::Result<()> {
        let what = "grow and mount the file systems";
        self.session.script(what, &text(volumes)).map(drop)
    }
}

fn text(volumes: &[VolumeSpec]) -> String {
    let mut text = format!("set -e\n{}manager\n{GROW}", script::MANAGER);
    if !volumes.is_empty() {
        let mount = unit::mount_volumes(volumes, None);
        let mount = encode::word(&mount);
        let unit = encode::word(UNIT_TEXT);
        text.push_str(&format!(
            "mkdir -p /usr/local/lib/pspd /etc/systemd/system/multi-user.target.wants\n\
             printf %s {mount} >{MOUNT}\n\
             chmod 755 {MOUNT}\n\
             printf %s {unit} >/etc/systemd/system/{UNIT}\n\
             ln -sfn ../{UNIT} /etc/systemd/system/multi-user.target.wants/{UNIT}\n\
             systemctl daemon-reload\n\
             # It may be running. What it cannot do, the script says.\n\
             systemctl start {UNIT} 2>/dev/null || :\n\
             {MOUNT}\n"
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_guest_with_volumes_gets_a_unit_for_them() {
        assert!(!text(&[]).contains(UNIT));
        let text = text(&[volume("data", "/srv/data")]);
        assert!(text.contains("mount_volume data /srv/data"), "{text}");
    }

    #[test]
    fn a_volume_in_another_one_is_mounted_after_it() {
        let volumes = [
            volume("a", "/srv/data/in/it"),
            volume("b", "/srv/data-too"),
            volume("c", "/srv/data"),
        ];
        let text = text(&volumes);
        let at = |line: &str| text.find(line).unwrap();
        assert!(at("mount_volume c /srv/data ") < at("mount_volume a /srv/data/in/it "));
    }

    fn volume(name: &str, mount: &str) -> VolumeSpec {
        VolumeSpec {
            name: pspd_model::spec::Name::new(name).unwrap(),
            size: pspd_model::spec::Size::gib(1),
            mount: mount.into(),
        }
    }
}
