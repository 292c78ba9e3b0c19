//! TLS to providers: rustls with the platform's roots.

use std::io;
use std::sync::Arc;

use hyper_rustls::ConfigBuilderExt;
use rustls::ClientConfig;
use rustls::crypto::ring;

/// A configuration that trusts what the platform trusts: `SSL_CERT_FILE` and `SSL_CERT_DIR`
/// where they are set, else the system's store.
///
/// ALPN is left to the connector, which offers HTTP/2 and HTTP/1.1.
pub(super) fn config() -> io::Result<ClientConfig> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_native_roots()
        .map_err(|error| {
            io::Error::other(format!(
                "no trusted root certificates on this machine ({error}); install ca-certificates or set SSL_CERT_FILE"
            ))
        })?;
    Ok(config.with_no_client_auth())
}
