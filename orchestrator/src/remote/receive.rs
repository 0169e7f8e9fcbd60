//! The host's side: keeps the objects of a deployment's topology, and places the topology once all are there.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, Read, Write};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use pspd_model::hint::Hinted;
use pspd_model::spec::Digest;
use tokio_util::sync::CancellationToken;

use super::send::{Answer, Offer};
use super::sent::{OBJECTS, name_of};
use super::{PLANNED, TOPOLOGY};
use crate::state::{Paths, create_private, read_if_there, remove_if_there, write_atomically};
use crate::{folder, identity, tree};

/// The longest offer, in bytes: a topology, and a digest for each file that it names.
const LONGEST: u64 = 16 << 20;

/// Answers one sender.
pub(crate) fn receive(paths: &Paths, mut from: impl BufRead, mut to: impl Write) -> Result<()> {
    let mut line = String::new();
    from.by_ref().take(LONGEST).read_line(&mut line)?;
    let offer: Offer = serde_json::from_str(&line).context("the offer cannot be read")?;
    ensure!(
        [TOPOLOGY, PLANNED].contains(&offer.file.as_str()),
        "`{}` is not the name of a sent topology",
        offer.file
    );
    let place = paths.sent(&offer.deployment);
    refuse_other_origin(&place, &offer)?;
    let objects = place.join(OBJECTS);
    create_private(&objects)?;
    let missing = |name: &&Digest| !objects.join(name.to_string()).exists();
    let missing: Vec<Digest> = offer.objects.iter().filter(missing).cloned().collect();
    say(&mut to, &Answer::Missing(missing.clone()))?;
    unpack(&mut from, &objects, &missing)?;
    write_atomically(&place.join(&offer.file), offer.text.as_bytes(), 0o600)?;
    if offer.file == TOPOLOGY {
        identity::place(&paths.deployment(&offer.deployment).keys(), &offer.keys)?;
        write_atomically(&place.join("from"), offer.origin.as_bytes(), 0o600)?;
        remove_others(&objects, &offer.objects)?;
    }
    say(&mut to, &Answer::Placed)
}

fn say(to: &mut impl Write, answer: &Answer) -> Result<()> {
    writeln!(to, "{}", serde_json::to_string(answer)?)?;
    Ok(to.flush()?)
}

/// Somebody else may use the same name.
fn refuse_other_origin(place: &Path, offer: &Offer) -> Result<()> {
    let before = read_if_there(&place.join("from"))?.unwrap_or_default();
    let before = String::from_utf8_lossy(&before);
    ensure!(
        offer.adopt || before.is_empty() || before == offer.origin,
        Hinted::new(
            format!(
                "the deployment `{}` there came from `{before}`",
                offer.deployment
            ),
            "Change its `name`, or pass `--adopt` to `pspd up` to replace the deployment",
        )
    );
    Ok(())
}

/// Unpacks objects, of which each gets its name once its content is that of the name.
fn unpack(from: impl Read, objects: &Path, missing: &[Digest]) -> Result<()> {
    let arriving = objects.join(format!("arriving.{}", std::process::id()));
    folder::remove(&arriving)?;
    let unpacked = (|| {
        tree::unpack(from, &arriving, &CancellationToken::new())?;
        for name in missing {
            let path = arriving.join(name.to_string());
            let found = name_of(&path, &CancellationToken::new())?;
            ensure!(
                found == *name,
                "a file arrived damaged, or changed while it was sent"
            );
            let place = objects.join(name.to_string());
            match fs::rename(&path, &place) {
                // Another sender was first.
                Err(_) if place.exists() => {}
                renamed => renamed?,
            }
        }
        Ok(())
    })();
    folder::remove(&arriving)?;
    unpacked
}

