//! The services' protocols, as generated; nothing is written by hand here.

pub mod ai {
    tonic::include_proto!("ai");
}

pub mod database {
    tonic::include_proto!("database");
}

pub mod business {
    tonic::include_proto!("business");
}

pub mod echo {
    tonic::include_proto!("echo");
}

/// The health protocol with `List`; its other messages are the library's.
pub mod health {
    tonic::include_proto!("grpc.health.v1");
}

/// The encoded `FileDescriptorSet` of all protocols, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = tonic::include_file_descriptor_set!("descriptors");
