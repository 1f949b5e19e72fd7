//! A batch goes through the rules: events are left out, or what becomes of them is written behind the batch's own bytes; all else stays where it
//! is. What happens to one event is in `engine/event.rs`. Pure.

mod classes;
mod event;
mod journal;
mod reach;
pub mod trace;

use std::collections::HashMap;
use std::sync::Arc;

use jiff::tz::TimeZone;
use regex::bytes::RegexSet;

use super::parse::Around;
use super::redact::{self, Redact};
use super::route::{self, Way};
use super::stamp::{Class, Stamp};
use super::when::{Of, When};
use super::{Action, Done, Rule};
use crate::batch::{Batch, Event, Extra, StreamId};
use crate::encode::{LineStarts, Room};
use crate::ledger::Count;
use crate::settlement::Began;
use classes::Classes;
use event::Desk;
use reach::Reach;
use trace::Trace;

/// Streams of which is kept what the rules mean for them; beyond it all are forgotten and worked out anew. An event in parts whose first part
/// is forgotten so is kept.
const STREAMS_KEPT: usize = 4096;

/// What became of a batch's events, beside those that are left in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sifted {
    /// Settled before the last end, and not left out by a rule: neither sent nor counted again.
    pub skipped: Count,
    /// Left out by rules. Where no rule routes, the bytes are 0 while events are left in the batch: each of those counts what was left out in front
    /// of it, and the last one what was left out behind it, so that what a lane was given of a stream stays without holes.
    pub filtered: Count,
    /// The same by the rule's name, with the bytes of the events themselves.
    pub by_rule: Vec<(Arc<str>, Count)>,
    /// What of it limits left out, by the rule and the key, in words.
    pub limited: Vec<(Arc<str>, Count)>,
    /// Sent although it may have been sent before, by other rules.
    pub again: Count,
    /// See [`Engine::number`].
    pub routed: u64,
}

/// Keys of limits that are told apart in one batch; what others left out is told together.
const KEYS_TOLD: usize = 32;
/// How much of a key is told, bytes.
const KEY_TOLD: usize = 200;

/// What limits left out of a batch: the rule, the key, and how much.
type Limited = Vec<(usize, Box<[u8]>, Count)>;

/// What the rules mean for one stream.
#[derive(Debug, Default)]
struct Plan {
    steps: Vec<(usize, When)>,
    /// If it does not match a message, no step's condition holds.
    first: Option<RegexSet>,
    /// What was settled before the last end, by lane.
    began: Began,
    /// What begins there or later was never read before.
    fresh_from: u64,
}

impl Plan {
    fn skip_to(&self, lane: u16) -> u64 {
        self.began.settled.get(usize::from(lane)).copied().unwrap_or(0)
    }
}

/// What was decided by the first part of an event in parts.
#[derive(Debug, Default)]
struct Decided {
    dropped: Option<usize>,
    lane: u16,
    /// What the stamp wrote for it, of an event in parts.
    stamp: Option<Box<[u8]>>,
    class: u16,
    /// The rules that change the message.
    change: Vec<usize>,
}

/// The rules that events of one source can meet.
#[derive(Debug)]
pub struct Engine {
    rules: Arc<[Rule]>,
    /// The source's events are entries of the journal, as JSON.
    entries: bool,
    /// Whether some rule gives events more than their text.
    enriches: bool,
    /// Whether some rule gives lines of files a severity, or a facility and a program as well.
    gives_severity: bool,
    around: Around,
    room: Room,
    plans: HashMap<StreamId, Arc<Plan>>,
    /// Streams in the middle of an event in parts.
    long: HashMap<StreamId, Decided>,
    /// By rule, of the present batch.
    done: Vec<(Done, Count)>,
    /// What was written anew for the present batch.
    fresh: Vec<u8>,
    desk: Desk,
    /// The topics that rules give events of the source to.
    topics: Arc<[Arc<str>]>,
    /// See [`Engine::number`].
    number: u64,
    /// Of the present batch, where each event that is left in it goes.
    ways: Vec<Way>,
    /// The key and headers of its messages.
    classes: Classes,
    /// Somebody looks at the next batch.
    trace: Option<Trace>,
}

/// What comes of the present batch.
#[derive(Debug, Default)]
struct Round {
    was_settled: bool,
    routes: bool,
    sifted: Sifted,
    extras: Vec<Extra>,
    any_extra: bool,
    line_start: Option<u64>,
    limited: Limited,
}

