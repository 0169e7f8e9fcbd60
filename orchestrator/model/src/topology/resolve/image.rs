//! Reads guest images: their sources and packages.

use std::collections::{BTreeMap, BTreeSet};

use super::super::Found;
use super::super::fault::Fault;
use super::super::keys;
use super::super::read::{Fields, Reader, control};
use super::super::tree::Node;
use super::Files;
use crate::spec::{ImageSource, ImageSpec, Seed};

/// The maximum number of images: one for each domain.
const MOST_IMAGES: usize = 1000;

/// Returns images by name; `None` for invalid images.
pub(super) fn images(
    reader: &Reader,
    fields: &Fields,
    files: &Files,
) -> BTreeMap<String, Option<ImageSpec>> {
    let Some(node) = fields.get("images") else {
        return BTreeMap::new();
    };
    let entries = reader.entries(node, "images").unwrap_or_default();
    if entries.len() > MOST_IMAGES {
        let message = format!(
            "a topology has at most {MOST_IMAGES} images, not {}",
            entries.len()
        );
        reader.fault(Fault::new(node.at, message));
        return BTreeMap::new();
    }
    entries
        .into_iter()
        .map(|(key, node)| {
            if let Some(control) = control(&key.name) {
                let message = format!("the name of an image contains {control}");
                reader.fault(Fault::new(key.at, message));
            }
            (key.name.clone(), image(reader, &key.name, node, files))
        })
        .collect()
}

fn image(reader: &Reader, name: &str, node: &Node, files: &Files) -> Option<ImageSpec> {
    let fields = reader.object(node, node.at, &keys::IMAGE)?;
    let given: Vec<&str> = ["recipe", "path", "url"]
        .into_iter()
        .filter(|key| fields.get(key).is_some())
        .collect();
    let [source] = given[..] else {
        reader.fault(Fault::new(
            node.at,
            format!("image `{name}` needs exactly one of `recipe`, `path` and `url`"),
        ));
        return None;
    };
    let from = fields.get(source)?;
    let packages = packages(reader, &fields, source);
    let source = if source == "recipe" {
        if fields.get("sha256").is_some() {
            reader.fault(
                Fault::new(fields.at("sha256"), "`sha256` cannot be used with `recipe`")
                    .help("remove it; the image is cached by the digest of the recipe's files"),
            );
        }
        ImageSource::Recipe(files.expect(
            reader,
            from,
            "recipe",
            Found::Folder,
            "a recipe is a directory with a `build.sh`, such as images/debian",
        )?)
    } else {
        let sha256 = match fields.get("sha256") {
            Some(node) => reader.digest(node),
            None => {
                reader.fault(
                    Fault::new(node.at, format!("image `{name}` needs `sha256`"))
                        .help("run `sha256sum FILE` to get it"),
                );
                None
            }
        };
        if source == "path" {
            let path = files.expect(
                reader,
                from,
                "path",
                Found::File,
                "use the path of a disk image on this host",
            );
            ImageSource::Path {
                path: path?,
                sha256: sha256?,
            }
        } else {
            let url = reader.parsed(from, "url", |text| {
                let web = text.starts_with("https://") || text.starts_with("http://");
                if web {
                    Ok(text.to_owned())
                } else {
                    Err(format!(
                        "`{text}` is not an http or https URL; use `path` for a file on this host"
                    ))
                }
            });
            ImageSource::Url {
                url: url?,
                sha256: sha256?,
            }
        }
    };
    let words = [
        ("credentials", Seed::Credentials),
        ("nocloud", Seed::Nocloud),
    ];
    let default = if matches!(source, ImageSource::Recipe(_)) {
        Seed::Credentials
    } else {
        Seed::Nocloud
    };
    let seed = fields
        .get("seed")
        .map_or(Some(default), |node| reader.word(node, "seed", &words))?;
    Some(ImageSpec {
        name: name.to_owned(),
        source,
        packages,
        seed,
    })
}

fn packages(reader: &Reader, fields: &Fields, source: &str) -> BTreeSet<String> {
    let Some(node) = fields.get("packages") else {
        return BTreeSet::new();
    };
    if source != "recipe" {
        let message = format!("`packages` cannot be used with `{source}`");
        let fault = Fault::new(fields.at("packages"), message);
        reader.fault(fault.help("only a recipe can install packages"));
    }
    let items = reader.list(node, "packages").iter();
    items
        .filter_map(|node| reader.parsed(node, "a package", parse_package))
        .collect()
}

/// Checks a package name by Debian policy 5.6.7.
fn parse_package(text: &str) -> Result<String, String> {
    let first = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let rest = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c);
    if text.len() >= 2 && first && text.chars().all(rest) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "`{text}` is not a valid package name; write it like `postgresql-17`"
        ))
    }
}
