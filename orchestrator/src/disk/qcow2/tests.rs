use std::io;
use std::path::Path;
use std::process::Command;

use super::*;

fn tool(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
}

/// Writes a disk densely, and has QEMU compare the two.
#[track_caller]
fn densely(disk: &Path, backing: Option<&str>) -> u64 {
    let read = Disk::open(disk).unwrap();
    let dense = read.dense(backing).unwrap();
    let mut bytes = Vec::new();
    dense.write(&mut bytes, &|_| ()).unwrap();
    assert_eq!(bytes.len() as u64, dense.length());
    let copy = disk.with_file_name("copy.qcow2");
    std::fs::write(&copy, bytes).unwrap();
    let (disk, copy) = (disk.to_str().unwrap(), copy.to_str().unwrap());
    tool("qemu-img", &["check", "-q", "-f", "qcow2", copy]);
    tool(
        "qemu-img",
        &["compare", "-q", "-f", "qcow2", "-F", "qcow2", disk, copy],
    );
    let copied = Disk::open(Path::new(copy)).unwrap();
    copied.check().unwrap();
    let backing = backing.map(|name| Backing {
        path: name.into(),
        format: Some("qcow2".to_owned()),
    });
    assert_eq!(copied.header.size, read.header.size);
    assert_eq!(copied.header.backing, backing);
    dense.length()
}

#[test]
fn a_dense_copy_is_the_same_disk_and_smaller() {
    let folder = tempfile::tempdir().unwrap();
    let (base, over) = (
        folder.path().join("base.qcow2"),
        folder.path().join("over.qcow2"),
    );
    let (base, over) = (base.to_str().unwrap(), over.to_str().unwrap());
    tool("qemu-img", &["create", "-q", "-f", "qcow2", base, "700M"]);
    tool(
        "qemu-io",
        &[
            "-f",
            "qcow2",
            "-c",
            "write -P 1 0 1M",
            "-c",
            "write -P 2 600M 1M",
            base,
        ],
    );
    densely(Path::new(base), None);
    tool(
        "qemu-img",
        &[
            "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, over, "1G",
        ],
    );
    let write = [
        "write -P 3 300M 8M",
        "discard 301M 6M",
        "write -z 600M 512k",
        "write -P 4 65536 4096",
    ];
    let mut arguments = vec!["-f", "qcow2", "-d", "unmap"];
    for command in &write {
        arguments.extend(["-c", command]);
    }
    arguments.push(over);
    tool("qemu-io", &arguments);
    let length = densely(Path::new(over), Some("base.qcow2"));
    assert!(length < 3 << 20, "{length}");
    assert!(length < std::fs::metadata(over).unwrap().len());
}

#[test]
fn a_disk_of_100_gib_costs_what_is_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk.qcow2");
    let path = disk.to_str().unwrap();
    // Every cluster is allocated, and nearly all of the file is a gap.
    tool(
        "qemu-img",
        &[
            "create",
            "-q",
            "-f",
            "qcow2",
            "-o",
            "preallocation=metadata",
            path,
            "100G",
        ],
    );
    tool("qemu-io", &["-f", "qcow2", "-c", "write -P 5 50G 4M", path]);
    let began = std::time::Instant::now();
    let read = Disk::open(&disk).unwrap();
    let dense = read.dense(None).unwrap();
    assert!(dense.length() < 8 << 20, "{}", dense.length());
    dense.write(&mut io::sink(), &|_| ()).unwrap();
    assert!(began.elapsed().as_secs() < 60, "{:?}", began.elapsed());
}

#[test]
fn a_compressed_disk_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let (raw, disk) = (folder.path().join("raw"), folder.path().join("disk.qcow2"));
    std::fs::write(&raw, vec![7; 1 << 20]).unwrap();
    let (raw, path) = (raw.to_str().unwrap(), disk.to_str().unwrap());
    tool(
        "qemu-img",
        &["convert", "-c", "-f", "raw", "-O", "qcow2", raw, path],
    );
    let read = Disk::open(&disk).unwrap();
    read.check().unwrap();
    let error = read.dense(None).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("qemu-img convert"), "{error}");
}
