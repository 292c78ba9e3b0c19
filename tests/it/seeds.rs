//! What the fuzz targets assert, of their seeds: on every machine, and without a fuzzer.

#![cfg(test)]

#[expect(unreachable_pub, reason = "to the fuzz targets this is a crate of its own")]
#[path = "../fuzz/laws/mod.rs"]
mod laws;

use std::path::Path;

use proptest::prelude::*;

#[track_caller]
fn check(target: &str, law: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds").join(target);
    let mut seeds: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    seeds.sort();
    assert!(!seeds.is_empty(), "there are no seeds for {target}");
    for seed in seeds {
        let bytes = std::fs::read(&seed).unwrap();
        // The name of the seed is told where its law fails.
        let told = std::panic::catch_unwind(|| law(&bytes));
        assert!(told.is_ok(), "{} breaks a law", seed.display());
    }
}

#[test]
fn every_seed_keeps_the_laws() {
    check("anthropic_stream", laws::anthropic_stream);
    check("assemble", laws::assemble);
    check("config", laws::config);
    check("gossip", laws::gossip);
    check("openai_stream", laws::openai_stream);
    check("peek", laws::peek);
    check("sse", laws::sse);
    check("watch", laws::watch);
}

proptest! {
    #[test]
    fn any_bytes_keep_the_law_of_gossip(
        tag in 0u8..12, length in 0u8..80, bytes in proptest::collection::vec(any::<u8>(), 0..1_500),
    ) {
        // Some of them look like a record.
        laws::gossip(&[&[tag, 0, length], bytes.as_slice()].concat());
    }
}
