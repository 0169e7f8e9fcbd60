use std::path::PathBuf;

use pspd_model::definition::{DirectKernel, Ownership};
use pspd_model::spec::{Digest, Mac, Name, Range};

use super::super::{DiskFormat, DomainDescription, FwCfg, NetworkDescription};
use super::*;

fn ownership() -> Ownership {
    Ownership {
        deployment: Name::new("reference").unwrap(),
        digest: Digest::of(b"spec"),
    }
}

fn domain() -> DomainConfig {
    let disk = |path: &str, serial: &str| Disk {
        path: PathBuf::from(path),
        format: DiskFormat::Qcow2,
        serial: serial.to_owned(),
        read_only: false,
    };
    DomainConfig {
        name: Name::new("ai-server").unwrap(),
        ownership: ownership(),
        accelerator: Accelerator::Tcg,
        machine: Machine::Pc,
        firmware: Loader::Seabios,
        kernel: None,
        memory: Range {
            current: Size::mib(512),
            maximum: Size::gib(2),
        },
        vcpus: Range {
            current: 1,
            maximum: 2,
        },
        disks: vec![
            disk("/d/<system>.qcow2", "system"),
            disk("/d/data.qcow2", "data"),
        ],
        interfaces: vec![Interface {
            network: "reference".to_owned(),
            mac: Mac([0x52, 0x54, 0, 1, 2, 3]),
        }],
        oem_strings: vec!["a=<b>&c".to_owned()],
        fw_cfg: vec![FwCfg {
            name: "opt/pspd/key".to_owned(),
            file: PathBuf::from("/k/<key>"),
        }],
        serial_log: PathBuf::from("/d/serial.log"),
        firmware_log: PathBuf::from("/d/firmware.log"),
    }
}

fn network() -> NetworkDefinition {
    NetworkDefinition {
        name: "reference".to_owned(),
        ownership: ownership(),
        cidr: "10.77.0.0/24".parse().unwrap(),
        gateway: "10.77.0.1".parse().unwrap(),
        domain: "pspd.internal".to_owned(),
        hosts: vec![NetworkHost {
            name: Name::new("ai-server").unwrap(),
            mac: Mac([0x52, 0x54, 0, 1, 2, 3]),
            address: "10.77.0.11".parse().unwrap(),
        }],
    }
}

