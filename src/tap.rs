//! Events as they flow, for a person who looks: what is sent of them, or which rule has left them out. Apart because it serves nobody but that
//! person, and costs nothing while nobody looks: one relaxed load a batch.
//!
//! Everything has a limit: [`TAPS`] at a time, one a source; so many events a second, spread over each batch; 256 events that the other end
//! has not taken. What is beyond is not shown, and counted as that; the events themselves flow on. What is shown is what is sent, so after
//! redaction. Of what a rule leaves out nothing is sent: of it the text is shown as all redacting rules together leave it, whatever their conditions.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::batch::{Batch, Event, Origin};
use crate::rules::engine::Engine;
use crate::rules::engine::trace::{Deed, Fate, Trace};
use crate::rules::{Action, Rule};

/// So many taps at a time.
pub const TAPS: usize = 4;
/// So many events a second at most.
pub const MOST: u32 = 1000;
/// Events that wait to be taken; one more is not shown.
const WAITING: usize = 256;
/// Of a longer event this much is shown, bytes.
const SHOWN: usize = 4 << 10;
/// Of a longer event that is left out this much is redacted and looked at, bytes; of an entry of the journal, nothing.
const REDACTED: usize = 64 << 10;

/// One event, and what became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Seen {
    /// Its file, or who sent it; may be empty.
    pub origin: String,
    /// Where it ends in its stream, bytes.
    pub offset: u64,
    /// When it was read, nanoseconds since 1970.
    pub read_ns: i64,
    /// Where it goes; `None`: a rule leaves it out.
    pub topic: Option<String>,
    /// The rule that decided, by leaving it out or by keeping it.
    pub rule: Option<String>,
    /// What else rules did with it.
    pub rules: Vec<Touch>,
    /// What is sent; of what is left out, its text. After redaction, and cut.
    pub text: String,
    /// How long that is without being cut, bytes.
    pub bytes: u64,
}

/// What one rule did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Touch {
    /// Its name.
    pub rule: String,
    /// Whether it has changed something.
    pub changed: bool,
    /// Whether it could not do what it is for.
    pub failed: bool,
}

/// Events, and how many were not shown since the last ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Flow {
    /// In their order.
    pub events: Vec<Seen>,
    /// Passed by without being shown.
    pub skipped: u64,
}

/// The taps of all sources.
#[derive(Debug, Default)]
pub struct Taps {
    taps: Mutex<HashMap<Arc<str>, Arc<Tap>>>,
    open: Arc<AtomicUsize>,
}

/// That of one source.
#[derive(Debug, Default)]
pub struct Tap {
    open: AtomicBool,
    taker: Mutex<Option<Taker>>,
}

#[derive(Debug)]
struct Taker {
    sender: SyncSender<Seen>,
    skipped: Arc<AtomicU64>,
    rate: u32,
    tokens: f64,
    filled: Instant,
}

impl Taps {
    /// The one of this source, which may begin later.
    #[must_use]
    pub fn of(&self, source: &Arc<str>) -> Arc<Tap> {
        let mut taps = self.taps.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(taps.entry(Arc::clone(source)).or_default())
    }

    /// Opens it, for at most `rate` events a second, until what is returned is dropped.
    ///
    /// # Errors
    /// Too many are open, or this one is.
    pub fn open(&self, source: &Arc<str>, rate: u32) -> Result<Tapping, String> {
        let place = Place(Arc::clone(&self.open));
        if self.open.fetch_add(1, Ordering::Relaxed) >= TAPS {
            return Err(format!("{TAPS} taps are open already: end one of them"));
        }
        let tap = self.of(source);
        let (sender, events) = sync_channel(WAITING);
        let skipped = Arc::<AtomicU64>::default();
        let rate = rate.clamp(1, MOST);
        let mut taker = tap.taker.lock().unwrap_or_else(PoisonError::into_inner);
        if taker.is_some() {
            return Err(format!("somebody taps source {source:?} already"));
        }
        *taker = Some(Taker { sender, skipped: Arc::clone(&skipped), rate, tokens: f64::from(rate), filled: Instant::now() });
        tap.open.store(true, Ordering::Relaxed);
        drop(taker);
        Ok(Tapping { tap, events, skipped, _place: place })
    }
}

#[derive(Debug)]
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A tap that is open; closed on drop.
#[derive(Debug)]
pub struct Tapping {
    tap: Arc<Tap>,
    events: Receiver<Seen>,
    skipped: Arc<AtomicU64>,
    _place: Place,
}

impl Tapping {
    /// What has come; waits at most so long for the first one. At most as many events as may wait.
    #[must_use]
    pub fn next(&self, patience: Duration) -> Flow {
        let events = self.events.recv_timeout(patience).into_iter().chain(self.events.try_iter()).take(WAITING).collect();
        Flow { events, skipped: self.skipped.swap(0, Ordering::Relaxed) }
    }
}

