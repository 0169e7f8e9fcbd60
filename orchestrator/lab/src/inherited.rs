//! Files that this process inherited from its caller, such as a lock of `flock(1)`. A lab outlives the caller and must
//! not keep them open.

#![allow(unsafe_code)]

use std::io;

/// After stdin, stdout and stderr.
const FIRST: libc::c_uint = 3;

/// Prevents child processes from inheriting open files other than stdin, stdout and stderr (`close_range(2)`, Linux
/// 5.11).
pub(super) fn keep_from_children() -> io::Result<()> {
    let flags = libc::CLOSE_RANGE_CLOEXEC as libc::c_int;
    // SAFETY: no file is closed; the standard library opens its own with the same flag.
    match unsafe { libc::close_range(FIRST, libc::c_uint::MAX, flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
