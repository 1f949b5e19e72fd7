//! The stage of the demo: holds everyone who plays, lets time pass while it watches them, and says what happens.

use std::fmt;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::error::KafkaError;

use super::agent::{Agent, Home, Usage};
use super::reader::{Books, Reader};
use super::signals;
use super::writer::{COPIED, Counts, LOGS, Writer};
use crate::cli::progress::{self, Figures, Line};
use crate::lane::Condition;

/// How often everyone is looked at.
const LOOK: Duration = Duration::from_millis(10);
/// How often the live line is drawn.
const SHOW: Duration = Duration::from_millis(250);

/// Why the demo ends early.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Something did not go as promised.
    #[error("{0}")]
    Wrong(String),
    /// Somebody wanted it to end.
    #[error("interrupted")]
    Interrupted,
}

impl From<String> for Failure {
    fn from(words: String) -> Failure {
        Failure::Wrong(words)
    }
}

impl From<KafkaError> for Failure {
    fn from(error: KafkaError) -> Failure {
        Failure::Wrong(format!("the embedded Kafka: {error}"))
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure::Wrong(format!("the system refused: {error}"))
    }
}

/// Everyone who plays.
pub struct Stage {
    /// How far writer and reader are.
    pub counts: Arc<Counts>,
    /// For the live line.
    pub broker_is_up: bool,
    began: Instant,
    /// When the first line was written: what happens is timed from there.
    curtain: Instant,
    line: Option<Line>,
    shown: Instant,
    /// Killed on drop, before the writer ends.
    agent: Option<Agent>,
    writer: Option<Writer>,
    reader: Option<JoinHandle<Result<Books, String>>>,
    finish: Arc<AtomicBool>,
    interrupted: Arc<AtomicBool>,
}

impl Stage {
    /// Starts the consumer, for logs of at most `lines` lines.
    ///
    /// # Errors
    /// The system or librdkafka refuses.
    pub fn set(servers: &str, lines: u64) -> Result<Stage, Failure> {
        let counts = Arc::new(Counts::default());
        let finish = Arc::new(AtomicBool::new(false));
        let reader = Reader::open(servers, lines)?;
        let (counting, finishing) = (Arc::clone(&counts), Arc::clone(&finish));
        let reader = std::thread::Builder::new().name("reader".into()).spawn(move || reader.run(&counting, &finishing))?;
        let now = Instant::now();
        Ok(Stage {
            counts,
            broker_is_up: true,
            began: now,
            curtain: now,
            line: Line::on_terminal(),
            shown: now,
            writer: None,
            reader: Some(reader),
            finish,
            agent: None,
            interrupted: signals::listen()?,
        })
    }

    /// Says what happens, with the time.
    pub fn say(&self, words: fmt::Arguments<'_>) {
        let seconds = self.began.elapsed().as_secs_f64();
        // Who closes the output does not want to read on; the demo ends by its count all the same.
        drop(progress::above_line(|| writeln!(std::io::stdout(), "{seconds:4.1} s: {words}")));
    }

    /// Since when there is something to see.
    #[must_use]
    pub fn took(&self) -> Duration {
        self.began.elapsed()
    }

    /// How long has been written.
    #[must_use]
    pub fn played(&self) -> Duration {
        self.curtain.elapsed()
    }

    /// Lets everyone work until this time after the first line.
    ///
    /// # Errors
    /// Somebody who should work has ended, or an interruption.
    pub fn play_until(&mut self, time: Duration) -> Result<(), Failure> {
        while self.played() < time {
            self.look()?;
        }
        Ok(())
    }

