//! Images by path or URL: into the cache, digested on the way, refused if their digest differs.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use pspd_model::spec::Digest;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use super::cache::DISK;
use crate::disk;
use crate::disk::qcow2::{Header, is_qcow2};
use crate::event::Scope;
use crate::full_disk;
use crate::progress::Progress;

const CHUNK: usize = 1 << 20;
const CONNECT: Duration = Duration::from_secs(30);
/// A whole image, on a slow line.
const DOWNLOAD: Duration = Duration::from_secs(2 * 60 * 60);

/// An image that is to be in the cache.
pub(super) struct Fetch<'a> {
    pub wanted: &'a Digest,
    /// An empty folder, to fill.
    pub folder: &'a Path,
    pub scope: &'a Scope,
    pub cancel: &'a CancellationToken,
}

impl Fetch<'_> {
    /// Copies the image at `path`.
    pub(super) fn copy(&self, path: &Path) -> Result<()> {
        self.scope.stage("copying the image");
        let name = path.display().to_string();
        let file =
            File::open(path).with_context(|| format!("failed to open the image `{name}`"))?;
        let total = file
            .metadata()
            .with_context(|| format!("failed to read the size of `{name}`"))?
            .len();
        self.take(file, Some(total), &name)
    }

    /// Downloads the image at `url`.
    pub(super) fn download(&self, url: &str) -> Result<()> {
        self.scope.stage("downloading the image");
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(CONNECT))
            .timeout_recv_body(Some(DOWNLOAD))
            .build()
            .into();
        let response = agent
            .get(url)
            // The digest is of the file, not of a server's compressed form.
            .header("accept-encoding", "identity")
            .call()
            .with_context(|| format!("failed to download `{url}`"))?;
        let total = response.body().content_length();
        self.take(response.into_body().into_reader(), total, url)
    }

    /// Writes the image that `from` yields, checks it, and leaves it as a qcow2 file.
    fn take(&self, from: impl Read, total: Option<u64>, name: &str) -> Result<()> {
        let during = format!("fetching the image `{name}`");
        let progress = Progress::new(total, during, self.scope, self.cancel);
        let fetched = self.folder.join("fetched");
        let found = write(progress.watch(from), name, &fetched)?;
        ensure!(
            found == *self.wanted,
            "the image `{name}` has the sha256 {found}, but the topology names {}; check where the image comes from",
            self.wanted
        );
        let image = self.folder.join(DISK);
        refuse_packed(&fetched).with_context(|| format!("the image `{name}` cannot be used"))?;
        if is_qcow2(&fetched)? {
            Header::open(&fetched)?
                .check_self_contained()
                .with_context(|| format!("the image `{name}` cannot be used"))?;
            fs::rename(&fetched, &image)
                .with_context(|| format!("failed to rename `{}`", fetched.display()))
        } else {
            self.scope.stage("converting the image to qcow2");
            disk::convert_raw(&fetched, &image, self.cancel)?;
            fs::remove_file(&fetched)
                .with_context(|| format!("failed to remove `{}`", fetched.display()))
        }
    }
}

/// First bytes of files that are not raw disks, with what they are and how to get a disk of them.
const PACKED: [(&[u8], &str, &str); 10] = [
    (b"\x1f\x8b", "compressed with gzip", "gunzip"),
    (b"\xfd7zXZ\0", "compressed with xz", "unxz"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "unzstd"),
    (b"BZh", "compressed with bzip2", "bunzip2"),
    (b"\x04\x22\x4d\x18", "compressed with lz4", "unlz4"),
    (b"PK\x03\x04", "a ZIP archive", "unzip"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "7z x"),
    (b"KDMV", "a VMDK disk", "qemu-img convert -O qcow2"),
    (b"vhdxfile", "a VHDX disk", "qemu-img convert -O qcow2"),
    (b"conectix", "a VHD disk", "qemu-img convert -O qcow2"),
];

/// Fails for a file that would never boot as a raw disk.
fn refuse_packed(file: &Path) -> Result<()> {
    let mut first = Vec::new();
    File::open(file)
        .and_then(|file| file.take(16).read_to_end(&mut first))
        .with_context(|| format!("failed to read `{}`", file.display()))?;
    match PACKED.iter().find(|(magic, ..)| first.starts_with(magic)) {
        Some((_, what, tool)) => bail!(
            "it is {what}, and an image must be a qcow2 or raw disk. Unpack it with `{tool}`, and name the new file with \
             its sha256"
        ),
        None => Ok(()),
    }
}

