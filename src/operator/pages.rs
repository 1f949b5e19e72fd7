//! What is seen of the running daemon: its status, the pages that [`crate::http`] serves, and the watch over silent sources. Figures are put
//! together when somebody asks for them; only silence is looked at without being asked.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{Running, Settings, view};
use crate::control::status::{Lane, Memory, Spill, Status};
use crate::forecast;
use crate::http::{self, Page, Site};
use crate::metrics::process::Process;
use crate::metrics::text::{CONTENT_TYPE, Growth};
use crate::metrics::{self, Figures};
use crate::quiet::{Quiet, Word};
use crate::rules;
use crate::settlement::Settlement;
use crate::source::pulse::Files;

impl Running {
    /// To be called about once a second: notes what the sources have read, and tells where one has fallen silent.
    pub fn watch_sources(&self, now: Instant) {
        // Who has no room to read into can't know whether there is something to read.
        let budget = &self.lanes.shared().budget;
        let held_up = budget.used() >= budget.limit() || self.lanes.shown().iter().any(|(_, _, spill)| spill.full.is_some());
        let settings = self.settings();
        let mut quiet = self.quiet.lock().unwrap_or_else(PoisonError::into_inner);
        for (source, read) in self.settlement.reads() {
            let most = settings.expect_every.get(&source).copied();
            match quiet.look(&source, read, held_up, most, now) {
                Some(Word::Silent(silence)) => {
                    let most = forecast::words(most.unwrap_or_default());
                    let words = format!("silent for {}, longer than expect_every ({most})", forecast::words(silence));
                    tracing::warn!(%source, "no event came: {words}; is what writes it still running?");
                    self.settlement.silent(&source, silence, &words);
                }
                Some(Word::Back(silence)) => {
                    tracing::info!(%source, "events come again, after {}", forecast::words(silence));
                }
                None => {}
            }
        }
    }

    /// Everything at a glance.
    pub(super) fn now(&self) -> Status {
        let budget = &self.lanes.shared().budget;
        let shown = self.lanes.shown();
        let mut lanes = BTreeMap::new();
        for (topic, condition, spill) in &shown {
            lanes.insert(topic.to_string(), Lane { spill: view::lane_spill(spill), ..view::lane(Some(condition)) });
        }
        let (settings, live) = (self.settings(), self.live());
        let mut books = view::books(&settings, &self.settlement);
        for (name, arrivals) in &live.arrivals {
            let source = books.sources.entry(name.to_string()).or_default();
            (source.arrivals_bytes, source.unprotected) = (arrivals.bytes(), arrivals.is_unprotected());
            source.arrivals_full = arrivals.why_full();
        }
        let full = shown.iter().find_map(|(_, _, spill)| spill.full);
        let bytes = self.lanes.shared().room.used();
        let full_in = self.forecast.lock().unwrap_or_else(PoisonError::into_inner).0.full_in(settings.spill.max_size);
        Status {
            running: true,
            lanes,
            memory: Memory { used: budget.used() as u64, limit: budget.limit() as u64 },
            spill: Spill {
                max_bytes: settings.spill.max_size,
                bytes,
                full_in_seconds: full_in.map(|time| time.as_secs()),
                full: full.map(str::to_owned),
            },
            reload: self.reloads.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            rules: rules::tallies(&live.rules, live.stamp.as_ref()).map(|(name, tally)| view::rule(name, tally.done())).collect(),
            ..books
        }
    }

    /// Everything that metrics show.
    fn figures(&self) -> Figures {
        let (status, live) = (self.now(), self.live());
        let sources = self.sources_now(&status);
        let mut files = Files::default();
        live.pulses.iter().for_each(|(_, pulse)| files += pulse.held());
        Figures {
            sources,
            files,
            produced: self.lanes.produced().into_iter().map(|(topic, took)| (topic.to_string(), took)).collect(),
            rules: rules::tallies(&live.rules, live.stamp.as_ref()).map(|(name, tally)| (name.to_string(), tally.done())).collect(),
            configured: status.reload.successful != Some(false),
            process: Process::now(),
            status,
        }
    }

