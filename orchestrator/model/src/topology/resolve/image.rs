//! Reads guest images: their sources and packages.

use std::collections::{BTreeMap, BTreeSet};

use super::super::Found;
use super::super::fault::Fault;
use super::super::keys;
use super::super::read::{Fields, Reader, control};
use super::super::tree::{Key, Node};
use super::Files;
use crate::spec::{Builtin, ImageSource, ImageSpec, Seed};

/// The maximum number of images: one for each domain.
const MOST_IMAGES: usize = 1000;

/// Images by name; `None` for invalid images.
pub(super) type Images = BTreeMap<String, Option<ImageSpec>>;

/// Whether a domain's image is not a name, but an image of this domain alone, which has the domain's name.
pub(super) fn is_inline(node: &Node) -> bool {
    node.entries().is_some()
}

/// Reads all images, with the built-in ones and those of single domains.
pub(super) fn images(reader: &Reader, fields: &Fields, files: &Files) -> Images {
    let mut images = named(reader, fields, files);
    for builtin in Builtin::ALL {
        let image = ImageSpec::builtin(builtin);
        images.entry(image.name.clone()).or_insert(Some(image));
    }
    for (key, node) in inline(fields) {
        if images.contains_key(&key.name) {
            let message = format!("there is another image with the name `{}`", key.name);
            let help = "the image of one domain has the domain's name; define it in `images`, with another name";
            reader.fault(Fault::new(node.at, message).help(help));
        } else {
            images.insert(key.name.clone(), image(reader, &key.name, node, files));
        }
    }
    images
}

fn inline<'a>(fields: &Fields<'a>) -> Vec<(&'a Key, &'a Node)> {
    let domains = fields.get("domains").and_then(Node::entries);
    domains
        .unwrap_or_default()
        .iter()
        .filter_map(|(key, domain)| {
            let mut fields = domain.entries()?.iter();
            let (_, image) = fields.find(|(key, _)| key.name == "image")?;
            is_inline(image).then_some((key, image))
        })
        .collect()
}

fn named(reader: &Reader, fields: &Fields, files: &Files) -> Images {
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
    let given: Vec<&str> = ["builtin", "recipe", "path", "url"]
        .into_iter()
        .filter(|key| fields.get(key).is_some())
        .collect();
    let [source] = given[..] else {
        reader.fault(Fault::new(
            node.at,
            format!("image `{name}` needs exactly one of `builtin`, `recipe`, `path` and `url`"),
        ));
        return None;
    };
    let from = fields.get(source)?;
    let packages = packages(reader, &fields, source);
    let is_built = ["builtin", "recipe"].contains(&source);
    if is_built && fields.get("sha256").is_some() {
        let message = format!("`sha256` cannot be used with `{source}`");
        reader.fault(
            Fault::new(fields.at("sha256"), message)
                .help("remove it; the image is cached by the digest of the recipe's files"),
        );
    }
    let source = if source == "builtin" {
        let words = Builtin::ALL.map(|builtin| (builtin.name(), builtin));
        ImageSource::Builtin(reader.word(from, "builtin", &words)?)
    } else if source == "recipe" {
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
    let default = match source.is_built() {
        true => Seed::Credentials,
        false => Seed::Nocloud,
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
    if !["builtin", "recipe"].contains(&source) {
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
