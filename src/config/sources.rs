//! The sources of a configuration: what each `[[source]]` was merged with, judged, and turned into settings of its type. Apart from
//! [`super::resolve`] because each type has keys of its own. Pure.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use figment::Figment;
use figment::providers::Serialized;

use super::collect::Layer;
use super::problem::{Fault, Origin, Problems};
use super::resolve::{Findings, internal};
use super::schema::{self, RawFile, RawJournald, RawMultiline, RawSource, RawSyslog, Unset};
use super::{Machine, Named, kinds, print};
use crate::source::file::charset;
use crate::source::file::{self, StartAt, discover::Pattern};
use crate::source::journald::{self, discover, filter, render};
use crate::source::multiline::{Lines, Multiline, Own, ready};
use crate::source::syslog;
use crate::source::syslog::arrival::WhenFull;
use crate::source::syslog::arrival::shed::First;
use crate::source::syslog::frame::TooLong;
use crate::source::syslog::intake::Transport;
use crate::source::syslog::listen::address::Address;
use crate::source::syslog::listen::gate::Network;
use crate::source::syslog::listen::{TlsSettings, tls};

/// The sources, by type; and of all of them, in the order in which they are written, what they have in common.
#[derive(Default)]
pub struct Sources {
    /// Of type `file`.
    pub files: Vec<file::Settings>,
    /// Of type `syslog`.
    pub syslogs: Vec<syslog::Settings>,
    /// Of type `journald`.
    pub journals: Vec<journald::Settings>,
    /// The text of every include pattern, with the name of its source.
    pub includes: Vec<(Arc<str>, String)>,
    /// Every source.
    pub named: Vec<Named>,
}

/// Judges and builds them; what was written of each goes to `shown`.
///
/// # Errors
/// What the walk let through and figment does not take.
pub fn sources(
    layers: &[(Origin, Layer)],
    topic: Option<&str>,
    found: &mut Findings<'_>,
    shown: &mut Vec<print::Section>,
) -> Result<Sources, Problems> {
    let mut sources = Sources::default();
    let mut places: BTreeMap<String, Origin> = BTreeMap::new();
    for (origin, layer) in layers {
        // Without a good type, which was told already, it is judged as the first.
        let kind = layer.values.get("type").and_then(|word| word.as_str()).filter(|word| schema::is_source_type(word)).unwrap_or("file");
        let mut figment =
            Figment::from(Serialized::defaults(schema::defaults(Some(kind)))).merge(Serialized::defaults(layer.values.clone()));
        let mut origins = layer.origins.clone();
        if let (Some(topic), false) = (topic, origins.contains_key("source.topic")) {
            figment = figment.join(Serialized::default("topic", topic));
            origins.insert("source.topic".to_owned(), Origin::Default("kafka.topic"));
        }
        let raw: RawSource = figment.extract().map_err(|error| internal(found, &error))?;
        required(kind, origin, &origins, found);
        unique(&raw, &origins, &mut places, found);
        let name: Arc<str> = raw.name.as_deref().unwrap_or_default().into();
        let topic: Arc<str> = raw.topic.as_deref().unwrap_or_default().into();
        shown.extend(print::sections(&figment, &origins, Some(kind)));
        sources.named.push(Named { name: Arc::clone(&name), topic: Arc::clone(&topic), expect_every: raw.expect_every.0 });
        if kind == "syslog" {
            let raw: RawSyslog = figment.extract().map_err(|error| internal(found, &error))?;
            let multiline = raw.multiline.as_ref().and_then(|raw| multiline(raw, &origins, found)).map(Arc::new);
            let source = syslog(raw, (name, topic), &origins, found);
            let joins = |address: &Address| matches!(address.transport(), Some(Transport::Tcp | Transport::Tls | Transport::Unix) | None);
            if multiline.is_some() && !source.listen.iter().any(joins) {
                found.warnings.push(format!(
                    "source {:?}: multiline joins lines of tcp://, tls:// and unix:// alone, and it listens at none",
                    source.name
                ));
            }
            sources.syslogs.push(syslog::Settings { multiline, ..source });
            continue;
        }
        if kind == "journald" {
            let raw: RawJournald = figment.extract().map_err(|error| internal(found, &error))?;
            sources.journals.push(journald(raw, (name, topic), origin, found));
            continue;
        }
        let raw: RawFile = figment.extract().map_err(|error| internal(found, &error))?;
        surprises(&raw, &name, &sources.includes, found);
        sources.includes.extend(raw.include.iter().map(|pattern| (Arc::clone(&name), pattern.clone())));
        let multiline = raw.multiline.as_ref().and_then(|raw| multiline(raw, &origins, found));
        sources.files.push(file(&raw, name, topic, multiline));
    }
    if layers.is_empty() && !found.told("source") {
        found.blame("source", "there is no source", "add a [[source]] with name, type and include");
    }
    Ok(sources)
}

