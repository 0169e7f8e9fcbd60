//! Archives that no export wrote.

use pspd_model::spec::Digest;
use serde_json::{Value, json};

/// A file's entry in a manifest.
pub(crate) fn file(name: &str, content: &[u8], kind: Value) -> Value {
    json!({"name": name, "size": content.len(), "sha256": Digest::of(content), "content": kind})
}

pub(crate) fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_entry_type(tar::EntryType::Regular);
    header
}

/// An archive of these files, with any manifest.
pub(crate) fn tar(manifest: &[u8], files: &[(&str, &[u8])]) -> Vec<u8> {
    let sum = format!("{}  manifest.json\n", Digest::of(manifest));
    let mut tar = tar::Builder::new(Vec::new());
    let own: [(&str, &[u8]); 2] = [
        ("manifest.json.sha256", sum.as_bytes()),
        ("manifest.json", manifest),
    ];
    for (name, content) in own.iter().chain(files) {
        let header = &mut header(content.len() as u64);
        tar.append_data(header, format!("vm-export/{name}"), *content)
            .unwrap();
    }
    tar.into_inner().unwrap()
}
