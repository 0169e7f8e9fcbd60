//! Keys and certificates: created and renewed here and nowhere else.

use pspd_model::observed::CertificateOwner;

use super::World;
use crate::identity;

pub(super) fn create(world: &World) -> anyhow::Result<()> {
    identity::create(&world.home.keys(), &world.spec)?;
    world.forget_identity();
    Ok(())
}

pub(super) fn renew(world: &World, owner: &CertificateOwner) -> anyhow::Result<()> {
    identity::renew(&world.home.keys(), &world.spec, owner)?;
    world.forget_identity();
    Ok(())
}
