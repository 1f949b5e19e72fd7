//! Snapshots: the durable state, a redb database in the state directory. One transaction holds positions, marks and books, so that after a kill
//! they agree. Apart because everything else keeps its state in memory only.

mod reserve;
pub mod rows;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use crate::batch::StreamId;
use crate::bell::Bell;
use crate::gaps::Gap;
use crate::gaps::outbox::Counters;
use crate::ledger::Ledger;
use crate::settlement::{Changes, Kept, KeptGaps, Settlement};
use crate::shutdown::{Phase, Stop};
use crate::spill::LaneRow;
use reserve::Reserve;
use rows::StreamRow;

const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const STREAMS: TableDefinition<u64, &[u8]> = TableDefinition::new("streams");
const LEDGERS: TableDefinition<&str, &[u8]> = TableDefinition::new("ledgers");
const LANES: TableDefinition<&str, &[u8]> = TableDefinition::new("lanes");
const GAPS: TableDefinition<u64, &[u8]> = TableDefinition::new("gaps");
/// The key of the gaps' numbers in [`META`].
const COUNTERS: &str = "gaps";

/// The layout of the tables; a release refuses a newer one untouched.
const FORMAT: u32 = 1;
/// redb's page cache, bytes: rows are read once, at start, so little of it is ever used.
const CACHE: usize = 1 << 20;

/// Why the state can't be opened or written. Never a reason to begin afresh on its own: that would send everything again, or skip it.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The database is not readable as one.
    #[error(
        "the state {} is damaged ({detail}). Nothing was changed. To go on: restore it from a backup, or move it away, and files are read as at a first run (start_at, ignore_older): mv {} {}.damaged",
        path.display(), path.display(), path.display()
    )]
    Damaged {
        /// The database file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// It was made by another agent.
    #[error(
        "the state {} belongs to another agent (id {theirs}, this one is {ours}): a state directory can't be moved or cloned to another machine. Set state_dir to a directory of this machine's own, or agent.id = \"{theirs}\" if this machine replaces that one",
        path.display()
    )]
    Foreign {
        /// The database file.
        path: PathBuf,
        /// The id in it.
        theirs: String,
        /// This agent's id.
        ours: String,
    },
    /// It was made by a newer release.
    #[error("the state {} was written by a newer logferry (format {theirs}, this one knows {FORMAT}): install that release again; nothing was changed", path.display())]
    Newer {
        /// The database file.
        path: PathBuf,
        /// Its format.
        theirs: u32,
    },
    /// The file system refused.
    #[error("the state {} can't be read or written: {detail}", path.display())]
    Io {
        /// The database file.
        path: PathBuf,
        /// What it said.
        detail: String,
    },
}

/// The open state database.
#[derive(Debug)]
pub struct State {
    /// `None` after an I/O error, until it is opened again.
    database: Option<Database>,
    path: PathBuf,
    reserve: Option<Reserve>,
}

