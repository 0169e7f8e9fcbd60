//! Builds of the guest image.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use pspd_tests::deployment::Deployment;
use pspd_tests::scenario::{Scenario, minutes, say};

pub(crate) const SCENARIOS: &[Scenario] = &[Scenario::new(
    "two builds of an image with the same packages are the same",
    minutes(60),
    same,
)];

/// Builds in caches of their own until two in a row have the same packages, where the first is the image that all scenarios
/// boot: the mirror may change in between.
fn same() -> anyhow::Result<()> {
    let deployment = Deployment::empty()?;
    deployment.write("name: demo\ndomains: {store: {image: debian}}\n")?;
    let mut before: Option<BTreeMap<String, Vec<u8>>> = None;
    for cache in [None, Some("one"), Some("two")] {
        let cache = cache.map(|name| deployment.folder().join(name).display().to_string());
        let option = cache.iter().flat_map(|cache| ["--cache-dir", cache]);
        let words: Vec<&str> = ["debian"].into_iter().chain(option).collect();
        let built = deployment.build(&words)?.stdout;
        let (_, disk) = built.trim().split_once(' ').context("no path is printed")?;
        let files = files(Path::new(disk).parent().context("no folder")?)?;
        match before {
            Some(before) if before["manifest.json"] == files["manifest.json"] => {
                // By their names first, because the disk's has its digest.
                let names = |files: &BTreeMap<_, _>| files.keys().cloned().collect::<Vec<String>>();
                ensure!(
                    names(&before) == names(&files),
                    "{:?}, {:?}",
                    names(&before),
                    names(&files)
                );
                for (name, content) in files {
                    ensure!(before[&name] == content, "`{name}` differs");
                }
                return Ok(());
            }
            Some(_) => say("the mirror's packages changed between the builds"),
            None => {}
        }
        before = Some(files);
    }
    bail!("the mirror's packages changed between any two builds")
}

/// The files of an image.
fn files(image: &Path) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for file in fs::read_dir(image)? {
        let file = file?;
        let name = file.file_name().to_string_lossy().into_owned();
        files.insert(name, fs::read(file.path())?);
    }
    ensure!(files.contains_key("manifest.json"), "{:?}", files.keys());
    Ok(files)
}