#[test]
fn a_domain_can_boot_from_disk() {
    insta::assert_snapshot!(domain().to_xml(), @r#"
    <domain type="qemu">
      <name>ai-server</name>
      <uuid>b8931d6e-3adb-5efd-95d2-bf8f472d5bab</uuid>
      <metadata>
        <pspd:deployment xmlns:pspd="urn:pspd:ownership:1" name="reference" digest="d4f02eaafd1a9e9de7d10972ca8e47fa7a985825c3c9c1e249c72683cb3e4f19"/>
      </metadata>
      <genid/>
      <memory unit="KiB">2097152</memory>
      <currentMemory unit="KiB">524288</currentMemory>
      <vcpu current="1">2</vcpu>
      <sysinfo type="smbios">
        <oemStrings>
          <entry>a=&lt;b&gt;&amp;c</entry>
        </oemStrings>
      </sysinfo>
      <sysinfo type="fwcfg">
        <entry name="opt/pspd/key" file="/k/&lt;key&gt;"/>
      </sysinfo>
      <os>
        <type arch="x86_64" machine="pc">hvm</type>
        <smbios mode="sysinfo"/>
      </os>
      <features>
        <acpi/>
        <apic/>
      </features>
      <cpu mode="maximum"/>
      <clock offset="utc"/>
      <on_poweroff>destroy</on_poweroff>
      <on_reboot>restart</on_reboot>
      <on_crash>preserve</on_crash>
      <devices>
        <disk type="file" device="disk">
          <driver name="qemu" type="qcow2" cache="writeback" discard="unmap" detect_zeroes="unmap"/>
          <source file="/d/&lt;system&gt;.qcow2"/>
          <target dev="vda" bus="virtio"/>
          <serial>system</serial>
          <boot order="1"/>
        </disk>
        <disk type="file" device="disk">
          <driver name="qemu" type="qcow2" cache="writeback" discard="unmap" detect_zeroes="unmap"/>
          <source file="/d/data.qcow2"/>
          <target dev="vdb" bus="virtio"/>
          <serial>data</serial>
        </disk>
        <controller type="usb" model="none"/>
        <interface type="network">
          <mac address="52:54:00:01:02:03"/>
          <source network="reference"/>
          <model type="virtio"/>
          <rom enabled="no"/>
        </interface>
        <serial type="pty">
          <log file="/d/serial.log" append="on"/>
          <target type="isa-serial" port="0"/>
        </serial>
        <console type="pty">
          <target type="serial" port="0"/>
        </console>
        <serial type="file">
          <source path="/d/firmware.log" append="off"/>
          <target type="isa-debug" port="1">
            <model name="isa-debugcon"/>
          </target>
          <address type="isa" iobase="0x402"/>
        </serial>
        <memballoon model="virtio" freePageReporting="on"/>
        <rng model="virtio">
          <backend model="random">/dev/urandom</backend>
        </rng>
        <panic model="isa"/>
      </devices>
    </domain>
    "#);
}

#[test]
fn a_domain_of_rom_and_kernel() {
    let definition = DomainConfig {
        accelerator: Accelerator::Kvm,
        machine: Machine::Q35,
        firmware: Loader::Rom {
            path: PathBuf::from("/roms/q35.rom"),
        },
        kernel: Some(DirectKernel {
            kernel: PathBuf::from("/k/vmlinuz"),
            initrd: None,
            cmdline: "console=ttyS0 a=\"b\"".to_owned(),
        }),
        disks: Vec::new(),
        oem_strings: Vec::new(),
        fw_cfg: Vec::new(),
        ..domain()
    };
    let xml = definition.to_xml();
    let (head, _) = xml.split_once("<features>").unwrap();
    insta::assert_snapshot!(head, @r#"
    <domain type="kvm">
      <name>ai-server</name>
      <uuid>b8931d6e-3adb-5efd-95d2-bf8f472d5bab</uuid>
      <metadata>
        <pspd:deployment xmlns:pspd="urn:pspd:ownership:1" name="reference" digest="d4f02eaafd1a9e9de7d10972ca8e47fa7a985825c3c9c1e249c72683cb3e4f19"/>
      </metadata>
      <genid/>
      <memory unit="KiB">2097152</memory>
      <currentMemory unit="KiB">524288</currentMemory>
      <vcpu current="1">2</vcpu>
      <os>
        <type arch="x86_64" machine="q35">hvm</type>
        <loader readonly="yes" type="rom">/roms/q35.rom</loader>
        <kernel>/k/vmlinuz</kernel>
        <cmdline>console=ttyS0 a=&quot;b&quot;</cmdline>
      </os>
    "#);
}

#[test]
fn on_q35_devices_are_on_the_root_bus() {
    let definition = DomainConfig {
        machine: Machine::Q35,
        ..domain()
    };
    let xml = definition.to_xml();
    let slots: Vec<_> = xml
        .match_indices("slot=\"")
        .map(|(at, name)| &xml[at + name.len()..][..4])
        .collect();
    // Two disks, the interface, the balloon and the random number generator.
    assert_eq!(slots, ["0x02", "0x03", "0x04", "0x05", "0x06"]);
    assert!(!domain().to_xml().contains("slot="));
}

#[test]
fn a_network() {
    insta::assert_snapshot!(network_xml(&network()), @r#"
    <network>
      <name>reference</name>
      <uuid>ab315678-455f-51e7-8643-7642682741d6</uuid>
      <metadata>
        <pspd:deployment xmlns:pspd="urn:pspd:ownership:1" name="reference" digest="d4f02eaafd1a9e9de7d10972ca8e47fa7a985825c3c9c1e249c72683cb3e4f19"/>
      </metadata>
      <forward mode="nat"/>
      <bridge stp="off" delay="0"/>
      <domain name="pspd.internal" localOnly="yes"/>
      <dns forwardPlainNames="no">
        <txt name="pspd-ownership" value="reference/d4f02eaafd1a9e9de7d10972ca8e47fa7a985825c3c9c1e249c72683cb3e4f19"/>
        <host ip="10.77.0.11">
          <hostname>ai-server</hostname>
          <hostname>ai-server.pspd.internal</hostname>
        </host>
      </dns>
      <ip address="10.77.0.1" netmask="255.255.255.0">
        <dhcp>
          <host mac="52:54:00:01:02:03" name="ai-server" ip="10.77.0.11"/>
        </dhcp>
      </ip>
    </network>
    "#);
}

#[test]
fn a_rendered_definition_can_be_read_back() {
    let definition = domain();
    let described = DomainDescription::from_xml(&definition.to_xml()).unwrap();
    assert_eq!(described.uuid, definition.uuid());
    assert_eq!(described.ownership, Some(definition.ownership));
    assert_eq!(
        (described.memory, described.vcpus),
        (definition.memory, definition.vcpus)
    );
    let paths: Vec<_> = described
        .disks
        .into_iter()
        .filter_map(|disk| disk.path)
        .collect();
    assert_eq!(
        paths,
        definition
            .disks
            .into_iter()
            .map(|disk| disk.path)
            .collect::<Vec<_>>()
    );
    assert_eq!(described.serial_log, Some(definition.serial_log));

    let definition = network();
    let described = NetworkDescription::from_xml(&network_xml(&definition)).unwrap();
    assert_eq!(described.hosts, definition.hosts);
    assert_eq!(described.ownership, Some(definition.ownership));
}

/// Snapshots and records of disks leave these out.
#[test]
fn a_read_only_disk_is_read_back_as_one() {
    let mut definition = domain();
    definition.disks.push(Disk {
        path: PathBuf::from("/d/release.raw"),
        format: DiskFormat::Raw,
        serial: "pspd-release".to_owned(),
        read_only: true,
    });
    let described = DomainDescription::from_xml(&definition.to_xml()).unwrap();
    let disks = described.disks.into_iter();
    let disks: Vec<_> = disks.map(|disk| (disk.serial, disk.read_only)).collect();
    let disk = |serial: &str, read_only| (Some(serial.to_owned()), read_only);
    let expected = [
        disk("system", false),
        disk("data", false),
        disk("pspd-release", true),
    ];
    assert_eq!(disks, expected);
}

/// libvirt before 9.7 drops a network's metadata.
#[test]
fn a_network_without_metadata_is_still_owned() {
    let xml = network_xml(&network());
    let (head, rest) = xml.split_once("<metadata>").unwrap();
    let (_, tail) = rest.split_once("</metadata>").unwrap();
    assert_eq!(ownership::find(&format!("{head}{tail}")), Some(ownership()));
}

#[test]
fn a_mark_in_another_namespace_or_element_is_ignored() {
    let xml = domain().to_xml();
    assert_eq!(
        ownership::find(&xml.replace("urn:pspd:", "urn:other:")),
        None
    );
    assert_eq!(ownership::find(&xml.replace("metadata>", "devices>")), None);
}

#[test]
fn disk_targets_are_named_as_in_the_kernel() {
    assert_eq!(
        [0, 25, 26, 701, 702].map(target),
        ["vda", "vdz", "vdaa", "vdzz", "vdaaa"]
    );
}