impl Drop for Tapping {
    fn drop(&mut self) {
        self.tap.open.store(false, Ordering::Relaxed);
        *self.tap.taker.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Tap {
    /// A look at this batch, which has not gone through the rules yet; `None` where nobody looks.
    #[must_use]
    pub fn look(&self, batch: &Batch) -> Option<Look> {
        if self.open.load(Ordering::Relaxed) { self.begin(batch, Instant::now()) } else { None }
    }

    fn begin(&self, batch: &Batch, now: Instant) -> Option<Look> {
        let mut taker = self.taker.lock().unwrap_or_else(PoisonError::into_inner);
        let taker = taker.as_mut()?;
        let most = taker.most(now);
        let every = batch.events.len().div_ceil(most.max(1)).max(1);
        let events: Vec<Event> = if most == 0 { Vec::new() } else { batch.events.iter().copied().step_by(every).collect() };
        taker.tokens -= f64::from(u32::try_from(events.len()).unwrap_or(u32::MAX));
        taker.skipped.fetch_add((batch.events.len() - events.len()) as u64, Ordering::Relaxed);
        let base = batch.base;
        (!events.is_empty()).then(|| Look {
            sender: taker.sender.clone(),
            skipped: Arc::clone(&taker.skipped),
            every,
            events,
            base,
            seen: Vec::new(),
        })
    }
}

impl Taker {
    /// So many may be shown now.
    fn most(&mut self, now: Instant) -> usize {
        let rate = f64::from(self.rate);
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        (self.tokens, self.filled) = ((self.tokens + passed * rate).min(rate), now);
        // Below 1000 by MOST, and never negative: no more was taken than there was.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1000")]
        let most = self.tokens.max(0.0) as usize;
        most
    }
}

/// A look at some events of one batch.
#[derive(Debug)]
pub struct Look {
    sender: SyncSender<Seen>,
    skipped: Arc<AtomicU64>,
    every: usize,
    /// Those that are looked at, as they were before the rules.
    events: Vec<Event>,
    base: u64,
    /// What is known of each; with where it is in the batch that is sent.
    seen: Vec<(Seen, Option<usize>)>,
}

impl Look {
    /// For the rules: what they are to remember of this batch.
    #[must_use]
    pub fn trace(&self) -> Trace {
        Trace::every(self.every)
    }

    /// The batch has gone through the rules; without any, or where none concerns it, nothing was traced.
    pub fn judged(&mut self, batch: &Batch, mut engine: Option<&mut Engine>) {
        let trace = engine.as_mut().and_then(|engine| engine.traced());
        let fates = trace.map(|trace| trace.fates).filter(|fates| !fates.is_empty());
        let engine = engine.as_deref();
        let (events, every, base) = (std::mem::take(&mut self.events), self.every, self.base);
        let untouched = |at: usize| Fate { kept_at: Some(at * every), ..Fate::default() };
        self.seen = events
            .iter()
            .enumerate()
            .filter_map(|(at, event)| {
                let fate = fates.as_ref().map_or_else(|| Some(untouched(at)), |fates| fates.get(at).cloned())?;
                seen(batch, (event, base), &fate, engine).map(|seen| (seen, fate.kept_at))
            })
            .collect();
    }

    /// It is sent, or nothing of it is left: shows what was seen. `routed` says where an event of the batch goes, if not to its stream's topic.
    pub fn sent(self, batch: Option<&Batch>, routed: impl Fn(usize) -> Option<String>) {
        for (mut seen, at) in self.seen {
            if let Some(at) = at {
                let Some(text) = batch.and_then(|batch| Some(batch.event_bytes(batch.events.get(at)?))) else { continue };
                (seen.text, seen.bytes) = (shown(text), text.len() as u64);
                seen.topic = routed(at).or(seen.topic);
            }
            if self.sender.try_send(seen).is_err() {
                self.skipped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// What is known of an event after the rules; `None` of one that had been settled before.
fn seen(batch: &Batch, (event, base): (&Event, u64), fate: &Fate, engine: Option<&Engine>) -> Option<Seen> {
    let rules: &[Rule] = engine.map_or(&[], Engine::rules);
    let name = |at: usize| rules.get(at).map(|rule| rule.name.to_string());
    let dropped = fate.did.iter().find(|(_, deed)| *deed == Deed::Dropped).map(|(rule, _)| *rule);
    if fate.kept_at.is_none() && dropped.is_none() {
        return None;
    }
    let keeps = |at: usize| rules.get(at).is_some_and(|rule| matches!(rule.action, Action::Keep));
    let decided = dropped.or_else(|| fate.did.iter().map(|(rule, _)| *rule).find(|rule| keeps(*rule)));
    let touches = fate.did.iter().filter(|(rule, _)| Some(*rule) != decided);
    let rules_did = touches
        .filter_map(|(rule, deed)| Some(Touch { rule: name(*rule)?, changed: *deed == Deed::Changed, failed: *deed == Deed::Failed }));
    let mut seen = Seen {
        origin: match &batch.stream.origin {
            Origin::File(path) => String::from_utf8_lossy(path).into_owned(),
            Origin::Arrivals { peer, .. } => peer.to_string(),
            Origin::Finished => String::new(),
        },
        offset: base + u64::from(event.to),
        read_ns: batch.observed_ns,
        topic: dropped.is_none().then(|| batch.stream.topic.to_string()),
        rule: decided.and_then(name),
        rules: rules_did.collect(),
        ..Seen::default()
    };
    if let (Some(engine), Some(_)) = (engine, dropped) {
        let text = engine.redacted(batch.event_bytes(event), REDACTED);
        (seen.text, seen.bytes) = (shown(&text), u64::from(event.len));
    }
    Some(seen)
}

fn shown(text: &[u8]) -> String {
    String::from_utf8_lossy(text.get(..SHOWN).unwrap_or(text)).into_owned()
}
