//! TLS for syslog (RFC 5425): certificates from files, read again when they change, so that a new certificate needs no restart.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto};

use super::{Settings, TlsSettings};

/// What an acceptor was made of, and it.
type Made = (Vec<Option<SystemTime>>, Result<TlsAcceptor, String>);

/// The acceptor of a source, made when it is first needed and again when a file has changed.
pub(super) struct Tls {
    settings: Option<TlsSettings>,
    made: Option<Made>,
}

impl Tls {
    pub(super) fn new(settings: &Settings) -> Tls {
        Tls { settings: settings.tls.clone(), made: None }
    }

    /// For the next connection; or why there is none.
    pub(super) fn acceptor(&mut self) -> Result<TlsAcceptor, String> {
        let Some(settings) = &self.settings else { return Err("the source has no tls table".into()) };
        let files = [Some(&settings.cert_file), Some(&settings.key_file), settings.client_ca_file.as_ref()];
        let changed = |file: Option<&PathBuf>| file.and_then(|file| std::fs::metadata(file).and_then(|meta| meta.modified()).ok());
        let stamps: Vec<_> = files.into_iter().map(changed).collect();
        match &self.made {
            Some((known, acceptor)) if *known == stamps => acceptor.clone(),
            _ => {
                let acceptor = load(settings).map(TlsAcceptor::from);
                // While new files are half written, the old ones go on.
                let kept = match (&acceptor, self.made.take()) {
                    (Err(words), Some((_, Ok(old)))) => {
                        tracing::error!("{words}; the certificates from before are used on");
                        Ok(old)
                    }
                    _ => acceptor,
                };
                self.made = Some((stamps, kept.clone()));
                kept
            }
        }
    }
}

/// Reads the files and makes a configuration of them.
///
/// # Errors
/// What is wrong with which file, and the cure.
pub fn load(settings: &TlsSettings) -> Result<Arc<ServerConfig>, String> {
    let certificates = certificates(&settings.cert_file)?;
    let key = PrivateKeyDer::from_pem_file(&settings.key_file)
        .map_err(|error| format!("tls.key_file {}: no private key can be read from it: {error}", settings.key_file.display()))?;
    let provider = Arc::new(crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS can't be used: {error}"))?;
    let builder = match &settings.client_ca_file {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let mut roots = RootCertStore::empty();
            for certificate in self::certificates(file)? {
                roots.add(certificate).map_err(|error| format!("tls.client_ca_file {}: {error}", file.display()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| format!("tls.client_ca_file {}: {error}", file.display()))?)
        }
    };
    let config = builder.with_single_cert(certificates, key);
    let config = config
        .map_err(|error| format!("{} and {} do not go together: {error}", settings.cert_file.display(), settings.key_file.display()))?;
    Ok(Arc::new(config))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let unread = |error| format!("{}: no certificate can be read from it: {error}", file.display());
    let found: Vec<_> = CertificateDer::pem_file_iter(file).map_err(unread)?.collect::<Result<_, _>>().map_err(unread)?;
    if found.is_empty() { Err(format!("{} holds no certificate (PEM)", file.display())) } else { Ok(found) }
}
