//! What the injector counts, in Prometheus's text format. Labels are words of our own.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counts since the start.
#[derive(Debug, Default)]
pub(super) struct Meters {
    reviews: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
    bad: AtomicU64,
    answered: AtomicU64,
    micros: AtomicU64,
    bundle_patches: AtomicU64,
    applied: AtomicU64,
    apply_failures: AtomicU64,
}

/// What is so at the moment.
#[derive(Debug)]
pub(super) struct State {
    pub(super) is_ready: bool,
    /// In Unix time, where it is known.
    pub(super) certificate_expiry: Option<u64>,
    pub(super) is_bundle_right: bool,
    pub(super) copies: usize,
    pub(super) is_config_sound: bool,
}

impl Meters {
    pub(super) fn reviewed(&self, outcome: &'static str, reason: &'static str) {
        if let Ok(mut reviews) = self.reviews.lock() {
            *reviews.entry((outcome, reason)).or_default() += 1;
        }
    }

    pub(super) fn bad(&self) {
        self.bad.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn took(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Ordering::Relaxed);
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn bundle_patched(&self) {
        self.bundle_patches.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn applied(&self) {
        self.applied.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn apply_failed(&self) {
        self.apply_failures.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn render(&self, state: &State) -> String {
        let mut text = String::new();
        let version = env!("CARGO_PKG_VERSION");
        head(&mut text, "pillion_build_info", "gauge", "The version.");
        line(&mut text, &format!("pillion_build_info{{version=\"{version}\"}}"), 1);
        head(
            &mut text,
            "pillion_webhook_reviews_total",
            "counter",
            "Pods reviewed, by what became of them and why.",
        );
        if let Ok(reviews) = self.reviews.lock() {
            for ((outcome, reason), count) in reviews.iter() {
                let name = format!(
                    "pillion_webhook_reviews_total{{outcome=\"{outcome}\",reason=\"{reason}\"}}"
                );
                line(&mut text, &name, *count);
            }
        }
        let get = |of: &AtomicU64| of.load(Ordering::Relaxed);
        for (name, help, value) in [
            ("pillion_webhook_bad_requests_total", "Requests that are no review.", get(&self.bad)),
            (
                "pillion_webhook_ca_bundle_patches_total",
                "How often the caBundle was put right.",
                get(&self.bundle_patches),
            ),
            (
                "pillion_webhook_config_copies_total",
                "Copies of the configuration that were written.",
                get(&self.applied),
            ),
            (
                "pillion_webhook_config_copy_failures_total",
                "Copies that could not be written.",
                get(&self.apply_failures),
            ),
        ] {
            head(&mut text, name, "counter", help);
            line(&mut text, name, value);
        }
        let name = "pillion_webhook_review_duration_seconds";
        head(&mut text, name, "summary", "Time from the head of a request to its answer.");
        let micros = get(&self.micros);
        let _ = writeln!(text, "{name}_sum {}.{:06}", micros / 1_000_000, micros % 1_000_000);
        line(&mut text, &format!("{name}_count"), get(&self.answered));
        for (name, help, value) in [
            ("pillion_webhook_ready", "Whether it can answer.", u64::from(state.is_ready)),
            (
                "pillion_webhook_ca_bundle_in_sync",
                "Whether the webhook configuration trusts its certificate.",
                u64::from(state.is_bundle_right),
            ),
            (
                "pillion_webhook_config_copies",
                "Namespaces that have a copy of the configuration.",
                state.copies as u64,
            ),
            (
                "pillion_webhook_config_valid",
                "Whether the configuration to be copied can be served.",
                u64::from(state.is_config_sound),
            ),
        ] {
            head(&mut text, name, "gauge", help);
            line(&mut text, name, value);
        }
        if let Some(expiry) = state.certificate_expiry {
            let name = "pillion_webhook_certificate_expiry_timestamp_seconds";
            head(&mut text, name, "gauge", "When its certificate ends.");
            line(&mut text, name, expiry);
        }
        text
    }
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a string cannot fail.
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
}

fn line(text: &mut String, name: &str, value: u64) {
    let _ = writeln!(text, "{name} {value}");
}
