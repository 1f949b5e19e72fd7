//! librdkafka's properties: the user's first, then connection and secrets, then logferry's promises, so that the last word is theirs.
//! Apart because passwords pass through here and nowhere else.

use std::path::Path;

use super::kinds::brokers;
use super::librdkafka;
use super::resolve::Findings;
use super::schema::{RawKafka, RawPassword, Servers};

/// For this crate's own tests, in debug builds alone: `key=value,key=value` that are set last, without judgement.
const UNSAFE: &str = "LOGFERRY_TEST_UNSAFE_LIBRDKAFKA";

/// The brokers, one each.
#[must_use]
pub fn servers(raw: Option<&Servers>) -> Vec<String> {
    match raw {
        None => Vec::new(),
        Some(Servers::One(text)) => brokers(text).map(str::to_owned).collect(),
        Some(Servers::Many(texts)) => texts.iter().flat_map(|text| brokers(text)).map(str::to_owned).collect(),
    }
}

/// All properties, in the order in which they are to be set.
pub fn properties(kafka: &RawKafka, agent_id: &str, found: &mut Findings<'_>) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = kafka.librdkafka.clone().into_iter().collect();
    found.warnings.extend(all.iter().filter_map(|(name, value)| librdkafka::warning(name, value)));
    let mut set = |name: &str, value: &str| all.push((name.to_owned(), value.to_owned()));
    set("compression.codec", &kafka.compression);
    tls(kafka, found, &mut set);
    sasl(kafka, found, &mut set);
    plaintext(kafka, found);

    let user = |name: &str| kafka.librdkafka.contains_key(name);
    for (name, value) in [
        ("linger.ms", "20"),
        ("batch.size", "1000000"),
        ("socket.keepalive.enable", "true"),
        // Of librdkafka's own backoff, 100 ms doubled up to this, each wait has a jitter of -25 % to +50 %: its default, and not to be set.
        ("reconnect.backoff.max.ms", "5000"),
        ("allow.auto.create.topics", "false"),
    ] {
        if !user(name) {
            set(name, value);
        }
    }
    if !user("max.in.flight") && !user("max.in.flight.requests.per.connection") {
        // With more, librdkafka's idempotent producer spins a core while a broker does not answer, and burns some CPU at full speed too.
        set("max.in.flight.requests.per.connection", "1");
    }
    set("enable.idempotence", "true");
    // After a message that failed for good nothing behind it may be sent: the lane sends again from it, in order, with a new producer.
    set("enable.gapless.guarantee", "true");
    set("acks", "all");
    set("message.timeout.ms", "0");
    // So large that messages are copied into their requests, where these have room: one piece of memory instead of thousands.
    set("message.copy.max.bytes", "1000000000");
    // The lanes' own windows are the bound, these are never reached.
    set("queue.buffering.max.messages", "10000000");
    set("queue.buffering.max.kbytes", "2147483647");
    set("message.max.bytes", &(kafka.max_event.0 + (64 << 10)).max(1_000_000).to_string());
    set("client.id", &format!("logferry-{agent_id}"));
    set("statistics.interval.ms", "0");
    if cfg!(debug_assertions)
        && let Some(text) = found.machine.env.get(UNSAFE)
    {
        let pairs: Vec<(&str, &str)> = text.split(',').filter_map(|pair| pair.split_once('=')).collect();
        let names = pairs.iter().map(|(name, _)| name.trim()).collect::<Vec<_>>().join(", ");
        found.warnings.push(format!("{UNSAFE} IS SET: {names} override every promise, EVENTS CAN BE LOST; this is for tests only"));
        for (name, value) in pairs {
            set(name.trim(), value.trim());
        }
    }
    all
}

fn tls(kafka: &RawKafka, found: &mut Findings<'_>, set: &mut impl FnMut(&str, &str)) {
    let sasl = kafka.sasl.is_some();
    let Some(tls) = &kafka.tls else {
        set("security.protocol", if sasl { "sasl_plaintext" } else { "plaintext" });
        return;
    };
    set("security.protocol", if sasl { "sasl_ssl" } else { "ssl" });
    let files = [
        ("ca_file", "ssl.ca.location", &tls.ca_file),
        ("cert_file", "ssl.certificate.location", &tls.cert_file),
        ("key_file", "ssl.key.location", &tls.key_file),
    ];
    for (key, property, path) in files {
        let Some(path) = path.as_deref() else { continue };
        if let Err(error) = (found.machine.read)(path) {
            found.blame(
                &format!("kafka.tls.{key}"),
                format!("{} can't be read: {error}", path.display()),
                "name a file that logferry may read",
            );
        }
        set(property, &path.to_string_lossy());
    }
    // The TLS library is linked in and knows no directory of this system's authorities; librdkafka looks in the usual places.
    if tls.ca_file.is_none() && !kafka.librdkafka.keys().any(|name| name.starts_with("ssl.ca.")) {
        set("ssl.ca.location", "probe");
    }
    match (&tls.cert_file, &tls.key_file) {
        (Some(_), None) => found.missing("kafka.tls.key_file", "cert_file needs the key that belongs to it"),
        (None, Some(_)) => found.missing("kafka.tls.cert_file", "key_file needs the certificate that belongs to it"),
        _ => {}
    }
}

