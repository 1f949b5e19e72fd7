//! `logferry test`: what becomes of lines under the rules, and the message that would be sent; and the `[[test]]` tables of the configuration,
//! which `check` runs. Needs neither Kafka nor a daemon.

mod entry;

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use clap::Args;

use super::check::BAD_CONFIGURATION;
use crate::batch::{Batch, Event, Origin, Position, Stream, StreamId};
use crate::budget::{Budget, Charge};
use crate::config::rules::Expected;
use crate::config::{self, Config};
use crate::encode::{self, Encoder};
use crate::ledger::Count;
use crate::rules::engine::Engine;
use crate::settlement::Began;
use crate::source::syslog::intake::Transport;

/// A longer line is cut here, and that is said, bytes; a source would ship it in parts.
const LONGEST: usize = 1 << 20;

/// Options of `logferry test`.
#[derive(Debug, Args)]
pub struct Options {
    /// The source whose lines they are; of a journal they are those of `journalctl -o json`, or messages alone [default: the first one]
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// The path of the file that the lines are of, for rules that ask for it
    #[arg(long, value_name = "PATH", default_value = "/var/log/test.log")]
    path: String,
    /// A file of lines; without it they come from standard input
    input: Option<PathBuf>,
}

/// What became of one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// This rule has left it out.
    Dropped(String),
    /// It is shipped: its message, and the record's value.
    Kept(Vec<u8>, Vec<u8>),
}

/// Takes lines of one source through the rules and the encoder.
#[derive(Debug)]
pub struct Trial {
    engine: Option<Engine>,
    encoder: Encoder,
    stream: Arc<Stream>,
    offset: u64,
    /// How messages look, of a source of type journald.
    journal: Option<encode::Settings>,
}

impl Trial {
    /// For lines of this source as if of a file at `path`; `None` if there is no such source whose lines can be tried.
    #[must_use]
    pub fn new(config: &Config, source: &str, path: &str) -> Option<Trial> {
        let (name, kind) = config.types().into_iter().find(|(name, _)| **name == *source)?;
        let topic = config.named.iter().find(|named| named.name == name).map(|named| Arc::clone(&named.topic))?;
        let syslog = config.syslogs.iter().find(|syslog| syslog.name == name);
        let zone = syslog.map_or(jiff::tz::TimeZone::UTC, |syslog| syslog.zone.clone());
        let encode = encode::Settings { zone, ..config.encode.clone() };
        let origin = match kind {
            "syslog" => Origin::Arrivals { peer: "192.0.2.1".into(), transport: Transport::Tcp },
            "journald" => Origin::Finished,
            _ => Origin::File(path.as_bytes().into()),
        };
        Some(Trial {
            engine: config.needs_engine((source, kind)).then(|| config.engine((source, kind), &encode)),
            encoder: Encoder::new(&encode),
            stream: Arc::new(Stream { id: StreamId(0), source: name, key: Box::default(), headers: Vec::new(), origin, topic }),
            offset: 0,
            journal: (kind == "journald").then_some(encode),
        })
    }

    /// The topic that the last line went to.
    fn topic(&self) -> &str {
        let routed = self.engine.as_ref().and_then(|engine| engine.topic_of(engine.ways().first()?.0));
        routed.unwrap_or(&self.stream.topic)
    }

    /// The key and headers of the last message, where they are not those that all have.
    fn around(&self) -> String {
        let class = self.engine.as_ref().and_then(|engine| Some(engine.class(engine.ways().first()?.1))).unwrap_or_default();
        let key = class
            .key
            .map(|key| if key.is_empty() { " without key".to_owned() } else { format!(" with key {}", String::from_utf8_lossy(&key)) });
        let headers = class.headers.iter().map(|(name, value)| format!(" {name}={}", String::from_utf8_lossy(value)));
        key.into_iter().chain(headers).collect()
    }

