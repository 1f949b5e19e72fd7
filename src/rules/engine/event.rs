//! One event goes through the rules: what is known of it is looked at and changed, rule by rule; what is left in the end is written behind the
//! batch's bytes. Apart from the batch because here is every action, and there the books. Pure.

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::journal::{Changes, Entry};
use super::{Decided, Engine, Plan};
use crate::batch::{Batch, Event, Extra, Origin, StreamId};
use crate::encode::members::unescape;
use crate::rules::fields::{Fields, Value};
use crate::rules::limit::Buckets;
use crate::rules::parse::{Around, Buffers, Form};
use crate::rules::redact::{Blotted, Redact};
use crate::rules::template::Template;
use crate::rules::when::{Look, When};
use crate::rules::{Action, Done, Rule, Severity, change};
use crate::source::syslog::arrival::format::{RECEIVED, received_ns};
use crate::source::syslog::parse::{Context, Parsed, parse};

/// What serves all events in turn: the fields of the present one, and buffers.
#[derive(Debug)]
pub(super) struct Desk {
    fields: Fields,
    /// The message, once it was changed.
    text: Vec<u8>,
    spare: Vec<u8>,
    /// That of the last limit that was asked.
    pub(super) key: Vec<u8>,
    /// By rule.
    buffers: Vec<Buffers>,
    buckets: Vec<Buckets>,
    /// The other fields of an entry of the journal, once a text in them was replaced.
    journal: Fields,
    /// Something was parsed or set: a store that is clear need not be cleared.
    used: bool,
}

impl Desk {
    pub(super) fn new(rules: usize) -> Desk {
        Desk {
            fields: Fields::default(),
            text: Vec::new(),
            spare: Vec::new(),
            key: Vec::new(),
            journal: Fields::default(),
            buffers: (0..rules).map(|_| Buffers::default()).collect(),
            buckets: (0..rules).map(|_| Buckets::default()).collect(),
            used: false,
        }
    }
}

/// What is known of the present event.
#[expect(clippy::struct_excessive_bools, reason = "each is an answer of its own")]
struct Now<'a> {
    parsed: Parsed<'a>,
    source: &'a [u8],
    path: &'a [u8],
    /// The message is in the desk.
    moved: bool,
    /// It was changed.
    changed: bool,
    /// It is an entry of the journal: as it came, and what of it is asked most.
    entry: Option<(&'a [u8], Entry<'a>)>,
    /// Texts in the entry's other fields were replaced.
    blotted: bool,
    /// The last rule that changed something, or could not.
    touched_by: Option<usize>,
    /// A line was read as syslog: its program is a field.
    is_syslog: bool,
    time: Option<i64>,
    /// Given by a rule.
    severity: Option<u8>,
    /// The rule that could not parse it.
    failed: Option<usize>,
    /// The rule that found fields.
    found: Option<usize>,
    /// The rule that has routed it, and which of its topics; `None`: it goes to its source's.
    topic: Option<(usize, usize)>,
}

impl Now<'_> {
    fn look<'a>(&'a self, desk: &'a Desk) -> Look<'a> {
        // Only then is the field asked for: a look is taken for every condition of every event.
        let app = match self.parsed.app {
            None if self.is_syslog => desk.fields.get(b"app").and_then(|value| if let Value::Text(app) = value { Some(app) } else { None }),
            app => app,
        };
        Look {
            message: self.message(desk),
            app,
            severity: self.severity.or(self.parsed.severity),
            facility: self.parsed.facility,
            fields: Some(&desk.fields),
            source: self.source,
            path: self.path,
            unit: self.entry.and_then(|(_, entry)| entry.unit),
            entry: self.entry.map(|(json, _)| json),
            journal: if self.blotted { Some(&desk.journal) } else { None },
        }
    }

    fn message<'a>(&'a self, desk: &'a Desk) -> &'a [u8] {
        if self.moved { &desk.text } else { self.parsed.message }
    }
}

