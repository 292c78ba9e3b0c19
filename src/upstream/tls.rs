//! TLS to providers: rustls with the platform's roots.

use std::io;
use std::path::Path;
use std::sync::Arc;

use hyper_rustls::ConfigBuilderExt;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

/// A configuration that trusts the certificates of a file, else what the platform trusts:
/// `SSL_CERT_FILE` and `SSL_CERT_DIR` where they are set, else the system's store.
///
/// ALPN is left to the connector, which offers HTTP/2 and HTTP/1.1.
pub(super) fn config(only: Option<&Path>) -> io::Result<ClientConfig> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    if let Some(file) = only {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(file).map_err(io::Error::other)? {
            roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
        }
        return Ok(config.with_root_certificates(roots).with_no_client_auth());
    }
    let config = config
        .with_native_roots()
        .map_err(|error| {
            io::Error::other(format!(
                "no trusted root certificates on this machine ({error}); install ca-certificates or set SSL_CERT_FILE"
            ))
        })?;
    Ok(config.with_no_client_auth())
}