impl Engine {
    /// The rules for a source of this name and type; `None` if none of them can concern it. `zone` is for times that name none.
    #[must_use]
    pub fn new(rules: &Arc<[Rule]>, source: (&str, &str), zone: TimeZone, room: Room) -> Option<Engine> {
        let reach = Reach::of(rules, source);
        reach.any.then(|| Engine::with(rules, &reach, zone, room))
    }

    /// The same whether any of them can concern the source or not: what a source goes on with under other rules.
    #[must_use]
    pub fn of(rules: &Arc<[Rule]>, source: (&str, &str), zone: TimeZone, room: Room) -> Engine {
        Engine::with(rules, &Reach::of(rules, source), zone, room)
    }

    /// Whether some rule can concern a source of this name and type.
    #[must_use]
    pub fn concerns(rules: &[Rule], source: (&str, &str)) -> bool {
        Reach::of(rules, source).any
    }

    /// The topics that rules may give events of a source of this name and type to.
    #[must_use]
    pub fn topics_of(rules: &[Rule], source: (&str, &str)) -> Vec<Arc<str>> {
        Reach::of(rules, source).topics
    }

    fn with(rules: &Arc<[Rule]>, reach: &Reach, zone: TimeZone, room: Room) -> Engine {
        Engine {
            topics: reach.topics.as_slice().into(),
            number: if reach.topics.is_empty() { 0 } else { reach::number(rules) },
            ways: Vec::new(),
            classes: Classes::default(),
            entries: reach.entries && room.text.is_some(),
            enriches: reach.enriches,
            gives_severity: reach.gives_severity,
            rules: Arc::clone(rules),
            around: Around { read_ns: 0, zone },
            room,
            plans: HashMap::new(),
            long: HashMap::new(),
            done: vec![(Done::default(), Count::default()); rules.len()],
            fresh: Vec::new(),
            desk: Desk::new(rules.len()),
            trace: None,
        }
    }

    /// The topics that rules give events to: lane 1 and those that follow.
    #[must_use]
    pub fn topics(&self) -> &Arc<[Arc<str>]> {
        &self.topics
    }

    /// The topic of a lane; `None`: it is that of the source.
    #[must_use]
    pub fn topic_of(&self, lane: u16) -> Option<&Arc<str>> {
        self.topics.get(usize::from(lane).checked_sub(1)?)
    }

    /// By what it is told whether the same rules had given lanes their shares of a stream; 0 if none of them routes.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Where each event goes that the last [`Engine::run`] left in its batch; empty if no rule routes and there is no stamp.
    #[must_use]
    pub fn ways(&self) -> &[Way] {
        &self.ways
    }

    /// The shares of the batch of the last [`Engine::run`], see [`route::shares`].
    #[must_use]
    pub fn shares(&self, batch: &Batch) -> Vec<route::Share> {
        route::shares(batch, &self.ways, |class| self.classes.key_of(class))
    }

    /// What events of this class have in common.
    #[must_use]
    pub fn class(&self, class: u16) -> Class {
        self.classes.class(class)
    }

    /// The same with a stamp on all messages.
    #[must_use]
    pub fn with_stamp(mut self, stamp: Arc<Stamp>) -> Engine {
        self.number = reach::with_stamp(self.number, &format!("{:?}{:?}", stamp.key, stamp.headers));
        self.classes.stamp = Some(stamp);
        self
    }

    /// Takes out of the batch what rules leave out and what was settled before; `began` says up to where in the stream that is, in the lanes of
    /// these topics under the rules of this number. `None`: there was nothing of either kind, and no rule routes. Where nothing is left, the batch
    /// has no events.
    pub fn run(&mut self, batch: &mut Batch, began: impl FnOnce(&[Arc<str>], u64) -> Began) -> Option<Sifted> {
        let plan = self.plan(batch, began);
        let (was_settled, routes) = (batch.base < plan.fresh_from, self.number != 0);
        self.ways.clear();
        self.classes.clear();
        if plan.steps.is_empty() && !was_settled && !routes {
            return None;
        }
        let mut round = Round { was_settled, routes, ..Round::default() };
        round.sifted.routed = self.number;
        if routes {
            // What lies in front of its first event belongs to none.
            round.sifted.skipped.bytes = batch.events.first().map_or(0, |event| u64::from(event.from));
            route::own_their_bytes(batch);
            batch.routed = self.number;
        }
        let before = batch.events.len();
        self.fresh.clear();
        self.around.read_ns = batch.observed_ns;
        round.extras.reserve(if self.enriches { before } else { 0 });
        self.done.fill_with(Default::default);
        let mut lines = LineStarts::of(batch);
        let mut events = std::mem::take(&mut batch.events);
        events.retain_mut(|event| {
            let line = lines.next(event);
            let kept = self.stays((batch, &plan), event, line, &mut round);
            self.note(kept);
            kept
        });
        let Round { mut sifted, extras, any_extra, line_start, limited, .. } = round;
        self.tell(&mut sifted, limited);
        batch.events = events;
        if any_extra {
            batch.extras = extras;
        }
        if !self.fresh.is_empty() {
            batch.bytes.extend_from_slice(&self.fresh);
        }
        if routes {
            batch.line_start = line_start.unwrap_or(batch.line_start);
            return Some(sifted);
        }
        if batch.events.len() == before && sifted.again.events == 0 {
            return None;
        }
        close(batch, line_start, plan.skip_to(0), &mut sifted);
        Some(sifted)
    }

