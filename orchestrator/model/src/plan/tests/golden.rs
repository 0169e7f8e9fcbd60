//! A plan as data, definitions included: what `pspd plan --json` prints, and all that execution reads.

use super::*;
use crate::observed::CacheState;

#[test]
fn a_plan_is_complete_data() {
    let mut domain = domain(0, &[], true);
    domain.firmware = Firmware::Coreboot(Payload::Seabios);
    let spec = spec(vec![domain]);
    let mut world = nothing(&spec);
    world.domain(&name("d0")).rom = Some(CacheState {
        digest: Digest::of(b"rom"),
        cached: false,
    });
    let plan = up(&spec, &world).unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&plan).unwrap());
}
