use std::io;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use proptest::prelude::*;
use pspd_model::spec::Size;
use tokio_util::sync::CancellationToken;

use super::*;

fn tool(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
}

/// Writes a disk densely, and has QEMU compare the two.
#[track_caller]
fn densely(disk: &Path, backing: Option<&str>) -> u64 {
    let read = Disk::open(disk).unwrap();
    let dense = read.dense(backing, &CancellationToken::new()).unwrap();
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
    copied.check(&CancellationToken::new()).unwrap();
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
    let dense = read.dense(None, &CancellationToken::new()).unwrap();
    assert!(dense.length() < 8 << 20, "{}", dense.length());
    dense.write(&mut io::sink(), &|_| ()).unwrap();
    assert!(began.elapsed().as_secs() < 60, "{:?}", began.elapsed());
}

#[test]
fn a_dense_copy_of_a_compressed_disk_is_not_compressed() {
    let folder = tempfile::tempdir().unwrap();
    let (raw, disk) = (folder.path().join("raw"), folder.path().join("disk.qcow2"));
    // Bytes that repeat, bytes that hardly do, and zeros.
    let noise = (0..3u32 << 20).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8);
    let bytes: Vec<u8> = std::iter::repeat_n(7, 3 << 20).chain(noise).collect();
    std::fs::write(&raw, [bytes, vec![0; 3 << 20]].concat()).unwrap();
    let (raw, path) = (raw.to_str().unwrap(), disk.to_str().unwrap());
    for options in [
        "cluster_size=4k",
        "cluster_size=64k",
        "cluster_size=2M",
        "compression_type=zstd",
        "compression_type=zstd,cluster_size=2M",
        "compat=0.10",
    ] {
        tool(
            "qemu-img",
            &[
                "convert", "-c", "-o", options, "-f", "raw", "-O", "qcow2", raw, path,
            ],
        );
        checked(&disk).unwrap();
        let length = densely(&disk, None);
        assert!(length > 6 << 20, "{options}: {length}");
    }
}

/// Damaged bytes are an error, and take no more memory than a cluster.
#[test]
fn a_damaged_compressed_cluster_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let (raw, disk) = (folder.path().join("raw"), folder.path().join("disk.qcow2"));
    std::fs::write(&raw, vec![7; 1 << 20]).unwrap();
    let (raw, path) = (raw.to_str().unwrap(), disk.to_str().unwrap());
    for options in ["compression_type=zlib", "compression_type=zstd"] {
        tool(
            "qemu-img",
            &[
                "convert", "-c", "-o", options, "-f", "raw", "-O", "qcow2", raw, path,
            ],
        );
        let mut bytes = std::fs::read(&disk).unwrap();
        let word = |at: usize| number(&bytes, at, 8);
        let entry = word((word(word(40) as usize) & OFFSET) as usize);
        // Clusters of 64 KiB leave 54 bits for the offset.
        let at = (entry & ((1 << 54) - 1)) as usize;
        bytes[at..at + 8].fill(0xff);
        std::fs::write(&disk, bytes).unwrap();
        let read = Disk::open(&disk).unwrap();
        let dense = read.dense(None, &CancellationToken::new()).unwrap();
        let error = dense.write(&mut io::sink(), &|_| ()).unwrap_err();
        let error = format!("{error:#}");
        assert!(error.starts_with("failed to read `"), "{options}: {error}");
    }
}

fn created(path: &Path, options: &str, size: &str) {
    let path = path.to_str().unwrap();
    tool(
        "qemu-img",
        &["create", "-q", "-f", "qcow2", "-o", options, path, size],
    );
}

fn checked(path: &Path) -> Result<()> {
    Disk::open(path)?.check(&CancellationToken::new())
}

/// What qemu-img makes passes, with any clusters and counts.
#[test]
fn what_qemu_makes_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk.qcow2");
    let path = disk.to_str().unwrap();
    for options in [
        "compat=0.10",
        "compat=1.1",
        "cluster_size=512",
        "cluster_size=2M",
        "refcount_bits=1",
        "refcount_bits=4",
        "refcount_bits=64",
        "preallocation=metadata",
        "preallocation=full",
        "lazy_refcounts=on",
    ] {
        created(&disk, options, "8M");
        let commands = [
            "write -P 1 0 1M",
            "write -z 2M 1M",
            "write -P 3 7M 64k",
            "discard 0 256k",
        ];
        for command in commands {
            tool(
                "qemu-io",
                &["-f", "qcow2", "-d", "unmap", "-c", command, path],
            );
        }
        checked(&disk).unwrap_or_else(|error| panic!("{options}: {error:#}"));
        tool("qemu-img", &["resize", "-q", "-f", "qcow2", path, "300M"]);
        checked(&disk).unwrap_or_else(|error| panic!("{options}, grown: {error:#}"));
        std::fs::remove_file(&disk).unwrap();
    }
    let raw = folder.path().join("raw");
    let noise: Vec<u8> = (0..3u32 << 20)
        .map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    std::fs::write(&raw, noise).unwrap();
    for cluster in ["cluster_size=4k", "cluster_size=64k"] {
        tool(
            "qemu-img",
            &[
                "convert",
                "-c",
                "-o",
                cluster,
                "-f",
                "raw",
                "-O",
                "qcow2",
                raw.to_str().unwrap(),
                path,
            ],
        );
        checked(&disk).unwrap_or_else(|error| panic!("compressed, {cluster}: {error:#}"));
    }
}