impl State {
    /// Opens the state of agent `id` in `dir`, or makes a new one where there is none.
    ///
    /// # Errors
    /// See [`StateError`]; the file is left as it was.
    pub fn open(dir: &Path, id: &str) -> Result<State, StateError> {
        let path = dir.join("state.redb");
        if !path.exists() {
            // Made under another name, so that a kill in the middle leaves nothing that looks like a damaged state.
            let new = dir.join("state.redb.new");
            let io = |error: io::Error| StateError::Io { path: new.clone(), detail: error.to_string() };
            match std::fs::remove_file(&new) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
                _ => {}
            }
            let database = Database::create(&new).map_err(|error| database_error(&new, &error))?;
            State { database: Some(database), path: new.clone(), reserve: None }.initialise(id)?;
            crate::durable::replace(&new, &path).map_err(io)?;
        }
        let state = State { database: Some(open_database(&path)?), path, reserve: None };
        state.judge(id)?;
        Ok(state)
    }

    /// The database; after an I/O error redb refuses everything until it is opened anew.
    fn database(&self) -> Result<&Database, redb::Error> {
        self.database.as_ref().ok_or(redb::Error::PreviousIo)
    }

    fn initialise(&self, id: &str) -> Result<(), StateError> {
        let write = || -> Result<(), redb::Error> {
            let transaction = self.database()?.begin_write()?;
            {
                let mut meta = transaction.open_table(META)?;
                meta.insert("format", FORMAT.to_le_bytes().as_slice())?;
                meta.insert("agent", id.as_bytes())?;
                transaction.open_table(STREAMS)?;
                transaction.open_table(LEDGERS)?;
                transaction.open_table(LANES)?;
                transaction.open_table(GAPS)?;
            }
            transaction.commit()?;
            Ok(())
        };
        write().map_err(|error| self.error(&error))
    }

    fn judge(&self, id: &str) -> Result<(), StateError> {
        let read = || -> Result<_, redb::Error> {
            let transaction = self.database()?.begin_read()?;
            let meta = transaction.open_table(META)?;
            let value = |key| meta.get(key).map(|found| found.map(|value| value.value().to_vec()));
            Ok((value("format")?, value("agent")?))
        };
        let (format, agent) = read().map_err(|error| self.error(&error))?;
        let format = format.and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
        let (Some(format), Some(agent)) = (format, agent) else { return Err(self.damaged("it has no format or no agent id")) };
        if format > FORMAT {
            return Err(StateError::Newer { path: self.path.clone(), theirs: format });
        }
        if agent != id.as_bytes() {
            let theirs = String::from_utf8_lossy(&agent).into_owned();
            return Err(StateError::Foreign { path: self.path.clone(), theirs, ours: id.to_owned() });
        }
        Ok(())
    }

    /// Reads everything back.
    ///
    /// # Errors
    /// Damage, or the file system.
    pub fn restore(&self) -> Result<Settlement, StateError> {
        type Rows<K> = Vec<(K, Vec<u8>)>;
        let read = || -> Result<_, redb::Error> {
            let transaction = self.database()?.begin_read()?;
            let numbered = |table: TableDefinition<'static, u64, &'static [u8]>| -> Result<Rows<u64>, redb::Error> {
                let mut rows = Vec::new();
                for entry in transaction.open_table(table)?.iter()? {
                    let (key, value) = entry?;
                    rows.push((key.value(), value.value().to_vec()));
                }
                Ok(rows)
            };
            let named = |table: TableDefinition<'static, &'static str, &'static [u8]>| -> Result<Rows<Arc<str>>, redb::Error> {
                let mut rows = Vec::new();
                for entry in transaction.open_table(table)?.iter()? {
                    let (key, value) = entry?;
                    rows.push((key.value().into(), value.value().to_vec()));
                }
                Ok(rows)
            };
            let counters = transaction.open_table(META)?.get(COUNTERS)?.map(|row| row.value().to_vec());
            Ok((numbered(STREAMS)?, named(LEDGERS)?, named(LANES)?, numbered(GAPS)?, counters))
        };
        let (streams, ledgers, lanes, gaps, counters) = read().map_err(|error| self.error(&error))?;
        let mut kept = Kept::default();
        for (id, row) in streams {
            let row = StreamRow::from_bytes(&row).map_err(|error| self.damaged(&format!("stream {}: {error}", StreamId(id))))?;
            kept.streams.push((StreamId(id), row));
        }
        for (source, row) in ledgers {
            let row = Ledger::from_bytes(&row).map_err(|error| self.damaged(&format!("ledger of source {source}: {error}")))?;
            kept.ledgers.push((source, row));
        }
        for (topic, row) in lanes {
            let row = LaneRow::from_bytes(&row).map_err(|error| self.damaged(&format!("lane {topic}: {error}")))?;
            kept.lanes.push((topic, row));
        }
        let counters = counters.map(|row| Counters::from_bytes(&row)).transpose();
        let counters = counters.map_err(|error| self.damaged(&format!("numbers of gaps: {error}")))?.unwrap_or_default();
        let mut waiting = Vec::new();
        for (number, row) in gaps {
            waiting.push(Gap::from_bytes(number, &row).map_err(|error| self.damaged(&format!("gap {number}: {error}")))?);
        }
        Ok(Settlement::restored(kept, KeptGaps { waiting, counters }))
    }

    /// Writes one snapshot, durable when this returns.
    ///
    /// # Errors
    /// The file system refused; nothing of `changes` was written.
    pub fn commit(&mut self, changes: &Changes) -> Result<(), StateError> {
        let dir = self.path.parent().unwrap_or(Path::new("."));
        let mut reserve = self.reserve.take().unwrap_or_else(|| Reserve::take(dir));
        let mut outcome = self.try_commit(changes);
        // A full disk, perhaps: with the room that was kept it may go.
        if matches!(outcome, Err(StateError::Io { .. })) && reserve.give_up() {
            outcome = self.try_commit(changes);
        }
        if outcome.is_ok() {
            reserve.restore();
        }
        self.reserve = Some(reserve);
        outcome
    }

    fn try_commit(&mut self, changes: &Changes) -> Result<(), StateError> {
        if self.database.is_none() {
            self.database = Some(open_database(&self.path)?);
        }
        let outcome = self.write(changes);
        if matches!(outcome, Err(StateError::Io { .. })) {
            self.database = None;
        }
        outcome
    }

    fn write(&self, changes: &Changes) -> Result<(), StateError> {
        let write = || -> Result<(), redb::Error> {
            let transaction = self.database()?.begin_write()?;
            {
                let Kept { streams, ledgers, lanes } = &changes.kept;
                let mut table = transaction.open_table(STREAMS)?;
                for (id, row) in streams {
                    table.insert(id.0, row.to_bytes().as_slice())?;
                }
                for id in &changes.forgotten {
                    table.remove(id.0)?;
                }
                let mut table = transaction.open_table(LEDGERS)?;
                for (source, row) in ledgers {
                    table.insert(&**source, row.to_bytes().as_slice())?;
                }
                let mut table = transaction.open_table(LANES)?;
                for (topic, row) in lanes {
                    table.insert(&**topic, row.to_bytes().as_slice())?;
                }
                let mut table = transaction.open_table(GAPS)?;
                for (number, gap) in &changes.gaps.gaps {
                    match gap {
                        Some(gap) => drop(table.insert(number, gap.to_bytes().as_slice())?),
                        None => drop(table.remove(number)?),
                    }
                }
                if let Some(counters) = changes.gaps.counters {
                    transaction.open_table(META)?.insert(COUNTERS, counters.to_bytes().as_slice())?;
                }
            }
            transaction.commit()?;
            Ok(())
        };
        write().map_err(|error| self.error(&error))
    }

    fn error(&self, error: &redb::Error) -> StateError {
        match error {
            redb::Error::Io(_) | redb::Error::PreviousIo => StateError::Io { path: self.path.clone(), detail: error.to_string() },
            _ => self.damaged(&error.to_string()),
        }
    }

    fn damaged(&self, detail: &str) -> StateError {
        StateError::Damaged { path: self.path.clone(), detail: detail.to_owned() }
    }
}

