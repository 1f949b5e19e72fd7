//! The journal source on journals that systemd's own tools have written, driven turn by turn: [`Rig`] is a source, an outlet that keeps what it gets
//! and acknowledges it when a test says so, and the state as a database would have it. What is shipped is compared with `journalctl -o export`.

mod damage;
mod export;
mod fields;
mod filters;
mod gaps;
mod names;
mod patch;
mod resume;

use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use serde_json::{Map, Value};
use tempfile::TempDir;

use super::*;
use crate::batch::Batch;
use crate::gaps::Gap;
use crate::gaps::sender::Store as _;
use crate::ledger::{Ledger, Missed};
use crate::settlement::{Kept, KeptGaps};
use crate::snapshot::rows::StreamRow;

/// Batches on their way.
type Sent = Arc<Mutex<Vec<Batch>>>;

struct Sink(Sent);

impl Outlet for Sink {
    fn push(&mut self, batch: Batch) {
        assert!(!batch.events.is_empty(), "a batch has events");
        let ends: Vec<u32> = batch.events.iter().map(|event| event.to).collect();
        assert!(ends.is_sorted_by(|a, b| a < b), "ends grow: {ends:?}");
        self.0.lock().unwrap().push(batch);
    }

    fn fits(&self, bytes: &[u8]) -> usize {
        bytes.len()
    }
}

/// The state as a database keeps it: changed only by [`Rig::commit`].
#[derive(Clone, Default)]
struct Store {
    rows: HashMap<StreamId, StreamRow>,
    ledgers: HashMap<Arc<str>, Ledger>,
    gaps: std::collections::BTreeMap<u64, Gap>,
    counters: crate::gaps::outbox::Counters,
}

struct Rig {
    dir: TempDir,
    settings: Settings,
    encode: encode::Settings,
    settlement: Arc<Settlement>,
    store: Store,
    source: Option<Journald>,
    sent: Sent,
    now: Instant,
    /// Messages that were acknowledged, in order.
    acked: Vec<Vec<u8>>,
}

const NAME: &str = "journal";

impl Rig {
    fn new() -> Rig {
        let dir = TempDir::new().unwrap();
        let settings = Settings {
            name: NAME.into(),
            topic: "logs".into(),
            place: Where::Given(dir.path().to_owned()),
            start_at: StartAt::Beginning,
            current_boot: false,
            wanted: Wanted::default(),
            fields: Fields::default(),
        };
        let encode = encode::Settings {
            format: encode::Format::Json,
            max_event: 900 << 10,
            host: "web-01".into(),
            labels: Vec::new(),
            zone: jiff::tz::TimeZone::UTC,
        };
        let (settlement, store, sent) = <(Arc<Settlement>, Store, Sent)>::default();
        Rig { dir, settings, encode, settlement, store, source: None, sent, now: Instant::now(), acked: Vec::new() }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn start(&mut self) {
        let common = Common {
            host: "web-01".into(),
            settlement: Arc::clone(&self.settlement),
            budget: Budget::new(64 << 20),
            pool: Arc::default(),
            encode: self.encode.clone(),
            forget_after: Duration::from_secs(7 * 86_400),
            mint: crate::source::new_stream,
            pulse: Arc::default(),
        };
        let sink = Box::new(Sink(Arc::clone(&self.sent)));
        self.source = Some(Journald::new(self.settings.clone(), common, sink, Watcher::new(|| ())));
    }

    /// Plays turns until there is nothing to do, with all acknowledged that comes.
    fn ship(&mut self) {
        for _ in 0..10_000 {
            let next = self.turn();
            self.acknowledge();
            let source = self.source.as_ref().unwrap();
            if matches!(next, Next::Rest(_)) && source.is_finished() {
                return;
            }
        }
        panic!("it comes to no end: {:?}", self.source);
    }

    /// A turn in which all is looked at.
    fn turn(&mut self) -> Next {
        if self.source.is_none() {
            self.start();
        }
        self.now += RESCAN;
        self.source.as_mut().unwrap().turn(self.now)
    }

    /// The broker has all that was sent.
    fn acknowledge(&mut self) {
        for batch in std::mem::take(&mut *self.sent.lock().unwrap()) {
            self.settlement.acknowledged(&batch, batch.events.len());
            self.acked.extend(batch.events.iter().map(|event| batch.event_bytes(event).to_vec()));
        }
    }

    /// The broker has the first of these batches' events alone.
    fn acknowledge_some(&mut self, events: usize) {
        let mut sent = self.sent.lock().unwrap();
        let batch = sent.remove(0);
        self.settlement.acknowledged(&batch, events);
        self.acked.extend(batch.events.iter().take(events).map(|event| batch.event_bytes(event).to_vec()));
    }

    /// Writes a snapshot.
    fn commit(&mut self) {
        let changes = self.settlement.changes();
        self.store.rows.extend(changes.kept.streams.iter().cloned());
        changes.forgotten.iter().for_each(|id| drop(self.store.rows.remove(id)));
        self.store.ledgers.extend(changes.kept.ledgers.iter().cloned());
        for (number, gap) in &changes.gaps.gaps {
            match gap {
                Some(gap) => drop(self.store.gaps.insert(*number, gap.clone())),
                None => drop(self.store.gaps.remove(number)),
            }
        }
        if let Some(counters) = changes.gaps.counters {
            self.store.counters = counters;
        }
        self.settlement.committed(&changes);
    }

    /// The daemon is killed, and started again with what the last snapshot has.
    fn restart(&mut self) {
        self.source = None;
        self.sent.lock().unwrap().clear();
        let store = self.store.clone();
        let kept = Kept { streams: store.rows.into_iter().collect(), ledgers: store.ledgers.into_iter().collect(), lanes: Vec::new() };
        let gaps = KeptGaps { waiting: store.gaps.into_values().collect(), counters: store.counters };
        self.settlement = Arc::new(Settlement::restored(kept, gaps));
    }

    fn events(&self) -> Vec<Map<String, Value>> {
        self.acked
            .iter()
            .map(|bytes| serde_json::from_slice(bytes).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(bytes))))
            .collect()
    }

    /// The numbers in their messages, as [`export::Writer`] has them.
    fn numbers(&self) -> Vec<u64> {
        self.events().iter().map(number_of).collect()
    }

    fn missed(&self, reason: Missed) -> crate::ledger::Amount {
        let books = self.settlement.books();
        books.iter().find(|(name, _)| &**name == NAME).and_then(|(_, shown)| shown.ledger.missed.get(&reason).copied()).unwrap_or_default()
    }

    fn assert_balanced(&self) {
        assert_eq!(self.settlement.imbalances(), []);
    }
}

fn number_of(event: &Map<String, Value>) -> u64 {
    let message = event["message"].as_str().unwrap();
    message.split(' ').nth(1).and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{message}"))
}

/// What `journalctl -o export` shows of the journals in a directory, or of one file.
fn journalctl(place: &Path, args: &[&str]) -> Vec<Vec<(String, Vec<u8>)>> {
    let which = if place.is_dir() { "--directory" } else { "--file" };
    let out =
        std::process::Command::new("journalctl").args(["--output=export", "--all", "--no-pager", which]).arg(place).args(args).output();
    let out = out.expect("journalctl is there: Debian package systemd");
    export::parse(&out.stdout)
}
