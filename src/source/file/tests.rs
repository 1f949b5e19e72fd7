//! The file source on real files, driven turn by turn: [`Rig`] is a directory, a source that reads it, an outlet that keeps what it gets and
//! acknowledges it when a test says so, and the state as a database would have it. Time is moved by hand.

mod compressed;
mod content;
mod encoded;
mod finding;
mod histories;
mod joining;
mod knowledge;
mod leaving;
mod model;
mod restart;
mod rotating;
mod soak;
mod writer;

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;

use tempfile::TempDir;

use super::*;
use crate::batch::Batch;
use crate::encode::LineStarts;
use crate::ledger::{Ledger, Missed};
use crate::settlement::{Kept, KeptGaps};

/// An event as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Got {
    stream: StreamId,
    /// The path that its key names.
    path: String,
    bytes: Vec<u8>,
    line_start: u64,
    to: u64,
    part: Option<(u32, bool)>,
    partial: bool,
}

/// The state as a database keeps it: changed only by [`Rig::commit`].
#[derive(Clone, Debug, Default)]
struct Store {
    rows: HashMap<StreamId, StreamRow>,
    ledgers: HashMap<Arc<str>, Ledger>,
}

/// Batches on their way, each with how many of its events are acknowledged.
type Sent = Arc<Mutex<VecDeque<(Batch, usize)>>>;

struct Sink {
    batches: Sent,
    protected: Arc<Mutex<Vec<StreamId>>>,
    max_event: usize,
}

impl Outlet for Sink {
    fn push(&mut self, batch: Batch) {
        assert!(!batch.events.is_empty(), "a batch has events");
        self.batches.lock().unwrap().push_back((batch, 0));
    }

    fn fits(&self, bytes: &[u8]) -> usize {
        crate::encode::raw::fits(bytes, self.max_event)
    }

    fn protect(&mut self, stream: StreamId) {
        self.protected.lock().unwrap().push(stream);
    }
}

struct Rig {
    dir: TempDir,
    settings: Settings,
    max_event: usize,
    max_open: usize,
    held: Arc<held::Held>,
    keep_free: KeepFree,
    /// Streams that the outlet was told to protect.
    protected: Arc<Mutex<Vec<StreamId>>>,
    budget: Arc<Budget>,
    settlement: Arc<Settlement>,
    store: Store,
    source: Option<FileSource>,
    batches: Sent,
    now: Instant,
    /// Acknowledged, in order.
    acked: Vec<Got>,
}

const NAME: &str = "test";

impl Rig {
    fn new(include: &[&str]) -> Rig {
        let dir = TempDir::new().unwrap();
        let include = include.iter().map(|glob| discover::Pattern::parse(&format!("{}/{glob}", dir.path().display())).unwrap()).collect();
        let settings = Settings {
            name: NAME.into(),
            include,
            exclude: Vec::new(),
            start_at: StartAt::Beginning,
            ignore_older: None,
            partial_line_timeout: None,
            // So that each turn searches.
            rescan_interval: Duration::from_millis(1),
            compressed: Compressed::Continue,
            charset: None,
            multiline: None,
            topic: "logs".into(),
        };
        Rig {
            dir,
            settings,
            max_event: 900 << 10,
            max_open: 10_000,
            held: held::Held::new(1 << 30),
            keep_free: KeepFree::Percent(0),
            protected: Arc::default(),
            budget: Budget::new(64 << 20),
            settlement: Arc::default(),
            store: Store::default(),
            source: None,
            batches: Arc::default(),
            now: Instant::now(),
            acked: Vec::new(),
        }
    }

