use std::fs::File;
use std::io;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use tokio_util::sync::CancellationToken;

use super::*;
use crate::cancelled::Cancelled;

fn read(folder: &Path) -> Result<Index> {
    super::read(folder, &CancellationToken::new())
}

fn refused(folder: &Path) -> String {
    format!("{:#}", read(folder).unwrap_err())
}

#[test]
fn what_cannot_be_pushed_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let _socket = UnixListener::bind(at("socket")).unwrap();
    let error = refused(folder.path());
    assert!(error.contains("socket` is a socket"), "{error}");
    fs::remove_file(at("socket")).unwrap();
    for target in ["/etc/passwd", "../x", "a/../../x"] {
        symlink(target, at("link")).unwrap();
        let error = refused(folder.path());
        assert!(error.contains("link` leads to `"), "{error}");
        fs::remove_file(at("link")).unwrap();
    }
    fs::write(at("a\nb"), "").unwrap();
    let error = refused(folder.path());
    assert!(error.contains("control characters"), "{error}");
    fs::remove_file(at("a\nb")).unwrap();
    let file = File::create(at("large")).unwrap();
    file.set_len(LARGEST.0 + 1).unwrap();
    let error = refused(folder.path());
    assert!(error.contains("more than 4 GiB"), "{error}");
    fs::remove_file(at("large")).unwrap();
    // Links that lead to each other are links like others.
    symlink("b", at("a")).unwrap();
    symlink("a", at("b")).unwrap();
    symlink(".", at("itself")).unwrap();
    assert_eq!(read(folder.path()).unwrap().entries.len(), 3);
}

#[test]
fn a_file_that_changes_while_it_is_packed_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    for later in ["longer than before", "s", "SAME"] {
        fs::write(&file, "same").unwrap();
        let index = read(folder.path()).unwrap();
        fs::write(&file, later).unwrap();
        let pack = Pack {
            folder: folder.path(),
            index: &index,
            base: None,
        };
        let error = pack.write(&mut Vec::new(), &CancellationToken::new());
        let error = format!("{:#}", error.unwrap_err());
        assert!(error.contains("changed while it was read"), "{error}");
    }
}

#[test]
fn an_index_is_read_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("a b/c")).unwrap();
    fs::write(folder.path().join("a b/d e"), "text").unwrap();
    symlink("a b/d e", folder.path().join("f g")).unwrap();
    let index = read(folder.path()).unwrap();
    assert_eq!(Index::parse(&index.text()), Some(index.clone()));
    assert_eq!(index.file("a b/d e"), Some(0o644));
    assert_eq!(index.file("a b/c"), None);
    assert_eq!(Index::parse("x y\n"), None);
}

/// A directory with names and targets that are longer than a tar's header has room for.
fn long() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let name = "n".repeat(200);
    fs::create_dir_all(folder.path().join(&name).join("deep")).unwrap();
    fs::write(folder.path().join(&name).join("deep/file"), "text").unwrap();
    symlink(format!("{name}/deep/file"), folder.path().join("link")).unwrap();
    folder
}

fn tar(folder: &Path) -> Vec<u8> {
    let mut tar = Vec::new();
    write_all(folder, &mut tar, &CancellationToken::new()).unwrap();
    tar
}

#[test]
fn a_tar_becomes_the_directory_again() {
    let (folder, cancel) = (long(), CancellationToken::new());
    let tar = tar(folder.path());
    check(&tar[..], &cancel).unwrap();
    let to = tempfile::tempdir().unwrap();
    let again = to.path().join("again");
    unpack(&tar[..], &again, &cancel).unwrap();
    assert_eq!(read(&again).unwrap(), read(folder.path()).unwrap());
}

