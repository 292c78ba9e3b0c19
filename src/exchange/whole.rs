//! An answer that comes in one piece: counted, priced, and given the client's model name.

use bytes::Bytes;
use http::Response;

use super::attempt::Whole;
use super::body::Body;
use super::buffered::NoRoom;
use super::head;
use super::live::Live;
use super::names_model;
use super::reject::{self, Rejection};
use crate::account::{End, Ledger};
use crate::protocol::{Dialect, Edits, Endpoint};

/// The answer for the client.
pub(super) fn response(mut whole: Box<Whole>, live: &Live, mut ledger: Ledger) -> Response<Body> {
    let body = match in_the_clients_words(&mut whole, live.limits.max_buffered_bytes) {
        Ok(body) => body,
        Err(rejection) => {
            let dialect = ledger.record.endpoint.map_or(Dialect::OpenAi, Endpoint::dialect);
            return reject::response(dialect, *rejection, live, ledger);
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

/// The body in the client's dialect, with the model's name as the client knows it. Where that is
/// how it came, it is not copied.
fn in_the_clients_words(whole: &mut Whole, most: u64) -> Result<Bytes, Box<Rejection>> {
    if whole.translator.is_none() && !has_another_name(whole) {
        return Ok(whole.body.clone());
    }
    // It is there twice until the one that came is dropped.
    let held = whole.hold.grow(whole.body.len() as u64);
    held.map_err(|NoRoom| Rejection::no_room(most))?;
    match &mut whole.translator {
        None => Ok(with_name(whole)),
        Some(translator) => {
            translator.answer(&whole.body).map_err(|garbled| Rejection::garbled(&garbled).into())
        }
    }
}

fn has_another_name(whole: &Whole) -> bool {
    names_model(whole.endpoint)
        && whole.fields.get(&whole.body, "model").is_some_and(|name| *name != whole.served.name)
}

/// The body with the model's name as the client knows it; every other byte as it came.
fn with_name(whole: &Whole) -> Bytes {
    let mut edits = Edits::new();
    edits.set("model", whole.served.name.clone());
    edits.apply(&whole.body, &whole.fields).to_bytes()
}
