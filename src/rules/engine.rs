//! A batch goes through the rules: events are left out, or their message is written anew behind the batch's own bytes; all else stays where
//! it is. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::tz::TimeZone;
use regex::bytes::RegexSet;
use xxhash_rust::xxh3::xxh3_64;

use super::when::{Look, Of, When};
use super::{Action, Done, Rule};
use crate::batch::{Batch, Event, Origin, StreamId};
use crate::encode::LineStarts;
use crate::ledger::Count;
use crate::source::syslog::arrival::format::{RECEIVED, received_ns};
use crate::source::syslog::parse::{Context, Parsed, parse};

/// Streams of which is kept what the rules mean for them; beyond it all are forgotten and worked out anew. An event in parts whose first part
/// is forgotten so is kept.
const STREAMS_KEPT: usize = 4096;

/// What became of a batch's events, beside those that are left in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sifted {
    /// Settled before the last end, and not left out by a rule: neither sent nor counted again.
    pub skipped: Count,
    /// Left out by rules. The bytes are 0 while events are left in the batch: each of those counts what was left out in front of it, and the
    /// last one what was left out behind it, so that what a lane was given of a stream stays without holes.
    pub filtered: Count,
    /// The same by the rule's name, with the bytes of the events themselves.
    pub by_rule: Vec<(Arc<str>, Count)>,
}

/// What the rules mean for one stream.
#[derive(Debug, Default)]
struct Plan {
    steps: Vec<(usize, When)>,
    /// If it does not match a message, no step's condition holds.
    first: Option<RegexSet>,
    /// What ends at or before this was settled before the last end.
    skip_to: u64,
}

/// What was decided by the first part of an event in parts.
#[derive(Debug, Default)]
struct Decided {
    dropped: Option<usize>,
    /// The rules that change the message.
    change: Vec<usize>,
}

/// The rules that events of one source can meet.
#[derive(Debug)]
pub struct Engine {
    rules: Arc<[Rule]>,
    zone: TimeZone,
    /// No message becomes longer than it was or than this, whichever is more, bytes.
    room: usize,
    plans: HashMap<StreamId, Arc<Plan>>,
    /// Streams in the middle of an event in parts.
    long: HashMap<StreamId, Decided>,
    /// By rule, of the present batch.
    done: Vec<(Done, Count)>,
    /// Messages written anew, of the present batch.
    fresh: Vec<u8>,
    /// A message between two changes.
    scratch: [Vec<u8>; 2],
}

impl Engine {
    /// The rules for a source of this name and type; `None` if none of them can concern it. `room` is what always fits into a message.
    #[must_use]
    pub fn new(rules: &Arc<[Rule]>, (source, kind): (&str, &str), zone: TimeZone, room: usize) -> Option<Engine> {
        let of = Of { source, kind, path: None, fields: kind == "syslog" };
        let concerned = !rules.iter().all(|rule| rule.when.of(&of).is_never());
        concerned.then(|| Engine::of(rules, zone, room))
    }

    /// The same whether any of them can concern the source or not: what a source goes on with under other rules.
    #[must_use]
    pub fn of(rules: &Arc<[Rule]>, zone: TimeZone, room: usize) -> Engine {
        Engine {
            rules: Arc::clone(rules),
            zone,
            room,
            plans: HashMap::new(),
            long: HashMap::new(),
            done: vec![(Done::default(), Count::default()); rules.len()],
            fresh: Vec::new(),
            scratch: [Vec::new(), Vec::new()],
        }
    }

