//! The memory of a domain in a file.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use virt_sys as sys;

use super::error::Attempt as _;
use super::{Connection, Domain, Error, Result, ffi};

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
    /// Starts the domain of the memory in a file, as it was defined then; its virtual CPUs do not run yet.
    pub fn restore(&self, file: &Path) -> Result<()> {
        let attempt = || format!("restore the memory in `{}`", file.display());
        ffi::restore(self.raw(), &path(file)).attempt(attempt)
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
