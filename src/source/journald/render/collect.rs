//! The fields of an entry, collected: those that it shares with others as one group where they were met together before, else one by one. Only what
//! is new is decoded.

use super::names::{self, Role};
use super::{JournalFile, ReadError, Rendered, Renderer, Windows};
use crate::encode::Format;
use crate::source::journald::cache::{Fragment, Group, Text};

/// Set in the bits of the field that says that journald suppressed messages.
const SUPPRESSED: u64 = 1 << 63;
/// That field.
const SUPPRESSED_ID: (&[u8], &[u8]) = (b"MESSAGE_ID", b"a596d6fe7bfa4994828e72309e95d61e");
/// What all fields of an entry may take once they are written, bytes, or four messages; what is beyond is cut.
const MOST: usize = 32 << 20;

/// Fields that were written within so many bytes before an entry are not taken into groups.
const YOUNG: u64 = 256 << 10;

/// What of the fields so far a group has.
struct Sum {
    bits: u64,
    bytes: u64,
    /// What they take once they are written.
    size: usize,
}

impl Renderer {
    /// Collects the fields of an entry, and decides whether it is wanted.
    pub(super) fn fields(
        &mut self,
        file: &JournalFile,
        windows: &mut Windows,
        items: &[u64],
        done: &mut Rendered,
    ) -> Result<(), ReadError> {
        self.begin_entry();
        // journald keeps them in the order of their offsets; were they in another, less would be shared. What is young, as the text of a second, is
        // shared by a few entries alone, and would make ever new groups.
        let old = file.shared_below().saturating_sub(YOUNG);
        let (together, single) = items.split_at(items.partition_point(|item| *item < old));
        if let Some(group) = self.cache.group(file.key(), together).copied() {
            if self.with_group(file, windows, (&group, single), done)? {
                return Ok(());
            }
            *done = Rendered::default();
            self.begin_entry();
        }
        self.one_by_one(file, windows, (together, single), done)
    }

    /// The usual entry: a group, and a few fields of its own. False: it has a field twice.
    fn with_group(
        &mut self,
        file: &JournalFile,
        windows: &mut Windows,
        (group, single): (&Group, &[u64]),
        done: &mut Rendered,
    ) -> Result<bool, ReadError> {
        if !self.filter.takes_all() {
            let mut bits = group.bits;
            for item in single {
                bits |= self.bits(file, windows, *item, done)?;
            }
            *done = Rendered::default();
            if !self.filter.wants(bits) {
                return Ok(true);
            }
        }
        (self.tops, self.named) = (group.tops, Some(group.named));
        if group.others.len > 0 {
            self.others.push(group.others);
        }
        done.wanted = true;
        let mut sum = Sum { bits: group.bits, bytes: group.bytes, size: 0 };
        for item in single {
            let Some(fragment) = self.fragment(file, windows, *item, done)? else { continue };
            self.take(&fragment, &mut sum, done);
            if self.repeated || self.cache.has_name(group, fragment.key) {
                return Ok(false);
            }
            if matches!(fragment.role, Role::Unit | Role::Identifier | Role::Priority | Role::Pid | Role::Uid) {
                self.named = None;
            }
        }
        (done.bytes, done.suppressed) = (sum.bytes, sum.bits & SUPPRESSED != 0);
        Ok(true)
    }

    fn one_by_one(
        &mut self,
        file: &JournalFile,
        windows: &mut Windows,
        (together, single): (&[u64], &[u64]),
        done: &mut Rendered,
    ) -> Result<(), ReadError> {
        let mut wanted = true;
        if !self.filter.takes_all() {
            let mut bits = 0;
            for item in together.iter().chain(single) {
                bits |= self.bits(file, windows, *item, done)?;
            }
            (done.damaged, done.cut) = (0, 0);
            wanted = self.filter.wants(bits);
        }
        let learn = self.cache.is_met_again(file.key(), together);
        if !wanted && !learn {
            return Ok(());
        }
        let mut sum = Sum { bits: 0, bytes: 0, size: 0 };
        for item in together {
            let Some(fragment) = self.fragment(file, windows, *item, done)? else { continue };
            self.keys.push(fragment.key);
            self.take(&fragment, &mut sum, done);
        }
        if learn && !self.repeated && (done.damaged, done.cut) == (0, 0) {
            self.learn(file.key(), together, &sum);
        }
        if !wanted {
            *done = Rendered::default();
            return Ok(());
        }
        done.wanted = true;
        for item in single {
            if let Some(fragment) = self.fragment(file, windows, *item, done)? {
                self.take(&fragment, &mut sum, done);
            }
        }
        (done.bytes, done.suppressed) = (sum.bytes, sum.bits & SUPPRESSED != 0);
        Ok(())
    }

