//! End-to-end tests: real domains, real SSH, real gRPC.
