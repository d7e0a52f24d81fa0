//! Exists because `links` asks for it; nothing is built.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}
