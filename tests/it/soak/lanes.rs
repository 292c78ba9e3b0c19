//! The clients, side by side: each runs one errand after the other, with a short rest between.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use tokio::task::JoinSet;

use super::client::{self, Done};
use super::errand::Errand;
use super::figures::Figures;
use super::providers::{Book, Providers};
use crate::support::now;
use crate::support::sidecar::Pillion;

const CLIENTS: u32 = 16;
/// A client rests up to so long after each answer.
const REST_MS: u64 = 60;
/// How many bits of a request's number count the requests of one client.
const LANE_BITS: u32 = 20;

/// Lets all clients run for some time, and takes the access log up meanwhile.
pub(crate) async fn play(
    round: u32,
    seed: u64,
    length: Duration,
    (sidecar, providers): (&Pillion, &Providers),
    figures: &mut Figures,
) {
    let end = now() + length;
    let mut lanes = JoinSet::new();
    for client in 0..CLIENTS {
        let lane = round * CLIENTS + client;
        let chance = Rng::with_seed(seed.wrapping_add(lane.into()));
        lanes.spawn(run(lane, chance, end, sidecar.api, providers.book.clone()));
    }
    while !lanes.is_empty() {
        let ended = tokio::time::timeout(Duration::from_secs(1), lanes.join_next()).await;
        if let Ok(Some(done)) = ended {
            done.unwrap().into_iter().for_each(|done| figures.add(done));
        }
        figures.note(sidecar.take_records());
    }
}

/// One client. What it draws depends on nothing but its chance, so that a seed draws it again.
async fn run(
    lane: u32,
    mut chance: Rng,
    end: Instant,
    to: SocketAddr,
    book: Arc<Book>,
) -> Vec<Done> {
    let (mut done, mut kept) = (Vec::new(), None);
    for number in 0..1 << LANE_BITS {
        if now() >= end {
            break;
        }
        let errand = Errand::draw((lane << LANE_BITS) + number, &mut chance);
        let rest = Duration::from_millis(chance.u64(..REST_MS));
        done.push(client::run(errand, to, &mut kept, &book).await);
        tokio::time::sleep(rest).await;
    }
    done
}
