//! Syslog over TLS: with the right certificates it arrives; with wrong, expired and missing ones the log says why, and nobody else is harmed.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, CertifiedIssuer, KeyPair, date_time_ymd};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto};

use crate::harness::agent::{Agent, Plan};
use crate::harness::broker::Broker;
use crate::harness::lines::{self, Written};
use crate::harness::oracle;
use crate::harness::topic::Format;
use crate::harness::{free_port, temp_dir, wait_until};

const SOON: Duration = Duration::from_secs(20);

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate and its key, as PEM.
fn certificate(authority: &Authority, expired: bool) -> (String, String) {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    if expired {
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    }
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, authority).unwrap().pem(), key.serialize_pem())
}

/// Sends a line over TLS; an error if the server will not have it.
fn send(port: u16, trusted: &Authority, own: Option<&(String, String)>, text: &str) -> std::io::Result<()> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.pem().as_bytes()).unwrap()).unwrap();
    let builder =
        ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider())).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap(),
    };
    let session = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    let tcp = TcpStream::connect(("127.0.0.1", port))?;
    tcp.set_read_timeout(Some(SOON))?;
    let mut tls = StreamOwned::new(session, tcp);
    tls.write_all(text.as_bytes())?;
    tls.flush()?;
    tls.conn.send_close_notify();
    tls.flush()?;
    // The server closes when it has all, or says what it does not like.
    match std::io::Read::read(&mut tls, &mut [0; 16]) {
        Ok(_) => Ok(()),
        Err(error) => Err(error),
    }
}

fn store(dir: &Path, (certificate, key): &(String, String)) {
    fs::write(dir.join("cert.pem"), certificate).unwrap();
    fs::write(dir.join("key.pem"), key).unwrap();
}

fn start(bootstrap: &str, topic: &str, port: u16, dir: &Path, clients: bool) -> Agent {
    let file = |name: &str| dir.join(name).display().to_string();
    let ca = if clients { format!(", client_ca_file = {:?}", file("ca.pem")) } else { String::new() };
    let tls = format!("tls = {{ cert_file = {:?}, key_file = {:?}{ca} }}", file("cert.pem"), file("key.pem"));
    let source = format!(
        "[[source]]\nname = \"net\"\ntype = \"syslog\"\nlisten = [\"tls://127.0.0.1:{port}\"]\nhandshake_timeout = \"500ms\"\n{tls}"
    );
    let mut agent = Plan::new(bootstrap, topic).include("/nonexistent/*.log").extra(&source).start();
    agent.wait_for_log("listening", SOON);
    agent
}

#[test]
fn senders_with_a_certificate_of_the_authority_are_heard_and_others_are_told_apart_in_the_log() {
    let (broker, dir, port) = (Broker::shared(), temp_dir("tls"), free_port());
    broker.create_topic("syslog-tls", 1, &[]);
    let (ours, theirs) = (authority("ours"), authority("theirs"));
    store(dir.path(), &certificate(&ours, false));
    fs::write(dir.path().join("ca.pem"), ours.pem()).unwrap();
    let mut agent = start(&broker.bootstrap(), "syslog-tls", port, dir.path(), true);
    let text = |stream: &str| (0..50).map(|number| lines::line(stream, number, 40) + "\n").collect::<String>();
    send(port, &ours, Some(&certificate(&ours, false)), &text("good")).unwrap();
    assert!(send(port, &ours, None, &text("none")).is_err(), "a sender without a certificate");
    assert!(send(port, &ours, Some(&certificate(&theirs, false)), &text("other")).is_err(), "one of another authority");
    assert!(send(port, &ours, Some(&certificate(&ours, true)), &text("expired")).is_err(), "one that has expired");
    // One that never says a word, and one that speaks no TLS.
    let silent = TcpStream::connect(("127.0.0.1", port)).unwrap();
    TcpStream::connect(("127.0.0.1", port)).unwrap().write_all(b"<13>plain text\n").unwrap();
    for words in ["peer sent no certificates", "UnknownIssuer", "expired", "handshake_timeout", "TLS handshake failed"] {
        agent.wait_for_log(words, SOON);
    }
    drop(silent);
    // A new certificate needs no restart.
    let newer = authority("newer");
    store(dir.path(), &certificate(&newer, false));
    send(port, &newer, Some(&certificate(&ours, false)), &text("later")).unwrap();
    let written: Written = [("good".to_owned(), 50), ("later".to_owned(), 50)].into();
    let verdict = oracle::read_when_whole(broker, "syslog-tls", Format::Raw, &written, SOON);
    verdict.assert_nothing_lost();
    let books = agent.settled_books("net", 100);
    assert_eq!((books.delivered.events, books.missed.keys().map(String::as_str).collect::<Vec<_>>()), (100, vec!["refused"]), "{books}");
    assert!(agent.terminate(SOON).success());
}

#[test]
fn a_missing_certificate_is_said_and_the_listener_works_as_soon_as_it_is_there() {
    let (broker, dir, port) = (Broker::shared(), temp_dir("tls"), free_port());
    broker.create_topic("syslog-tls-later", 1, &[]);
    let mut agent = start(&broker.bootstrap(), "syslog-tls-later", port, dir.path(), false);
    let ours = authority("ours");
    assert!(send(port, &ours, None, "lost\n").is_err());
    agent.wait_for_log("no certificate can be read from it", SOON);
    store(dir.path(), &certificate(&ours, false));
    wait_until("the listener to take it", SOON, || send(port, &ours, None, &(lines::line("now", 0, 40) + "\n")).is_ok());
    let written: Written = [("now".to_owned(), 1)].into();
    oracle::read_when_whole(broker, "syslog-tls-later", Format::Raw, &written, SOON).assert_nothing_lost();
    assert!(agent.terminate(SOON).success());
}
