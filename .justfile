# The tasks of the house; `just` alone lists them. Everything here also works without just.

_default:
    @just --list --unsorted

# What can be checked without installing anything: format, lints, library and integration tests, documents
check:
    tests/run fast
    RUSTDOCFLAGS=-Dwarnings cargo doc --locked --no-deps --document-private-items

# Format, and repair what clippy can repair
fix:
    cargo clippy --all-targets --fix --allow-dirty --allow-staged
    cargo fmt

# All tests, with real clients and recorded traffic; installs what they need
test:
    tests/run

# Simulations of routing in virtual time, with their tables
sim *filter:
    cargo test --test sim {{ filter }} -- --nocapture

# Ten minutes of faults by chance, or so many seconds, with figures; SEED=… draws the same again
soak seconds="600":
    SOAK={{ seconds }} cargo test --release --test it soak -- --nocapture

# Micro-benchmarks, all or those whose name contains the filter
bench *filter:
    cargo bench --bench micro -- {{ filter }}

# The whole proxy beside bare ones and nginx; `just wire --help` says what can be asked
wire *arguments:
    cargo bench --bench wire -- {{ arguments }}

# Look for inputs that break a law of bytes from outside: one target, or all
fuzz target="all" secs="60":
    tests/fuzz/run {{ target }} {{ secs }}

# The chart and what lies in deploy, with Helm 3 and 4
chart *arguments:
    tests/chart/run {{ arguments }}

# Build the image without a daemon and run what is in it; needs root and buildah
image:
    tests/image/run

# Ask every query of every dashboard of a live fleet, under traffic for so many seconds, and draw them
dashboards seconds="60":
    tests/dashboards/run {{ seconds }}

# Rewrite what tests generate: golden files and the tables in README.md
bless:
    UPDATE=1 INSTA_UPDATE=always cargo test --lib --test it
    UPDATE=1 tests/chart/run
