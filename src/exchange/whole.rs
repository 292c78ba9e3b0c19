//! An answer that comes in one piece: counted, priced, and given the client's model name.

use bytes::Bytes;
use http::Response;

use super::attempt::Whole;
use super::body::Body;
use super::head;
use super::live::Live;
use super::names_model;
use super::reject::{self, Rejection};
use crate::account::{End, Ledger};
use crate::protocol::{Dialect, Edits, Endpoint};

/// The answer for the client.
pub(super) fn response(mut whole: Box<Whole>, live: &Live, mut ledger: Ledger) -> Response<Body> {
    // The answer is there twice until the one that came is dropped.
    if whole.hold.grow(whole.body.len() as u64).is_err() {
        let dialect = ledger.record.endpoint.map_or(Dialect::OpenAi, Endpoint::dialect);
        let rejection = Rejection::no_room(live.limits.max_buffered_bytes);
        return reject::response(dialect, rejection, live, ledger);
    }
    let body = match &mut whole.translator {
        None => Ok(with_name(&whole)),
        Some(translator) => translator.answer(&whole.body),
    };
    let body = match body {
        Ok(body) => body,
        Err(garbled) => {
            let dialect = ledger.record.endpoint.map_or(Dialect::OpenAi, Endpoint::dialect);
            let rejection = Rejection::garbled(&garbled);
            return reject::response(dialect, rejection, live, ledger);
        }
    };
    let record = &mut ledger.record;
    record.status = 200;
    record.end = End::Complete;
    whole.used.note(record, live);
    let mut response = Response::new(Body::whole(whole.hold.keep(body)));
    let headers = response.headers_mut();
    headers.reserve(head::OURS + 2 * whole.headers.len());
    head::copy_providers(&whole.headers, headers);
    head::json(headers);
    head::add_ours(headers, live, &ledger, &whole.path);
    head::add_cost(headers, ledger.record.cost);
    head::add_times(headers, &ledger);
    response
}

/// The body with the model's name as the client knows it; every other byte as it came.
fn with_name(whole: &Whole) -> Bytes {
    if !names_model(whole.endpoint) || whole.fields.get(&whole.body, "model").is_none() {
        return whole.body.clone();
    }
    let mut edits = Edits::new();
    edits.set("model", whole.served.name.clone());
    edits.apply(&whole.body, &whole.fields).to_bytes()
}