    fn sources_now(&self, status: &Status) -> BTreeMap<String, metrics::Source> {
        let (now, time) = (Instant::now(), SystemTime::now());
        let (waits, spilled) = (self.settlement.waits_since(), self.oldest_spilled(time));
        let quiet = self.quiet.lock().unwrap_or_else(PoisonError::into_inner);
        let settings = self.settings();
        let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        let of = |name: &String| {
            let waits = waits.get(name.as_str()).map_or(Duration::ZERO, |since| now.saturating_duration_since(*since));
            let lag = waits.max(spilled.get(name.as_str()).copied().unwrap_or_default());
            metrics::Source {
                lag_seconds: lag.as_secs_f64(),
                last_event: quiet.last_event(name, now).and_then(|ago| time.checked_sub(ago)).map(seconds),
                quiet: settings.expect_every.contains_key(name.as_str()).then(|| quiet.is_quiet(name)),
            }
        };
        status.sources.keys().map(|name| (name.clone(), of(name))).collect()
    }

    /// For each source that has something in a spill, how long ago the oldest of it was read. Where several sources feed one topic, the oldest of
    /// all of them.
    fn oldest_spilled(&self, time: SystemTime) -> HashMap<Arc<str>, Duration> {
        let since = |ns: i64| {
            let then = UNIX_EPOCH + Duration::from_nanos(u64::try_from(ns).unwrap_or(0));
            time.duration_since(then).unwrap_or_default()
        };
        let ages: HashMap<Arc<str>, Duration> =
            self.lanes.shown().into_iter().filter_map(|(topic, _, spill)| Some((topic, since(spill.oldest_ns?)))).collect();
        let mut oldest: HashMap<Arc<str>, Duration> = HashMap::new();
        for (topic, row) in self.settlement.lanes() {
            let Some(age) = ages.get(&topic) else { continue };
            for (source, _) in row.pending.iter().filter(|(_, count)| count.events > 0) {
                let known = oldest.entry(Arc::clone(source)).or_default();
                *known = (*known).max(*age);
            }
        }
        oldest
    }

    fn metrics(&self) -> Page {
        let figures = self.figures();
        let mut growth = self.growth.lock().unwrap_or_else(PoisonError::into_inner);
        Page { good: true, kind: CONTENT_TYPE, body: metrics::render(&figures, &mut growth) }
    }

    /// Whether events can be taken in: sources are open, and what is read can be remembered. Kafka has no part in that.
    fn ready(&self) -> Page {
        let mut lacks: Vec<String> = Vec::new();
        for (source, _) in self.live().pulses.iter().filter(|(_, pulse)| pulse.closed() > 0) {
            lacks.push(format!("source {source} is not open yet; the log says why, if that is not for a moment only\n"));
        }
        if !self.settlement.is_kept() {
            lacks.push("the state can't be written; the log says why\n".into());
        }
        let good = lacks.is_empty();
        Page { good, kind: http::TEXT, body: if good { "ready\n".into() } else { lacks.concat() } }
    }

    /// What `logferry status --json` prints.
    fn told(&self) -> Page {
        match serde_json::to_string_pretty(&self.now()) {
            Ok(json) => Page { good: true, kind: http::JSON, body: format!("{json}\n") },
            Err(error) => Page { good: false, kind: http::TEXT, body: format!("{error}\n") },
        }
    }
}

impl Site for Running {
    fn page(&self, path: &str) -> Option<Page> {
        match path {
            "/metrics" => Some(self.metrics()),
            // That it is answered says it.
            "/healthz" => Some(Page { good: true, kind: http::TEXT, body: "alive\n".into() }),
            "/readyz" => Some(self.ready()),
            "/status" => Some(self.told()),
            _ => None,
        }
    }
}

/// How things stood when logferry started: what counters begin with, and the watch over silent sources.
#[derive(Debug, Default)]
pub struct Beginning {
    pub(super) growth: Growth,
    pub(super) quiet: Quiet,
}

impl Beginning {
    /// To be made before a source runs.
    #[must_use]
    pub fn of(settings: &Settings, settlement: &Settlement) -> Beginning {
        let books = Figures { status: view::books(settings, settlement), ..Figures::default() };
        Beginning { growth: metrics::beginning(&books), quiet: Quiet::begin(settlement.reads(), Instant::now()) }
    }
}
