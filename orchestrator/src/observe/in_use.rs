//! What the cache must keep: the images and ROMs that deployments of this host use.

use std::collections::{BTreeMap, BTreeSet};

use pspd_model::spec::{self, Name, Spec};

use super::disks;
use crate::firmware::coreboot;
use crate::image;
use crate::state::{Home, Paths};

/// The ROMs that pspd builds itself, by domain; `image` gives an image's digest.
pub(super) fn roms(
    spec: &Spec,
    image: impl Fn(&str) -> anyhow::Result<spec::Digest>,
) -> anyhow::Result<BTreeMap<Name, spec::Digest>> {
    let mut roms = BTreeMap::new();
    for (name, domain) in &spec.domains {
        if let spec::Firmware::Coreboot(payload) = &domain.firmware {
            let digest = coreboot::digest(payload, &image(&domain.image)?);
            roms.insert(name.clone(), digest);
        }
    }
    Ok(roms)
}

/// The deployments of this host that use the same cache.
fn sharing_cache(paths: &Paths) -> anyhow::Result<Vec<Home>> {
    let mut homes = Vec::new();
    for paths in paths.sharing_cache()? {
        homes.extend(paths.deployments()?);
    }
    Ok(homes)
}

/// The ROMs of every deployment of this host, as its last `up` recorded it.
pub fn roms_in_use(paths: &Paths) -> anyhow::Result<BTreeSet<spec::Digest>> {
    let mut used = BTreeSet::new();
    for home in sharing_cache(paths)? {
        let Some(spec) = home.recorded_spec()? else {
            continue;
        };
        let of = |image: &str| image::digest(&spec.images[image]);
        // Without its recipe an image has no digest, and `up` makes the ROM again should the recipe come back.
        used.extend(roms(&spec, of).unwrap_or_default().into_values());
    }
    if !used.is_empty() {
        used.insert(coreboot::recipe_digest());
    }
    Ok(used)
}

/// The images that system disks and snapshots of any deployment of this host are overlays of.
pub fn images_in_use(paths: &Paths) -> anyhow::Result<BTreeSet<spec::Digest>> {
    let mut used = BTreeSet::new();
    for home in sharing_cache(paths)? {
        for folder in [home.disks()].into_iter().chain(home.layer_folders()) {
            used.extend(disks::images(&folder)?);
        }
    }
    Ok(used)
}

#[cfg(test)]
mod tests {
    use pspd_model::spec::Size;

    use super::*;
    use crate::disk;

    #[test]
    fn an_image_is_in_use_by_every_state_that_shares_the_cache() {
        let folder = tempfile::tempdir().unwrap();
        let paths = |state: &str| Paths {
            state: folder.path().join(state),
            cache: folder.path().join("cache"),
        };
        let digest = spec::Digest::of(b"image");
        let base = image::place(&paths("one").cache, &digest);
        std::fs::create_dir_all(base.parent().unwrap()).unwrap();
        disk::create(&base, Size::mib(1)).unwrap();
        let home = paths("one").deployment(&Name::new("demo").unwrap());
        home.create().unwrap();
        let web = home.disk(&Name::new("web").unwrap());
        disk::create_overlay(&base, &web, Size::mib(1)).unwrap();
        for state in ["one", "two", "two"] {
            paths(state).register().unwrap();
        }
        for state in ["one", "two", "three"] {
            let used = images_in_use(&paths(state)).unwrap();
            assert_eq!(used, BTreeSet::from([digest.clone()]), "{state}");
        }
    }
}
