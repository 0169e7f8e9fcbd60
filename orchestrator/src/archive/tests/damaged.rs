//! Archives that are truncated, endless, with a flipped bit, and bytes of all kinds.

use super::*;

#[test]
fn a_truncated_archive_is_refused() {
    let fixture = Fixture::new();
    for file in ["a.tar", "a.tar.xz", "a.tar.zst", "a.tar.gz"] {
        let archive = fixture.pack(file, false);
        let whole = fs::read(&archive).unwrap();
        for part in [
            0,
            1,
            whole.len() / 3,
            whole.len() / 2,
            whole.len() - 600,
            whole.len() - 1,
        ] {
            fs::write(&archive, &whole[..part]).unwrap();
            Host::refuses(&archive);
        }
    }
}

#[test]
fn what_is_behind_an_archive_is_refused() {
    let fixture = Fixture::new();
    let archive = fixture.pack("a.tar", false);
    let mut file = fs::OpenOptions::new().append(true).open(&archive).unwrap();
    file.write_all(b"behind").unwrap();
    assert!(Host::refuses(&archive).contains("after the end of the archive"));
}

/// In every format, all of a file is read.
#[test]
fn what_is_behind_a_compressed_archive_is_refused() {
    let fixture = Fixture::new();
    for file in ["a.tar.xz", "a.tar.zst", "a.tar.gz"] {
        let archive = fixture.pack(file, false);
        let good = fs::read(&archive).unwrap();
        for behind in [&b"garbage"[..], &good, &[1; 4096]] {
            fs::write(&archive, [&good, behind].concat()).unwrap();
            verify(&archive).unwrap_err();
        }
    }
}

/// As `cat` joins them, of two parts of one tar.
#[test]
fn an_archive_of_two_xz_streams_is_imported() {
    let fixture = Fixture::new();
    let tar = fs::read(fixture.pack("a.tar", false)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar.xz");
    let (one, two) = tar.split_at(tar.len() / 2);
    let mut bytes = Vec::new();
    for part in [one, two] {
        let mut encoder = liblzma::write::XzEncoder::new(&mut bytes, 0);
        encoder.write_all(part).unwrap();
        encoder.finish().unwrap();
        bytes.extend([0; 4]);
    }
    fs::write(&path, bytes).unwrap();
    Host::new().import(&path).unwrap();
}

const MUCH_MEMORY: &str = "unpacking it takes more memory than pspd allows";

#[test]
fn a_stream_that_wants_much_memory_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar.xz");
    let mut options = liblzma::stream::LzmaOptions::new_preset(0).unwrap();
    options.dict_size(1 << 30);
    let mut filters = liblzma::stream::Filters::new();
    filters.lzma2(&options);
    let stream =
        liblzma::stream::Stream::new_stream_encoder(&filters, liblzma::stream::Check::Crc64);
    let file = fs::File::create(&path).unwrap();
    let mut encoder = liblzma::write::XzEncoder::new_stream(file, stream.unwrap());
    encoder.write_all(&[0; 1024]).unwrap();
    encoder.finish().unwrap();
    let refused = Host::refuses(&path);
    assert!(refused.contains(MUCH_MEMORY), "{refused}");
}

/// RFC 8878 names the fields: a frame of one empty block, and a window of 2 to the power of 10 and the exponent.
#[test]
fn a_window_that_wants_much_memory_is_refused() {
    const LAST_RAW_BLOCK: [u8; 3] = [1, 0, 0];
    let fixture = Fixture::new();
    let path = fixture.pack("a.tar.zst", false);
    let good = fs::read(&path).unwrap();
    let empty = |window| [&[0x28, 0xb5, 0x2f, 0xfd, 0, window], &LAST_RAW_BLOCK[..]].concat();
    // 64 MiB are allowed; an eighth more is not.
    fs::write(&path, [&good[..], &empty(16 << 3)].concat()).unwrap();
    Host::new().import(&path).unwrap();
    let windows = (17..=31).map(|exponent| exponent << 3);
    for window in std::iter::once(16 << 3 | 1).chain(windows) {
        let frame = empty(window);
        for bytes in [frame.clone(), [&good[..], &frame].concat()] {
            fs::write(&path, bytes).unwrap();
            let refused = Host::refuses(&path);
            assert!(refused.contains(MUCH_MEMORY), "{window}: {refused}");
        }
    }
}

#[test]
fn a_stream_that_never_ends_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar.zst");
    let mut raw = Vec::new();
    entries::write_header(&mut raw, MANIFEST_DIGEST, 1 << 40, 0).unwrap();
    raw.resize(64 << 20, b'a');
    fs::write(&path, zstd::encode_all(&raw[..], 1).unwrap()).unwrap();
    assert!(Host::refuses(&path).contains("the limit is 200"));
}

/// One good archive per format, made once: each case changes some bytes of it.
fn good() -> &'static [Vec<u8>] {
    static GOOD: std::sync::OnceLock<Vec<Vec<u8>>> = std::sync::OnceLock::new();
    GOOD.get_or_init(|| {
        let fixture = Fixture::new();
        let files = ["a.tar", "a.tar.xz", "a.tar.zst", "a.tar.gz"];
        files
            .iter()
            .map(|file| fs::read(fixture.pack(file, true)).unwrap())
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Every bit of the content counts: an archive with one flipped is refused, in every format.
    #[test]
    fn a_flipped_bit_is_found(format in 0usize..4, place in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut bytes = good()[format].clone();
        let at = place.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("archive");
        fs::write(&path, bytes).unwrap();
        // Bits of zstd's and gzip's headers that change no content, such as a time stamp: then it imports as it was.
        let all_bits_count = format < 2;
        if all_bits_count || Host::new().import(&path).is_err() {
            Host::refuses(&path);
        }
    }

    /// No bytes make it panic, or leave anything.
    #[test]
    fn other_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..2048), magic in 0usize..4) {
        let mut all = good()[magic][..8].to_vec();
        all.extend(bytes);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("archive");
        fs::write(&path, all).unwrap();
        Host::refuses(&path);
    }

    /// Nor do parts of a real one that were moved, doubled or left out.
    #[test]
    fn mutated_archives_are_refused(
        from in any::<prop::sample::Index>(), to in any::<prop::sample::Index>(), length in 1usize..4096, double in any::<bool>(),
    ) {
        let good = &good()[0];
        let (from, to) = (from.index(good.len()), to.index(good.len()));
        let part = &good[from..(from + length).min(good.len())];
        let mut bytes = good.clone();
        if double {
            bytes.splice(to..to, part.iter().copied());
        } else {
            let end = (to + part.len()).min(bytes.len());
            bytes[to..end].copy_from_slice(&part[..end - to]);
        }
        prop_assume!(bytes != *good);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("archive");
        fs::write(&path, bytes).unwrap();
        Host::refuses(&path);
    }
}