fn unique(raw: &RawSource, origins: &BTreeMap<String, Origin>, places: &mut BTreeMap<String, Origin>, found: &mut Findings<'_>) {
    let (Some(name), Some(place)) = (&raw.name, origins.get("source.name")) else { return };
    if let Some(first) = places.get(name) {
        let fault = Fault::new(format!("a source {name:?} is there already, at {first}"), "give each source a name of its own");
        found.problems.push(fault.at(place, "source.name"));
    }
    places.entry(name.clone()).or_insert_with(|| place.clone());
}

fn required(kind: &str, origin: &Origin, origins: &BTreeMap<String, Origin>, found: &mut Findings<'_>) {
    for key in schema::KEYS.iter().filter(|key| key.unset == Unset::Required && key.is_in(Some(kind))) {
        if !origins.contains_key(key.path) {
            found.problems.push(Fault::new("not set", kinds::example(key.kind)).at(origin, key.path));
        }
    }
    let topic_refused = found.origins.contains_key("kafka.topic");
    if !origins.contains_key("source.topic") && !topic_refused && !found.incomplete {
        found
            .problems
            .push(Fault::new("the source has no topic", "set it here, or kafka.topic for all sources").at(origin, "source.topic"));
    }
}

fn surprises(raw: &RawFile, name: &str, includes: &[(Arc<str>, String)], found: &mut Findings<'_>) {
    if raw.start_at == "end" {
        let text = format!("source {name:?}: start_at = \"end\": what its files hold when it first runs is not shipped");
        found.warnings.push(text);
    }
    for pattern in &raw.include {
        if let Some((other, _)) = includes.iter().find(|(_, text)| text == pattern) {
            found.warnings.push(format!("source {name:?}: {pattern:?} is in source {other:?} too: these files are shipped twice"));
        }
    }
}

/// Which lines of a source are joined; a preset or patterns of its own.
fn multiline(raw: &RawMultiline, origins: &BTreeMap<String, Origin>, found: &mut Findings<'_>) -> Option<Multiline> {
    let regex = |text: &Option<String>| text.as_deref().and_then(|text| kinds::regex(text).ok());
    let own = Own { start: regex(&raw.start), next: regex(&raw.next), end: regex(&raw.end) };
    let has_own = ["start", "continue", "end"].iter().any(|name| origins.contains_key(&format!("source.multiline.{name}")));
    let has_preset = origins.contains_key("source.multiline.preset");
    if has_own == has_preset {
        let (wrong, right) = if has_own {
            ("a preset has patterns already", "leave out preset, or start, continue and end")
        } else {
            ("there is nothing to tell which lines belong together", "add preset, as \"java\", or one of start, continue and end")
        };
        let origin = origins.get("source.multiline").cloned().unwrap_or(Origin::Default(""));
        found.problems.push(Fault::new(wrong, right).at(&origin, "source.multiline"));
    }
    Some(Multiline {
        lines: match &raw.preset {
            Some(name) => Lines::Ready(ready::ready(name)?),
            None => Lines::Own(own),
        },
        max_lines: raw.max_lines.unwrap_or(1000),
        max_size: raw.max_size.as_ref().map_or(256 << 10, |size| size.0),
        timeout: raw.timeout.as_ref().and_then(|time| time.0).unwrap_or(Duration::from_secs(1)),
    })
}

