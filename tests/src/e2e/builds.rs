//! Builds of the guest image.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{bail, ensure};
use pspd_tests::deployment::Deployment;
use pspd_tests::scenario::{Scenario, minutes, say};

pub(crate) const SCENARIOS: &[Scenario] = &[Scenario::new(
    "two builds of an image with the same packages are the same",
    minutes(60),
    same,
)];

/// Builds in caches of their own until two in a row have the same packages: the mirror may change in between.
fn same() -> anyhow::Result<()> {
    let deployment = Deployment::empty()?;
    deployment.write("name: demo\ndomains: {store: {image: debian}}\n")?;
    let mut before: Option<BTreeMap<String, Vec<u8>>> = None;
    for cache in ["one", "two", "three"] {
        let cache = deployment.folder().join(cache);
        deployment.build(&["debian", "--cache-dir", &cache.display().to_string()])?;
        let files = files(&cache.join("images"))?;
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

/// The files of the only image in a cache.
fn files(images: &Path) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for image in fs::read_dir(images)? {
        let image = image?.path();
        if image.is_dir() {
            for file in fs::read_dir(image)? {
                let file = file?;
                let name = file.file_name().to_string_lossy().into_owned();
                files.insert(name, fs::read(file.path())?);
            }
        }
    }
    ensure!(files.contains_key("manifest.json"), "{:?}", files.keys());
    Ok(files)
}
