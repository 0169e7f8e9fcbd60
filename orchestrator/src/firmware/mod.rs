//! Firmware: which ROM a domain runs on, where it comes from, and what a guest reports of the firmware that it runs on.
//!
//! Owns what is under `<cache>/firmware`. Which firmware a domain has is the topology's choice; SeaBIOS and UEFI belong to
//! the hypervisor, which finds them itself.

pub mod coreboot;
mod reported;
pub mod rom;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, ensure};
use pspd_model::hint::Hinted;
use pspd_model::spec::{Digest, Firmware, Name, Payload, Spec};
use tokio_util::sync::CancellationToken;

pub use reported::{Reported, SCRIPT as REPORT_SCRIPT};
pub use rom::{Rom, check_size};

use crate::event::Scope;
use crate::image::GuestImage;
use crate::libvirt::Loader;

/// Finds ROMs, and builds into the cache those that pspd makes itself.
#[derive(Clone, Copy)]
pub struct Roms<'a> {
    pub cache: &'a Path,
    pub scope: &'a Scope,
    pub cancel: &'a CancellationToken,
}

impl Roms<'_> {
    /// The ROM that `firmware` is in; `None` for one that the hypervisor has. A file of the user's is not read. `image` is
    /// asked where the image's kernel is in the ROM. Blocks while it builds.
    pub fn find(
        &self,
        firmware: &Firmware,
        image: impl FnOnce() -> Result<GuestImage>,
    ) -> Result<Option<Rom>> {
        match firmware {
            Firmware::Seabios | Firmware::Uefi => Ok(None),
            Firmware::Rom { path, sha256 } => Ok(Some(Rom {
                path: path.clone(),
                sha256: sha256.clone(),
            })),
            Firmware::Coreboot(Payload::Seabios) => {
                coreboot::with_seabios(self.cache, self.scope, self.cancel).map(Some)
            }
            Firmware::Coreboot(payload @ Payload::Linux { .. }) => {
                coreboot::with_linux(self.cache, &image()?, payload, self.scope, self.cancel)
                    .map(Some)
            }
        }
    }

    /// Builds the ROM of `firmware`, where it is not cached. Refuses another one than that of `digest`, which a plan names
    /// before the ROM is built.
    pub fn ensure(
        &self,
        firmware: &Firmware,
        digest: &Digest,
        image: impl FnOnce() -> Result<GuestImage>,
    ) -> Result<()> {
        let rom = self.find(firmware, image)?;
        ensure!(
            rom.is_some_and(|rom| coreboot::is_cached_by(self.cache, digest, &rom)),
            Hinted::new(
                format!(
                    "it is not the planned ROM {}, because its image changed in the meantime",
                    digest.short()
                ),
                "Run `pspd up` again",
            )
        );
        Ok(())
    }

    /// What a domain is defined with; its ROM exists and is the one that the topology names.
    pub fn loader(
        &self,
        firmware: &Firmware,
        image: impl FnOnce() -> Result<GuestImage>,
    ) -> Result<Loader> {
        if let Firmware::Rom { path, sha256 } = firmware {
            rom::check(path, sha256)?;
        }
        Ok(match self.find(firmware, image)? {
            Some(rom) => Loader::Rom { path: rom.path },
            None if *firmware == Firmware::Uefi => Loader::Uefi,
            None => Loader::Seabios,
        })
    }

    /// The ROMs of all domains that have one; `images` are by the spec's keys.
    pub fn of_domains(
        &self,
        spec: &Spec,
        images: &BTreeMap<String, GuestImage>,
    ) -> Result<BTreeMap<Name, Rom>> {
        let mut roms = BTreeMap::new();
        for (name, domain) in &spec.domains {
            let image = || Ok(images[&domain.image].clone());
            if let Some(rom) = self.find(&domain.firmware, image)? {
                roms.insert(name.clone(), rom);
            }
        }
        Ok(roms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_planned_rom_is_accepted() {
        let cache = tempfile::tempdir().unwrap();
        let digest = coreboot::recipe_digest();
        let folder = cache.path().join("firmware").join(digest.as_str());
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("seabios.rom"), [7; 64 << 10]).unwrap();
        let roms = Roms {
            cache: cache.path(),
            scope: &Scope::ignored(),
            cancel: &CancellationToken::new(),
        };
        let ensure = |digest: &Digest| {
            let no_image = || -> Result<GuestImage> { panic!("no kernel is in that ROM") };
            roms.ensure(&Firmware::Coreboot(Payload::Seabios), digest, no_image)
        };
        ensure(&digest).unwrap();
        let another = Digest::of(b"another");
        assert_eq!(
            crate::hint::told(&ensure(&another).unwrap_err()),
            format!(
                "it is not the planned ROM {}, because its image changed in the meantime. Run `pspd up` again",
                another.short()
            )
        );
    }

    #[test]
    fn only_a_checked_rom_of_the_users_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rom");
        std::fs::write(&path, [7; 64 << 10]).unwrap();
        let roms = Roms {
            cache: folder.path(),
            scope: &Scope::ignored(),
            cancel: &CancellationToken::new(),
        };
        let no_image = || -> Result<GuestImage> { panic!("no kernel is in that ROM") };
        let loader = |firmware: &Firmware| roms.loader(firmware, no_image);
        let own = |sha256| Firmware::Rom {
            path: path.clone(),
            sha256,
        };
        assert_eq!(loader(&Firmware::Seabios).unwrap(), Loader::Seabios);
        assert_eq!(loader(&Firmware::Uefi).unwrap(), Loader::Uefi);
        let right = own(Digest::of(&[7; 64 << 10]));
        assert_eq!(loader(&right).unwrap(), Loader::Rom { path: path.clone() });
        loader(&own(Digest::of(b"another"))).unwrap_err();
        let wrong = own(Digest::of(b"another"));
        let found = roms.find(&wrong, no_image).unwrap().unwrap();
        assert_eq!(found.path, path);
    }
}