    /// Takes out of the batch what rules leave out and what was settled before; `settled` says up to where in the stream that is. `None`: there
    /// was nothing of either kind. Where nothing is left, the batch has no events.
    pub fn run(&mut self, batch: &mut Batch, settled: impl FnOnce() -> u64) -> Option<Sifted> {
        let plan = self.plan(batch, settled);
        let was_settled = batch.base < plan.skip_to;
        if plan.steps.is_empty() && !was_settled {
            return None;
        }
        let mut sifted = Sifted::default();
        let before = batch.events.len();
        self.fresh.clear();
        self.done.fill_with(Default::default);
        let (mut lines, mut line_start) = (LineStarts::of(batch), None);
        let mut events = std::mem::take(&mut batch.events);
        events.retain_mut(|event| {
            let line = lines.next(event);
            let whole = u64::from(event.part().is_none_or(|(_, last)| last));
            if let Some(rule) = self.judge(batch, &plan, event, line) {
                sifted.filtered.events += whole;
                if let Some((done, count)) = self.done.get_mut(rule) {
                    done.dropped += whole;
                    *count += Count { events: whole, bytes: u64::from(event.to.saturating_sub(event.from)) };
                }
                return false;
            }
            let kept = !was_settled || batch.base + u64::from(event.to) > plan.skip_to;
            if kept {
                line_start.get_or_insert(line);
            } else {
                sifted.skipped.events += whole;
            }
            kept
        });
        self.tell(&mut sifted);
        batch.events = events;
        if !self.fresh.is_empty() {
            batch.bytes.extend_from_slice(&self.fresh);
        }
        if batch.events.len() == before {
            return None;
        }
        close(batch, line_start, plan.skip_to, &mut sifted);
        Some(sifted)
    }

    /// What the rules mean for the stream of a batch.
    fn plan(&mut self, batch: &Batch, settled: impl FnOnce() -> u64) -> Arc<Plan> {
        if let Some(plan) = self.plans.get(&batch.stream.id) {
            return Arc::clone(plan);
        }
        let of = Of::stream(&batch.stream);
        let steps = self.rules.iter().enumerate().map(|(rule, known)| (rule, known.when.of(&of)));
        let steps: Vec<_> = steps.filter(|(_, when)| !when.is_never()).collect();
        let first = When::any_of_these(steps.iter().map(|(_, when)| when));
        let plan = Arc::new(Plan { steps, first, skip_to: settled() });
        if self.plans.len() >= STREAMS_KEPT {
            self.plans.clear();
            self.long.clear();
        }
        self.plans.insert(batch.stream.id, Arc::clone(&plan));
        plan
    }

    /// Which rule leaves the event out, if one does; else its message is changed as rules say. `line` is where it begins in its stream.
    fn judge(&mut self, batch: &Batch, plan: &Plan, event: &mut Event, line: u64) -> Option<usize> {
        let Some((number, last)) = event.part() else {
            return self.pass(batch, plan, event, line, plan.steps.iter().map(|(rule, when)| (*rule, Some(when)))).dropped;
        };
        let id = batch.stream.id;
        let decided = if number == 1 {
            self.pass(batch, plan, event, line, plan.steps.iter().map(|(rule, when)| (*rule, Some(when))))
        } else {
            let decided = self.long.remove(&id).unwrap_or_else(|| self.unknown(plan));
            if decided.dropped.is_none() {
                self.pass(batch, plan, event, line, decided.change.iter().map(|rule| (*rule, None)));
            }
            decided
        };
        let dropped = decided.dropped;
        if !last {
            self.long.insert(id, decided);
        }
        dropped
    }

    /// What is done with parts of an event whose first part was not seen: they are kept, and nothing that might be blotted out is left.
    fn unknown(&self, plan: &Plan) -> Decided {
        let redacts = |rule: &usize| self.rules.get(*rule).is_some_and(|rule| matches!(rule.action, Action::Redact(_)));
        Decided { dropped: None, change: plan.steps.iter().map(|(rule, _)| *rule).filter(redacts).collect() }
    }