    /// Keeps what was collected so far, all of it shared, as a group.
    fn learn(&mut self, file: u64, items: &[u64], sum: &Sum) {
        if self.tops.iter().any(|top| top.len > 0 && !top.kept) {
            return;
        }
        let mut named = Vec::new();
        if self.format == Format::Json {
            self.named_to(&mut named);
        }
        let others = self.others.iter().map(|text| self.text(*text)).collect::<Vec<_>>().concat();
        let (Some(named), Some(others)) = (self.cache.keep(&named), self.cache.keep(&others)) else { return };
        let group = Group { bits: sum.bits, bytes: sum.bytes, tops: self.tops, named, others, ..Group::default() };
        self.cache.learn(file, items, &self.keys, group);
    }

    /// Counts a field in, and puts it where it belongs in the message.
    fn take(&mut self, fragment: &Fragment, sum: &mut Sum, done: &mut Rendered) {
        let Fragment { bits, text, len, key, role } = *fragment;
        sum.bytes += u64::from(len) + 1;
        sum.bits |= bits;
        if role == Role::Left {
            return;
        }
        sum.size += text.len as usize;
        if sum.size > MOST.max(self.max_event.saturating_mul(4)) {
            done.cut += u64::from(len);
            sum.size -= text.len as usize;
            if !text.kept {
                self.fresh.truncate(text.start as usize);
            }
            return;
        }
        let again = self.seen.get_mut(usize::from(key)).is_some_and(|last| std::mem::replace(last, self.number) == self.number);
        self.repeated |= again;
        match self.tops.get_mut(role as usize) {
            None => self.others.push(text),
            Some(top) if !again => *top = text,
            // What a field has twice has no place for the second beside the first.
            Some(_) => {
                let value = self.text(text).to_vec();
                let other = names::as_other(self.names.name(key), role, &value, &mut self.fresh);
                self.others.push(other);
            }
        }
    }

    fn begin_entry(&mut self) {
        self.number += 1;
        self.repeated = false;
        // What one large entry took is given back.
        for buffer in [&mut self.fresh, &mut self.rest] {
            if buffer.capacity() > 1 << 20 {
                *buffer = Vec::new();
            }
            buffer.clear();
        }
        (self.tops, self.named) = Default::default();
        self.others.clear();
        self.keys.clear();
        self.names.tidy(&mut self.cache, &mut self.seen);
    }

    /// A field; from the cache, if others have it too.
    fn fragment(
        &mut self,
        file: &JournalFile,
        windows: &mut Windows,
        item: u64,
        done: &mut Rendered,
    ) -> Result<Option<Fragment>, ReadError> {
        let shared = item < file.shared_below();
        let kept = if shared { self.cache.get(file.key(), item) } else { None };
        if kept.is_some() { Ok(kept) } else { self.decode(file, windows, item, shared, done) }
    }

    /// What a field says of the filter; kept where others share it.
    fn bits(&mut self, file: &JournalFile, windows: &mut Windows, item: u64, done: &mut Rendered) -> Result<u64, ReadError> {
        if item < file.shared_below() {
            let fragment = self.fragment(file, windows, item, done)?;
            self.fresh.clear();
            return Ok(fragment.map_or(0, |fragment| fragment.bits));
        }
        let (packing, bytes) = match file.field(windows, item) {
            Ok(field) => field,
            Err(ReadError::Damage(_)) => return Ok(0),
            Err(error) => return Err(error),
        };
        let Ok((payload, _)) = self.unpacker.unpack(packing, bytes) else { return Ok(0) };
        Ok(names::split(payload).map_or(0, |(name, value)| self.filter.bits(name, value)))
    }

    /// Reads a field, and keeps it where others share it; `None` if it is damaged.
    fn decode(
        &mut self,
        file: &JournalFile,
        windows: &mut Windows,
        item: u64,
        shared: bool,
        done: &mut Rendered,
    ) -> Result<Option<Fragment>, ReadError> {
        let field = file.field(windows, item).and_then(|(packing, bytes)| Ok(self.unpacker.unpack(packing, bytes)?));
        let (payload, len) = match field {
            Ok(field) => field,
            Err(ReadError::Damage(_)) => {
                done.damaged += 1;
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let Some((name, value)) = names::split(payload) else {
            done.damaged += 1;
            return Ok(None);
        };
        if len > payload.len() as u64 {
            done.cut += 1;
        }
        let key = self.names.number(name, &mut self.seen);
        let bits = self.filter.bits(name, value) | if (name, value) == SUPPRESSED_ID { SUPPRESSED } else { 0 };
        let begin = self.fresh.len();
        let (role, value) = names::text(self.names.role(key), self.format, name, value, &mut self.fresh);
        let narrow = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
        let text = Text { start: narrow(begin), len: narrow(self.fresh.len() - begin), value, kept: false };
        let fragment = Fragment { bits, text, len: u32::try_from(len).unwrap_or(u32::MAX), key, role };
        if shared && let Some(kept) = self.cache.put(file.key(), item, &fragment, self.fresh.get(begin..).unwrap_or_default()) {
            self.fresh.truncate(begin);
            return Ok(Some(kept));
        }
        Ok(Some(fragment))
    }
}
