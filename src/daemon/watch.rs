//! What people see of the running daemon: the live line, and every ten seconds what is waited for. Apart from the wiring because it decides nothing.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::cli::progress::{Figures, Line};
use crate::config::Config;
use crate::kafka::probe;
use crate::lane::{Condition, Lanes};
use crate::logging;
use crate::rules::{self, trouble::Trouble};
use crate::settlement::{Settlement, Totals};

/// How often it is said what is waited for while Kafka takes nothing.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// What people see: the live line, and every ten seconds what is waited for while nothing is acknowledged.
pub(super) struct Watch {
    pub(super) line: Option<Line>,
    before: Totals,
    delivered: u64,
    said: Instant,
    asking: Option<JoinHandle<()>>,
    trouble: Trouble,
}

impl Watch {
    pub(super) fn new(settlement: &Settlement) -> Watch {
        let before = settlement.totals();
        Watch {
            line: Line::on_terminal(),
            before,
            delivered: before.delivered.events,
            said: Instant::now(),
            asking: None,
            trouble: Trouble::default(),
        }
    }

    pub(super) fn tick(&mut self, config: &Config, settlement: &Settlement, lanes: &Lanes) {
        logging::tick(Instant::now());
        for (rule, errors) in self.trouble.look(rules::tallies(&config.rules, config.stamp.as_ref()), Instant::now()) {
            tracing::warn!(%rule, errors, "it could not do what it is for: such events are shipped without it; logferry test shows what becomes of a line");
        }
        let totals = settlement.totals();
        let conditions: Vec<Condition> = lanes.conditions().into_iter().map(|(_, condition)| condition).collect();
        if let Some(line) = &mut self.line {
            line.show(&Figures {
                events: totals.delivered.events - self.before.delivered.events,
                bytes: totals.delivered.bytes - self.before.delivered.bytes,
                lag: settlement.lag(),
                lanes: conditions.clone(),
            });
        }
        if totals.delivered.events != self.delivered || totals.pending().events == 0 {
            (self.delivered, self.said) = (totals.delivered.events, Instant::now());
        } else if self.said.elapsed() >= SAY_EVERY {
            self.said = Instant::now();
            self.say(config, totals, &conditions);
        }
    }

    /// Asks the cluster, in a thread of its own since it may take seconds, and logs what is waited for.
    fn say(&mut self, config: &Config, totals: Totals, conditions: &[Condition]) {
        if self.asking.as_ref().is_some_and(|asking| !asking.is_finished()) {
            return;
        }
        let blocked = conditions.iter().find_map(|condition| match condition {
            Condition::Blocked { words, .. } => Some(words.clone()),
            _ => None,
        });
        let topics: Vec<Arc<str>> = config.topics().into_iter().map(Arc::from).collect();
        let (kafka, max_event) = (config.kafka.clone(), config.encode.max_event);
        let ask = move || {
            let words = blocked.unwrap_or_else(|| probe::one_line(&probe::cluster(&kafka, &topics, max_event, Duration::from_secs(5))));
            tracing::warn!(events = totals.pending().events, "waiting for Kafka: {words}");
        };
        self.asking = std::thread::Builder::new().name("probe".into()).spawn(ask).ok();
    }
}
