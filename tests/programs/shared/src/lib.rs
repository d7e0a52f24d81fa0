//! All of `procession` as a Rust shared library, as a program has it that links dynamically.

pub use procession;