/// What a rule has done with an event.
enum Did {
    /// Nothing, and the next rule is asked.
    Nothing,
    Changed,
    /// It could not.
    Failed,
    /// It has changed something, but not as it was to.
    HalfDone,
    /// The event is left out.
    Dropped,
    /// No other rule is asked.
    Kept,
}

impl Engine {
    /// Takes one event through these rules; those without a condition were decided by its first part.
    pub(super) fn pass<'a>(
        &mut self,
        batch: &Batch,
        plan: &Plan,
        event: &mut Event,
        line: u64,
        steps: impl Iterator<Item = (usize, Option<&'a When>)>,
        extra: &mut Extra,
    ) -> Decided {
        let frame = batch.event_bytes(event);
        let mut now = self.now(batch, event, frame);
        let mut decided = Decided::default();
        let whole = event.part().is_none();
        if std::mem::take(&mut self.desk.used) {
            self.desk.fields.clear();
        }
        if whole && plan.first.as_ref().is_some_and(|first| !first.is_match(now.message(&self.desk))) {
            self.put_stamp(event, &now, &mut decided);
            return decided;
        }
        let Engine { rules, done, desk, room, around, .. } = self;
        for (index, when) in steps {
            let (Some(rule), Some((done, _))) = (rules.get(index), done.get_mut(index)) else { continue };
            if when.is_some_and(|when| !when.holds(&now.look(desk))) {
                continue;
            }
            if !whole && !matches!(rule.action, Action::Drop | Action::Keep | Action::Sample(..) | Action::Redact(_) | Action::Route(_)) {
                continue;
            }
            if matches!(rule.action, Action::Redact(_)) && !whole {
                decided.change.push(index);
            }
            let did = act((index, rule), &mut now, desk, around, room.message, (batch.stream.id, line));
            count(done, &did, when.is_some());
            match did {
                Did::Kept => break,
                Did::Dropped => {
                    decided.dropped = Some(index);
                    return decided;
                }
                Did::Changed | Did::Failed | Did::HalfDone => now.touched_by = Some(index),
                Did::Nothing => {}
            }
        }
        decided.lane = now.topic.map_or(0, |chosen| self.lane(chosen, &batch.stream.topic));
        self.put_stamp(event, &now, &mut decided);
        self.leave(batch, event, frame, &now, extra);
        decided
    }

    /// Says what the message is to have around its value, of an event or of the first part of one.
    fn put_stamp(&mut self, event: &Event, now: &Now<'_>, decided: &mut Decided) {
        if event.part().is_some_and(|(number, _)| number > 1) {
            return;
        }
        if let Some((class, written)) = self.classes.of(&now.look(&self.desk)) {
            decided.class = class;
            decided.stamp = event.part().map(|_| written.into());
        }
    }

    /// What is known of an event before the rules.
    fn now<'a>(&mut self, batch: &'a Batch, event: &Event, frame: &'a [u8]) -> Now<'a> {
        let entry = if self.entries { Some((frame, Entry::of(frame))) } else { None };
        let parsed = entry.map_or_else(|| self.parsed(batch, event, frame), |(_, entry)| entry.parsed());
        let moved = entry.is_some_and(|(_, entry)| !entry.is_plain());
        if moved {
            self.desk.text.clear();
            unescape(&mut self.desk.text, parsed.message);
        }
        let (source, path) = (batch.stream.source.as_bytes(), batch.stream.path());
        let (changed, blotted, is_syslog) = (false, false, false);
        let (touched_by, time, severity, failed, found, topic) = (None, None, None, None, None, None);
        Now { parsed, source, path, moved, changed, entry, blotted, touched_by, is_syslog, time, severity, failed, found, topic }
    }

    /// The lane of a topic that a rule has chosen.
    fn lane(&self, (rule, at): (usize, usize), own: &Arc<str>) -> u16 {
        let Some(Action::Route(route)) = self.rules.get(rule).map(|rule| &rule.action) else { return 0 };
        let topic = route.topics.get(at).filter(|topic| *topic != own);
        let lane = topic.and_then(|topic| self.topics.binary_search(topic).ok());
        lane.and_then(|lane| u16::try_from(lane + 1).ok()).unwrap_or(0)
    }

