//! What an arrival log takes in: which messages are accepted, written as one block, and which are refused and counted.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::super::intake::{Frame, Frames, Intake, Taken, Transport};
use super::log::AppendError;
use super::shed::{self, Severity};
use super::{Arrivals, PARTS_KEPT, TRY_AGAIN, WhenFull, Why, Writing, format};
use crate::gaps;
use crate::ledger::{Amount, Count, Missed};
use crate::settlement::At;

impl Arrivals {
    /// Writes the block that was made; says where it ends.
    fn write(&self, writing: &mut Writing) -> Result<u64, Why> {
        let block = std::mem::take(&mut writing.block);
        let now = Instant::now();
        let outcome = match writing.broken {
            Some((_, again)) if now < again => Err(AppendError::Broken(String::new())),
            _ => writing.log.append(&block),
        };
        let outcome = match outcome {
            Ok(end) => {
                // What was kept in memory before follows at once.
                if writing.broken.is_some() && writing.log.rescue().is_ok() {
                    self.mended(writing);
                }
                Ok(end)
            }
            Err(AppendError::Full(full)) => Err(Why::Disk(full)),
            Err(AppendError::Broken(_)) if writing.log.memory + block.len() > self.settings.memory => Err(Why::Memory),
            Err(AppendError::Broken(words)) => {
                if writing.broken.is_none() {
                    tracing::error!(source = %self.settings.source, error = words, "the arrival log can't be written: what comes is kept in memory alone, and a kill would lose it");
                }
                let since = writing.broken.map_or(now, |(since, _)| since);
                if !words.is_empty() {
                    writing.broken = Some((since, now + TRY_AGAIN));
                }
                Ok(writing.log.remember(&block))
            }
        };
        writing.block = block;
        if outcome.is_ok() && writing.full.take().is_some() {
            tracing::info!(source = %self.settings.source, "the arrival log has room again");
        }
        outcome
    }

    fn fills(&self, writing: &mut Writing, why: Why) {
        if writing.full.replace((why, Instant::now())).is_none() {
            tracing::warn!(source = %self.settings.source, "the arrival log has no more room: {why}");
        }
        self.is_full.store(true, Ordering::Release);
    }

    /// All of these, where none of them has room.
    fn all_shed(&self, frames: &Frames<'_>) -> shed::Counts {
        let mut shed = shed::Counts::default();
        for frame in frames.frames.iter().filter(|frame| frame.last) {
            let message = frames.bytes_of(frame);
            shed.add(Severity::of(message), self.settings.shed_first.class(message, 100));
        }
        shed
    }

    fn count_shed(&self, transport: Transport, shed: &shed::Counts) {
        let all = shed.all();
        if all == 0 {
            return;
        }
        {
            let mut writing = self.lock();
            if writing.shedding.is_none() {
                tracing::warn!(source = %self.settings.source, transport = transport.word(), "the arrival log fills: messages are refused and counted, the least severe first");
            }
            *writing.shedding.get_or_insert(0) += all;
        }
        for (class, count) in shed.iter(&self.settings.shed_first) {
            let place = format!("{}, {class}", transport.word());
            self.missed(Missed::Shed, Amount { events: count, ..Amount::default() }, &place.into(), "");
        }
    }
}

impl Intake for Arrivals {
    fn take(&self, frames: &Frames<'_>) -> Taken {
        let sheds = self.settings.when_full.unwrap_or(WhenFull::of(frames.transport)) == WhenFull::Shed;
        let mut guard = self.lock();
        let writing = &mut *guard;
        let percent = self.percent(writing);
        if !sheds && percent >= 100 {
            return Taken::Full;
        }
        let mut shed = shed::Counts::default();
        let least = if sheds { shed::least_accepted(percent) } else { Some(Severity::Debug) };
        let mut block = std::mem::take(&mut writing.block);
        block.clear();
        let (parts, tail, first) = (&mut writing.parts, writing.log.tail, &self.settings.shed_first);
        let mut whole = 0;
        let kept = format::write_block(&mut block, frames, |frame, at| {
            let severity = Severity::of(frames.bytes_of(frame));
            let class = if sheds && frame.part < 2 { first.class(frames.bytes_of(frame), percent) } else { None };
            let judged = class.is_some() || least.is_none_or(|least| severity > least);
            let (refused, began) = judge(parts, frames.peer, frame, judged, tail + at);
            if refused && frame.last {
                shed.add(severity, class);
            }
            whole += u64::from(!refused && frame.last);
            (!refused).then_some(began)
        });
        writing.block = block;
        let outcome = if kept == 0 { Ok(writing.log.tail) } else { self.write(writing) };
        match outcome {
            Ok(end) => {
                // Counted before the reader may see it.
                self.settlement.arrived(self.stream, Count { events: whole, bytes: end - tail });
                self.tail.store(end, Ordering::SeqCst);
                drop(guard);
                self.count_shed(frames.transport, &shed);
                self.came.ring();
                if self.resting.swap(false, Ordering::SeqCst) {
                    self.asked.ring();
                }
                Taken::Accepted { end }
            }
            Err(full) => {
                self.fills(writing, full);
                let end = writing.log.tail;
                if !sheds {
                    return Taken::Full;
                }
                // What follows of a message whose beginning is refused is refused as well.
                if let Some(part) = writing.parts.get_mut(frames.peer) {
                    part.0 = true;
                }
                drop(guard);
                self.count_shed(frames.transport, &self.all_shed(frames));
                Taken::Accepted { end }
            }
        }
    }

    fn wait_for_room(&self, patience: Duration) -> bool {
        let guard = self.lock();
        drop(self.roomy.wait_timeout_while(guard, patience, |_| self.is_full.load(Ordering::Acquire)));
        self.has_room()
    }

    fn has_room(&self) -> bool {
        !self.is_full.load(Ordering::Acquire)
    }

    fn ask_for_safety(&self) {
        if !self.wanted.swap(true, Ordering::AcqRel) {
            self.asked.ring();
        }
    }

    fn is_safe(&self, end: u64) -> bool {
        self.safe.load(Ordering::Acquire) >= end
    }

    fn missed(&self, reason: Missed, amount: Amount, place: &Arc<str>, words: &str) {
        let at = At { place: &gaps::Place::Named(Arc::clone(place)), stream: None, from: None, words };
        self.settlement.missed(&self.settings.source, reason, amount, &at);
    }
}

/// Whether a frame is refused, and where its message began: the first part of a message decides for all of them.
fn judge(parts: &mut HashMap<Box<str>, (bool, u64)>, peer: &str, frame: &Frame, judged: bool, at: u64) -> (bool, u64) {
    if frame.part == 0 {
        return (judged, at);
    }
    let (refused, began) = if frame.part == 1 { (judged, at) } else { parts.get(peer).copied().unwrap_or((false, at)) };
    if frame.last {
        parts.remove(peer);
    } else if frame.part == 1 {
        if parts.len() >= PARTS_KEPT {
            parts.clear();
        }
        parts.insert(peer.into(), (refused, began));
    }
    (refused, began)
}
