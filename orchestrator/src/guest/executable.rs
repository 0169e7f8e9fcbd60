//! Checks on this host that a guest can run a file, and finds the programs that it needs there.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, bail};

/// More than the headers of any executable that a linker writes.
const HEAD: u64 = 64 << 10;
/// `e_machine` of the guests' architecture, and of the one that its kernel runs as well.
const X86_64: u16 = 62;
const I386: u16 = 3;
const INTERPRETER: u32 = 3;

/// Returns the programs that the guest needs to run a file: its loader, or the interpreter of a script. Fails if no guest
/// can run it.
pub(super) fn needs(path: &Path) -> anyhow::Result<Vec<String>> {
    let mut head = Vec::new();
    let file = File::open(path).and_then(|file| file.take(HEAD).read_to_end(&mut head));
    file.with_context(|| format!("failed to read `{}`", path.display()))?;
    read(&head).with_context(|| format!("`{}` cannot run in a guest", path.display()))
}

fn read(head: &[u8]) -> anyhow::Result<Vec<String>> {
    let needs = match head {
        [0x7f, b'E', b'L', b'F', ..] => loader(head)?.into_iter().collect(),
        [b'#', b'!', line @ ..] => interpreters(line)?,
        [] => bail!("it is empty"),
        _ => bail!(
            "it is not a Linux executable or a script. The first line of a script is like `#!/bin/sh`"
        ),
    };
    // They are quoted in a command of the guest's shell.
    let plain = |program: &String| !program.contains(|c: char| c == '\'' || c.is_control());
    Ok(needs.into_iter().filter(plain).collect())
}

/// The loader of a dynamic executable. See elf(5).
fn loader(head: &[u8]) -> anyhow::Result<Option<String>> {
    let bytes = |at: usize, count: usize| {
        let end = at.checked_add(count)?;
        head.get(at..end)
    };
    let number = |at: usize, count: usize| {
        let bytes = bytes(at, count)?.iter().rev();
        Some(bytes.fold(0_u64, |number, byte| number << 8 | u64::from(*byte)))
    };
    let little_endian = head.get(5) == Some(&1);
    let machine = number(18, 2).filter(|_| little_endian);
    match machine.and_then(|machine| u16::try_from(machine).ok()) {
        Some(X86_64) => {}
        Some(I386) => return Ok(None),
        _ => bail!("it is built for another architecture than x86-64"),
    }
    let find = || {
        let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
        let header = |index: u64| usize::try_from(table.checked_add(index * size)?).ok();
        let found = (0..count)
            .filter_map(header)
            .find(|at| number(*at, 4) == Some(u64::from(INTERPRETER)))?;
        let (at, length) = (number(found + 8, 8)?, number(found + 32, 8)?);
        let path = bytes(usize::try_from(at).ok()?, usize::try_from(length).ok()?)?;
        let path = path.split(|byte| *byte == 0).next()?;
        Some(String::from_utf8_lossy(path).into_owned())
    };
    Ok(find())
}

/// The interpreter in the first line of a script, and what `env` looks for.
fn interpreters(line: &[u8]) -> anyhow::Result<Vec<String>> {
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
    if line.ends_with(b"\r") {
        bail!("its lines end with CR LF, as on Windows. Convert it, as with `sed -i 's/\\r$//'`");
    }
    let line = String::from_utf8_lossy(line);
    let mut words = line.split_whitespace();
    let Some(first) = words.next() else {
        bail!("its first line names no interpreter");
    };
    let mut needs = vec![first.to_owned()];
    if Path::new(first)
        .file_name()
        .is_some_and(|name| name == "env")
    {
        needs.extend(words.find(|word| !word.starts_with('-')).map(str::to_owned));
    }
    Ok(needs)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The smallest header with one program header.
    fn elf(machine: u16, loader: Option<&str>) -> Vec<u8> {
        let mut file = vec![0; 120];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[18..20].copy_from_slice(&machine.to_le_bytes());
        file[32] = 64;
        file[54] = 56;
        file[56] = 1;
        if let Some(loader) = loader {
            file[64] = INTERPRETER as u8;
            file[72] = 120;
            file[96] = loader.len() as u8 + 1;
            file.extend(loader.bytes());
            file.push(0);
        }
        file
    }

    #[test]
    fn what_a_guest_needs_is_found_in_the_first_bytes() {
        let loader = "/lib64/ld-linux-x86-64.so.2";
        for (head, needs) in [
            (elf(X86_64, None), vec![]),
            (elf(X86_64, Some(loader)), vec![loader]),
            (elf(I386, None), vec![]),
            (b"#!/bin/sh\n".to_vec(), vec!["/bin/sh"]),
            (
                b"#! /usr/bin/env -S python3 -u\n".to_vec(),
                vec!["/usr/bin/env", "python3"],
            ),
        ] {
            assert_eq!(read(&head).unwrap(), needs);
        }
    }

    #[test]
    fn what_no_guest_can_run_is_refused() {
        for (head, message) in [
            (elf(183, None), "another architecture"),
            (b"\x7fELF".to_vec(), "another architecture"),
            (b"".to_vec(), "it is empty"),
            (b"echo hello\n".to_vec(), "`#!/bin/sh`"),
            (b"#!/bin/sh\r\necho\r\n".to_vec(), "CR LF"),
            (b"#!\n".to_vec(), "names no interpreter"),
            (b"MZ\x90".to_vec(), "not a Linux executable"),
        ] {
            let error = read(&head).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