    /// Writes what became of an event that is shipped.
    fn leave(&mut self, batch: &Batch, event: &mut Event, frame: &[u8], now: &Now<'_>, extra: &mut Extra) {
        if let Some((json, _)) = now.entry {
            return self.leave_entry(batch, event, json, now);
        }
        let end = |fresh: &[u8]| narrow(batch.bytes.len() + fresh.len());
        if now.changed {
            self.rewrite(batch, event, frame, now.parsed.message);
        }
        (extra.time, extra.severity) = (now.time, now.severity);
        let Engine { rules, done, desk, room, fresh, .. } = self;
        let mut failed = now.failed.map(|rule| (rule, "could not read it"));
        if let (Some(found), Some(text_room)) = (now.found, room.text)
            && !desk.fields.is_empty()
        {
            let (at, begin) = (end(fresh), fresh.len());
            desk.fields.write(fresh);
            let len = fresh.len() - begin;
            let message = now.message(desk);
            // What stands in front of a syslog message may become JSON as well, and grow by as much.
            let header = (frame.len() - now.parsed.message.len()) * 8;
            if crate::encode::json::fits_beside(message, text_room, len + header) {
                extra.fields = (at, narrow(len));
            } else {
                fresh.truncate(begin);
                failed = Some((found, "found more than fits into a message"));
                if let Some((done, _)) = done.get_mut(found) {
                    done.errors += 1;
                }
            }
        }
        if let Some((rule, what)) = failed.and_then(|(rule, what)| Some((rules.get(rule)?, what)))
            && room.text.is_some()
        {
            let (at, begin) = (end(fresh), fresh.len());
            for piece in ["rule ", &*rule.name, " ", what] {
                fresh.extend_from_slice(piece.as_bytes());
            }
            extra.error = (at, narrow(fresh.len() - begin));
        }
    }

    /// Writes what became of an entry of the journal; what would make it too long is left out, told and counted: fields first, then the others.
    fn leave_entry(&mut self, batch: &Batch, event: &mut Event, json: &[u8], now: &Now<'_>) {
        const NONE: &Fields = &Fields::none();
        let Engine { rules, done, desk, room, fresh, .. } = self;
        let name = |rule: usize| rules.get(rule).map_or("", |rule| &*rule.name);
        let fields = Some(&desk.fields).filter(|fields| now.found.is_some() && !fields.is_empty());
        let mut changes = Changes {
            message: if now.changed { Some(now.message(desk)) } else { None },
            time: now.time,
            severity: now.severity,
            fields,
            journal: if now.blotted { Some(&desk.journal) } else { None },
            error: now.failed.map(|rule| ["rule ", name(rule), " could not read it"]),
        };
        if changes.is_empty() {
            return;
        }
        let begin = fresh.len();
        changes.write(json, fresh);
        for without_others in [false, true] {
            if fresh.len() - begin <= room.whole.max(json.len()) {
                break;
            }
            fresh.truncate(begin);
            // Something was changed, or nothing would have been written.
            let rule = now.found.or(now.touched_by).unwrap_or(0);
            if let Some((done, _)) = done.get_mut(rule).filter(|_| !without_others) {
                done.errors += 1;
            }
            (changes.fields, changes.error) = (None, Some(["rule ", name(rule), " made more than fits into a message"]));
            if without_others {
                changes.journal = Some(NONE);
            }
            changes.write(json, fresh);
        }
        *event = event.moved(narrow(batch.bytes.len() + begin), narrow(fresh.len() - begin));
    }

    /// Puts the message on the desk behind the batch's own bytes, with what stood in front of the old one.
    fn rewrite(&mut self, batch: &Batch, event: &mut Event, frame: &[u8], message: &[u8]) {
        let Engine { fresh, desk, .. } = self;
        let start = event.start as usize;
        if let (Origin::Arrivals { .. }, Some(received)) = (&batch.stream.origin, start.checked_sub(RECEIVED)) {
            fresh.extend_from_slice(batch.bytes.get(received..start).unwrap_or_default());
        }
        let (begin, header) = (fresh.len(), frame.len() - message.len());
        fresh.extend_from_slice(frame.get(..header).unwrap_or_default());
        fresh.extend_from_slice(&desk.text);
        *event = event.moved(narrow(batch.bytes.len() + begin), narrow(fresh.len() - begin));
    }