/// Writes all of `from` to the new file `to`, and returns its digest.
fn write(mut from: impl Read, name: &str, to: &Path) -> Result<Digest> {
    let context = || format!("failed to write `{}`", to.display());
    let mut file = File::create_new(to).with_context(context)?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        let length = from
            .read(&mut chunk)
            .with_context(|| format!("failed to read the image `{name}`"))?;
        if length == 0 {
            return Ok(Digest::from(hash));
        }
        hash.update(&chunk[..length]);
        file.write_all(&chunk[..length])
            .map_err(|error| full_disk::named(error, &file))
            .with_context(context)?;
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::cancelled::Cancelled;
    use pspd_model::spec::Size;

    fn copy(path: &Path, wanted: &Digest, folder: &Path) -> Result<()> {
        fetch(wanted, folder, |fetch| fetch.copy(path))
    }

    /// A fetch that nobody watches or cancels.
    fn fetch(
        wanted: &Digest,
        folder: &Path,
        act: impl FnOnce(Fetch<'_>) -> Result<()>,
    ) -> Result<()> {
        act(Fetch {
            wanted,
            folder,
            scope: &Scope::ignored(),
            cancel: &CancellationToken::new(),
        })
    }

    #[test]
    fn a_raw_image_becomes_qcow2() {
        let folder = tempfile::tempdir().unwrap();
        let (raw, to) = (folder.path().join("raw"), folder.path().join("to"));
        fs::write(&raw, vec![7; 2 << 20]).unwrap();
        fs::create_dir(&to).unwrap();
        copy(&raw, &Digest::of(&vec![7; 2 << 20]), &to).unwrap();
        assert_eq!(Header::open(&to.join(DISK)).unwrap().size, Size::mib(2));
        assert_eq!(fs::read_dir(&to).unwrap().count(), 1);
    }

    #[test]
    fn a_compressed_image_is_refused_and_not_taken_for_a_raw_disk() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image");
        fs::write(&image, vec![7; 2 << 20]).unwrap();
        for (tool, what) in [
            ("gzip", "gzip"),
            ("xz", "xz"),
            ("zstd", "zstd"),
            ("bzip2", "bzip2"),
        ] {
            let mut pack = std::process::Command::new(tool);
            let packed = pack.arg("-c").arg(&image).output().unwrap().stdout;
            let to = folder.path().join(tool);
            fs::create_dir(&to).unwrap();
            let url = serve("200 OK", packed.clone());
            let download = |fetch: Fetch<'_>| fetch.download(&url);
            let error = fetch(&Digest::of(&packed), &to, download).unwrap_err();
            let error = format!("{error:#}");
            assert!(
                error.contains(&format!("it is compressed with {what}")),
                "{error}"
            );
        }
    }

    #[test]
    fn a_wrong_digest_names_both() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image");
        fs::write(&image, "not what was wanted").unwrap();
        let wanted = Digest::of(b"wanted");
        let error = copy(&image, &wanted, folder.path())
            .unwrap_err()
            .to_string();
        assert!(error.contains(wanted.as_str()), "{error}");
        assert!(
            error.contains(Digest::of(b"not what was wanted").as_str()),
            "{error}"
        );
    }

    #[test]
    fn an_image_over_a_file_of_the_host_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (base, overlay, to) = (
            folder.path().join("base"),
            folder.path().join("overlay"),
            folder.path().join("to"),
        );
        disk::create(&base, Size::mib(1)).unwrap();
        disk::create_overlay(&base, &overlay, Size::mib(1)).unwrap();
        fs::create_dir(&to).unwrap();
        let digest = Digest::of(&fs::read(&overlay).unwrap());
        let error = copy(&overlay, &digest, &to).unwrap_err();
        assert!(
            format!("{error:#}").contains("has a backing file"),
            "{error:#}"
        );
    }

    #[test]
    fn a_download_reports_its_bytes() {
        let content = vec![9; 3 << 19];
        let url = serve("200 OK", content.clone());
        let folder = tempfile::tempdir().unwrap();
        let (events, mut received) = crate::event::Events::channel();
        let scope = events.scope("image", None);
        let fetch = Fetch {
            wanted: &Digest::of(&content),
            folder: folder.path(),
            scope: &scope,
            cancel: &CancellationToken::new(),
        };
        fetch.download(&url).unwrap();
        let mut last = None;
        while let Ok(event) = received.try_recv() {
            if let crate::event::Event::Progress { done, total, .. } = event {
                last = Some((done, total));
            }
        }
        assert_eq!(last, Some((3 << 19, Some(3 << 19))));
    }

    #[test]
    fn a_server_without_the_image_is_named() {
        let url = serve("404 Not Found", Vec::new());
        let folder = tempfile::tempdir().unwrap();
        let download = |fetch: Fetch<'_>| fetch.download(&url);
        let error = fetch(&Digest::of(b""), folder.path(), download).unwrap_err();
        assert!(format!("{error:#}").contains("404"), "{error:#}");
        assert!(error.to_string().contains(&url), "{error}");
    }

    #[test]
    fn cancelling_stops_it() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image");
        fs::write(&image, "content").unwrap();
        let cancel = CancellationToken::new();
        cancel.cancel();
        let fetch = Fetch {
            wanted: &Digest::of(b"content"),
            folder: folder.path(),
            scope: &Scope::ignored(),
            cancel: &cancel,
        };
        let error = fetch.copy(&image).unwrap_err();
        assert!(Cancelled::is_cause_of(&error), "{error:#}");
    }

    /// Answers one request on loopback.
    fn serve(status: &'static str, content: Vec<u8>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/image", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let _ = client.read(&mut request).unwrap();
            write!(
                client,
                "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n",
                content.len()
            )
            .unwrap();
            client.write_all(&content).unwrap();
        });
        url
    }
}
