//! TLS for syslog (RFC 5425): certificates from files, read again when they change, so that a new certificate needs no restart.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto};

use super::{Settings, TlsSettings};

/// Has certificates read again, also where their files look as before: what a reload calls.
#[derive(Clone, Debug, Default)]
pub struct Renew(Arc<AtomicU64>);

impl Renew {
    /// From the next connection on the files count as they are now. Connections that are there go on with what they began with.
    pub fn now(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

/// By what a file is known not to have changed; `None`: it is not there.
type Stamp = Option<(SystemTime, u64, u64)>;

/// What an acceptor was made of, and it.
struct Made {
    stamps: Vec<Stamp>,
    renewed: u64,
    acceptor: Result<TlsAcceptor, String>,
}

/// The acceptor of a source, made when it is first needed and again when a file has changed.
pub(super) struct Tls {
    settings: Option<TlsSettings>,
    renew: Renew,
    made: Option<Made>,
}

impl Tls {
    pub(super) fn new(settings: &Settings) -> Tls {
        Tls { settings: settings.tls.clone(), renew: settings.renew.clone(), made: None }
    }

    /// For the next connection; or why there is none.
    pub(super) fn acceptor(&mut self) -> Result<TlsAcceptor, String> {
        let Some(settings) = &self.settings else { return Err("the source has no tls table".into()) };
        let files = [Some(&settings.cert_file), Some(&settings.key_file), settings.client_ca_file.as_ref()];
        let stamp = |file: &PathBuf| std::fs::metadata(file).and_then(|meta| Ok((meta.modified()?, meta.ino(), meta.len()))).ok();
        let stamps: Vec<Stamp> = files.into_iter().map(|file| file.and_then(stamp)).collect();
        let renewed = self.renew.0.load(Ordering::Acquire);
        if let Some(made) = self.made.as_ref().filter(|made| made.stamps == stamps && made.renewed == renewed) {
            return made.acceptor.clone();
        }
        let acceptor = load(settings).map(TlsAcceptor::from);
        // While new files are half written, the old ones go on.
        let acceptor = match (acceptor, self.made.take().map(|made| made.acceptor)) {
            (Err(words), Some(Ok(old))) => {
                tracing::error!("{words}; the certificates from before are used on");
                Ok(old)
            }
            (acceptor, _) => acceptor,
        };
        self.made = Some(Made { stamps, renewed, acceptor: acceptor.clone() });
        acceptor
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

#[cfg(test)]
mod tests {
    use super::*;

    fn store(dir: &Path) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(dir.join("cert"), made.cert.pem()).unwrap();
        std::fs::write(dir.join("key"), made.signing_key.serialize_pem()).unwrap();
    }

    #[test]
    fn certificates_are_read_again_when_their_files_change_or_when_it_is_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        store(dir.path());
        let settings = TlsSettings { cert_file: dir.path().join("cert"), key_file: dir.path().join("key"), client_ca_file: None };
        let renew = Renew::default();
        let mut tls = Tls { settings: Some(settings), renew: renew.clone(), made: None };
        let mut next = || Arc::clone(tls.acceptor().unwrap().config());
        let first = next();
        assert!(Arc::ptr_eq(&first, &next()), "nothing has changed");
        renew.now();
        let second = next();
        assert!(!Arc::ptr_eq(&first, &second), "it was asked for");
        std::fs::write(dir.path().join("key"), "half").unwrap();
        assert!(Arc::ptr_eq(&second, &next()), "what can't be used is not");
        store(dir.path());
        assert!(!Arc::ptr_eq(&second, &next()), "the files have changed");
    }
}