    /// A syslog message in its fields; of a line, that it is the message.
    fn parsed<'a>(&self, batch: &Batch, event: &Event, frame: &'a [u8]) -> Parsed<'a> {
        let whole = Parsed { message: frame, ..Parsed::default() };
        if !matches!(batch.stream.origin, Origin::Arrivals { .. }) || event.part().is_some_and(|(number, _)| number > 1) {
            return whole;
        }
        let context = Context { received_ns: received_ns(&batch.bytes, event.start as usize), zone: self.around.zone.clone() };
        let parsed = parse(frame, &context);
        // The message is what the frame ends with; should it not be, all of the frame is looked at.
        let ends = frame.get(frame.len().saturating_sub(parsed.message.len())..).is_some_and(|end| std::ptr::eq(end, parsed.message));
        if ends { parsed } else { Parsed { message: frame, ..parsed } }
    }
}

fn narrow(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn count(done: &mut Done, did: &Did, asked: bool) {
    done.matched += u64::from(asked);
    match did {
        Did::Changed => done.changed += 1,
        Did::Failed => done.errors += 1,
        Did::HalfDone => (done.changed, done.errors) = (done.changed + 1, done.errors + 1),
        Did::Nothing | Did::Dropped | Did::Kept => {}
    }
}

/// Does to the event what the rule says.
fn act((index, rule): (usize, &Rule), now: &mut Now<'_>, desk: &mut Desk, around: &Around, room: usize, place: (StreamId, u64)) -> Did {
    match &rule.action {
        Action::Drop => Did::Dropped,
        Action::Keep => Did::Kept,
        Action::Sample(one_in, by) => {
            let key = by.as_ref().and_then(|by| now.look(desk).field(by)).map_or_else(|| of_place(place), |key| xxh3_64(&key));
            if key.is_multiple_of((*one_in).max(1)) { Did::Nothing } else { Did::Dropped }
        }
        Action::RateLimit(limit, by) => {
            let mut key = std::mem::take(&mut desk.spare);
            key.clear();
            if let Some(by) = by {
                // Those without the field share one bucket.
                by.fill(&now.look(desk), &mut key);
            }
            let takes = desk.buckets.get_mut(index).is_none_or(|buckets| buckets.takes(*limit, &key, around.read_ns));
            std::mem::swap(&mut desk.key, &mut key);
            desk.spare = key;
            if takes { Did::Nothing } else { Did::Dropped }
        }
        Action::Route(route) => {
            let mut name = std::mem::take(&mut desk.spare);
            let chosen = route.choose(&now.look(desk), &mut name).map(|at| (index, at));
            desk.spare = name;
            now.topic = chosen.or(now.topic);
            if chosen.is_some() { Did::Nothing } else { Did::Failed }
        }
        Action::Redact(redact) => blot(redact, now, desk, room),
        Action::Parse(form) => read(form, index, now, desk, around),
        Action::Set(fields) => set(fields, index, now, desk),
        Action::Remove(names) => done_if(names.iter().filter(|name| desk.fields.remove(name)).count() > 0),
        Action::Rename(names) => done_if(names.iter().filter(|(from, to)| desk.fields.rename(from, to)).count() > 0),
        Action::Timestamp(time) => at(time, now, desk, around.read_ns),
        Action::Severity(severity) => {
            let code = match severity {
                Severity::Is(code) => Some(*code),
                Severity::Of(field) => now.look(desk).field(field).and_then(|word| change::severity(&word)),
            };
            now.severity = code.or(now.severity);
            if code.is_some() { Did::Changed } else { Did::Failed }
        }
    }
}

fn done_if(changed: bool) -> Did {
    if changed { Did::Changed } else { Did::Nothing }
}

/// Always the same for the same event, so that reading it again changes nothing.
fn of_place((stream, line): (StreamId, u64)) -> u64 {
    let mut key = [0; 16];
    let (id, at) = key.split_at_mut(8);
    id.copy_from_slice(&stream.0.to_le_bytes());
    at.copy_from_slice(&line.to_le_bytes());
    xxh3_64(&key)
}

fn blot(redact: &Redact, now: &mut Now<'_>, desk: &mut Desk, room: usize) -> Did {
    let mut spare = std::mem::take(&mut desk.spare);
    spare.clear();
    let message = redact.apply(now.message(desk), &mut spare, room);
    if message != Blotted::No {
        std::mem::swap(&mut desk.text, &mut spare);
        (now.moved, now.changed) = (true, true);
    }
    desk.spare = spare;
    let others = blot_entry(redact, now, desk, room);
    let mut fields = Blotted::No;
    if !desk.fields.is_empty() {
        desk.fields.change(|text, out| one(redact, (text, out), room, &mut fields));
    }
    match message.max(fields).max(others) {
        Blotted::No => Did::Nothing,
        Blotted::Yes => Did::Changed,
        Blotted::Short => Did::HalfDone,
    }
}

/// One text of several; `all` becomes the worst of what was done.
fn one(redact: &Redact, (text, out): (&[u8], &mut Vec<u8>), room: usize, all: &mut Blotted) -> bool {
    let done = redact.apply(text, out, room);
    *all = done.max(*all);
    done != Blotted::No
}

/// The other fields of an entry of the journal may hold what its message does.
fn blot_entry(redact: &Redact, now: &mut Now<'_>, desk: &mut Desk, room: usize) -> Blotted {
    let Some(journal) = now.entry.and_then(|(_, entry)| entry.journal) else { return Blotted::No };
    if !now.blotted {
        desk.journal.clear();
        desk.journal.put(b"journal", Value::Json(journal));
    }
    let mut all = Blotted::No;
    now.blotted |= desk.journal.change(|text, out| one(redact, (text, out), room, &mut all));
    all
}

fn read(form: &Form, index: usize, now: &mut Now<'_>, desk: &mut Desk, around: &Around) -> Did {
    desk.used = true;
    let (mut spare, mut buffers) = (std::mem::take(&mut desk.spare), desk.buffers.get_mut(index).map(std::mem::take).unwrap_or_default());
    spare.clear();
    let message = if now.moved { desk.text.as_slice() } else { now.parsed.message };
    let found = form.read(message, &mut desk.fields, &mut spare, around, &mut buffers);
    if let Some(kept) = desk.buffers.get_mut(index) {
        *kept = buffers;
    }
    if found.as_ref().is_some_and(|found| found.text) {
        std::mem::swap(&mut desk.text, &mut spare);
        (now.moved, now.changed) = (true, true);
    }
    desk.spare = spare;
    let Some(found) = found else {
        now.failed.get_or_insert(index);
        return Did::Failed;
    };
    now.found = Some(index);
    now.is_syslog |= matches!(form, Form::Syslog);
    now.time = found.time_ns.or(now.time);
    now.severity = found.severity.or(now.severity);
    now.parsed.facility = found.facility.or(now.parsed.facility);
    Did::Changed
}

fn set(fields: &[(Box<[u8]>, Template)], index: usize, now: &mut Now<'_>, desk: &mut Desk) -> Did {
    desk.used = true;
    let mut all = true;
    for (name, template) in fields {
        let mut value = std::mem::take(&mut desk.spare);
        value.clear();
        let filled = template.fill(&now.look(desk), &mut value) && desk.fields.put(name, Value::Text(&value));
        all &= filled;
        desk.spare = value;
    }
    now.found = Some(index);
    if all { Did::Changed } else { Did::Failed }
}

fn at(time: &change::Time, now: &mut Now<'_>, desk: &Desk, read_ns: i64) -> Did {
    let found = now.look(desk).field(&time.field).and_then(|text| time.read(&text));
    now.time = found.or(if time.forget { Some(read_ns) } else { now.time });
    if found.is_some() { Did::Changed } else { Did::Failed }
}