fn file(raw: &RawFile, name: Arc<str>, topic: Arc<str>, multiline: Option<Multiline>) -> file::Settings {
    let patterns = |texts: &[String]| texts.iter().filter_map(|text| Pattern::parse(text).ok()).collect();
    file::Settings {
        name,
        include: patterns(&raw.include),
        exclude: patterns(&raw.exclude),
        start_at: if raw.start_at == "end" { StartAt::End } else { StartAt::Beginning },
        ignore_older: raw.ignore_older.0,
        partial_line_timeout: raw.partial_line_timeout.0,
        rescan_interval: raw.rescan_interval.0.unwrap_or_default(),
        compressed: if raw.compressed == "read" { file::Compressed::Read } else { file::Compressed::Continue },
        charset: raw.encoding.as_deref().and_then(charset::Named::of),
        multiline,
        topic,
    }
}

fn syslog(
    raw: RawSyslog,
    (name, topic): (Arc<str>, Arc<str>),
    origins: &BTreeMap<String, Origin>,
    found: &mut Findings<'_>,
) -> syslog::Settings {
    let mut blame = |key: &str, wrong: String, right: &str| {
        let origin = origins.get(key).or_else(|| origins.get("source.listen")).cloned().unwrap_or(Origin::Default(""));
        found.problems.push(Fault::new(wrong, right).at(&origin, key));
    };
    let listen: Vec<Address> = raw.listen.iter().filter_map(|text| Address::parse(text).ok()).collect();
    let encrypted = listen.iter().any(|address| address.transport() == Some(Transport::Tls));
    let tls = raw
        .tls
        .and_then(|tls| Some(TlsSettings { cert_file: tls.cert_file?, key_file: tls.key_file?, client_ca_file: tls.client_ca_file }));
    if encrypted && tls.is_none() {
        blame(
            "source.tls",
            "a tls:// address needs a certificate and its key".into(),
            "write tls = { cert_file = \"…\", key_file = \"…\" }",
        );
    }
    let owner = raw.socket_owner.as_deref().map(|text| owner(text, found.machine));
    if let Some(Err(wrong)) = &owner {
        let origin = origins.get("source.socket_owner").cloned().unwrap_or(Origin::Default(""));
        found.problems.push(
            Fault::new(wrong.clone(), "write user:group, names that this machine knows or numbers").at(&origin, "source.socket_owner"),
        );
    }
    for address in &listen {
        if address.transport() == Some(Transport::Udp) {
            found.warnings.push(format!("source {name:?}: {address}: the kernel drops datagrams when its buffer is full, and networks lose them; what the kernel drops is counted. tcp:// or relp:// lose nothing"));
        }
    }
    if !raw.shed_first.is_empty() {
        let origin = origins.get("source.shed_first").cloned().unwrap_or(Origin::Default(""));
        found.shed_first.push((Arc::clone(&name), raw.shed_first, origin));
    }
    if let Some(Err(words)) = tls.as_ref().filter(|_| encrypted).map(tls::load) {
        found.warnings.push(format!("source {name:?}: {words}; tls:// takes no connection before that is right"));
    }
    syslog::Settings {
        name,
        topic,
        listen,
        shed_first: First::default(),
        when_full: raw.when_full.map(|word| if word == "shed" { WhenFull::Shed } else { WhenFull::Block }),
        zone: kinds::zone(&raw.timezone).unwrap_or(jiff::tz::TimeZone::UTC),
        max_message_size: raw.max_message_size.0,
        too_long: if raw.too_long == "truncate" { TooLong::Truncate } else { TooLong::Split },
        max_connections: raw.max_connections,
        idle_timeout: raw.idle_timeout.0,
        handshake_timeout: raw.handshake_timeout.0.unwrap_or_default(),
        receive_buffer: raw.receive_buffer.0,
        udp_sockets: raw.udp_sockets,
        allow: raw.allow.iter().filter_map(|text| Network::parse(text).ok()).collect(),
        peer_rate: raw.peer_rate,
        socket_mode: kinds::mode(&raw.socket_mode).unwrap_or(0o666),
        socket_owner: owner.and_then(Result::ok),
        tls,
        multiline: None,
    }
}

