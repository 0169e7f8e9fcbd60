//! Static programs for guests.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// A program for guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// The first process of the guests of `images/debian`.
    GuestInit,
    /// The demo service.
    EchoServer,
    /// Both sides of `pspd bench protocol`.
    ProtocolBench,
}

impl Program {
    /// Writes the executable to a new file.
    pub fn write(self, path: &Path) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o755)
            .open(path)?;
        zstd::stream::copy_decode(self.packed(), &mut file)
    }

    fn packed(self) -> &'static [u8] {
        match self {
            Program::GuestInit => include_bytes!(concat!(env!("OUT_DIR"), "/guest-init.zst")),
            Program::EchoServer => include_bytes!(concat!(env!("OUT_DIR"), "/echo-server.zst")),
            Program::ProtocolBench => {
                include_bytes!(concat!(env!("OUT_DIR"), "/protocol-bench.zst"))
            }
        }
    }
}
