//! A reload: the configuration is read anew and judged whole; a bad one is refused whole. What it changes is told to the parts at once, and the sources
//! become others step by step ([`super::fleet`]).

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::sync::mpsc::Sender;
use std::sync::{Arc, PoisonError};
use std::time::{Instant, SystemTime};

use super::fleet::{Fleet, Verdict};
use super::sources;
use crate::cli::{check, test};
use crate::config::reload::{Plan, Step, plan};
use crate::config::{self, Config};
use crate::kafka;
use crate::lane::Order;
use crate::logging;
use crate::rate::Rate;

/// By what files that the Kafka client reads are known not to have changed; `None`: one is not there.
pub(super) type Stamps = Vec<Option<(SystemTime, u64, u64)>>;

/// Of the certificates and the like that these settings name.
pub(super) fn stamps(kafka: &kafka::Settings) -> Stamps {
    let files = kafka.properties.iter().filter(|(name, _)| name.ends_with(".location"));
    files.map(|(_, file)| std::fs::metadata(file).and_then(|meta| Ok((meta.modified()?, meta.ino(), meta.len()))).ok()).collect()
}

impl Fleet {
    /// Does it; `answer` is told at the end.
    pub(super) fn reload(&mut self, answer: Option<Sender<Verdict>>) {
        match self.read() {
            Ok(config) => {
                let text = self.apply(config);
                tracing::info!("reloaded: {}", text.trim_end());
                self.operator.note_reload(Ok(()));
                self.waiting.extend(answer.map(|answer| (answer, text, Instant::now())));
            }
            Err(mistakes) => {
                tracing::error!("the new configuration is refused, and the old one goes on:\n{}", mistakes.trim_end());
                self.operator.note_reload(Err(mistakes.trim_end().to_owned()));
                if let Some(answer) = answer {
                    // Whoever asked may have gone.
                    let _ =
                        answer.send(Err(format!("{}\nThe new configuration is refused, and the old one goes on.", mistakes.trim_end())));
                }
            }
        }
    }

    /// The new configuration; or all its mistakes, as `check` tells them.
    fn read(&self) -> Result<Config, String> {
        let config = config::load(&self.path).map_err(|problems| problems.to_string())?;
        let failures = test::failures(&config);
        if failures.is_empty() { Ok(config) } else { Err(failures) }
    }

    /// Makes it hold; returns in words what it changes.
    fn apply(&mut self, new: Config) -> String {
        let old = self.live.get();
        let Plan { config, sources, rules, kafka, restart } = plan(&old, new);
        let config = Arc::new(config);
        let shared = self.ground.lanes.shared();
        let stamps = stamps(&config.kafka);
        if kafka || stamps != self.stamps {
            shared.kafka.set(config.kafka.clone());
            self.ground.lanes.order_all(|| Order::Renew);
            self.stamps = stamps;
        }
        if old.max_rate != config.max_rate {
            *shared.rate.lock().unwrap_or_else(PoisonError::into_inner) = config.max_rate.map(|rate| Arc::new(Rate::new(rate)));
        }
        self.ground.measure(&config);
        self.operator.reconfigure(config.operator());
        self.failed.clear();
        logging::settle(&config.log);
        self.live.set(Arc::clone(&config));
        for (name, step) in &sources {
            match (step, self.running.get(name)) {
                (Step::Stop | Step::Change, _) => self.leave(name),
                (Step::Keep, Some(source)) => {
                    if rules && let Err(error) = sources::exchange_rules(&config, &self.ground.lanes, name, source) {
                        tracing::error!(source = %name, %error, "it goes on under the old rules; they are tried again at the next reload that changes them");
                    }
                    if let Some((_, renew)) = &source.syslog {
                        renew.now();
                    }
                }
                // It begins with the next step.
                _ => {}
            }
        }
        sources::tell_left_over(&config);
        self.show();
        words(&sources, rules, &restart) + &check::warnings(&config)
    }
}

/// What a reload changes: a line, and one for what it can't change.
fn words(sources: &[(Arc<str>, Step)], rules: bool, restart: &[&str]) -> String {
    let of = |wanted| sources.iter().filter(|(_, step)| *step == wanted).map(|(name, _)| format!("{name:?}")).collect::<Vec<_>>();
    let mut parts = Vec::new();
    for (step, what) in [(Step::Start, "new"), (Step::Change, "changed"), (Step::Stop, "ended")] {
        let names = of(step);
        if !names.is_empty() {
            parts.push(format!("{what}: {}", names.join(", ")));
        }
    }
    let kept = of(Step::Keep).len();
    parts.push(format!("{kept} {} untouched", if kept == 1 { "source goes on" } else { "sources go on" }));
    if rules {
        parts.push("other rules".into());
    }
    let mut text = format!("The new configuration holds; {}.\n", parts.join("; "));
    if !restart.is_empty() {
        text.extend(["needs a restart: ", &restart.join(", "), " (until then what logferry was started with holds)\n"]);
    }
    text
}

/// What whoever asked is told at the end: what is still to come, and why sources could not begin, which is a failure.
pub(super) fn verdict(text: String, to_come: &[String], failed: &BTreeMap<Arc<str>, String>) -> Verdict {
    let text = to_come.iter().fold(text, |text, line| text + line + "\n");
    if failed.is_empty() {
        return Ok(text.trim_end().to_owned());
    }
    let why = failed.iter().map(|(name, why)| format!("source {name:?} could not begin: {why}\n"));
    Err((text + &why.collect::<String>()).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_and_what_does_not_is_said_in_a_line_each() {
        let sources =
            [("a", Step::Keep), ("b", Step::Change), ("c", Step::Stop), ("d", Step::Start)].map(|(name, step)| (Arc::from(name), step));
        assert_eq!(
            words(&sources, true, &["agent.id", "spill.after"]),
            "The new configuration holds; new: \"d\"; changed: \"b\"; ended: \"c\"; 1 source goes on untouched; other rules.\n\
             needs a restart: agent.id, spill.after (until then what logferry was started with holds)\n"
        );
        assert_eq!(words(&[], false, &[]), "The new configuration holds; 0 sources go on untouched.\n");
    }

    #[test]
    fn a_source_that_could_not_begin_is_a_failure_and_one_that_waits_is_none() {
        let text = || "It holds.\n".to_owned();
        assert_eq!(
            verdict(text(), &["source \"a\" has not ended yet".into()], &BTreeMap::new()),
            Ok("It holds.\nsource \"a\" has not ended yet".into())
        );
        let failed = BTreeMap::from([("a".into(), "no thread".to_owned())]);
        assert_eq!(verdict(text(), &[], &failed), Err("It holds.\nsource \"a\" could not begin: no thread".into()));
    }
}