/// Changes a good disk: 64 KiB clusters, its header, refcount table, one block, L1 table, one L2 table, one cluster.
#[test]
fn what_a_disk_says_of_itself_is_compared() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk.qcow2");
    let path = disk.to_str().unwrap();
    created(&disk, "compat=1.1", "2G");
    tool("qemu-io", &["-f", "qcow2", "-c", "write -P 1 0 128k", path]);
    checked(&disk).unwrap();
    let good = std::fs::read(&disk).unwrap();
    let at = |offset: usize| number(&good, offset, 8) as usize;
    let (l1, table) = (at(40), at(48));
    let (l2, block) = (at(l1) & OFFSET as usize, at(table));
    let (first, second) = (number(&good, l2, 8), number(&good, l2 + 8, 8));
    let place = |offset: usize, value: u64| (offset, value.to_be_bytes().to_vec());
    let end = good.len() as u64;
    let cases = [
        (
            "an L2 table twice",
            vec![place(l1 + 8, number(&good, l1, 8))],
            "where another part",
        ),
        (
            "a cluster twice",
            vec![place(l2 + 8, first)],
            "where another part",
        ),
        ("a cluster that is lost", vec![place(l2, COPIED)], ""),
        (
            "a cluster in the L1 table",
            vec![place(l2, l1 as u64 | COPIED)],
            "where another part",
        ),
        (
            "a table as a cluster",
            vec![place(l2, l2 as u64 | COPIED)],
            "where another part",
        ),
        (
            "a cluster reserved beyond the end",
            vec![place(l2, ((end + 65536) & OFFSET) | ZERO)],
            "beyond the end",
        ),
        (
            "a cluster that is not counted",
            vec![(block + 10, vec![0, 0])],
            "counted 0 times",
        ),
        (
            "a cluster that is counted twice",
            vec![(block + 10, vec![0, 2])],
            "counted 2 times",
        ),
        (
            "no refcount block",
            vec![place(table, 0)],
            "counted 0 times",
        ),
        (
            "a refcount block elsewhere",
            vec![place(table, second & OFFSET)],
            "where another part",
        ),
        (
            "a refcount block beyond the end",
            vec![place(table, (end + 65536) & OFFSET)],
            "beyond the end",
        ),
        (
            "an unaligned refcount block",
            vec![place(table, block as u64 + 512)],
            "inside another cluster",
        ),
        (
            "reserved bits in the refcount table",
            vec![place(table, block as u64 | 1)],
            "the refcount table has an entry with reserved bits (0x1)",
        ),
        (
            "reserved bits in the L1 table",
            vec![place(l1, l2 as u64 | COPIED | 1 << 56)],
            "the L1 table has an entry with reserved bits (0x100000000000000)",
        ),
        (
            "reserved bits in an L2 table",
            vec![place(l2, first | 1 << 4)],
            "an L2 table has an entry with reserved bits (0x10)",
        ),
        (
            "a refcount table beyond the end",
            vec![place(48, end.next_multiple_of(65536) + 65536)],
            "beyond the end",
        ),
        (
            "an unaligned refcount table",
            vec![place(48, table as u64 + 8)],
            "inside another cluster",
        ),
        ("no refcount table", vec![(56, vec![0; 4])], "0 clusters"),
        (
            "an endless refcount table",
            vec![(56, vec![0xff; 4])],
            "4294967295 clusters",
        ),
        ("unknown counts", vec![(96, vec![0, 0, 0, 9])], "2^9 bits"),
        (
            "an unaligned L1 table",
            vec![place(40, l1 as u64 + 512)],
            "inside a cluster",
        ),
        (
            "an internal snapshot",
            vec![(60, vec![0, 0, 0, 1])],
            "1 internal snapshots",
        ),
    ];
    for (what, changes, says) in cases {
        let mut bytes = good.clone();
        for (at, change) in changes {
            bytes[at..at + change.len()].copy_from_slice(&change);
        }
        std::fs::write(&disk, bytes).unwrap();
        match (checked(&disk), says) {
            (Ok(()), "") => {}
            (Err(error), says) if !says.is_empty() && format!("{error:#}").contains(says) => {}
            (result, _) => panic!("{what}: {result:?}"),
        }
    }
}

