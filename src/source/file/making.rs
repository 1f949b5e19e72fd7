//! From what was read of a file to a batch: its bytes are cut into events, put into UTF-8 where the source says what they are, admitted and handed
//! on. Apart from the turn of reading, which knows files and no events.

use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::Settings;
use super::charset::Charset;
use super::rotation::QUIET;
use super::split::{Cut, Joining, Made, Rest, split};
use super::tailed::{Hands, Tailed, Turn};
use crate::batch::{Batch, Event, Position};
use crate::encode::charge_for;
use crate::gaps;
use crate::ledger::{Amount, Count, Missed};
use crate::settlement::At;

impl Tailed {
    /// Makes events of a block's data and hands them on, with the block itself unless `copy` says that it is to be used again.
    pub(super) fn take(
        &mut self,
        hands: &mut Hands<'_>,
        block: &mut Vec<u8>,
        (data, charset): (usize, Option<Charset>),
        rest: Rest,
        copy: bool,
    ) -> Turn {
        let (pool, outlet) = (&hands.common.pool, &mut *hands.outlet);
        let mut events = pool.events();
        let fits = |bytes: &[u8]| match charset {
            None => outlet.fits(bytes),
            Some(charset) => charset.fits(bytes, &|text| outlet.fits(text)),
        };
        // A line as long as the block is first read again with a block that is longer than any message.
        let enlarge = rest == Rest::Parts && !self.long;
        let rest = if enlarge { Rest::Wait } else { rest };
        let (offset, part, line_start) = (self.at.offset, self.at.part, self.at.line_start);
        let skip_to = if outlet.skips() { 0 } else { self.skip_to };
        let joining = hands.settings.multiline.as_ref().map(|lines| {
            let finish = !enlarge && rest != Rest::Parts && hands.now.saturating_duration_since(self.grew) >= lines.timeout;
            Joining { lines, finish, settled: self.skip_to }
        });
        let made = split(block, &Cut { offset, data, part, line_start, skip_to, rest, joining, charset, fits: &fits }, &mut events);
        self.open = made.open;
        if made.consumed == 0 {
            pool.give_events(events);
            self.long |= enlarge;
            self.ended = !enlarge;
            return if enlarge { Turn::More } else { Turn::End };
        }
        let end = data + made.consumed;
        let used = block.get(data..end).unwrap_or_default();
        self.at = Position {
            offset: offset + made.consumed as u64,
            line_start: made.line_start,
            part: made.part,
            hash: crc32c::crc32c_append(self.at.hash, used),
            tail: self.at.tail.after(used),
        };
        self.long = made.part > 0;
        self.ended = self.at.offset >= self.size;
        let (bytes, events) = if let Some(charset) = charset {
            self.decoded(hands, charset, block.get(..end).unwrap_or_default(), (events, &made))
        } else if copy || end < block.capacity() / 2 {
            let exact = events.as_slice().to_vec();
            pool.give_events(events);
            (block.get(..end).unwrap_or_default().to_vec(), exact)
        } else {
            (std::mem::take(block), events)
        };
        self.hand_on(hands, bytes, events, &made);
        if self.ended { Turn::End } else { Turn::More }
    }

    /// The events in UTF-8; what was no character is said once, and counted.
    fn decoded(
        &mut self,
        hands: &Hands<'_>,
        charset: Charset,
        block: &[u8],
        (mut events, made): (Vec<Event>, &Made),
    ) -> (Vec<u8>, Vec<Event>) {
        let (base, _) = made.first.unwrap_or_default();
        let (bytes, replaced) = charset.decode_events(block, base, &mut events);
        if replaced > 0 {
            if !self.told_replaced {
                self.told_replaced = true;
                tracing::warn!(source = %hands.settings.name, path = %self.path.display(), offset = base, encoding = charset.name(), "from here on there are bytes that are no characters in this encoding: U+FFFD is shipped in their place, and such events are counted as undecodable; is `encoding` right?");
            }
            let at = At {
                place: &gaps::Place::Path(self.path.as_os_str().as_bytes().into()),
                stream: Some(self.stream.id),
                from: Some(base),
                words: "",
            };
            hands.common.settlement.missed(&self.stream.source, Missed::Undecodable, Amount { events: replaced, ..Amount::default() }, &at);
        }
        (bytes, events)
    }

    fn hand_on(&self, hands: &mut Hands<'_>, bytes: Vec<u8>, events: Vec<Event>, made: &Made) {
        let (common, id, merged) = (hands.common, self.stream.id, made.merged);
        let Some((base, line_start)) = made.first else { return common.settlement.pass_joined(id, self.at, self.size, merged) };
        let whole = events.iter().filter(|event| event.ends()).count();
        let count = Count { events: whole as u64, bytes: self.at.offset - base };
        let parts = [(Arc::clone(&self.stream.topic), count)];
        let (ticket, before) = common.settlement.admit_joined(id, (base, self.at, self.size), &parts, merged);
        let before = before.first().copied().unwrap_or_default();
        let charge = common.budget.charge(charge_for(bytes.capacity(), events.len()));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok();
        let observed_ns = now.and_then(|time| i64::try_from(time.as_nanos()).ok()).unwrap_or(0);
        let stream = Arc::clone(&self.stream);
        hands.outlet.push(Batch {
            stream,
            bytes,
            events,
            base,
            line_start,
            to: self.at,
            observed_ns,
            ticket,
            part: 0,
            since: hands.now,
            before,
            copy: None,
            extras: Vec::new(),
            part_headers: false,
            routed: 0,
            charge,
        });
    }

    /// What becomes of a last line without its end now.
    pub(super) fn rest(&self, settings: &Settings, full: bool, hole: bool, now: Instant) -> Rest {
        let quiet = now.saturating_duration_since(self.grew);
        let left = self.left_for(now).is_some_and(|time| time >= QUIET);
        let late = settings.partial_line_timeout.is_some_and(|timeout| quiet >= timeout);
        // The compressed form of a file is all that there will ever be of it.
        let all = self.packed().is_some();
        if full {
            Rest::Parts
        } else if hole || left || late || all {
            Rest::Ship
        } else {
            Rest::Wait
        }
    }
}