    /// Takes one event through these rules; those without a condition were decided by its first part.
    fn pass<'a>(
        &mut self,
        batch: &Batch,
        plan: &Plan,
        event: &mut Event,
        line: u64,
        steps: impl Iterator<Item = (usize, Option<&'a When>)>,
    ) -> Decided {
        let frame = batch.event_bytes(event);
        let parsed = self.parsed(batch, event, frame);
        let mut decided = Decided::default();
        if plan.first.as_ref().is_some_and(|first| event.part().is_none() && !first.is_match(parsed.message)) {
            return decided;
        }
        let Engine { rules, done, scratch: [text, spare], room, .. } = self;
        let mut changed = false;
        for (index, when) in steps {
            let message = if changed { text.as_slice() } else { parsed.message };
            let look = Look { message, app: parsed.app, severity: parsed.severity, facility: parsed.facility };
            let (Some(rule), Some((done, _))) = (rules.get(index), done.get_mut(index)) else { continue };
            if when.is_some_and(|when| !when.holds(&look)) {
                continue;
            }
            done.matched += u64::from(when.is_some());
            match &rule.action {
                Action::Drop => decided.dropped = Some(index),
                Action::Sample(one_in) if is_left_out(batch.stream.id, line, *one_in) => decided.dropped = Some(index),
                Action::Sample(_) => continue,
                Action::Keep => break,
                Action::Redact(redact) => {
                    decided.change.extend(event.part().map(|_| index));
                    spare.clear();
                    if redact.apply(message, spare, *room) {
                        std::mem::swap(text, spare);
                        changed = true;
                        done.changed += 1;
                    }
                    continue;
                }
            }
            return decided;
        }
        if changed {
            self.rewrite(batch, event, frame, parsed.message);
        }
        decided
    }

    /// Puts the message in the scratch behind the batch's own bytes, with what stood in front of the old one.
    fn rewrite(&mut self, batch: &Batch, event: &mut Event, frame: &[u8], message: &[u8]) {
        let Engine { fresh, scratch: [text, _], .. } = self;
        let start = event.start as usize;
        if let (Origin::Arrivals { .. }, Some(received)) = (&batch.stream.origin, start.checked_sub(RECEIVED)) {
            fresh.extend_from_slice(batch.bytes.get(received..start).unwrap_or_default());
        }
        let (begin, header) = (fresh.len(), frame.len() - message.len());
        fresh.extend_from_slice(frame.get(..header).unwrap_or_default());
        fresh.extend_from_slice(text);
        let narrow = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        *event = event.moved(narrow(batch.bytes.len() + begin), narrow(fresh.len() - begin));
    }

    /// A syslog message in its fields; of a line, that it is the message.
    fn parsed<'a>(&self, batch: &Batch, event: &Event, frame: &'a [u8]) -> Parsed<'a> {
        let whole = Parsed { message: frame, ..Parsed::default() };
        if !matches!(batch.stream.origin, Origin::Arrivals { .. }) || event.part().is_some_and(|(number, _)| number > 1) {
            return whole;
        }
        let context = Context { received_ns: received_ns(&batch.bytes, event.start as usize), zone: self.zone.clone() };
        let parsed = parse(frame, &context);
        // The message is what the frame ends with; should it not be, all of the frame is looked at.
        let ends = frame.get(frame.len().saturating_sub(parsed.message.len())..).is_some_and(|end| std::ptr::eq(end, parsed.message));
        if ends { parsed } else { Parsed { message: frame, ..parsed } }
    }

    /// Adds what was done in this batch to the rules' tallies.
    fn tell(&mut self, sifted: &mut Sifted) {
        for (rule, (done, count)) in self.rules.iter().zip(&self.done) {
            if *done != Done::default() {
                rule.tally.add(*done);
            }
            if done.dropped > 0 || count.bytes > 0 {
                sifted.by_rule.push((Arc::clone(&rule.name), *count));
            }
        }
    }
}

/// Whether it is not the one of so many that is shipped: always the same for the same event, so that reading it again changes nothing.
fn is_left_out(stream: StreamId, line: u64, one_in: u64) -> bool {
    let mut key = [0; 16];
    let (id, at) = key.split_at_mut(8);
    id.copy_from_slice(&stream.0.to_le_bytes());
    at.copy_from_slice(&line.to_le_bytes());
    !xxh3_64(&key).is_multiple_of(one_in.max(1))
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