    /// What becomes of this line.
    pub fn line(&mut self, line: &[u8]) -> Outcome {
        let entry = self.entry(line);
        let mut batch = self.batch(entry.as_deref().unwrap_or(line));
        if let Some(sifted) = self.engine.as_mut().and_then(|engine| engine.run(&mut batch, |_, _| Began::default()))
            && let Some((rule, _)) = sifted.by_rule.first()
        {
            return Outcome::Dropped(rule.to_string());
        }
        let text = |batch: &Batch| batch.events.first().map(|event| batch.event_bytes(event).to_vec()).unwrap_or_default();
        let is_json = self.journal.as_ref().is_some_and(|encode| encode.format != encode::Format::Raw);
        let message = if is_json { entry::message_of(&text(&batch)) } else { text(&batch) };
        let (batch, _) = self.encoder.encode(batch, Vec::new());
        Outcome::Kept(message, text(&batch))
    }

    /// Of a journal, what its source makes of the line; in `raw` that is the message.
    fn entry(&self, line: &[u8]) -> Option<Vec<u8>> {
        let encode = self.journal.as_ref()?;
        let json = entry::rendered(line, &encode.host, &self.stream.source);
        Some(if encode.format == encode::Format::Raw { entry::message_of(&json) } else { json })
    }

    fn batch(&mut self, line: &[u8]) -> Batch {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok();
        let observed_ns = now.and_then(|time| i64::try_from(time.as_nanos()).ok()).unwrap_or(0);
        // As in an arrival log, the time of receipt stands in front of a syslog message.
        let mut bytes = observed_ns.to_le_bytes().to_vec();
        bytes.extend_from_slice(line);
        let narrow = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let (base, to) = (self.offset, self.offset + line.len() as u64 + 1);
        self.offset = to;
        Batch {
            stream: Arc::clone(&self.stream),
            bytes,
            events: vec![Event::whole(8, narrow(line.len()), 0, narrow(line.len() + 1))],
            base,
            line_start: base,
            to: Position { offset: to, line_start: to, ..Position::START },
            observed_ns,
            ticket: 0,
            part: 0,
            since: Instant::now(),
            before: Count::default(),
            copy: None,
            extras: Vec::new(),
            part_headers: false,
            routed: 0,
            charge: charge(),
        }
    }
}

/// There is no budget to share: one line is held at a time.
fn charge() -> Charge {
    Budget::new(LONGEST * 4).charge(0)
}

