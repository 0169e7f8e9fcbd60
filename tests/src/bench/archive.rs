//! `pspd export` and `pspd import` against the manual way: `qemu-img convert` of each disk and `tar cJf`; `tar xJf` and
//! `cp`.
//!
//! The manual packing takes minutes and runs once; everything else runs three times, in turn.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pspd::disk::qcow2::Disk;
use pspd_tests::deployment::Deployment;
use pspd_tests::process::{Ran, Running, sh};
use tokio_util::sync::CancellationToken;

use super::{row, say};

/// The size of a disk that is mostly empty.
const SPARSE: &str = "100G";
const ROUNDS: usize = 3;
const MIB: f64 = 1048576.0;

pub(crate) fn measure() -> anyhow::Result<()> {
    let deployment = Deployment::reference()?;
    deployment.run(&["up"])?.expect(0)?;
    // Both sides get the same disks, of domains that are off.
    let destroy = "for one in web-server ai-server database-server; do virsh destroy $one; done";
    deployment
        .run(&["lab", "exec", "--", "sh", "-c", destroy])?
        .expect(0)?;
    let folder = deployment.folder().to_owned();
    let kinds = ["a.tar.xz", "a.tar.zst", "a.tar.gz"];
    let mut runs = kinds.map(|_| Vec::new());
    let mut peaks = kinds.map(|_| 0);
    for _ in 0..ROUNDS {
        for (index, file) in kinds.into_iter().enumerate() {
            let ran = watched(
                deployment.spawn(&["export", "--force", file])?,
                &mut peaks[index],
            )?;
            runs[index].push(ran.expect(0)?.elapsed);
        }
    }
    let began = Instant::now();
    let plain = by_hand(&deployment, &folder)?;
    let plain_row = row("qemu-img convert, tar cJf", &[began.elapsed()]);
    let plain_size = fs::metadata(&plain)?.len() as f64;
    let mut rows = Vec::new();
    for (index, file) in kinds.into_iter().enumerate() {
        let took = row(&format!("pspd export {file}"), &runs[index]);
        let size = fs::metadata(folder.join(file))?.len() as f64;
        say(&format!(
            "pspd export {file}: {:.1} times quicker, {:.2} of the size ({:.1} of {:.1} MiB), {:.0} MiB of memory at most",
            plain_row / took,
            size / plain_size,
            size / MIB,
            plain_size / MIB,
            peaks[index] as f64 / 1024.0
        ));
        rows.push(took);
    }
    say(&format!(
        ".tar.zst is {:.1} times quicker than .tar.xz",
        rows[0] / rows[1]
    ));
    secrets(&deployment)?;
    same_bytes(&deployment, &folder)?;
    // The processors are the import's alone.
    deployment.remove()?;
    import(&deployment, &folder, &plain)?;
    checks(&deployment, &folder)?;
    sparse(&folder)
}

/// What the search for secrets on the disks costs: an archive with secrets is written without it.
fn secrets(deployment: &Deployment) -> anyhow::Result<()> {
    let mut runs = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (index, options) in [&[][..], &["--with-secrets"]].into_iter().enumerate() {
            let arguments = [&["export", "--force", "b.tar.zst"], options].concat();
            runs[index].push(deployment.run(&arguments)?.expect(0)?.elapsed);
        }
    }
    let without = row("pspd export b.tar.zst", &runs[0]);
    let with = row("pspd export --with-secrets b.tar.zst", &runs[1]);
    say(&format!("ratio: {:.2}", without / with));
    Ok(())
}

/// The compressor alone, on the bytes that the archive has.
fn same_bytes(deployment: &Deployment, folder: &Path) -> anyhow::Result<()> {
    let at = |name: &str| folder.join(name).display().to_string();
    let (archive, tar) = (at("a.tar.zst"), at("same.tar"));
    sh("zstd", ["-d", "-q", "-f", &archive, "-o", &tar])?;
    let (mut alone, mut runs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let began = Instant::now();
        sh(
            "zstd",
            ["-3", "-T2", "-q", "-f", &tar, "-o", &at("same.tar.zst")],
        )?;
        alone.push(began.elapsed());
        let ran = deployment.run(&["export", "--force", "a.tar.zst"])?;
        runs.push(ran.expect(0)?.elapsed);
    }
    let alone = row("zstd -3 -T2 of the same bytes", &alone);
    let took = row("pspd export a.tar.zst", &runs);
    say(&format!("ratio: {:.2}", took / alone));
    Ok(())
}

/// Waits for a run, and records the peak memory of its process in KiB.
fn watched(running: Running, peak: &mut u64) -> anyhow::Result<Ran> {
    let status = format!("/proc/{}/status", running.id());
    let watcher = std::thread::spawn(move || {
        let mut most = 0;
        while let Ok(text) = fs::read_to_string(&status) {
            let Some(line) = text.lines().find_map(|line| line.strip_prefix("VmHWM:")) else {
                break;
            };
            most = line.trim().trim_end_matches(" kB").parse().unwrap_or(most);
            std::thread::sleep(Duration::from_millis(20));
        }
        most
    });
    let ran = running.wait()?;
    *peak = watcher.join().unwrap_or_default().max(*peak);
    Ok(ran)
}

