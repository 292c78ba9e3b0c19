//! A body that is taken for a call keeps what it says, whatever is changed in it.

use bytes::Bytes;
use http::HeaderMap;
use pillion::endpoint::decode::decode;
use pillion::protocol::anthropic::write::Abilities;
use pillion::protocol::turn::Leniency;
use pillion::protocol::{Call, Edits, Endpoint, Fields, anthropic, openai};
use serde_json::{Map, Value};

/// The reading of a request's body, edits of it, and its translation.
pub fn peek(bytes: &[u8]) {
    let body = Bytes::copy_from_slice(bytes);
    for endpoint in Endpoint::ALL {
        let Ok(call) = decode(endpoint, None, &HeaderMap::new(), body.clone()) else { continue };
        assert!(!call.model.is_empty());
        let before = Fields::of(&body).expect("a call is an object");
        let was: Vec<_> = before.iter(&body).collect();
        for field in call.fields.iter(&call.body) {
            assert!(was.contains(&field), "{field:?} was not sent so");
        }
        edited(&call);
        translated(&call);
    }
}

/// What is not edited stays as it came, to the byte.
fn edited(call: &Call) {
    let names: Vec<&str> = call.fields.iter(&call.body).map(|(name, _)| name).collect();
    for name in names.into_iter().take(4).chain(["model", "added by nobody"]) {
        let mut edits = Edits::new();
        edits.drop(name.to_owned());
        let others = |(known, _): &(&str, &[u8])| *known != name;
        let want: Vec<_> = call.fields.iter(&call.body).filter(others).collect();
        check(call, &edits, |fields, text| {
            assert_eq!(fields.iter(text).collect::<Vec<_>>(), want);
        });
        edits.set(name.to_owned(), "[7]");
        check(call, &edits, |fields, text| {
            assert_eq!(fields.get(text, name), Some(&b"[7]"[..]));
            assert_eq!(fields.iter(text).filter(others).collect::<Vec<_>>(), want);
        });
        edits.rename(name.to_owned(), "another \"name\"");
        check(call, &edits, |fields, text| {
            assert_eq!(fields.len(), call.fields.len());
            assert!(fields.get(text, name).is_none());
        });
    }
}

fn check(call: &Call, edits: &Edits, law: impl FnOnce(&Fields, &[u8])) {
    let text = edits.apply(&call.body, &call.fields).to_bytes();
    law(&Fields::of(&text).expect("an edited object is an object"), &text);
}

/// What can be said in the other dialect is a request there.
fn translated(call: &Call) {
    let Ok(body) = serde_json::from_slice::<Map<String, Value>>(&call.body) else { return };
    let lenient = Leniency { drop: true, allowed: &[] };
    let (said, stream) = match call.endpoint {
        Endpoint::ChatCompletions => {
            let Ok(ask) = openai::read::ask(body) else { return };
            let stream = ask.stream;
            let said = anthropic::write::body(&ask, "claude", Abilities::default(), lenient);
            (said.map(|spoken| spoken.body), stream)
        }
        Endpoint::Messages => {
            let Ok(ask) = anthropic::read::ask(body) else { return };
            let stream = ask.stream;
            (openai::write::body(&ask, "gpt", true, lenient), stream)
        }
        Endpoint::Completions
        | Endpoint::CountTokens
        | Endpoint::Embeddings
        | Endpoint::Responses => return,
    };
    let Ok(said) = said else { return };
    assert!(said["messages"].is_array());
    assert_eq!(said.get("stream").and_then(Value::as_bool).unwrap_or(false), stream);
}
