//! The daemon as a service of systemd: says when it is ready, what it does, and that it is alive, which [`crate::watchdog`] judges. Apart because
//! it only looks at what runs.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use indicatif::HumanCount;

use crate::bell::Bell;
use crate::kafka::probe::alive;
use crate::lane::{Condition, Lanes};
use crate::settlement::Totals;
use crate::source::Opening;
use crate::systemd::Systemd;
use crate::watchdog::{ThreadLook, Watchdog};

/// How often `systemctl status` gets another line.
const SAY_EVERY: Duration = Duration::from_secs(5);
/// How long Kafka may take for its answer to the watchdog.
const ANSWER: Duration = Duration::from_secs(10);

/// The threads that are waited for, each with the bell at which it rests.
pub(super) type Threads = [(Arc<str>, Arc<Bell>)];

/// See the module.
pub(super) struct Service {
    systemd: Systemd,
    opening: Option<Opening>,
    said: Option<Instant>,
    stopping: bool,
    /// `None` where systemd watches nothing.
    watch: Option<Watch>,
}

/// Whether Kafka answers for this topic.
type Answer = (Arc<str>, bool);

/// The watchdog with its eyes and ears.
struct Watch {
    dog: Watchdog,
    kafka: Arc<crate::kafka::Current>,
    sender: Sender<Answer>,
    answers: Receiver<Answer>,
    /// It was said why it is silent.
    told: bool,
}

impl Service {
    /// A service that is ready when `opening` is over.
    pub(super) fn new(kafka: Arc<crate::kafka::Current>, opening: Opening) -> Service {
        // Half of it: systemd waits for the whole once more from the last sign of life on.
        let watch = Systemd::watchdog().map(|time| {
            let (sender, answers) = channel();
            Watch { dog: Watchdog::new(time / 2), kafka, sender, answers, told: false }
        });
        Service { systemd: Systemd::default(), opening: Some(opening), said: None, stopping: false, watch }
    }

    /// Whether it is still to be said that it is ready.
    pub(super) fn is_opening(&self) -> bool {
        self.opening.is_some()
    }

    /// Says that it is ready, once it is.
    pub(super) fn open(&mut self) {
        if self.opening.take_if(|opening| opening.is_over()).is_some() {
            self.systemd.ready();
        }
    }

    /// It was told to stop.
    pub(super) fn stopping(&mut self) {
        if !std::mem::replace(&mut self.stopping, true) {
            self.systemd.stopping();
        }
    }

    /// A look at what runs; `threads` are to come when they are called.
    pub(super) fn tick(&mut self, lanes: &Lanes, threads: &Threads, totals: Totals) {
        let now = Instant::now();
        if self.said.is_none_or(|said| now.saturating_duration_since(said) >= SAY_EVERY) {
            self.said = Some(now);
            self.systemd.status(&words(totals, &lanes.conditions()));
        }
        if self.watch.as_mut().is_some_and(|watch| watch.is_well(lanes, threads, now)) {
            self.systemd.alive();
        }
    }
}

impl Watch {
    fn is_well(&mut self, lanes: &Lanes, threads: &Threads, now: Instant) -> bool {
        while let Ok((topic, answers)) = self.answers.try_recv() {
            self.dog.answered(&topic, answers, now);
        }
        let look = |(name, bell): &(Arc<str>, Arc<Bell>)| ThreadLook { name: Arc::clone(name), due: bell.due() };
        let threads: Vec<ThreadLook> = threads.iter().map(look).collect();
        let step = self.dog.look(&lanes.looks(), &threads, now);
        if let Some(topic) = step.ask {
            self.ask(topic);
        }
        match &step.stuck {
            Some(words) if !self.told => {
                tracing::error!("{words}: systemd's watchdog is left to end this process, and nothing is lost by it");
            }
            None if self.told => tracing::info!("it moves again"),
            _ => {}
        }
        self.told = step.stuck.is_some();
        !self.told
    }

    /// In a thread of its own, since it may take seconds; there is one at a time.
    fn ask(&self, topic: Arc<str>) {
        let (kafka, answers) = (self.kafka.get(), self.sender.clone());
        let ask = move || {
            let answer = alive::answers(&kafka, &topic, ANSWER);
            tracing::debug!(%topic, answer, "Kafka was asked because nothing moves");
            // Nobody waits any more only if the daemon ends.
            let _ = answers.send((topic, answer));
        };
        if let Err(error) = std::thread::Builder::new().name("watchdog".into()).spawn(ask) {
            tracing::warn!(%error, "the system gives no thread: whether Kafka answers is not known");
        }
    }
}

/// What it does, in a line.
fn words(totals: Totals, conditions: &[(Arc<str>, Condition)]) -> String {
    let state = conditions.iter().find_map(|(topic, condition)| match condition {
        Condition::Blocked { words, .. } => Some(format!("topic {topic} is blocked: {words}")),
        _ => None,
    });
    let waiting =
        || conditions.iter().any(|(_, condition)| matches!(condition, Condition::Connecting(_))).then(|| "waiting for Kafka".to_owned());
    let state = state.or_else(waiting).unwrap_or_else(|| "at work".to_owned());
    format!("{state}; {} delivered, {} pending", HumanCount(totals.delivered.events), HumanCount(totals.pending().events))
}
