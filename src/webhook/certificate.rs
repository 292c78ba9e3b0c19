//! The certificate that is shown, swapped while it is; and one that comes from files.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tracing::{info, warn};

use super::Webhook;

/// How often the files are looked at; they are small.
const LOOK: Duration = Duration::from_secs(2);

/// What is shown to whoever greets.
#[derive(Default)]
pub(super) struct Held(ArcSwapOption<Shown>);

struct Shown {
    key: Arc<CertifiedKey>,
    /// In Unix time, where it is known.
    expiry: Option<u64>,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("is_there", &self.is_there()).finish()
    }
}

impl ResolvesServerCert for Held {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load().as_ref().map(|shown| shown.key.clone())
    }
}

impl Held {
    pub(super) fn is_there(&self) -> bool {
        self.0.load().is_some()
    }

    pub(super) fn expiry(&self) -> Option<u64> {
        self.0.load().as_ref()?.expiry
    }

    /// Shows another one from now on. Errs where the two do not belong together; the one before
    /// stays.
    pub(super) fn show(
        &self,
        certificate: &[u8],
        key: &[u8],
        expiry: Option<u64>,
    ) -> Result<(), rustls::Error> {
        let other =
            |error: rustls::pki_types::pem::Error| rustls::Error::General(error.to_string());
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
        let key = PrivateKeyDer::from_pem_slice(key).map_err(other)?;
        let chain = chain.map_err(other)?;
        let key = CertifiedKey::from_der(chain, key, &ring::default_provider())?;
        self.0.store(Some(Arc::new(Shown { key: Arc::new(key), expiry })));
        Ok(())
    }
}

impl Webhook {
    /// Shows the certificate of two files, and again when they change. They are looked at now and
    /// then: events of mounted Secrets tell no more.
    pub(super) async fn follow_files(&self) {
        let mut known = None;
        loop {
            match read(&self.own.certificate) {
                Ok(files) if known.as_ref() != Some(&files) => {
                    match self.held.show(&files.0, &files.1, None) {
                        Ok(()) => info!("a certificate from files is shown"),
                        Err(error) => warn!(%error, "the files hold no certificate with its key"),
                    }
                    known = Some(files);
                }
                Ok(_) => {}
                Err(error) => {
                    let folder = self.own.certificate.display();
                    warn!(%error, %folder, "the certificate's files cannot be read");
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

fn read(folder: &Path) -> io::Result<(Vec<u8>, Vec<u8>)> {
    Ok((fs::read(folder.join("tls.crt"))?, fs::read(folder.join("tls.key"))?))
}
