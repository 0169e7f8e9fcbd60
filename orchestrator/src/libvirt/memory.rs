//! The memory of a domain in a file.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use virt_sys as sys;

use super::error::Attempt as _;
use super::sources::replaced;
use super::{Connection, Domain, DomainDescription, Error, Result, ffi};

impl Domain {
    /// Writes its memory to a file, and ends its process. After a failure it stays as it was.
    pub fn save(&self, file: &Path) -> Result<()> {
        ffi::save(self.raw(), &path(file)).attempt(|| {
            format!(
                "save the memory of domain `{}` to `{}`",
                self.name(),
                file.display()
            )
        })
    }
}

impl Connection {
    /// Starts the domain of the memory in a file, as it was defined then, with these disks by serial; its virtual CPUs do
    /// not run yet.
    pub fn restore(&self, file: &Path, disks: &BTreeMap<String, PathBuf>) -> Result<()> {
        let attempt = || format!("restore the memory in `{}`", file.display());
        let definition = ffi::saved_definition(self.raw(), &path(file)).attempt(attempt)?;
        let saved = DomainDescription::from_xml(&definition)?.disks;
        let other = |file: &Path| {
            let disk = saved
                .iter()
                .find(|disk| disk.path.as_deref() == Some(file))?;
            disks.get(disk.serial.as_ref()?).cloned()
        };
        let definition = replaced(&definition, other).map_err(|error| Error::Report {
            subject: format!("the memory in `{}`", file.display()),
            source: quick_xml::DeError::from(error).into(),
        })?;
        // Text of libvirt's, with paths of the state directory, which were checked.
        let definition = CString::new(definition).unwrap_or_default();
        ffi::restore(self.raw(), &path(file), &definition).attempt(attempt)
    }
}

impl Error {
    /// Whether libvirt or QEMU refused what it was asked, and did not fail to answer.
    pub fn is_refusal(&self) -> bool {
        let lost = [
            sys::VIR_ERR_RPC,
            sys::VIR_ERR_SYSTEM_ERROR,
            sys::VIR_ERR_NO_CONNECT,
        ];
        self.code().is_some_and(|code| !lost.contains(&code))
    }
}

fn path(file: &Path) -> CString {
    // A path of the state directory, which was checked.
    CString::new(file.as_os_str().as_bytes()).unwrap_or_default()
}