    /// Whether an event stays in its batch, which then holds what rules have made of it; `line` is where it begins in its stream.
    fn stays(&mut self, (batch, plan): (&Batch, &Plan), event: &mut Event, line: u64, round: &mut Round) -> bool {
        let whole = u64::from(event.ends());
        let own = Count { events: whole, bytes: event.own_bytes() };
        let counted = if round.routes { own } else { Count { events: whole, bytes: 0 } };
        let mut extra = Extra::default();
        let (dropped, way) = self.judge(batch, plan, event, line, &mut extra);
        if let Some(rule) = dropped {
            round.sifted.filtered += counted;
            if let Some((done, count)) = self.done.get_mut(rule) {
                done.dropped += whole;
                *count += own;
            }
            if whole > 0 && matches!(self.rules.get(rule).map(|rule| &rule.action), Some(Action::RateLimit(..))) {
                limit(&mut round.limited, rule, &self.desk.key, own);
            }
            return false;
        }
        let end = batch.base + u64::from(event.to);
        if round.was_settled && end <= plan.skip_to(way.0) {
            round.sifted.skipped += counted;
            return false;
        }
        if end <= plan.began.again_to {
            round.sifted.again += own;
        }
        if round.routes {
            self.ways.push(way);
        }
        round.line_start.get_or_insert(line);
        if self.enriches {
            round.any_extra |= extra != Extra::default();
            round.extras.push(extra);
        }
        true
    }

    /// What becomes of single events of the next batch is to be remembered; or no longer.
    pub fn trace(&mut self, trace: Option<Trace>) {
        self.trace = trace;
    }

    /// What was remembered of the last batch.
    pub fn traced(&mut self) -> Option<Trace> {
        self.trace.take()
    }

    /// The rules, in their order.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// A frame as all redacting rules together leave it, whatever their conditions; of a longer one the first `most` bytes. An entry of the journal is
    /// redacted text by text, as the rules do it: of one that is longer nothing is left.
    #[must_use]
    pub fn redacted(&self, frame: &[u8], most: usize) -> Vec<u8> {
        let redacts: Vec<&Redact> =
            self.rules.iter().filter_map(|rule| if let Action::Redact(redact) = &rule.action { Some(redact) } else { None }).collect();
        match frame.get(..most) {
            Some(cut) if self.entries && cut.len() < frame.len() => Vec::new(),
            _ if self.entries => journal::redacted(frame, &redacts, self.room.message),
            cut => {
                let cut = cut.unwrap_or(frame);
                redact::all(&redacts, cut, self.room.message).unwrap_or_else(|| cut.to_vec())
            }
        }
    }

    fn note(&mut self, kept: bool) {
        if let Some(trace) = &mut self.trace {
            trace.note(&self.done, kept);
        }
    }

    /// What the rules mean for the stream of a batch.
    fn plan(&mut self, batch: &Batch, began: impl FnOnce(&[Arc<str>], u64) -> Began) -> Arc<Plan> {
        if let Some(plan) = self.plans.get(&batch.stream.id) {
            return Arc::clone(plan);
        }
        let of = Of::stream(&batch.stream);
        let of = Of { fields: of.fields || self.gives_severity || self.entries, ..of };
        let steps = self.rules.iter().enumerate().map(|(rule, known)| (rule, known.when.of(&of)));
        let steps: Vec<_> = steps.filter(|(_, when)| !when.is_never()).collect();
        let first = When::any_of_these(steps.iter().map(|(_, when)| when));
        let topics: Vec<Arc<str>> = std::iter::once(&batch.stream.topic).chain(&*self.topics).cloned().collect();
        let began = began(&topics, self.number);
        let fresh_from = began.settled.iter().copied().max().unwrap_or(0).max(began.again_to);
        let plan = Arc::new(Plan { steps, first, began, fresh_from });
        if self.plans.len() >= STREAMS_KEPT {
            self.plans.clear();
            self.long.clear();
        }
        self.plans.insert(batch.stream.id, Arc::clone(&plan));
        plan
    }

