//! Media that print which of them was booted, made by the recipe that this program carries.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rust_embed::RustEmbed;
use tokio_util::sync::CancellationToken;

use super::recipe;
use crate::event::Scope;

/// Begins the line by which a medium reports what it is.
pub const STARTED: &str = "started from ";

#[derive(RustEmbed)]
#[folder = "../images/media"]
struct Recipe;

/// The folder that they are in; its owner removes it.
#[derive(Clone, Debug)]
pub struct Media(PathBuf);

impl Media {
    /// Makes all of them in an existing folder. Blocks for a few seconds; `cancel` ends it.
    pub fn make(folder: &Path, scope: &Scope, cancel: &CancellationToken) -> Result<Media> {
        let scripts = folder.join("recipe");
        recipe::write::<Recipe>(&scripts)?;
        let out = folder.join("media");
        let build = recipe::Build {
            recipe: &scripts,
            title: "the built-in recipe of boot media",
            packages: &BTreeSet::new(),
            guest_init: None,
            out: &out,
            made: "disk.img",
            log: &folder.join("media.log"),
            scope,
            cancel,
        };
        build.run().context("failed to make the media")?;
        Ok(Media(out))
    }

    /// Boots by BIOS and by UEFI, and reports `disk`.
    pub fn disk(&self) -> PathBuf {
        self.0.join("disk.img")
    }

    /// Boots by BIOS and by UEFI, and reports `cd-rom`.
    pub fn cd_rom(&self) -> PathBuf {
        self.0.join("cd.iso")
    }

    /// For TFTP: the files `bios` and `uefi`, which report `network`.
    pub fn tftp(&self) -> PathBuf {
        self.0.join("tftp")
    }
}
