//! How much the two sides of an HTTP/2 connection may send before it is read.
//!
//! A stream's window bounds what its reader keeps in memory. The HTTP/2 library ends connections with many small frames
//! that are not read yet (`too_many_data_frames`); how many it accepts grows with the connection's window. So the
//! connection has the largest window, and streams have small ones. Then callers may send a frame for each message, at any
//! length, and readers may pause.

/// The window of a connection, in bytes: the largest that HTTP/2 has.
pub const CONNECTION: u32 = (1 << 31) - 1;
/// The window of a stream, in bytes.
pub const STREAM: u32 = 256 * 1024;
/// The most streams that were reset before the service saw them. A caller that cancels many calls at once must not end
/// the calls of others on its connection (`too_many_resets`).
pub const RESETS: usize = 16 * 1024;
