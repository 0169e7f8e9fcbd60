//! ROMs in plans: built once for all domains that run them, and a new ROM means a new definition.

use super::*;
use crate::observed::CacheState;

/// Two domains run coreboot with SeaBIOS, one with its kernel in the ROM, and one runs SeaBIOS.
fn four() -> (Spec, World) {
    let mut domains: Vec<DomainSpec> = (0..4).map(|index| domain(index, &[], false)).collect();
    domains[0].firmware = Firmware::Coreboot(Payload::Seabios);
    domains[1].firmware = Firmware::Coreboot(Payload::Seabios);
    domains[2].firmware = Firmware::Coreboot(Payload::Linux { cmdline: None });
    let spec = spec(domains);
    let mut world = nothing(&spec);
    for (index, rom) in [(0, "seabios"), (1, "seabios"), (2, "linux")] {
        world.domain(&name(&format!("d{index}"))).rom = Some(CacheState {
            digest: Digest::of(rom.as_bytes()),
            cached: false,
        });
    }
    (spec, world)
}

#[test]
fn one_rom_is_built_for_all_domains_that_run_it() {
    let (spec, world) = four();
    let plan = up(&spec, &world).unwrap();
    let roms: Vec<&Step> = plan
        .steps
        .iter()
        .filter(|step| matches!(step.action, Action::EnsureRom { .. }))
        .collect();
    assert_eq!(roms.len(), 2);
    // A ROM waits for the image only where the image's kernel is a part of it.
    assert_eq!(joined(&roms[0].after), "");
    assert_eq!(joined(&roms[1].after), "image/debian");
    let waits_for = |domain: &str, rom: &Step| {
        let after = after(&plan, domain, DomainStep::Define);
        after.contains(&rom.id.to_string())
    };
    assert!(waits_for("d1", roms[0]) && waits_for("d2", roms[1]));
    assert!(!roms.iter().any(|rom| waits_for("d3", rom)));
}

#[test]
fn another_recipe_redefines_its_domains_and_no_others() {
    let (spec, mut world) = four();
    let plan = up(&spec, &world).unwrap();
    world.apply(&plan, usize::MAX, &spec);
    assert_eq!(up(&spec, &world), Ok(Plan::default()));
    world.domain(&name("d0")).rom.as_mut().unwrap().digest = Digest::of(b"another");
    let plan = up(&spec, &world).unwrap();
    let defined = plan
        .steps
        .iter()
        .filter(|step| matches!(step.action, Action::Define { .. }));
    let defined: Vec<String> = defined.map(|step| step.id.to_string()).collect();
    assert_eq!(defined, ["d0/define"]);
}