fn by_hand(deployment: &Deployment, folder: &Path) -> anyhow::Result<PathBuf> {
    let out = folder.join("plain");
    fs::create_dir(&out)?;
    for name in ["web-server", "ai-server", "database-server"] {
        let from = deployment
            .home()
            .join("disks")
            .join(format!("{name}.qcow2"));
        let to = out.join(format!("{name}.qcow2"));
        sh(
            "qemu-img",
            [
                Path::new("convert"),
                Path::new("-O"),
                Path::new("qcow2"),
                &from,
                &to,
            ],
        )?;
    }
    let archive = folder.join("plain.tar.xz");
    let (at, to) = (folder.display().to_string(), archive.display().to_string());
    sh("tar", ["-C", &at, "-cJf", &to, "plain"])?;
    fs::remove_dir_all(&out)?;
    Ok(archive)
}

fn import(deployment: &Deployment, folder: &Path, plain: &Path) -> anyhow::Result<()> {
    let kinds = ["a.tar.xz", "a.tar.zst", "a.tar.gz"];
    let (mut by_hand, mut runs) = (Vec::new(), kinds.map(|_| Vec::new()));
    for round in 0..ROUNDS {
        by_hand.push(unpacked_by_hand(folder, plain)?);
        for (index, file) in kinds.into_iter().enumerate() {
            let name = format!("copy-{round}-{index}");
            let ran = deployment.run(&["import", file, "--name", &name, "--no-up"])?;
            runs[index].push(ran.expect(0)?.elapsed);
            fs::remove_dir_all(folder.join(&name))?;
            fs::remove_dir_all(deployment.state().join("deployments").join(&name))?;
        }
    }
    let by_hand = row("tar xJf, cp", &by_hand);
    for (index, file) in kinds.into_iter().enumerate() {
        let took = row(&format!("pspd import {file}"), &runs[index]);
        say(&format!(
            "pspd import {file}: {:.1} times quicker",
            by_hand / took
        ));
    }
    Ok(())
}

fn unpacked_by_hand(folder: &Path, plain: &Path) -> anyhow::Result<Duration> {
    let images = folder.join("images");
    fs::create_dir(&images)?;
    let began = Instant::now();
    let (at, from) = (folder.display().to_string(), plain.display().to_string());
    sh("tar", ["-C", &at, "-xJf", &from])?;
    sh("cp", [Path::new("-r"), &folder.join("plain"), &images])?;
    let took = began.elapsed();
    fs::remove_dir_all(folder.join("plain"))?;
    fs::remove_dir_all(images)?;
    Ok(took)
}

/// What an import spends on looking through the disks' tables, of the cheapest import.
fn checks(deployment: &Deployment, folder: &Path) -> anyhow::Result<()> {
    let tar = folder.join("same.tar").display().to_string();
    let (mut imports, mut checks) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let name = format!("checked-{round}");
        let ran = deployment.run(&["import", &tar, "--name", &name, "--no-up"])?;
        imports.push(ran.expect(0)?.elapsed);
        let home = deployment.state().join("deployments").join(&name);
        let began = Instant::now();
        for place in ["disks", "volumes"] {
            for entry in fs::read_dir(home.join(place))? {
                Disk::open(&entry?.path())?.check(&CancellationToken::new())?;
            }
        }
        checks.push(began.elapsed());
        fs::remove_dir_all(folder.join(&name))?;
        fs::remove_dir_all(home)?;
    }
    let import = row("pspd import same.tar", &imports);
    let check = row("the checks of its disks", &checks);
    say(&format!("ratio: {:.3}", check / import));
    Ok(())
}

/// A large disk with little data against one that the same data fills.
fn sparse(folder: &Path) -> anyhow::Result<()> {
    let sizes = ["1G", SPARSE];
    for size in sizes {
        let disk = folder.join(format!("{size}.qcow2")).display().to_string();
        sh("qemu-img", ["create", "-q", "-f", "qcow2", &disk, size])?;
        // Different values: a single one would compress to nothing.
        for part in 0..8 {
            let write = format!("write -P {} {}M 120M", part + 1, part * 124);
            sh("qemu-io", ["-f", "qcow2", "-c", &write, &disk])?;
        }
    }
    let mut runs = sizes.map(|_| Vec::new());
    for _ in 0..ROUNDS {
        for (index, size) in sizes.into_iter().enumerate() {
            let began = Instant::now();
            let mut dense = fs::File::create(folder.join("dense"))?;
            Disk::open(&folder.join(format!("{size}.qcow2")))?
                .dense(None, &CancellationToken::new())?
                .write(&mut dense, &|_| ())?;
            runs[index].push(began.elapsed());
        }
    }
    let rows: Vec<f64> = sizes
        .iter()
        .zip(&runs)
        .map(|(size, runs)| row(&format!("a disk of {size} with 960 MiB"), runs))
        .collect();
    say(&format!("ratio: {:.2}", rows[1] / rows[0]));
    Ok(())
}