fn sasl(kafka: &RawKafka, found: &mut Findings<'_>, set: &mut impl FnMut(&str, &str)) {
    let Some(sasl) = &kafka.sasl else { return };
    match &sasl.mechanism {
        None => found.missing("kafka.sasl.mechanism", "write \"SCRAM-SHA-512\", \"SCRAM-SHA-256\" or \"PLAIN\""),
        Some(mechanism) => {
            if mechanism == "PLAIN" && kafka.tls.is_none() && !found.told("kafka.tls") {
                let wrong = "refused: PLAIN without TLS sends the password readable over the network";
                found.blame("kafka.sasl.mechanism", wrong, "add [kafka.tls], or use SCRAM-SHA-512");
            }
            set("sasl.mechanism", mechanism);
        }
    }
    match &sasl.username {
        None => found.missing("kafka.sasl.username", "write the user to sign in as"),
        Some(username) => set("sasl.username", username),
    }
    if let Some(password) = password(&sasl.password, found) {
        set("sasl.password", &password);
    }
}

/// The password, from the one place that is named. Names of credentials and variables are not told: they may be the password, put in the
/// wrong place.
fn password(from: &RawPassword, found: &mut Findings<'_>) -> Option<String> {
    const WAYS: &str = "write one of { file = \"…\" }, { credential = \"…\" } and { env = \"…\" }";
    let path = "kafka.sasl.password";
    match (&from.file, &from.credential, &from.env) {
        (None, None, None) => {
            if !found.told(path) {
                found.blame(path, "no password is named", WAYS);
            }
            None
        }
        (Some(file), None, None) => password_file(file, "kafka.sasl.password.file", &file.to_string_lossy(), found),
        (None, Some(name), None) => {
            let key = "kafka.sasl.password.credential";
            let Some(directory) = found.machine.env.get("CREDENTIALS_DIRECTORY").cloned() else {
                let right = "give the service LoadCredential=, or use { file = \"…\" }";
                return out_of_reach(found, key, "$CREDENTIALS_DIRECTORY is not set".to_owned(), right);
            };
            password_file(&Path::new(&directory).join(name), key, "the credential", found)
        }
        (None, None, Some(variable)) => {
            let (key, name) = ("kafka.sasl.password.env", "the environment variable");
            let Some(value) = found.machine.env.get(variable).cloned() else {
                return out_of_reach(found, key, format!("{name} holds no password"), "it must hold one, as UTF-8 text without NUL");
            };
            usable(value, key, name, found)
        }
        _ => {
            found.blame(path, "more than one place is named", WAYS);
            None
        }
    }
}

fn password_file(file: &Path, key: &str, name: &str, found: &mut Findings<'_>) -> Option<String> {
    match (found.machine.read)(file) {
        Err(error) => out_of_reach(found, key, format!("{name} can't be read: {error}"), "name a file that logferry may read"),
        Ok((bytes, mode)) => {
            if mode & 0o004 != 0 {
                found
                    .warnings
                    .push(format!("{name} holds a password and everybody on this machine may read it: take that right away (chmod o-r)"));
            }
            let text = String::from_utf8(bytes).unwrap_or_default();
            usable(text, key, name, found)
        }
    }
}

/// This process has no way to the password: a mistake for those that connect.
fn out_of_reach(found: &mut Findings<'_>, key: &str, wrong: String, right: &str) -> Option<String> {
    if found.machine.connects {
        found.blame(key, wrong, right);
    }
    None
}

fn usable(mut text: String, key: &str, name: &str, found: &mut Findings<'_>) -> Option<String> {
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    if text.is_empty() || text.contains('\0') {
        found.blame(key, format!("{name} holds no password"), "it must hold one, as UTF-8 text without NUL");
        return None;
    }
    Some(text)
}

fn plaintext(kafka: &RawKafka, found: &mut Findings<'_>) {
    if kafka.tls.is_some() {
        return;
    }
    let far: Vec<String> = servers(kafka.bootstrap_servers.as_ref()).into_iter().filter(|server| !is_here(server, found)).collect();
    if !far.is_empty() {
        let text = format!("events go to {} over the network without encryption: add [kafka.tls] if the brokers have TLS", far.join(", "));
        found.warnings.push(text);
    }
}

fn is_here(server: &str, found: &Findings<'_>) -> bool {
    let host = server.rsplit_once(':').map_or(server, |(host, _)| host).trim_start_matches('[').trim_end_matches(']');
    let loopback = host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    loopback
        || host.eq_ignore_ascii_case("localhost")
        || found.machine.hostname.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(host))
}
