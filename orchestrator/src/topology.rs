//! Reads topology files. What their text means is [`pspd_model::topology`]'s.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use pspd_model::spec::{Name, Spec};
use pspd_model::topology::{self, Faults, Found, Host, LARGEST, parse_on};
use rustix::fs::{Mode, OFlags};

/// Reads and validates a topology file. Its paths are relative to its directory.
pub fn load(path: &Path) -> Result<Spec, Faults> {
    load_with(path, Found::Nothing)
}

/// Like [`load`], but accepts files that do not exist yet: images can be built before the services are compiled.
pub fn load_before_build(path: &Path) -> Result<Spec, Faults> {
    load_with(path, Found::File)
}

/// `missing` is what a path without a file counts as.
fn load_with(path: &Path, missing: Found) -> Result<Spec, Faults> {
    let of_file = |message: String| Faults::of_file(path, message);
    let text = read_text(path, START).map_err(of_file)?;
    let path = std::path::absolute(path).map_err(|error| of_file(error.to_string()))?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    if folder.to_str().is_none() {
        let message = "the path of its directory is not UTF-8. Rename the directory".to_owned();
        return Err(Faults::of_file(&path, message));
    }
    parse_on(&text, folder, &Files { missing })
        .map_err(|faults| Faults::in_text(&path, &text, faults))
}

/// The files of this host.
struct Files {
    /// What a path without a file counts as.
    missing: Found,
}

impl Host for Files {
    fn look(&self, path: &Path) -> Found {
        match look(path) {
            Found::Nothing => self.missing,
            found => found,
        }
    }

    fn read(&self, path: &Path) -> Result<String, String> {
        if self.missing == Found::File && look(path) == Found::Nothing {
            return Ok(String::new());
        }
        read_text(path, "")
    }
}

/// What is at a path of this host.
pub fn look(path: &Path) -> Found {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Found::Folder,
        Ok(metadata) if metadata.is_file() => Found::File,
        Ok(_) => Found::Other,
        Err(_) => Found::Nothing,
    }
}

/// Reads only the name in a topology file: the files that it names may be gone.
pub fn name(path: &Path) -> Option<Name> {
    topology::name(&read_text(path, START).ok()?)
}

/// What to do about a file that does not exist.
const START: &str = "Run `pspd init` to create a topology";

/// Reads a small file. `start` is the hint where it does not exist.
pub(crate) fn read_text(path: &Path, start: &str) -> Result<String, String> {
    // Without waiting: the path may be that of a pipe.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| {
        let error = std::io::Error::from(error);
        format!("failed to open the file: {error}. {start}")
    })?;
    let file = File::from(file);
    let metadata = file
        .metadata()
        .map_err(|error| format!("failed to read the file: {error}"))?;
    if !metadata.is_file() {
        return Err("it is not a regular file".into());
    }
    let mut bytes = Vec::new();
    file.take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("failed to read the file: {error}"))?;
    if bytes.len() as u64 > LARGEST {
        return Err("the file is larger than 1 MiB, the maximum".into());
    }
    String::from_utf8(bytes).map_err(|error| {
        format!(
            "the file is not UTF-8 (byte {})",
            error.utf8_error().valid_up_to()
        )
    })
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    #[test]
    fn a_large_file_is_rejected_without_being_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(100 << 20).unwrap();
        let faults = load(file.path()).unwrap_err().to_string();
        assert!(faults.contains("larger than 1 MiB"), "{faults}");
    }

    #[test]
    fn a_directory_whose_name_is_not_utf8_is_rejected() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join(OsStr::from_bytes(b"caf\xe9"));
        std::fs::create_dir(&folder).unwrap();
        let file = folder.join("topology.yaml");
        std::fs::write(&file, "name: demo\n").unwrap();
        let faults = load(&file).unwrap_err().to_string();
        assert!(
            faults.contains("caf\u{fffd}/topology.yaml: the path of its directory is not UTF-8"),
            "{faults}"
        );
    }

    /// Of which nothing is read: they may have no end.
    #[test]
    fn devices_and_pipes_are_not_files_of_a_topology() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        let file = folder.path().join("topology.yaml");
        for path in ["/dev/zero", "pipe"] {
            let service = |keys: &str| {
                format!(
                    "name: demo\ndomains: {{web: {{image: debian, service: {{{keys}, port: 1, health: tcp}}}}}}\n"
                )
            };
            let sha = "0".repeat(64);
            for text in [
                service(&format!("binary: {path}")),
                service(&format!("command: [sh], secrets: {{A: {{file: {path}}}}}")),
                service(&format!("command: [sh], files: {{a: {path}}}")),
                service(&format!("command: [sh], env_file: {path}")),
                format!(
                    "name: demo\nimages: {{a: {{path: {path}, sha256: {sha}}}}}\ndomains: {{web: {{image: a}}}}\n"
                ),
            ] {
                std::fs::write(&file, &text).unwrap();
                let faults = load(&file).unwrap_err().to_string();
                assert!(faults.starts_with("1 error in "), "{text}{faults}");
                assert!(
                    faults.contains("is a device, a pipe or a socket"),
                    "{text}{faults}"
                );
            }
        }
    }

    #[test]
    fn a_name_is_read_of_a_topology_that_is_invalid() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (text, found) in [
            (
                "name: demo\nimages: {a: {recipe: ./gone}}\nnonsense: 1\n",
                Some("demo"),
            ),
            ("domains: {}\n", None),
            ("name: [demo", None),
        ] {
            std::fs::write(file.path(), text).unwrap();
            let name = name(file.path());
            assert_eq!(name.as_ref().map(Name::as_str), found, "{text}");
        }
    }

    #[test]
    fn images_can_be_read_before_the_services_are_compiled() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("topology.yaml");
        let text = "name: early\nimages: {debian: {recipe: recipe}}\ndomains: {one: {image: debian, service: {binary: unbuilt, port: 1, health: tcp}}}\n";
        std::fs::write(&file, text).unwrap();
        let faults = load_before_build(&file).unwrap_err().to_string();
        assert!(faults.contains("no such directory"), "{faults}");
        assert!(!faults.contains("unbuilt"), "{faults}");

        std::fs::create_dir(folder.path().join("recipe")).unwrap();
        assert!(load_before_build(&file).is_ok());
        let faults = load(&file).unwrap_err().to_string();
        assert!(faults.contains("no such file"), "{faults}");
    }

    #[test]
    fn what_is_not_a_file_is_rejected_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            Mode::RUSR,
            0,
        )
        .unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
        for path in [&pipe, folder.path(), Path::new("/dev/zero")] {
            let faults = load(path).unwrap_err().to_string();
            assert!(faults.contains("it is not a regular file"), "{faults}");
        }
        let faults = load(&folder.path().join("socket")).unwrap_err().to_string();
        assert!(faults.contains("failed to open the file"), "{faults}");
    }

    #[test]
    fn the_examples_are_valid() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
        for (name, domains) in [
            ("demo", 1),
            ("one", 1),
            ("postgres", 2),
            ("postgres-ha", 4),
            ("ten", 10),
        ] {
            let file = folder.join(name).join("topology.yaml");
            let spec = load_before_build(&file).unwrap();
            assert_eq!(spec.domains.len(), domains, "{name}");
        }
    }
}
