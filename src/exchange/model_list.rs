//! `GET /v1/models`: the names a client may ask for.

use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};

use super::body::Body;
use super::head;
use crate::account::{End, Ledger};
use crate::protocol::Dialect;
use crate::routing::RouteTable;

/// `LiteLLM` and `OpenAI`'s oldest models carry this moment; a configuration has none of its own.
const CREATED: u64 = 1_677_610_602;

/// All of them, in the form of the client's dialect.
pub(super) fn all(routes: &RouteTable, dialect: Dialect) -> Bytes {
    let names = routes.listed();
    let list = match dialect {
        Dialect::OpenAi => json!({
            "object": "list",
            "data": names.iter().map(|name| entry(name)).collect::<Vec<_>>(),
        }),
        Dialect::Anthropic => json!({
            "data": names.iter().map(|name| json!({
                "type": "model",
                "id": name,
                "display_name": name,
                "created_at": "2023-02-28T18:56:42Z",
            })).collect::<Vec<_>>(),
            "has_more": false,
            "first_id": names.first(),
            "last_id": names.last(),
        }),
    };
    Bytes::from(list.to_string())
}

/// One of them; `None` where no model has that name.
pub(super) fn one(routes: &RouteTable, name: &str) -> Option<Bytes> {
    routes.resolve(name).map(|_| Bytes::from(entry(name).to_string()))
}

fn entry(name: &str) -> Value {
    json!({ "id": name, "object": "model", "created": CREATED, "owned_by": "openai" })
}

/// The answer that carries a list.
pub(super) fn response(list: Bytes, mut ledger: Ledger) -> Response<Body> {
    ledger.record.status = 200;
    ledger.record.end = End::Complete;
    let mut response = Response::new(Body::whole(list));
    head::json(response.headers_mut());
    response
}
