//! The allocator's one setting: large blocks go back to the system when they are freed.
//!
//! glibc by itself keeps more the larger the blocks were that it saw: two callers of documents of 3 MiB that stall
//! cost 65 MiB, and 26 MiB with the same value in `MALLOC_MMAP_THRESHOLD_`.
#![allow(unsafe_code)]

/// In bytes; where glibc begins, before it adapts.
const LARGE: libc::c_int = 128 * 1024;

/// Says whether the allocator took it. Call it before there is another thread.
#[must_use]
pub(crate) fn return_large_blocks() -> bool {
    // SAFETY: it changes a parameter of the allocator, and no thread allocates meanwhile.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE) == 1 }
}
