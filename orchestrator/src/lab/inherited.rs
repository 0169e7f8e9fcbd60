//! What the caller of this process left open, such as a lock of `flock(1)`: a lab outlives them both, and must not hold it.

#![allow(unsafe_code)]

use std::io;

/// After stdin, stdout and stderr.
const FIRST: libc::c_uint = 3;

/// Keeps every open file but the standard three from programs that this process starts: `close_range(2)`, Linux 5.11.
pub(super) fn keep_from_children() -> io::Result<()> {
    let flags = libc::CLOSE_RANGE_CLOEXEC as libc::c_int;
    // SAFETY: no file is closed; the standard library opens its own with the same flag.
    match unsafe { libc::close_range(FIRST, libc::c_uint::MAX, flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
