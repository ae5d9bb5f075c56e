# the Rust text crate
