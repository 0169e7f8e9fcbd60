//! What commands need of a deployment's directory, its topology and the files that the topology names. Nothing runs.

#![allow(clippy::unwrap_used)] // clippy exempts tests, but not the functions that they share

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use pspd::state::{Home, Paths, resolved_origin};
use pspd::topology;
use pspd_model::spec::Name;

/// A project with the deployment `demo`, as an `up` left it whose lab has ended since.
struct Project {
    home: tempfile::TempDir,
}

impl Project {
    fn new() -> Project {
        let project = Project {
            home: tempfile::tempdir().unwrap(),
        };
        project.write("one", "demo");
        let file = project.file("one");
        let record = project.record();
        record.create().unwrap();
        record.record_spec(&topology::load(&file).unwrap()).unwrap();
        record
            .record_origin(&resolved_origin(&file).unwrap())
            .unwrap();
        project
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn file(&self, folder: &str) -> PathBuf {
        self.folder(folder).join("topology.yaml")
    }

    fn state(&self) -> PathBuf {
        self.folder("state")
    }

    fn record(&self) -> Home {
        let paths = Paths::resolve(Some(self.state()), Some(self.state())).unwrap();
        paths.deployment(&Name::new("demo").unwrap())
    }

    /// Writes a topology with a recipe and a service.
    fn write(&self, folder: &str, name: &str) {
        let folder = self.folder(folder);
        fs::create_dir_all(folder.join("recipe")).unwrap();
        fs::write(folder.join("recipe/build.sh"), "#!/bin/sh\n").unwrap();
        fs::write(folder.join("serve"), "#!/bin/sh\n").unwrap();
        let text = format!(
            "name: {name}\nimages:\n  guest: {{recipe: ./recipe}}\ndomains:\n  web:\n    image: guest\n    \
             service: {{binary: ./serve, port: 8000, health: tcp}}\n"
        );
        fs::write(folder.join("topology.yaml"), text).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_pspd"))
            .arg("--state-dir")
            .arg(self.state())
            .arg("--cache-dir")
            .arg(self.folder("cache"))
            .args(arguments)
            .output()
            .unwrap()
    }

    fn run_in(&self, folder: &str, arguments: &[&str]) -> Output {
        let file = self.file(folder);
        self.run(&[&["--file", file.to_str().unwrap()], arguments].concat())
    }
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn assert_done(output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{}", errors(output));
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn down_needs_no_binary_and_no_recipe() {
    let project = Project::new();
    fs::remove_dir_all(project.folder("one/recipe")).unwrap();
    fs::remove_file(project.folder("one/serve")).unwrap();
    assert_done(&project.run_in("one", &["down", "--volumes"]));
    assert!(!project.record().exists());
}

#[test]
fn down_needs_no_readable_key() {
    let project = Project::new();
    let keys = project.record().keys();
    fs::create_dir_all(&keys).unwrap();
    fs::write(keys.join("ca.pem"), "no key").unwrap();
    assert_done(&project.run_in("one", &["down", "--volumes"]));
}

#[test]
fn what_a_killed_export_flattened_is_removed_by_the_next_command() {
    let project = Project::new();
    let folder = project.record().flattened();
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("web.qcow2"), "half a disk").unwrap();
    assert_done(&project.run_in("one", &["down"]));
    assert!(project.record().exists());
    assert!(!folder.exists());
}

#[test]
fn down_needs_no_project() {
    let project = Project::new();
    fs::remove_dir_all(project.folder("one")).unwrap();
    assert_done(&project.run(&["down", "--deployment", "demo", "--volumes"]));
    assert!(!project.record().exists());
}

#[test]
fn status_needs_no_project() {
    let project = Project::new();
    fs::remove_dir_all(project.folder("one/recipe")).unwrap();
    for arguments in [&["status"][..], &["status", "--deployment", "demo"]] {
        let output = project.run_in("one", arguments);
        assert_eq!(output.status.code(), Some(4), "{}", errors(&output));
    }
}

#[test]
fn without_a_topology_its_deployment_is_named() {
    let project = Project::new();
    for damage in ["missing", "invalid"] {
        match damage {
            "missing" => fs::remove_file(project.file("one")).unwrap(),
            _ => fs::write(project.file("one"), "name: [").unwrap(),
        }
        for command in [
            &["down"][..],
            &["status"],
            &["logs"],
            &["ssh", "web"],
            &["console", "web"],
        ] {
            let output = project.run_in("one", command);
            assert_eq!(output.status.code(), Some(3), "{damage} {command:?}");
            let hint = "Pass `--deployment NAME` to run this command without a topology. Deployments of this file: `demo`";
            assert!(errors(&output).contains(hint), "{}", errors(&output));
        }
    }
}

#[test]
fn down_names_a_deployment_that_was_renamed_in_the_file() {
    let project = Project::new();
    project.write("one", "renamed");
    let output = project.run_in("one", &["down"]);
    assert_eq!(output.status.code(), Some(1));
    let text = errors(&output);
    assert!(
        text.contains("`: `demo`. Pass `--deployment NAME` to take one down"),
        "{text}"
    );
    assert!(project.record().exists());
}

#[test]
fn the_same_name_in_another_folder_is_refused_with_both_paths() {
    let project = Project::new();
    project.write("two", "demo");
    let both = format!(
        "came from `{}`, and `{}` has the same name",
        shown(&resolved_origin(&project.file("one")).unwrap()),
        shown(&resolved_origin(&project.file("two")).unwrap())
    );
    for command in ["up", "plan", "down"] {
        let output = project.run_in("two", &[command]);
        assert_eq!(output.status.code(), Some(1), "{command}");
        assert!(errors(&output).contains(&both), "{}", errors(&output));
    }
    let adopted = project.run_in("two", &["plan", "--adopt"]);
    assert_eq!(adopted.status.code(), Some(4), "{}", errors(&adopted));
}

/// Another path to the same folder, and another file in it, are the same project.
#[test]
fn another_path_to_the_same_folder_is_the_same_project() {
    let project = Project::new();
    std::os::unix::fs::symlink(project.folder("one"), project.folder("link")).unwrap();
    fs::copy(project.file("one"), project.folder("one/other.yaml")).unwrap();
    for file in ["link/topology.yaml", "one/other.yaml"] {
        let file = shown(&project.folder(file));
        let output = project.run(&["--file", &file, "plan"]);
        assert_eq!(output.status.code(), Some(4), "{}", errors(&output));
    }
}

#[test]
fn a_full_or_closed_stderr_changes_neither_work_nor_exit_code() {
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let (reader, closed) = std::io::pipe().unwrap();
    drop(reader);
    for stderr in [Stdio::from(full), Stdio::from(closed)] {
        let project = Project::new();
        let status = Command::new(env!("CARGO_BIN_EXE_pspd"))
            .arg("--state-dir")
            .arg(project.state())
            .args(["down", "--deployment", "demo", "--volumes"])
            .stderr(stderr)
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(0));
        assert!(!project.record().exists());
    }
}

#[test]
fn a_reader_of_stdout_may_go_away() {
    for arguments in [&["completions", "bash"][..], &["schema"], &["--help"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = Command::new(env!("CARGO_BIN_EXE_pspd"))
            .args(arguments)
            .stdout(writer)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert_eq!(errors(&output), "", "{arguments:?}");
    }
}

/// Exit handlers of libraries free what threads still use that were not waited for.
#[test]
fn a_command_ends_without_exit_handlers() {
    let folder = tempfile::tempdir().unwrap();
    let [source, library, mark] =
        ["handler.c", "handler.so", "mark"].map(|name| folder.path().join(name));
    let text = "#include <fcntl.h>\n#include <stdlib.h>\n\
        __attribute__((destructor)) static void handler(void) { creat(getenv(\"MARK\"), 0600); }\n";
    fs::write(&source, text).unwrap();
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .status()
        .unwrap();
    assert!(compiled.success());
    let handled = |program: &str| {
        let output = Command::new(program)
            .arg("schema")
            .env("LD_PRELOAD", &library)
            .env("MARK", &mark)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", errors(&output));
        mark.exists()
    };
    assert!(!handled(env!("CARGO_BIN_EXE_pspd")));
    assert!(handled("echo"), "the library was not loaded");
}