/// Removes the objects of earlier topologies, and what a killed run left.
fn remove_others(objects: &Path, used: &[Digest]) -> Result<()> {
    let used: BTreeSet<String> = used.iter().map(Digest::to_string).collect();
    for entry in fs::read_dir(objects)? {
        let entry = entry?;
        if !used.contains(&*entry.file_name().to_string_lossy()) {
            match entry.file_type()?.is_dir() {
                true => folder::remove(&entry.path())?,
                false => remove_if_there(&entry.path())?,
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt as _;

    use pspd_model::spec::Name;

    use super::super::send;
    use super::*;

    struct Case {
        folder: tempfile::TempDir,
    }

    impl Case {
        fn paths(&self) -> Paths {
            Paths {
                state: self.folder.path().join("state"),
                cache: self.folder.path().join("cache"),
            }
        }

        /// Sends files with these texts; `tar` changes what is sent after the offer.
        fn send(
            &self,
            origin: &str,
            texts: &[&str],
            tar: impl Fn(Vec<u8>) -> Vec<u8>,
        ) -> Result<String> {
            let cancel = CancellationToken::new();
            let (mut objects, mut builder) = (Vec::new(), tar::Builder::new(Vec::new()));
            for text in texts {
                let path = self.folder.path().join("file");
                fs::write(&path, text)?;
                let name = name_of(&path, &cancel)?;
                send::add(&mut builder, &name, &path, &cancel)?;
                objects.push(name);
            }
            let offer = Offer {
                deployment: Name::new("demo")?,
                file: TOPOLOGY.to_owned(),
                text: texts.join(" "),
                objects,
                keys: BTreeMap::new(),
                origin: origin.to_owned(),
                adopt: false,
            };
            let mut sent = format!("{}\n", serde_json::to_string(&offer)?).into_bytes();
            sent.extend(tar(builder.into_inner()?));
            let mut answers = Vec::new();
            receive(&self.paths(), &*sent, &mut answers)?;
            Ok(String::from_utf8(answers)?)
        }

        /// The objects and the topology that are there.
        fn kept(&self) -> (BTreeSet<String>, String) {
            let place = self.paths().sent(&Name::new("demo").unwrap());
            let objects = fs::read_dir(place.join(OBJECTS)).into_iter().flatten();
            let texts = objects.map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap());
            let topology = fs::read_to_string(place.join(TOPOLOGY)).unwrap_or_default();
            (texts.collect(), topology)
        }
    }

    fn case() -> Case {
        Case {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn texts(texts: &[&str]) -> BTreeSet<String> {
        texts.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_there_is_not_asked_for_and_what_is_no_longer_named_is_removed() {
        let case = case();
        let whole = |tar| tar;
        case.send("here:/a", &["one", "two"], whole).unwrap();
        assert_eq!(case.kept(), (texts(&["one", "two"]), "one two".to_owned()));
        let answers = case.send("here:/a", &["two"], |_| Vec::new()).unwrap();
        assert!(answers.starts_with("{\"Missing\":[]}"), "{answers}");
        assert_eq!(case.kept(), (texts(&["two"]), "two".to_owned()));
    }

    #[test]
    fn a_topology_is_placed_once_all_of_its_files_are_there_as_they_were() {
        let case = case();
        case.send("here:/a", &["one"], |tar| tar).unwrap();
        let before = case.kept();
        // A connection that ends, and one byte that differs.
        let cut = |tar: Vec<u8>| tar[..700].to_vec();
        let changed = |mut tar: Vec<u8>| {
            tar[512] ^= 1;
            tar
        };
        case.send("here:/a", &["two", "three"], cut).unwrap_err();
        assert_eq!(case.kept(), before);
        let error = case.send("here:/a", &["two"], changed).unwrap_err();
        assert!(error.to_string().contains("arrived damaged"), "{error:#}");
        assert_eq!(case.kept(), before);
    }

    #[test]
    fn a_directory_arrives_with_links_and_permissions_and_can_be_removed() {
        let case = case();
        let own = case.folder.path().join("own");
        fs::create_dir_all(own.join("closed")).unwrap();
        fs::write(own.join("closed/run"), "#!/bin/sh").unwrap();
        let mode = |bits| fs::Permissions::from_mode(bits);
        fs::set_permissions(own.join("closed/run"), mode(0o750)).unwrap();
        std::os::unix::fs::symlink("closed/run", own.join("link")).unwrap();
        fs::set_permissions(own.join("closed"), mode(0o555)).unwrap();
        let cancel = CancellationToken::new();
        let name = name_of(&own, &cancel).unwrap();
        let mut builder = tar::Builder::new(Vec::new());
        send::add(&mut builder, &name, &own, &cancel).unwrap();
        let objects = case.folder.path().join("objects");
        fs::create_dir(&objects).unwrap();
        let tar = builder.into_inner().unwrap();
        unpack(&*tar, &objects, std::slice::from_ref(&name)).unwrap();
        let there = objects.join(name.to_string());
        let bits =
            |path: &str| fs::metadata(there.join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((bits("closed/run"), bits("closed")), (0o750, 0o700));
        let target = fs::read_link(there.join("link")).unwrap();
        assert_eq!(target, Path::new("closed/run"));
        remove_others(&objects, &[]).unwrap();
        assert_eq!(fs::read_dir(&objects).unwrap().count(), 0);
    }

    #[test]
    fn a_topology_of_the_same_name_from_elsewhere_is_refused() {
        let case = case();
        case.send("here:/a", &["one"], |tar| tar).unwrap();
        let error = case.send("here:/b", &["two"], |tar| tar).unwrap_err();
        assert!(
            error.to_string().contains("came from `here:/a`"),
            "{error:#}"
        );
        assert_eq!(case.kept(), (texts(&["one"]), "one".to_owned()));
    }
}
