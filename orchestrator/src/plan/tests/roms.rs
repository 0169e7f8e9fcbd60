//! ROMs in plans: built once for all domains that run them, and a new one means a new definition.

use super::*;

/// Two domains run coreboot with SeaBIOS, one with its kernel in the ROM, and one runs SeaBIOS.
fn four() -> (Spec, Observed) {
    let mut domains: Vec<DomainSpec> = (0..4).map(|index| domain(index, &[], false)).collect();
    domains[0].firmware = Firmware::Coreboot(Payload::Seabios);
    domains[1].firmware = Firmware::Coreboot(Payload::Seabios);
    domains[2].firmware = Firmware::Coreboot(Payload::Linux { cmdline: None });
    let spec = spec(domains);
    let mut observed = nothing(&spec);
    for (index, rom) in [(0, "seabios"), (1, "seabios"), (2, "linux")] {
        let state = ImageState {
            digest: Digest::of(rom.as_bytes()),
            cached: false,
        };
        observed.roms.insert(name(&format!("d{index}")), state);
    }
    (spec, observed)
}

fn after<'a>(plan: &'a Plan, id: &str) -> &'a [String] {
    &plan.steps.iter().find(|step| step.id == id).unwrap().after
}

#[test]
fn one_rom_is_built_for_all_that_run_it() {
    let (spec, observed) = four();
    let plan = up(&spec, &observed).unwrap();
    let roms: Vec<_> = plan
        .steps
        .iter()
        .filter(|step| matches!(step.action, Action::EnsureRom { .. }))
        .collect();
    assert_eq!(roms.len(), 2);
    // A ROM waits for the image only where the image's kernel goes into it.
    assert_eq!(roms[0].after, [] as [&str; 0]);
    assert_eq!(roms[1].after, ["image/debian"]);
    assert!(after(&plan, "d1/define").contains(&roms[0].id));
    assert!(after(&plan, "d2/define").contains(&roms[1].id));
    assert!(
        !after(&plan, "d3/define")
            .iter()
            .any(|id| id.starts_with("rom/"))
    );
}

#[test]
fn another_recipe_defines_its_domains_anew_and_no_others() {
    let (spec, mut observed) = four();
    let plan = up(&spec, &observed).unwrap();
    apply(&plan, usize::MAX, &spec, &mut observed);
    assert_eq!(up(&spec, &observed), Ok(Plan::default()));
    let rom = observed.roms.get_mut(&name("d0")).unwrap();
    rom.digest = Digest::of(b"another");
    let defined: Vec<String> = up(&spec, &observed)
        .unwrap()
        .steps
        .into_iter()
        .filter(|step| matches!(step.action, Action::Define { .. }))
        .map(|step| step.id)
        .collect();
    assert_eq!(defined, ["d0/define"]);
}
