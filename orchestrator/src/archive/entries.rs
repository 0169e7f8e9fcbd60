//! The tar of an archive, entry by entry: regular files with plain names, and nothing else that tar supports.
//!
//! The `tar` crate's iterator would follow extensions that change names and sizes; here its header alone is used.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tar::{EntryType, Header};
use tokio_util::sync::CancellationToken;

use super::FOLDER;
use super::manifest::FileName;
use crate::cancelled::Cancelled;

const BLOCK: u64 = 512;
/// Two blocks of zeros end a tar; writers fill up to 10 KiB, and a little more is accepted.
const LONGEST_END: u64 = 1 << 20;
/// Beside this, no archive is slower to read than 1 MiB in a second.
const PATIENCE: Duration = Duration::from_secs(120);

/// Writes one file's header; its content and [`padding`] follow.
pub(super) fn write_header(to: &mut dyn Write, name: &str, size: u64, modified: u64) -> Result<()> {
    let mut header = Header::new_ustar();
    header
        .set_path(format!("{FOLDER}/{name}"))
        .with_context(|| format!("failed to write the header of `{name}`"))?;
    header.set_entry_type(EntryType::Regular);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(modified);
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
    Ok(to.write_all(header.as_bytes())?)
}

/// Fills a file's last block.
pub(super) fn write_padding(to: &mut dyn Write, size: u64) -> io::Result<()> {
    let missing = size.next_multiple_of(BLOCK) - size;
    to.write_all(&[0; BLOCK as usize][..missing as usize])
}

/// Ends the tar.
pub(super) fn write_end(to: &mut dyn Write) -> io::Result<()> {
    to.write_all(&[0; 2 * BLOCK as usize])
}

/// The files of a tar, in its order. After [`Entries::next`] gave one, reading yields its content.
pub(super) struct Entries<R> {
    from: R,
    /// Of the current file.
    left: u64,
    padding: u64,
    /// Of the whole tar, in bytes.
    allowed: u64,
    until: Instant,
    cancel: CancellationToken,
}

/// One file's name and size in bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub name: FileName,
    pub size: u64,
}

impl<R: Read> Entries<R> {
    /// Reads `allowed` bytes at most; [`Entries::allow`] raises the limit.
    pub(super) fn new(from: R, allowed: u64, cancel: &CancellationToken) -> Entries<R> {
        Entries {
            from,
            left: 0,
            padding: 0,
            allowed,
            until: Instant::now() + PATIENCE,
            cancel: cancel.clone(),
        }
    }

    /// Allows that many more bytes to be read, with their headers, and the time that takes.
    pub(super) fn allow(&mut self, bytes: u64, files: usize) {
        let headers = 2 * BLOCK * files as u64;
        self.allowed = bytes.saturating_add(headers + LONGEST_END);
        self.until = Instant::now() + PATIENCE + Duration::from_secs(self.allowed >> 20);
    }

    /// The next file; the one before must have been read to its end. `None` at the tar's end.
    pub(super) fn next(&mut self) -> Result<Option<Head>> {
        ensure!(self.left == 0, "a file was not read to its end");
        self.zeros(self.padding, "the padding of a file")?;
        self.padding = 0;
        let mut header = Header::new_old();
        self.exact(header.as_mut_bytes())?;
        if header.as_bytes().iter().all(|byte| *byte == 0) {
            self.end()?;
            return Ok(None);
        }
        let head = head(&header)?;
        self.left = head.size;
        self.padding = head.size.next_multiple_of(BLOCK) - head.size;
        Ok(Some(head))
    }

    /// The end is zeros, and nothing follows it.
    fn end(&mut self) -> Result<()> {
        let mut buffer = [0; BLOCK as usize];
        self.exact(&mut buffer)?;
        ensure!(
            buffer.iter().all(|byte| *byte == 0),
            "the end of the archive is damaged"
        );
        self.allowed = self.allowed.min(LONGEST_END);
        loop {
            let count = self.some(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            ensure!(
                buffer[..count].iter().all(|byte| *byte == 0),
                "there is data after the end of the archive"
            );
        }
    }

    fn zeros(&mut self, count: u64, what: &str) -> Result<()> {
        let mut buffer = [0; BLOCK as usize];
        self.exact(&mut buffer[..count as usize])?;
        ensure!(buffer.iter().all(|byte| *byte == 0), "{what} is damaged");
        Ok(())
    }

    fn exact(&mut self, mut buffer: &mut [u8]) -> Result<()> {
        while !buffer.is_empty() {
            match self.some(buffer)? {
                0 => bail!("the archive is truncated"),
                count => buffer = &mut buffer[count..],
            }
        }
        Ok(())
    }

    fn some(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // A few compressed bytes may be many of these.
        if self.cancel.is_cancelled() {
            return Err(Cancelled::during("reading the archive").into());
        }
        if Instant::now() > self.until {
            return Err(io::Error::other(
                "decompressing takes too long for the size of the archive",
            ));
        }
        let count = match self.from.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return self.some(buffer),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(io::Error::other("the archive is truncated"));
            }
            read => read?,
        };
        self.allowed = self
            .allowed
            .checked_sub(count as u64)
            .ok_or_else(|| io::Error::other("the archive has more bytes than its manifest says"))?;
        Ok(count)
    }
}

impl<R: Read> Read for Entries<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = self.left.min(buffer.len() as u64) as usize;
        if most == 0 {
            return Ok(0);
        }
        let count = self.some(&mut buffer[..most])?;
        if count == 0 {
            return Err(io::Error::other("the archive is truncated"));
        }
        self.left -= count as u64;
        Ok(count)
    }
}

fn head(header: &Header) -> Result<Head> {
    let mut summed = header.clone();
    summed.set_cksum();
    ensure!(
        header.cksum().ok() == summed.cksum().ok(),
        "the archive is damaged: the checksum of a header differs"
    );
    let path = String::from_utf8_lossy(&header.path_bytes()).into_owned();
    let shown = path.escape_debug();
    let kind = header.entry_type();
    ensure!(
        matches!(kind, EntryType::Regular),
        "`{shown}` is not a regular file (tar type `{}`); an archive has no folders, links or tar extensions",
        char::from(kind.as_byte()).escape_debug()
    );
    let name = path
        .strip_prefix(FOLDER)
        .and_then(|rest| rest.strip_prefix('/'))
        .with_context(|| format!("`{shown}` is not in `{FOLDER}/`"))?;
    Ok(Head {
        name: FileName::new(name)?,
        size: header
            .size()
            .with_context(|| format!("failed to read the size of `{shown}`"))?,
    })
}
