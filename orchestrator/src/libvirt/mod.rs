//! libvirt: the only module that knows the `virt` crate.
