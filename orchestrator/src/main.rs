//! The `pspd` binary. Everything is in the library.

fn main() {
    pspd::cli::main()
}
