//! The rows of the gaps in the state database as bytes. Pure; the one file that knows their layout. Little-endian throughout; the key of a row is
//! the gap's number, and 0 for the counters.
//!
//! ```text
//! gap row, version 1                                   counters row, version 1
//!   u8   version (1)                                     u8   version (1)
//!   u64  events, u64 bytes, u64 unknown incidents        u64  number of the next gap
//!   u8   0 exact, 1 at least, 2 at most                  u64  number up to which gaps are closed
//!   i64  first, i64 last, ns since 1970                  u64  gaps sent
//!   u8   stream known (0, 1), u64 stream
//!   u8   from known (0, 1), u64 from                   str: u32 length, bytes
//!   u8   to known (0, 1), u64 to
//!   u8   place: 0 path, 1 topic, 2 several, 3 named; str (empty for several)
//!   str  source, str type, str reason, str words
//! ```

use super::outbox::Counters;
use super::{Amount, Bound, Gap, Place};
use crate::batch::StreamId;
use crate::snapshot::rows::{Reader, RowError, Writer};

const VERSION: u8 = 1;

impl Gap {
    /// The row as bytes; the number is its key.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut w = Writer(Vec::with_capacity(160));
        let amount = &self.amount;
        w.put(&[VERSION]).u64(amount.events).u64(amount.bytes).u64(amount.unknown).put(&[match amount.bound {
            Bound::Exact => 0,
            Bound::AtLeast => 1,
            Bound::AtMost => 2,
        }]);
        w.put(&self.first_ns.to_le_bytes()).put(&self.last_ns.to_le_bytes());
        for known in [self.stream.map(|stream| stream.0), self.from, self.to] {
            w.put(&[u8::from(known.is_some())]).u64(known.unwrap_or(0));
        }
        match &self.place {
            Place::Path(path) => w.put(&[0]).str(path),
            Place::Topic(topic) => w.put(&[1]).str(topic.as_bytes()),
            Place::Several => w.put(&[2]).str(b""),
            Place::Named(name) => w.put(&[3]).str(name.as_bytes()),
        };
        for text in [&self.source, &self.of, &self.reason, &self.words] {
            w.str(text.as_bytes());
        }
        w.0
    }

    /// The gap of this number from its row.
    ///
    /// # Errors
    /// Damage, or a newer version.
    pub fn from_bytes(number: u64, bytes: &[u8]) -> Result<Gap, RowError> {
        let mut r = Reader(bytes);
        version(&mut r)?;
        let amount = Amount { events: r.u64()?, bytes: r.u64()?, unknown: r.u64()?, bound: bound(&mut r)? };
        let (first_ns, last_ns) = (r.i64()?, r.i64()?);
        let (stream, from, to) = (known(&mut r)?.map(StreamId), known(&mut r)?, known(&mut r)?);
        let place = match r.u8()? {
            0 => Place::Path(r.bytes()?.into()),
            1 => Place::Topic(r.str()?),
            2 if r.bytes()?.is_empty() => Place::Several,
            3 => Place::Named(r.str()?),
            _ => return Err(RowError::Damaged),
        };
        let (source, of, reason, words) = (r.str()?, r.str()?, r.str()?, r.str()?);
        r.end()?;
        Ok(Gap { number, source, of, reason, place, stream, from, to, amount, first_ns, last_ns, words })
    }
}

impl Counters {
    /// The row as bytes.
    #[must_use]
    pub fn to_bytes(self) -> Vec<u8> {
        let mut w = Writer(vec![VERSION]);
        w.u64(self.next).u64(self.closed).u64(self.sent);
        w.0
    }

    /// The counters from their row.
    ///
    /// # Errors
    /// Damage, or a newer version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Counters, RowError> {
        let mut r = Reader(bytes);
        version(&mut r)?;
        let counters = Counters { next: r.u64()?, closed: r.u64()?, sent: r.u64()? };
        r.end()?;
        Ok(counters)
    }
}

/// The version of these rows, which is not that of the other ones.
fn version(r: &mut Reader<'_>) -> Result<(), RowError> {
    match r.u8()? {
        VERSION => Ok(()),
        newer if newer > VERSION => Err(RowError::Version(newer)),
        _ => Err(RowError::Damaged),
    }
}

fn bound(r: &mut Reader<'_>) -> Result<Bound, RowError> {
    match r.u8()? {
        0 => Ok(Bound::Exact),
        1 => Ok(Bound::AtLeast),
        2 => Ok(Bound::AtMost),
        _ => Err(RowError::Damaged),
    }
}

fn flag(r: &mut Reader<'_>) -> Result<bool, RowError> {
    match r.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(RowError::Damaged),
    }
}

fn known(r: &mut Reader<'_>) -> Result<Option<u64>, RowError> {
    let known = flag(r)?;
    let value = r.u64()?;
    Ok(known.then_some(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn gap() -> impl Strategy<Value = Gap> {
        let place = prop_oneof![
            any::<Vec<u8>>().prop_map(|path| Place::Path(path.into())),
            any::<String>().prop_map(|topic| Place::Topic(topic.into())),
            Just(Place::Several),
        ];
        let words = any::<[String; 4]>().prop_map(|words| words.map(std::sync::Arc::from));
        let bound = prop_oneof![Just(Bound::Exact), Just(Bound::AtLeast), Just(Bound::AtMost)];
        let figures = (any::<[u64; 3]>(), bound, any::<(i64, i64)>());
        (any::<u64>(), place, words, figures, any::<[Option<u64>; 3]>()).prop_map(|(number, place, words, figures, [stream, from, to])| {
            let ([events, bytes, unknown], bound, (first_ns, last_ns)) = figures;
            let ([source, of, reason, words], stream) = (words, stream.map(StreamId));
            let amount = Amount { events, bytes, unknown, bound };
            Gap { number, source, of, reason, place, stream, from, to, amount, first_ns, last_ns, words }
        })
    }

    proptest! {
        #[test]
        fn a_gap_comes_back_as_it_was_and_no_cut_or_longer_one_does(gap in gap(), cut in any::<prop::sample::Index>()) {
            let bytes = gap.to_bytes();
            prop_assert_eq!(Gap::from_bytes(gap.number, &bytes), Ok(gap.clone()));
            prop_assert!(Gap::from_bytes(gap.number, &bytes[..cut.index(bytes.len())]).is_err());
            let longer = [bytes.as_slice(), &[0]].concat();
            prop_assert_eq!(Gap::from_bytes(gap.number, &longer), Err(RowError::Damaged));
        }

        #[test]
        fn any_bytes_at_all_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Gap::from_bytes(1, &[&[VERSION], bytes.as_slice()].concat());
            let _ = Gap::from_bytes(1, &bytes);
            let _ = Counters::from_bytes(&bytes);
        }

        #[test]
        fn counters_come_back_as_they_were(next: u64, closed: u64, sent: u64) {
            let counters = Counters { next, closed, sent };
            prop_assert_eq!(Counters::from_bytes(&counters.to_bytes()), Ok(counters));
        }
    }

    #[test]
    fn a_newer_row_is_refused_as_newer() {
        assert_eq!(Gap::from_bytes(1, &[2, 0]), Err(RowError::Version(2)));
        assert_eq!(Counters::from_bytes(&[3]), Err(RowError::Version(3)));
    }
}
