//! The archive's README: how to use it with tar and virsh alone.

use std::fmt::Write as _;

use pspd_model::definition::Accelerator;
use pspd_model::plan::Order;
use pspd_model::spec::Spec;

use super::item::Item;
use super::manifest::Content;
use super::portable::xml_file;
use super::{FOLDER, IMAGES};

pub(super) struct Readme<'a> {
    pub spec: &'a Spec,
    pub accelerator: Accelerator,
    /// Whether the archive has private keys.
    pub with_secrets: bool,
}

impl Readme<'_> {
    /// The text, for an archive of `items`.
    pub(super) fn text(&self, items: &[Item]) -> String {
        let spec = self.spec;
        let needed = |item: &&Item| match &item.content {
            Content::Image { .. } | Content::System { .. } | Content::Volume { .. } => true,
            Content::File { .. } => item.name.as_str().ends_with(".rom"),
            Content::Secret { .. } => item.name.as_str().ends_with(".hostkey"),
            Content::Plain {} | Content::Folder {} => false,
        };
        let files: Vec<&str> = items
            .iter()
            .filter(needed)
            .map(|item| item.name.as_str())
            .collect();
        let files = files.join(" ");
        let network = &spec.network.name;
        let mut text = format!(
            "The deployment `{name}`, exported by pspd {version}.\n\
         \n\
         With pspd:    pspd import FILE\n\
         \n\
         With tar and virsh alone, as root, beside this folder:\n\
         \n\
         cd {FOLDER} && cp {files} {IMAGES}/ && cd ..\n\
         (cd {IMAGES} && chmod 640 {files})\n\
         (cd {IMAGES} && chown libvirt-qemu:kvm {files})\n\
         virsh net-define {FOLDER}/network.xml\n\
         virsh net-start {network}\n\
         virsh net-autostart {network}\n",
            name = spec.name,
            version = env!("CARGO_PKG_VERSION"),
        );
        for domain in spec.domains.keys() {
            let _ = writeln!(text, "virsh define {FOLDER}/{}", xml_file(domain));
        }
        for domain in Order::of(spec).dependencies_first {
            let _ = writeln!(text, "virsh start {}", domain.name);
        }
        text.push_str(
        "\nThe hypervisor's user is libvirt-qemu:kvm on Debian and Ubuntu, qemu:qemu on Fedora, root on others.\n\
         Overlays name their base without a folder: keep the disks together.\n",
    );
        text.push_str(match self.accelerator {
        Accelerator::Tcg => "The domains are emulated (TCG). On a host with KVM, before `virsh define`:\n\
             sed -i -e 's/type=\"qemu\">/type=\"kvm\">/' -e 's/cpu mode=\"maximum\"/cpu mode=\"host-passthrough\"/' vm-export/*.xml\n",
        Accelerator::Kvm => "The domains use KVM. On a host without it, before `virsh define`:\n\
             sed -i -e 's/domain type=\"kvm\"/domain type=\"qemu\"/' -e 's/cpu mode=\"host-passthrough\"/cpu mode=\"maximum\"/' vm-export/*.xml\n",
    });
        text.push_str(match self.with_secrets {
        true => "The archive contains the deployment's private keys: do not share it. Services accept clients that have secret.client;\n\
             their certificates expire within 30 days of the export, and `pspd import` creates new ones.\n",
        false => "The archive contains no private keys: those of services are blanked on their disks, and a guest that is started\n\
             manually has no SSH server. Services that need keys start after `pspd import`, which creates new ones, or manually\n\
             from an archive that was exported with `--with-secrets`.\n",
    });
        text
    }
}