fn open_database(path: &Path) -> Result<Database, StateError> {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE);
    // Without it damage within a page makes redb panic; with it every checksum is verified first. The whole file is read at start all the same.
    builder.set_check_integrity_on_open(true);
    builder.open(path).map_err(|error| database_error(path, &error))
}

fn database_error(path: &Path, error: &redb::DatabaseError) -> StateError {
    let (path, detail) = (path.to_owned(), error.to_string());
    match error {
        redb::DatabaseError::Storage(redb::StorageError::Io(io)) if io.kind() != std::io::ErrorKind::InvalidData => {
            StateError::Io { path, detail }
        }
        _ => StateError::Damaged { path, detail },
    }
}

/// Writes a snapshot every interval while something moved; see [`Keeper::run`].
#[derive(Debug)]
pub struct Keeper {
    state: State,
    settlement: Arc<Settlement>,
    interval: Duration,
    failing: bool,
    /// Whether it was said that the books don't balance.
    said: bool,
}

impl Keeper {
    /// Snapshots of `settlement` into `state`.
    #[must_use]
    pub fn new(state: State, settlement: Arc<Settlement>, interval: Duration) -> Keeper {
        Keeper { state, settlement, interval, failing: false, said: false }
    }

    /// Writes a snapshot every interval, and at once when `bell` is rung, until the word is to stop now.
    pub fn run(&mut self, bell: &Bell, stop: &Stop) {
        while stop.phase() != Phase::Now {
            if self.failing {
                // Whatever calls for one: trying again costs, and a full disk does not become empty by it.
                stop.sleep_unless(Phase::Now, self.interval);
            } else {
                bell.wait_until(Instant::now() + self.interval);
            }
            self.write();
        }
    }

