//! A batch goes through the rules: events are left out, or what becomes of them is written behind the batch's own bytes; all else stays where it
//! is. What happens to one event is in `engine/event.rs`. Pure.

mod event;
pub mod trace;

use std::collections::HashMap;
use std::sync::Arc;

use jiff::tz::TimeZone;
use regex::bytes::RegexSet;

use super::parse::{Around, Form};
use super::when::{Of, When};
use super::{Action, Done, Rule};
use crate::batch::{Batch, Event, Extra, StreamId};
use crate::encode::{LineStarts, Room};
use crate::ledger::Count;
use event::Desk;
use trace::Trace;

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
    /// Somebody looks at the next batch.
    trace: Option<Trace>,
}

/// Which rules can concern a source.
struct Reach {
    any: bool,
    enriches: bool,
    gives_severity: bool,
}

impl Reach {
    fn of(rules: &[Rule], (source, kind): (&str, &str)) -> Reach {
        let of = |fields| Of { source, kind, path: None, fields };
        let reaches = |rule: &Rule, fields: bool| !rule.when.of(&of(fields)).is_never();
        let gives = |rule: &Rule| matches!(rule.action, Action::Severity(_) | Action::Parse(Form::Syslog));
        let gives_severity = kind == "file" && rules.iter().any(|rule| gives(rule) && reaches(rule, false));
        let fields = kind == "syslog" || gives_severity;
        let any = rules.iter().any(|rule| reaches(rule, fields));
        Reach { any, enriches: rules.iter().any(|rule| rule.action.enriches() && reaches(rule, fields)), gives_severity }
    }
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

    fn with(rules: &Arc<[Rule]>, reach: &Reach, zone: TimeZone, room: Room) -> Engine {
        Engine {
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
        self.around.read_ns = batch.observed_ns;
        let (mut extras, mut any_extra) = (Vec::with_capacity(if self.enriches { before } else { 0 }), false);
        self.done.fill_with(Default::default);
        let (mut lines, mut line_start) = (LineStarts::of(batch), None);
        let mut events = std::mem::take(&mut batch.events);
        events.retain_mut(|event| {
            let line = lines.next(event);
            let whole = u64::from(event.part().is_none_or(|(_, last)| last));
            let mut extra = Extra::default();
            if let Some(rule) = self.judge(batch, &plan, event, line, &mut extra) {
                sifted.filtered.events += whole;
                if let Some((done, count)) = self.done.get_mut(rule) {
                    done.dropped += whole;
                    *count += Count { events: whole, bytes: u64::from(event.to.saturating_sub(event.from)) };
                }
                self.note(false);
                return false;
            }
            let kept = !was_settled || batch.base + u64::from(event.to) > plan.skip_to;
            if kept {
                line_start.get_or_insert(line);
                if self.enriches {
                    any_extra |= extra != Extra::default();
                    extras.push(extra);
                }
            } else {
                sifted.skipped.events += whole;
            }
            self.note(kept);
            kept
        });
        self.tell(&mut sifted);
        batch.events = events;
        if any_extra {
            batch.extras = extras;
        }
        if !self.fresh.is_empty() {
            batch.bytes.extend_from_slice(&self.fresh);
        }
        if batch.events.len() == before {
            return None;
        }
        close(batch, line_start, plan.skip_to, &mut sifted);
        Some(sifted)
    }

    /// What becomes of single events of the next batch is to be remembered; or no longer.
    pub fn trace(&mut self, trace: Option<Trace>) {
        self.trace = trace;
    }

    /// What was remembered of the last batch, and the rules.
    pub fn traced(&mut self) -> (Option<Trace>, &[Rule]) {
        (self.trace.take(), &self.rules)
    }

    fn note(&mut self, kept: bool) {
        if let Some(trace) = &mut self.trace {
            trace.note(&self.done, kept);
        }
    }

    /// What the rules mean for the stream of a batch.
    fn plan(&mut self, batch: &Batch, settled: impl FnOnce() -> u64) -> Arc<Plan> {
        if let Some(plan) = self.plans.get(&batch.stream.id) {
            return Arc::clone(plan);
        }
        let of = Of::stream(&batch.stream);
        let of = Of { fields: of.fields || self.gives_severity, ..of };
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

    /// Which rule leaves the event out, if one does; else it is changed as rules say. `line` is where it begins in its stream.
    fn judge(&mut self, batch: &Batch, plan: &Plan, event: &mut Event, line: u64, extra: &mut Extra) -> Option<usize> {
        let all = plan.steps.iter().map(|(rule, when)| (*rule, Some(when)));
        let Some((number, last)) = event.part() else {
            return self.pass(batch, plan, event, line, all, extra).dropped;
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