fn journald(raw: RawJournald, (name, topic): (Arc<str>, Arc<str>), origin: &Origin, found: &mut Findings<'_>) -> journald::Settings {
    let machine_id = found.machine.machine_id.as_deref().map(|id| id.trim().to_lowercase()).unwrap_or_default();
    if raw.directory.is_none() && (machine_id.len() != 32 || !machine_id.bytes().all(|byte| byte.is_ascii_hexdigit())) {
        let right = "write where the journal is, as directory = \"/var/log/journal\"";
        found
            .problems
            .push(Fault::new("this machine has no /etc/machine-id, by which its journal is found", right).at(origin, "source.directory"));
    }
    let namespace = match raw.namespace {
        None => discover::Namespace::Default,
        Some(all) if all == "*" => discover::Namespace::All,
        Some(named) => discover::Namespace::Named(named),
    };
    if raw.start_at == "end" {
        let text = format!("source {name:?}: start_at = \"end\": what the journal holds when it first runs is not shipped");
        found.warnings.push(text);
    }
    let pair = |text: &String| text.split_once('=').map(|(field, value)| (field.to_owned(), value.to_owned()));
    let matches: Vec<(String, String)> = raw.matches.iter().filter_map(pair).collect();
    let fields: std::collections::BTreeSet<&str> = matches.iter().map(|(field, _)| field.as_str()).collect();
    if fields.len() > filter::MAX_MATCH_FIELDS {
        let wrong = format!("{} fields are too many", fields.len());
        found.problems.push(Fault::new(wrong, format!("write at most {}", filter::MAX_MATCH_FIELDS)).at(origin, "source.matches"));
    }
    journald::Settings {
        name,
        topic,
        place: match raw.directory {
            Some(directory) => discover::Where::Given(directory),
            None => discover::Where::Machine { roots: discover::roots(), machine_id, namespace },
        },
        start_at: if raw.start_at == "end" { StartAt::End } else { StartAt::Beginning },
        current_boot: raw.boot == "current",
        wanted: filter::Wanted {
            units: raw.units,
            identifiers: raw.identifiers,
            priority: raw.priority.as_deref().and_then(kinds::priority),
            matches,
            kernel: match raw.kernel.as_str() {
                "only" => filter::Kernel::Only,
                "not" => filter::Kernel::Not,
                _ => filter::Kernel::Also,
            },
            boot: None,
            own_unit: None,
        },
        fields: render::Fields { only: raw.fields, not: raw.exclude_fields },
    }
}

/// A user's and a group's number, by their names or as they are.
fn owner(text: &str, machine: &Machine<'_>) -> Result<(u32, u32), String> {
    let (user, group) = text.split_once(':').ok_or(format!("{text:?} names no group"))?;
    let number = |name: &str, file: &str, what: &str| {
        let known = || {
            let (bytes, _) = (machine.read)(Path::new(file)).ok()?;
            let lines = String::from_utf8_lossy(&bytes).into_owned();
            let line = lines.lines().find(|line| line.split(':').next() == Some(name))?;
            line.split(':').nth(2)?.parse().ok()
        };
        name.parse().ok().or_else(known).ok_or(format!("there is no {what} {name:?}"))
    };
    Ok((number(user, "/etc/passwd", "user")?, number(group, "/etc/group", "group")?))
}