    /// Which rule leaves the event out, if one does; else it is changed as rules say, and its lane is told.
    fn judge(&mut self, batch: &Batch, plan: &Plan, event: &mut Event, line: u64, extra: &mut Extra) -> (Option<usize>, Way) {
        let all = plan.steps.iter().map(|(rule, when)| (*rule, Some(when)));
        let Some((number, last)) = event.part() else {
            let Decided { dropped, lane, class, .. } = self.pass(batch, plan, event, line, all, extra);
            return (dropped, (lane, class));
        };
        let id = batch.stream.id;
        let decided = if number == 1 {
            self.pass(batch, plan, event, line, all, extra)
        } else {
            let decided = self.long.remove(&id).unwrap_or_else(|| self.unknown(plan));
            if decided.dropped.is_none() {
                self.pass(batch, plan, event, line, decided.change.iter().map(|rule| (*rule, None)), extra);
            }
            decided
        };
        // Classes are of one batch, and parts of several.
        let class = decided.stamp.as_ref().map_or(0, |written| self.classes.number(written));
        let decision = (decided.dropped, (decided.lane, class));
        if !last {
            self.long.insert(id, decided);
        }
        decision
    }

    /// What is done with parts of an event whose first part was not seen: they go to the source's topic, and nothing that might be blotted out is left.
    fn unknown(&self, plan: &Plan) -> Decided {
        let redacts = |rule: &usize| self.rules.get(*rule).is_some_and(|rule| matches!(rule.action, Action::Redact(_)));
        Decided { change: plan.steps.iter().map(|(rule, _)| *rule).filter(redacts).collect(), ..Decided::default() }
    }

    /// Adds what was done in this batch to the rules' tallies.
    fn tell(&mut self, sifted: &mut Sifted, limited: Limited) {
        for (rule, (done, count)) in self.rules.iter().zip(&self.done) {
            if *done != Done::default() {
                rule.tally.add(*done);
            }
            if done.dropped > 0 || count.bytes > 0 {
                sifted.by_rule.push((Arc::clone(&rule.name), *count));
            }
        }
        self.classes.tell();
        for (rule, key, count) in limited {
            let name = self.rules.get(rule).map_or("", |rule| &*rule.name);
            let key = String::from_utf8_lossy(key.get(..KEY_TOLD).unwrap_or(&key));
            let place = if key.is_empty() { format!("rule {name}") } else { format!("rule {name}, {key}") };
            sifted.limited.push((place.into(), count));
        }
    }
}

/// Adds what a limit has left out. What is beyond [`KEYS_TOLD`] keys goes under one name.
fn limit(limited: &mut Limited, rule: usize, key: &[u8], count: Count) {
    let find = |limited: &Limited, key: &[u8]| limited.iter().position(|(of, known, _)| *of == rule && **known == *key);
    let key = if find(limited, key).is_none() && limited.len() >= KEYS_TOLD { b"other keys" } else { key };
    match find(limited, key).and_then(|at| limited.get_mut(at)) {
        Some((.., sum)) => *sum += count,
        None => limited.push((rule, key.into(), count)),
    }
}

/// Lets the batch begin behind what was settled before, and end where it did although its last events may be gone.
fn close(batch: &mut Batch, line_start: Option<u64>, skip_to: u64, sifted: &mut Sifted) {
    let end = batch.to.offset.saturating_sub(batch.base);
    let skipped = skip_to.saturating_sub(batch.base).min(end);
    sifted.skipped.bytes = skipped;
    let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let Some(line_start) = line_start else {
        if sifted.filtered.events > 0 || skipped == 0 {
            sifted.filtered.bytes = end - skipped;
        } else {
            sifted.skipped.bytes = end;
        }
        return;
    };
    batch.line_start = line_start;
    batch.base += skipped;
    for event in batch.events.iter_mut().filter(|_| skipped > 0) {
        (event.from, event.to) = (event.from.saturating_sub(narrow(skipped)), event.to.saturating_sub(narrow(skipped)));
    }
    if let Some(last) = batch.events.last_mut() {
        last.to = narrow(end - skipped);
    }
}