/// Tries every line; the exit status is 0 whatever becomes of them, 1 if they can't be read.
#[must_use]
pub fn run(path: &Path, options: &Options) -> ExitCode {
    let config = match config::load(path) {
        Ok(config) => config,
        Err(problems) => {
            eprint(&format!("{problems}\n"));
            return ExitCode::from(BAD_CONFIGURATION);
        }
    };
    let types = config.types();
    let first = types.first().map(|(name, _)| name.to_string());
    let source = options.source.clone().or(first).unwrap_or_default();
    let Some(mut trial) = Trial::new(&config, &source, &options.path) else {
        eprint(&format!("there is no source {source:?} whose lines could be tried; name one with --source\n"));
        return ExitCode::from(2);
    };
    let result = match &options.input {
        None => lines(&mut trial, &mut io::stdin().lock(), &mut io::stdout().lock()),
        Some(file) => match std::fs::File::open(file) {
            Ok(opened) => lines(&mut trial, &mut BufReader::new(opened), &mut io::stdout().lock()),
            Err(error) => Err(io::Error::new(error.kind(), format!("{}: {error}", file.display()))),
        },
    };
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprint(&format!("the lines can't be tried: {error}\n"));
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

fn eprint(text: &str) {
    // Standard error that is gone is no reason to fail.
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Tries each line and writes a line about it.
fn lines(trial: &mut Trial, from: &mut impl BufRead, to: &mut impl Write) -> io::Result<()> {
    let (mut line, mut count) = (Vec::new(), [0_u64; 2]);
    loop {
        line.clear();
        if io::Read::take(&mut *from, LONGEST as u64).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        match trial.line(text) {
            Outcome::Dropped(rule) => {
                count[1] += 1;
                writeln!(to, "dropped by {rule:?}: {}", String::from_utf8_lossy(text))?;
            }
            Outcome::Kept(_, value) => {
                count[0] += 1;
                write!(to, "kept, to {}{}: ", trial.topic(), trial.around())?;
                to.write_all(&value)?;
                to.write_all(b"\n")?;
            }
        }
    }
    let [kept, dropped] = count;
    writeln!(to, "{kept} kept, {dropped} dropped")
}

/// Runs the configuration's tests; a line for each that fails.
#[must_use]
pub fn failures(config: &Config) -> String {
    let mut text = String::new();
    for test in &config.tests {
        let Some(mut trial) = Trial::new(config, &test.source, "/var/log/test.log") else { continue };
        let outcome = trial.line(test.input.as_bytes());
        let became = match (&outcome, &test.expected) {
            (Outcome::Dropped(rule), Expected::DroppedBy(expected)) if rule == expected => continue,
            (Outcome::Kept(message, _), Expected::Message(expected)) if *message == expected.as_bytes() => continue,
            (Outcome::Kept(_, value), Expected::Record(expected)) if memchr::memmem::find(value, expected.as_bytes()).is_some() => continue,
            (Outcome::Kept(..), Expected::Topic(expected)) if trial.topic() == expected => continue,
            (Outcome::Kept(..), Expected::Topic(_)) => format!("it went to {:?}", trial.topic()),
            (Outcome::Kept(_, value), Expected::Record(_)) => format!("it was sent as {}", String::from_utf8_lossy(value)),
            (Outcome::Dropped(rule), _) => format!("it was dropped by {rule:?}"),
            (Outcome::Kept(message, _), _) => format!("it was kept as {:?}", String::from_utf8_lossy(message)),
        };
        let wanted = match &test.expected {
            Expected::DroppedBy(rule) => format!("to be dropped by {rule:?}"),
            Expected::Message(message) => format!("to be kept as {message:?}"),
            Expected::Record(text) => format!("to be sent with {text}"),
            Expected::Topic(topic) => format!("to go to {topic:?}"),
        };
        let _ = writeln!(text, "{}: test: {:?} was expected {wanted}; {became}", test.origin, test.input);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"
kafka = { bootstrap_servers = "localhost:1", topic = "t" }
agent = { id = "i", host = "h", state_dir = "/s" }
[[source]]
name = "web"
type = "file"
include = ["/var/log/nginx/*.log"]
[[source]]
name = "net"
type = "syslog"
listen = ["tcp://127.0.0.1:5514"]
[[rule]]
name = "health checks"
when = { source = "web", message = '"GET /healthz' }
drop = true
[[rule]]
name = "chatter"
when = { app = "cron", not = { severity = { at_least = "warning" } } }
drop = true
[[rule]]
redact = { pattern = "email" }
"#;

    fn config(more: &str) -> Config {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.toml");
        std::fs::write(&path, format!("{CONFIG}{more}")).unwrap();
        config::load(&path).unwrap()
    }

    fn tried(source: &str, input: &str) -> String {
        let mut out = Vec::new();
        lines(&mut Trial::new(&config(""), source, "/var/log/nginx/a.log").unwrap(), &mut input.as_bytes(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_line_is_told_with_the_rule_or_the_message_that_would_be_sent() {
        let told = tried("web", "x \"GET /healthz HTTP/1.1\"\r\nfrom ann@example.org\n");
        let told: Vec<&str> = told.lines().collect();
        assert_eq!(told[0], "dropped by \"health checks\": x \"GET /healthz HTTP/1.1\"");
        assert!(told[1].starts_with("kept, to t: {\"v\":1,") && told[1].contains("\"message\":\"from [email]\""), "{}", told[1]);
        assert_eq!(told[2], "1 kept, 1 dropped");
    }

    #[test]
    fn every_recipe_of_the_documentation_passes_its_own_tests() {
        let recipes = include_str!("../../docs/recipes.md");
        let mut tried = 0;
        for recipe in recipes.split("```toml\n").skip(1) {
            let recipe = recipe.split("```").next().unwrap();
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("config.toml");
            let head = "kafka = { bootstrap_servers = \"localhost:1\", topic = \"t\" }\nagent = { id = \"i\", host = \"h\", state_dir = \"/s\" }\n";
            std::fs::write(&path, format!("{head}{recipe}")).unwrap();
            let config = config::load(&path).unwrap_or_else(|problems| panic!("{problems}\n{recipe}"));
            assert!(!config.tests.is_empty(), "a recipe without a test: {recipe}");
            assert_eq!(failures(&config), "", "{recipe}");
            tried += 1;
        }
        assert!(tried >= 9, "{tried}");
    }

    #[test]
    fn an_entry_of_the_journal_is_known_by_its_unit_and_its_fields() {
        let rules = r#"
[[source]]
name = "journal"
type = "journald"
[[rule]]
when = { unit = "ssh", fields = { "journal._COMM" = "sshd" } }
route = { topic = "security" }
[[rule]]
when = { unit = "cron*", severity = "info" }
drop = true
"#;
        let input = concat!(
            r#"{"MESSAGE":"\u0041 from ann@example.org","_SYSTEMD_UNIT":"ssh.service","PRIORITY":"6","_COMM":"sshd","_CMDLINE":"x ann@example.org","__CURSOR":"c"}"#,
            "\n",
            r#"{"MESSAGE":[114,117,110],"_SYSTEMD_UNIT":"cron.service","PRIORITY":"6"}"#,
            "\njust text\n"
        );
        let mut out = Vec::new();
        lines(&mut Trial::new(&config(rules), "journal", "").unwrap(), &mut input.as_bytes(), &mut out).unwrap();
        let told = String::from_utf8(out).unwrap();
        let told: Vec<&str> = told.lines().collect();
        assert!(
            told[0].starts_with("kept, to security: {\"v\":1,") && told[0].contains(r#""message":"A from [email]","unit":"ssh.service""#),
            "{}",
            told[0]
        );
        assert!(told[0].contains(r#""_CMDLINE":"x [email]""#), "{}", told[0]);
        assert!(told[1].starts_with("dropped by \"rule-5\""), "{}", told[1]);
        assert!(told[2].starts_with("kept, to t: "), "{}", told[2]);
    }

    #[test]
    fn a_syslog_message_is_known_by_its_program_and_severity() {
        let told =
            tried("net", "<78>Nov 27 01:00:00 h cron[1]: run by ann@example.org\n<75>Nov 27 01:00:00 h cron[1]: failed, ann@example.org\n");
        let told: Vec<&str> = told.lines().collect();
        assert!(told[0].starts_with("dropped by \"chatter\""), "{}", told[0]);
        assert!(told[1].contains("\"message\":\"failed, [email]\"") && told[1].contains("\"app\":\"cron\""), "{}", told[1]);
    }

    #[test]
    fn tests_in_the_configuration_are_run_and_told_with_their_place() {
        let good = "[[test]]\nsource = \"web\"\ninput = '\"GET /healthz'\ndropped_by = \"health checks\"\n[[test]]\nsource = \"web\"\ninput = \"a@b.de\"\nmessage = \"[email]\"\n";
        assert_eq!(failures(&config(good)), "");
        let bad = failures(&config("[[test]]\nsource = \"web\"\ninput = \"a@b.de\"\ndropped_by = \"health checks\"\n"));
        assert!(
            bad.contains("config.toml:22: test: \"a@b.de\" was expected to be dropped by \"health checks\"; it was kept as \"[email]\""),
            "{bad}"
        );
    }
}
