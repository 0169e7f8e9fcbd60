//! The reference system's protocols, as generated; nothing is written by hand here.

pub mod ai {
    tonic::include_proto!("ai");
}

pub mod database {
    tonic::include_proto!("database");
}

pub mod business {
    tonic::include_proto!("business");
}

/// The encoded `FileDescriptorSet` of all three protocols, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = tonic::include_file_descriptor_set!("descriptors");
