//! Archives that are small and would cost much.

use std::fs;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::Path;

use pspd_model::spec::Digest;
use serde_json::{Value, json};
use sha2::Digest as _;

use crate::crafted::{file, header, tar};

/// What ends a tar.
const END: [u8; 1024] = [0; 1024];

fn spec(image: &[u8], domains: Value) -> Value {
    json!({"name": "demo", "images": {"base": {"path": "base.qcow2", "sha256": Digest::of(image), "seed": "credentials"}}, "domains": domains})
}

fn manifest(spec: Value, files: Value) -> Vec<u8> {
    serde_json::to_vec(&json!({"format": 1, "made_by": "test", "spec": spec, "files": files}))
        .unwrap()
}

/// An archive with one image.
pub(crate) fn with_image(image: &[u8]) -> Vec<u8> {
    let size = u64::from_be_bytes(image[24..32].try_into().unwrap());
    let files = json!([file(
        "base.qcow2",
        image,
        json!({"kind": "image", "virtual_size": size})
    )]);
    tar(
        &manifest(spec(image, json!({"web": {"image": "base"}})), files),
        &[("base.qcow2", image)],
    )
}

/// A disk whose L1 table names one L2 table again and again.
pub(crate) fn one_table_everywhere(entries: u32) -> Vec<u8> {
    let cluster = 65_536u64;
    let mut disk = b"QFI\xfb\0\0\0\x03".to_vec();
    disk.resize(20, 0);
    disk.extend(16u32.to_be_bytes());
    disk.extend((u64::from(entries) << 29).to_be_bytes());
    disk.extend(0u32.to_be_bytes());
    disk.extend(entries.to_be_bytes());
    disk.extend((4 * cluster).to_be_bytes());
    disk.extend(cluster.to_be_bytes());
    disk.extend(1u32.to_be_bytes());
    disk.resize(96, 0);
    disk.extend(4u32.to_be_bytes());
    disk.extend(104u32.to_be_bytes());
    disk.resize(4 * cluster as usize, 0);
    disk[65_536..65_544].copy_from_slice(&(2 * cluster).to_be_bytes());
    for _ in 0..entries {
        disk.extend(((3 * cluster) | (1 << 63)).to_be_bytes());
    }
    disk
}

pub(crate) fn xz(bytes: &[u8], dictionary: u32) -> Vec<u8> {
    let mut options = liblzma::stream::LzmaOptions::new_preset(0).unwrap();
    options.dict_size(dictionary);
    let mut filters = liblzma::stream::Filters::new();
    filters.lzma2(&options);
    let stream =
        liblzma::stream::Stream::new_stream_encoder(&filters, liblzma::stream::Check::Crc64);
    let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream.unwrap());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Zeros pack to nearly nothing.
const ZEROS: usize = 180 << 20;

/// An archive with a file of this many zeros, in which everything is as it must be. It takes little room on a disk.
pub(crate) fn long_file(zeros: u64, to: &Path) {
    let mut digest = sha2::Sha256::new();
    io::copy(&mut io::repeat(0).take(zeros), &mut digest).unwrap();
    let image = one_table_everywhere(1);
    let files = json!([
        {"name": "README", "size": zeros, "sha256": Digest::from(digest), "content": {"kind": "plain"}},
        file("base.qcow2", &image, json!({"kind": "image", "virtual_size": 1 << 29}))
    ]);
    let manifest = manifest(spec(&image, json!({"web": {"image": "base"}})), files);
    let mut long = header(zeros);
    long.set_path("vm-export/README").unwrap();
    long.set_cksum();
    let mut file = fs::File::create(to).unwrap();
    let before = tar(&manifest, &[]);
    file.write_all(before.strip_suffix(&END).unwrap()).unwrap();
    file.write_all(long.as_bytes()).unwrap();
    file.seek_relative(zeros as i64).unwrap();
    let after = tar(&manifest, &[("base.qcow2", &image)]);
    file.write_all(&after[before.len() - END.len()..]).unwrap();
}

/// An archive with a long file, behind which another one is missing: all of it is read before it is refused.
pub(crate) fn zeros() -> Vec<u8> {
    let (zeros, image) = (vec![0; ZEROS], one_table_everywhere(1));
    let files = json!([
        file("README", &zeros, json!({"kind": "plain"})),
        file(
            "base.qcow2",
            &image,
            json!({"kind": "image", "virtual_size": 1 << 29})
        )
    ]);
    let domains = json!({"web": {"image": "base"}});
    tar(
        &manifest(spec(&image, domains), files),
        &[("README", &zeros)],
    )
}

/// Zeros, in a window of 128 MiB that they fill.
pub(crate) fn long_window() -> Vec<u8> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(27).unwrap();
    encoder.write_all(&zeros()).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn of_spec(spec: Value) -> Vec<u8> {
    xz(&tar(&manifest(spec, json!([])), &[]), 1 << 20)
}

pub(crate) fn all_names() -> Vec<u8> {
    let domain = json!({"image": "none", "depends_on": ["nobody", "none"]});
    let names = (0..1000).map(|index| (format!("{}{index}", "n".repeat(50)), domain.clone()));
    of_spec(spec(b"", names.collect()))
}

pub(crate) fn deep() -> Vec<u8> {
    let lists = "[".repeat(3_000_000);
    let text = format!("{{\"format\":1,\"made_by\":\"\",\"files\":[],\"spec\":{lists}");
    xz(&tar(text.as_bytes(), &[]), 1 << 20)
}

pub(crate) fn disk_of_zeros() -> Vec<u8> {
    let mut disk = one_table_everywhere(1);
    disk.resize(ZEROS, 0);
    zstd::encode_all(&with_image(&disk)[..], 1).unwrap()
}