#[test]
fn many_entries_of_one_table_are_refused_at_the_second() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk.qcow2");
    created(&disk, "compat=1.1,preallocation=metadata", "512M");
    let mut bytes = std::fs::read(&disk).unwrap();
    let entry = number(&bytes, number(&bytes, 40, 8) as usize, 8);
    let l1 = bytes.len().next_multiple_of(65536);
    bytes.resize(l1, 0);
    for _ in 0..4 << 20 {
        bytes.extend(entry.to_be_bytes());
    }
    bytes[36..40].copy_from_slice(&(4u32 << 20).to_be_bytes());
    bytes[40..48].copy_from_slice(&(l1 as u64).to_be_bytes());
    std::fs::write(&disk, bytes).unwrap();
    let error = format!("{:#}", checked(&disk).unwrap_err());
    assert!(
        error.contains("where another part of the disk is"),
        "{error}"
    );
    let cancel = CancellationToken::new();
    cancel.cancel();
    let error = Disk::open(&disk).unwrap().check(&cancel).unwrap_err();
    assert!(
        crate::cancelled::Cancelled::is_cause_of(&error),
        "{error:#}"
    );
}

/// What an import demands of a disk, and its manifest says.
fn imports(path: &Path, size: Size, backing: &Option<Backing>) -> bool {
    Disk::open(path).is_ok_and(|disk| {
        (disk.header.size, &disk.header.backing) == (size, backing)
            && disk.check(&CancellationToken::new()).is_ok()
    })
}

/// One byte of a disk: which disk, where in its first cluster, and the bits that change.
fn any_change() -> impl Strategy<Value = (usize, usize, u8)> {
    let place = prop_oneof![4 => 4..128usize, 2 => 128..512usize, 1 => 512..(64usize << 10)];
    let bits = prop_oneof![(0..8u32).prop_map(|bit| 1 << bit), 1..=255u8];
    (0..4usize, place, bits)
}

/// Disks of both versions, of small clusters, and over an image; as qemu-img writes them.
fn some_disks(folder: &Path) -> Vec<(Vec<u8>, Size, Option<Backing>)> {
    let (base, disk) = (folder.join("base.qcow2"), folder.join("disk.qcow2"));
    created(&base, "compat=1.1", "8M");
    let over = format!(
        "compat=1.1,backing_file={},backing_fmt=qcow2",
        base.display()
    );
    let options = ["compat=0.10", "compat=1.1", "cluster_size=512", &over];
    let disks = options.map(|options| {
        created(&disk, options, "8M");
        let path = disk.to_str().unwrap();
        tool("qemu-io", &["-f", "qcow2", "-c", "write -P 1 0 128k", path]);
        let header = Header::open(&disk).unwrap();
        assert!(imports(&disk, header.size, &header.backing), "{options}");
        (std::fs::read(&disk).unwrap(), header.size, header.backing)
    });
    disks.into()
}

/// Whatever one byte of the first cluster becomes: a disk that is accepted is one that QEMU opens, finds no error in, and gives
/// another backing file.
#[test]
fn what_is_accepted_is_accepted_by_qemu() {
    let folder = tempfile::tempdir().unwrap();
    let disks = some_disks(folder.path());
    let disk = folder.path().join("disk.qcow2");
    let path = disk.to_str().unwrap();
    // Each accepted case takes two runs of qemu-img.
    proptest!(ProptestConfig::with_cases(256), |((which, at, bits) in any_change())| {
        let (good, size, backing) = &disks[which];
        let mut bytes = good.clone();
        let cluster = 1 << number(&bytes, 20, 4);
        bytes[at % cluster] ^= bits;
        std::fs::write(&disk, bytes).unwrap();
        if imports(&disk, *size, backing) {
            let check = ["check", "-q", "-f", "qcow2", path];
            let rebase = ["rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", "/cache/base", path];
            for arguments in [&check[..], &rebase[..]] {
                let ran = Command::new("qemu-img").args(arguments).output().unwrap();
                // Clusters that are only lost are no error.
                let fine = ran.status.success() || (arguments == check && ran.status.code() == Some(3));
                prop_assert!(fine, "{ran:?}");
            }
        }
    });
}