    /// The daemon checks its own books: if they don't balance, something was lost or counted twice, and that is a defect.
    fn check_books(&mut self) {
        let wrong = self.settlement.imbalances();
        if !wrong.is_empty() && !self.said {
            for (source, words) in &wrong {
                tracing::error!(%source, "ledger out of balance: {words}; please report this as a defect of logferry");
            }
        }
        self.said = !wrong.is_empty();
    }

    /// Writes a snapshot now. Where that fails, the changes stay for the next one: more would be sent twice after a kill, nothing is lost.
    /// Returns whether all that moved is durable.
    pub fn write(&mut self) -> bool {
        let changes = self.settlement.changes();
        if changes.is_empty() {
            return !self.failing;
        }
        self.check_books();
        match self.state.commit(&changes) {
            Ok(()) => {
                self.settlement.committed(&changes);
                if self.failing {
                    tracing::info!("snapshots are written again");
                }
                self.failing = false;
            }
            Err(error) => {
                self.settlement.give_back(changes);
                if !self.failing {
                    tracing::error!(%error, "no snapshot could be written; logferry goes on and tries again: after a kill, what was delivered since the last one would be sent again");
                }
                self.failing = true;
            }
        }
        self.settlement.keeper_fails(self.failing);
        !self.failing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Position;

    fn row(offset: u64) -> StreamRow {
        let begun = StreamRow::begun("s".into(), (*b"k").into(), b"/p", Position { offset, ..Position::START });
        StreamRow { size: 1, seen_s: 2, begun_at: 0, ..begun }
    }

    #[test]
    fn what_was_committed_is_restored() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path(), "a").unwrap();
        let settlement = Arc::new(state.restore().unwrap());
        settlement.put(StreamId(7), row(5));
        settlement.note_source(&"s".into());
        let mut keeper = Keeper::new(state, Arc::clone(&settlement), Duration::ZERO);
        assert!(keeper.write());
        assert!(settlement.changes().is_empty());
        drop(keeper);
        let restored = State::open(dir.path(), "a").unwrap().restore().unwrap();
        assert_eq!(restored.streams_of("s"), vec![(StreamId(7), row(5))]);
        assert!(restored.knows_source("s") && !restored.knows_source("t"));
    }

    #[test]
    fn a_state_of_another_agent_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        drop(State::open(dir.path(), "a").unwrap());
        assert!(matches!(State::open(dir.path(), "b"), Err(StateError::Foreign { .. })));
    }

    #[test]
    fn a_damaged_state_is_refused_and_left_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        for bytes in [vec![], vec![0_u8; 4096], b"not a database".repeat(1000)] {
            let path = dir.path().join("state.redb");
            std::fs::write(&path, &bytes).unwrap();
            let refused = State::open(dir.path(), "a").err().map(|error| error.to_string()).unwrap_or_default();
            assert!(refused.contains("damaged") && refused.contains("mv "), "{refused}");
            assert_eq!(std::fs::read(&path).unwrap(), bytes);
        }
    }
}
