# The recipes of people and of .ci/run; each line can be typed by hand.

export RUST_BACKTRACE := "1"

default:
    @just --list

# Type-check everything.
check:
    cargo check --workspace --all-targets

# All tests and doc-tests.
test *ARGS:
    cargo test --workspace {{ARGS}}

# Format and lints, as strict as CI.
lint:
    .ci/run fmt clippy

# The API pages, warnings denied.
doc:
    .ci/run doc

# Us against the peers: `just bench pool`, `just bench start --only start.spawn.total`.
bench GROUP *ARGS:
    cargo run --release -p procession-bench -- --group {{GROUP}} {{ARGS}}

# Build all examples and run the first ones.
examples:
    .ci/run examples

# Build the book and check its links.
book:
    .ci/run book

# Licences and advisories; needs cargo-deny.
deny:
    cargo deny check

# What a change must pass.
ci:
    .ci/run