#[test]
fn a_tar_that_leads_outside_is_refused_and_writes_nothing_there() {
    let cancel = CancellationToken::new();
    let crafted = |make: &dyn Fn(&mut tar::Builder<&mut Vec<u8>>)| {
        let mut bytes = Vec::new();
        let mut builder = tar::Builder::new(&mut bytes);
        make(&mut builder);
        builder.finish().unwrap();
        drop(builder);
        bytes
    };
    let header = |kind: tar::EntryType, size: u64| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(size);
        header
    };
    // The crate checks paths itself, so the bytes of the name are set.
    let named = |name: &str, kind: tar::EntryType, content: &str| {
        crafted(&|builder| {
            let mut header = header(kind, content.len() as u64);
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            builder.append(&header, content.as_bytes()).unwrap();
        })
    };
    let link = |target: &str| {
        crafted(&|builder| {
            let mut header = header(tar::EntryType::Symlink, 0);
            header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
            header.as_old_mut().name[..4].copy_from_slice(b"link");
            header.set_cksum();
            builder.append(&header, &[][..]).unwrap();
            let below = header_of("link/file");
            builder.append(&below, &[][..]).unwrap();
        })
    };
    let long_name = "x".repeat(5000);
    for (tar, reason) in [
        (
            named("../out", tar::EntryType::Regular, "x"),
            "is not a path",
        ),
        (named("/out", tar::EntryType::Regular, "x"), "is not a path"),
        (
            named("a/out", tar::EntryType::Regular, "x"),
            "is in no directory",
        ),
        (named("dev", tar::EntryType::Char, ""), "is not a file"),
        (named("hard", tar::EntryType::Link, ""), "is not a file"),
        (named("pax", tar::EntryType::XHeader, "x"), "is not a file"),
        (link(".."), "leads to `..`"),
        (link("/etc"), "leads to `/etc`"),
        // What is below a link is in no directory.
        (link("."), "is in no directory"),
        (
            named("././@LongLink", tar::EntryType::GNULongName, &long_name),
            "more than 4096 bytes",
        ),
        (
            named("././@LongLink", tar::EntryType::GNULongName, "x"),
            "the end is missing",
        ),
    ] {
        let error = format!("{:#}", check(&tar[..], &cancel).unwrap_err());
        assert!(error.contains(reason), "{reason}: {error}");
        let folder = tempfile::tempdir().unwrap();
        unpack(&tar[..], &folder.path().join("in"), &cancel).unwrap_err();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}

/// It would take more memory than reading an archive may.
#[test]
fn a_tar_of_long_paths_is_refused_before_they_fill_the_memory() {
    let mut tar = tar::Builder::new(Vec::new());
    let long = "x".repeat(4000);
    for number in 0..9000 {
        let mut header = header_of("short");
        let path = format!("{number}{long}");
        tar.append_data(&mut header, path, &[][..]).unwrap();
    }
    let tar = tar.into_inner().unwrap();
    let error = check(&tar[..], &CancellationToken::new()).unwrap_err();
    let error = format!("{error:#}");
    assert!(error.contains("more than 32 MiB of paths"), "{error}");
}

fn header_of(name: &str) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_path(name).unwrap();
    header.set_size(0);
    header.set_mode(0o644);
    header.set_cksum();
    header
}

/// A long file's bytes, after some of which the run is cancelled.
struct Long {
    head: io::Cursor<Vec<u8>>,
    read: u64,
    cancel: CancellationToken,
}

impl io::Read for Long {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = match self.head.read(buffer)? {
            0 => buffer.len(),
            count => count,
        };
        self.read += count as u64;
        if self.read > 1 << 20 {
            self.cancel.cancel();
        }
        Ok(count)
    }
}

#[test]
fn a_cancelled_check_ends_within_a_long_file() {
    let mut header = tar::Header::new_gnu();
    header.set_path("long").unwrap();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o644);
    header.set_size(1 << 30);
    header.set_cksum();
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("in");
    for folder in [None, Some(&into)] {
        let cancel = CancellationToken::new();
        let mut long = Long {
            head: io::Cursor::new(header.as_bytes().to_vec()),
            read: 0,
            cancel: cancel.clone(),
        };
        let error = match folder {
            None => check(&mut long, &cancel),
            Some(folder) => unpack(&mut long, folder, &cancel),
        };
        let error = error.unwrap_err();
        assert!(Cancelled::is_cause_of(&error), "{error:#}");
        assert!(long.read < 8 << 20, "{} bytes were read", long.read);
    }
}
