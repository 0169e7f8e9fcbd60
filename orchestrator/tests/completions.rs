//! What shells offer after `pspd`, as their users get it.

#![allow(clippy::unwrap_used)] // clippy exempts tests, but not the functions that they share

use std::fs;
use std::path::Path;
use std::process::Command;

const TOPOLOGY: &str =
    "name: demo\ndomains: {store: {image: debian}, web-server: {image: debian}}\n";

/// Puts the words into the variables that bash has while Tab is pressed.
const BASH: &str = r#"
. <(pspd completions bash)
COMP_WORDS=($1 "")
[[ $1 == *" " ]] || COMP_WORDS=($1)
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
$(complete -p pspd | grep -o -- '-F [^ ]*' | cut -c4-) pspd "${COMP_WORDS[COMP_CWORD]}"
printf '%s\n' "${COMPREPLY[@]}"
"#;

/// Presses Tab on a terminal: zsh has no other way to ask. The line ends where the candidates do.
const ZSH: &str = r#"
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "PS1=; autoload -U compinit; compinit -D -u; . <(pspd completions zsh); bindkey '^I' list-choices; print -- re''ady"
zpty -r -m shell shown '*ready*'
zpty -w -n shell "$1"$'\t'$'\C-a\C-k'"print -- do''ne"$'\n'
zpty -r -m shell shown '*done*'
print -r -- "$shown"
"#;

const FISH: &str = "pspd completions fish | source; complete --do-complete $argv[1]";

/// What the shell shows for a line that was typed so far.
fn offered(shell: &str, line: &str, folder: &Path) -> String {
    let built = Path::new(env!("CARGO_BIN_EXE_pspd")).parent().unwrap();
    let path = format!("{}:{}", built.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("timeout");
    command.args(["60", shell]);
    match shell {
        "bash" => command.args(["--norc", "-c", BASH, "bash"]),
        "zsh" => command.args(["-f", "-c", ZSH, "zsh"]),
        _ => command.args(["--no-config", "-c", FISH, "--"]),
    };
    let output = command
        .arg(line)
        .current_dir(folder)
        .env("PATH", path)
        .env("HOME", folder)
        .env("TERM", "dumb")
        .env_remove("PSPD_TOPOLOGY")
        .env("PSPD_STATE_DIR", folder.join("state"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{shell}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn commands_options_and_names_of_the_deployment() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("topology.yaml"), TOPOLOGY).unwrap();
    let other = TOPOLOGY.replace("store", "elsewhere");
    fs::write(folder.path().join("other.yaml"), other).unwrap();
    fs::create_dir_all(folder.path().join("state/deployments/running")).unwrap();
    for shell in ["bash", "zsh", "fish"] {
        for (line, expected, left_out) in [
            ("pspd sta", &["start", "status"][..], "export"),
            ("pspd logs --sin", &["--since"], "--until"),
            ("pspd ssh ", &["store", "web-server"], "elsewhere"),
            ("pspd fault kill ", &["store", "web-server"], "elsewhere"),
            ("pspd --file other.yaml stop ", &["elsewhere"], "store"),
            ("pspd --deployment ", &["running"], "store"),
        ] {
            let offered = offered(shell, line, folder.path());
            for word in expected {
                assert!(offered.contains(word), "{shell}: `{line}`: {offered}");
            }
            assert!(!offered.contains(left_out), "{shell}: `{line}`: {offered}");
        }
    }
}

#[test]
fn a_wrong_topology_offers_no_names_and_says_nothing() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("topology.yaml"), "domains: [").unwrap();
    assert_eq!(offered("bash", "pspd ssh st", folder.path()).trim(), "");
}