    /// Lets everyone work until `done`; `false` if nothing was written and nothing came for `patience` meanwhile.
    ///
    /// # Errors
    /// As with [`Stage::play_until`].
    pub fn await_that(&mut self, patience: Duration, done: impl Fn(&Counts) -> bool) -> Result<bool, Failure> {
        let mut moved = (self.counts.moved(), Instant::now());
        while !done(&self.counts) {
            self.look()?;
            if self.counts.moved() != moved.0 {
                moved = (self.counts.moved(), Instant::now());
            } else if moved.1.elapsed() >= patience {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Lets everyone work until nothing has come for this long.
    ///
    /// # Errors
    /// As with [`Stage::play_until`].
    pub fn await_quiet(&mut self, time: Duration) -> Result<(), Failure> {
        let mut came = (self.counts.came(), Instant::now());
        while came.1.elapsed() < time {
            self.look()?;
            if self.counts.came() != came.0 {
                came = (self.counts.came(), Instant::now());
            }
        }
        Ok(())
    }

    /// One look at everyone, and a short rest.
    fn look(&mut self) -> Result<(), Failure> {
        if self.interrupted.load(Ordering::Relaxed) {
            return Err(Failure::Interrupted);
        }
        if let Some(agent) = &mut self.agent
            && let Some(status) = agent.ended()?
        {
            return Err(Failure::Wrong(format!("logferry ended by itself ({status})")));
        }
        if self.reader.as_ref().is_some_and(JoinHandle::is_finished) {
            return Err(self.finish_reading().err().unwrap_or_else(|| Failure::Wrong("the reader ended too early".into())));
        }
        if self.shown.elapsed() >= SHOW
            && let Some(line) = &mut self.line
        {
            self.shown = Instant::now();
            let bytes = self.counts.received_bytes.load(Ordering::Relaxed);
            let lane = if self.broker_is_up && self.agent.is_some() { Condition::Open } else { Condition::Connecting(String::new()) };
            line.show(&Figures {
                events: self.counts.received.load(Ordering::Relaxed),
                bytes,
                lag: self.counts.written_bytes.load(Ordering::Relaxed).saturating_sub(bytes),
                lanes: vec![lane],
            });
        }
        std::thread::sleep(LOOK);
        Ok(())
    }

    /// The first of `lines` lines is written now; `rate` a second.
    ///
    /// # Errors
    /// The logs can't be made.
    pub fn begin_writing(&mut self, home: &Home, lines: u64, rate: u64) -> Result<(), Failure> {
        self.writer = Some(Writer::begin(&home.logs(), lines, rate, &self.counts)?);
        self.curtain = Instant::now();
        Ok(())
    }

    /// Has a log rotated, and says so. A writer that has ended rotates nothing.
    pub fn rotate(&self, log: usize, when: &str) {
        if self.writer.as_ref().is_some_and(|writer| writer.rotate(log)) {
            let name = LOGS.get(log).copied().unwrap_or_default();
            let how = if log == COPIED { "copied and truncated (copytruncate)" } else { "renamed" };
            self.say(format_args!("{name}.log is rotated: {how}{when}"));
        }
    }

    /// Waits until all is written; how many lines each log got.
    ///
    /// # Errors
    /// The writer could not write, or something that [`Stage::play_until`] notices.
    pub fn finish_writing(&mut self) -> Result<[u64; LOGS.len()], Failure> {
        while self.writer.as_ref().is_some_and(Writer::is_writing) {
            self.look()?;
        }
        let Some(writer) = self.writer.take() else { return Ok([0; _]) };
        writer.end().map_err(|error| Failure::Wrong(format!("the logs can't be written: {error}")))
    }

    /// Starts logferry.
    ///
    /// # Errors
    /// The system refuses.
    pub fn start_agent(&mut self, home: &Home) -> Result<(), Failure> {
        let agent = Agent::start(home).map_err(|error| Failure::Wrong(format!("logferry can't be started: {error}")))?;
        self.agent = Some(agent);
        Ok(())
    }

    /// Kills logferry; what it had used.
    ///
    /// # Errors
    /// It can't be killed.
    pub fn kill_agent(&mut self) -> Result<Usage, Failure> {
        let Some(agent) = self.agent.take() else { return Ok(Usage::default()) };
        let usage = agent.usage();
        agent.kill()?;
        Ok(usage)
    }

    /// Asks logferry to end; what it had used until then.
    ///
    /// # Errors
    /// It did not end, or not well.
    pub fn stop_agent(&mut self) -> Result<Usage, Failure> {
        let Some(agent) = self.agent.take() else { return Ok(Usage::default()) };
        let usage = agent.usage();
        match agent.stop()? {
            Some(status) if status.success() => Ok(usage),
            Some(status) => Err(Failure::Wrong(format!("logferry ended badly when it was told to end: {status}"))),
            None => Err(Failure::Wrong("logferry does not end when it is told to".into())),
        }
    }

    /// Has the consumer read the topic to its end; what it counted.
    ///
    /// # Errors
    /// It can't read.
    pub fn finish_reading(&mut self) -> Result<Books, Failure> {
        self.finish.store(true, Ordering::Release);
        let Some(reader) = self.reader.take() else { return Err(Failure::Wrong("there is no reader any more".into())) };
        let books = reader.join().map_err(|_| Failure::Wrong("the reader's thread panicked".into()))?;
        Ok(books?)
    }
}
