//! Directories with names that URIs, configuration files and XML treat in their own way.

use super::*;

#[test]
fn a_lab_works_in_a_directory_of_any_name() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join(r#"a b%41#?&;[x]\"'<ä>,:=$HOME"#);
    let (lab, _) = Lab::start_with(&program(), &dir).unwrap();
    assert_eq!(virsh(&lab, &["uri"]), lab.libvirt_uri());
    define(&lab, home.path(), "net-define", NETWORK);
    virsh(&lab, &["net-start", "lab-test"]);
    assert!(Lab::running(&dir).unwrap().is_some());
    let processes = outside_processes("", &dir);
    assert!(processes.len() > 2, "{processes:?}");
    lab.stop().unwrap();
    poll("every process to end", || {
        processes.iter().all(|process| !process.exists())
    });
    fs::remove_dir_all(&dir).unwrap();
}