    /// The same in another directory, before anything was done.
    fn moved_to(mut self, dir: TempDir, glob: &str) -> Rig {
        self.settings.include = vec![discover::Pattern::parse(&format!("{}/{glob}", dir.path().display())).unwrap()];
        self.dir = dir;
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> File {
        let mut file = File::options().create(true).append(true).open(self.path(name)).unwrap();
        file.write_all(content.as_ref()).unwrap();
        file
    }

    fn rename(&self, from: &str, to: &str) {
        rustix::fs::rename(self.path(from), self.path(to)).unwrap();
    }

    fn truncate(&self, name: &str) {
        File::options().write(true).open(self.path(name)).unwrap().set_len(0).unwrap();
    }

    /// One turn of the source, which is started if it does not run.
    fn turn(&mut self) -> Next {
        if self.source.is_none() {
            let common = Common {
                host: "host".into(),
                settlement: Arc::clone(&self.settlement),
                budget: Arc::clone(&self.budget),
                pool: Arc::default(),
                max_event: self.max_event,
                forget_after: Duration::from_hours(24 * 30),
                held: Arc::clone(&self.held),
                keep_free: self.keep_free,
                max_open: std::sync::Arc::new(self.max_open.into()),
                pulse: Arc::default(),
            };
            let sink = Sink { batches: Arc::clone(&self.batches), protected: Arc::clone(&self.protected), max_event: self.max_event };
            self.source = Some(FileSource::new(self.settings.clone(), common, Box::new(sink), Watcher::new(|| {})));
        }
        // Never before the time at which it was started, so that it searches.
        self.now = Instant::now().max(self.now + Duration::from_millis(2));
        self.source.as_mut().unwrap().turn(self.now)
    }

    /// Turns until nothing can be read, or there is no room; says whether everything was read.
    fn read(&mut self) -> bool {
        for _ in 0..10_000 {
            match self.turn() {
                Next::Again => {}
                Next::Room(_) => return false,
                Next::Rest(_) => return true,
            }
        }
        panic!("the source does not come to rest");
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
    }

    /// Acknowledges the oldest batch, or so many events more of it; false if there is none.
    fn ack(&mut self, events: Option<usize>) -> bool {
        let mut batches = self.batches.lock().unwrap();
        let Some((batch, done)) = batches.front_mut() else { return false };
        let upto = events.map_or(batch.events.len(), |events| (*done + events).min(batch.events.len()));
        self.settlement.acknowledged(batch, upto);
        self.acked.extend(got(batch).drain(*done..upto));
        *done = upto;
        if upto == batch.events.len() {
            batches.pop_front();
        }
        true
    }

    fn ack_all(&mut self) {
        while self.ack(None) {}
    }

    /// Reads and acknowledges until nothing more comes, without moving time much.
    fn settle(&mut self) {
        loop {
            let done = self.read();
            let had = !self.batches.lock().unwrap().is_empty();
            self.ack_all();
            if done && !had {
                return;
            }
        }
    }

    /// A snapshot.
    fn commit(&mut self) {
        let changes = self.settlement.changes();
        self.store.rows.extend(changes.kept.streams);
        for id in changes.forgotten {
            self.store.rows.remove(&id);
        }
        self.store.ledgers.extend(changes.kept.ledgers);
        assert_eq!(self.settlement.imbalances(), [], "the books balance");
    }

    /// The process ends without a last snapshot; what was not acknowledged has never been sent. The next turn starts it again.
    fn kill(&mut self) {
        self.source = None;
        self.batches.lock().unwrap().clear();
        let rows = self.store.rows.iter().map(|(id, row)| (*id, StreamRow::from_bytes(&row.to_bytes()).unwrap()));
        let ledgers = self.store.ledgers.iter().map(|(name, ledger)| (Arc::clone(name), ledger.clone()));
        self.settlement = Arc::new(Settlement::restored(
            Kept { streams: rows.collect(), ledgers: ledgers.collect(), lanes: Vec::new() },
            KeptGaps::default(),
        ));
        assert_eq!(self.settlement.imbalances(), [], "the books balance after a kill");
    }

    /// The process ends after a last snapshot; what was not acknowledged by then is not sent.
    fn stop(&mut self) {
        self.source = None;
        self.commit();
        self.kill();
    }

    fn ledger(&self) -> Ledger {
        self.settlement.books().into_iter().find(|(name, ..)| &**name == NAME).map(|(_, shown)| shown.ledger).unwrap_or_default()
    }

    fn missed(&self, reason: Missed) -> u64 {
        self.ledger().missed.get(&reason).map_or(0, |amount| amount.bytes)
    }

    /// The text of what was acknowledged since the last call, partial lines with a `…`.
    fn texts(&mut self) -> Vec<String> {
        let text = |got: Got| format!("{}{}", String::from_utf8_lossy(&got.bytes), if got.partial { "…" } else { "" });
        self.acked.drain(..).map(text).collect()
    }
}

/// The events of a batch.
fn got(batch: &Batch) -> Vec<Got> {
    let mut starts = LineStarts::of(batch);
    let path = String::from_utf8_lossy(&batch.stream.key).into_owned();
    let path = path.rsplit('/').next().unwrap_or_default().to_owned();
    let events = batch.events.iter().map(|event| Got {
        stream: batch.stream.id,
        path: path.clone(),
        bytes: batch.event_bytes(event).to_vec(),
        line_start: starts.next(event),
        to: batch.base + u64::from(event.to),
        part: event.part(),
        partial: event.partial(),
    });
    events.collect()
}
