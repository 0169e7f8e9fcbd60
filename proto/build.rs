//! Generates the protocols' code, and the descriptor set that reflection serves.

use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or(std::io::ErrorKind::NotFound)?);
    tonic_prost_build::configure()
        .file_descriptor_set_path(out.join("descriptors.bin"))
        .extern_path(
            ".grpc.health.v1.HealthCheckRequest",
            "::tonic_health::pb::HealthCheckRequest",
        )
        .extern_path(
            ".grpc.health.v1.HealthCheckResponse",
            "::tonic_health::pb::HealthCheckResponse",
        )
        .compile_protos(
            &[
                "ai_service.proto",
                "database_service.proto",
                "business_service.proto",
                "echo_service.proto",
                "grpc/health/v1/health.proto",
            ],
            &["."],
        )
}
