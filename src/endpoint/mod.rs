//! From method, path and body to a [`Call`](crate::protocol::Call).
//!
//! Pure. Reads what a gateway must know and leaves the rest of the body unread.

mod continuable;
pub mod decode;
mod repeatable;
pub mod wishes;

use std::borrow::Cow;

use http::Method;
use percent_encoding::percent_decode_str;

use crate::protocol::{Dialect, Endpoint};

pub use continuable::is_continuable;
pub use decode::{BadCall, decode};
pub use repeatable::{is_repeatable, is_repeatable_after_failure};

/// What a request line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route<'p> {
    /// A call, and the model where the path names it.
    Call(Endpoint, Option<Cow<'p, str>>),
    /// One model.
    Model(Cow<'p, str>),
    /// The list of models.
    Models,
}

/// Why a request line asks for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRoute {
    /// The path exists, but not with this method; this is the one that works.
    Method(&'static str),
    /// There is no such path.
    Path,
}

/// Finds what is asked for. Every path exists with and without `/v1`, and as Azure's and the
/// old engines' clients spell it, with the model in the path.
pub fn route<'p>(method: &Method, path: &'p str) -> Result<Route<'p>, NoRoute> {
    let route = find(path.trim_end_matches('/')).ok_or(NoRoute::Path)?;
    let (fits, wanted) = match route {
        Route::Call(..) => (method == Method::POST, "POST"),
        Route::Model(_) | Route::Models => (method == Method::GET || method == Method::HEAD, "GET"),
    };
    if fits { Ok(route) } else { Err(NoRoute::Method(wanted)) }
}

/// The dialect in which a client at this path wants its errors.
pub fn dialect_at(path: &str) -> Dialect {
    if path.contains("/messages") { Dialect::Anthropic } else { Dialect::OpenAi }
}

fn find(path: &str) -> Option<Route<'_>> {
    let azure = path.strip_prefix("/openai").unwrap_or(path);
    let bare = azure.strip_prefix("/v1").unwrap_or(azure);
    if let Some(endpoint) = Endpoint::ALL.into_iter().find(|endpoint| endpoint.path() == bare) {
        return Some(Route::Call(endpoint, None));
    }
    if bare == "/models" {
        return Some(Route::Models);
    }
    if let Some(id) = bare.strip_prefix("/models/") {
        return Some(Route::Model(unescaped(id)));
    }
    let named = bare.strip_prefix("/deployments/").or_else(|| bare.strip_prefix("/engines/"))?;
    let endpoint = Endpoint::ALL.into_iter().find(|endpoint| named.ends_with(endpoint.path()))?;
    let model = named.strip_suffix(endpoint.path())?;
    (!model.is_empty()).then(|| Route::Call(endpoint, Some(unescaped(model))))
}

/// A path segment without its `%` escapes; a broken escape stays as it is.
fn unescaped(segment: &str) -> Cow<'_, str> {
    percent_decode_str(segment).decode_utf8().unwrap_or(Cow::Borrowed(segment))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, want: &Result<Route<'_>, NoRoute>) {
        let (method, path) = line.split_once(' ').unwrap();
        assert_eq!(&route(&method.parse().unwrap(), path), want);
    }

    #[test]
    fn every_endpoint_has_its_paths() {
        for endpoint in Endpoint::ALL {
            check(&format!("POST /v1{}", endpoint.path()), &Ok(Route::Call(endpoint, None)));
            check(&format!("POST {}/", endpoint.path()), &Ok(Route::Call(endpoint, None)));
            check(&format!("GET {}", endpoint.path()), &Err(NoRoute::Method("POST")));
        }
        check("GET /v1/models", &Ok(Route::Models));
        check("GET /models/a/b", &Ok(Route::Model("a/b".into())));
        check("GET /v1/models/a%2Fb%zz", &Ok(Route::Model("a/b%zz".into())));
        check("POST /v1/models", &Err(NoRoute::Method("GET")));
        check("GET /v2/models", &Err(NoRoute::Path));
        check("POST /", &Err(NoRoute::Path));
    }

    #[test]
    fn the_path_may_name_the_model() {
        let want = Route::Call(Endpoint::ChatCompletions, Some("gpt-4o".into()));
        check("POST /openai/deployments/gpt-4o/chat/completions", &Ok(want.clone()));
        check("POST /engines/gpt-4o/chat/completions", &Ok(want.clone()));
        check("POST /v1/engines/gpt-4o/chat/completions", &Ok(want));
        let plain = Route::Call(Endpoint::Completions, Some("a".into()));
        check("POST /engines/a/completions", &Ok(plain));
    }
}
