//! Times in syslog messages: RFC 3339, and what stands in its place. Own code, since a general parser of dates takes as long as all the rest. Pure.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

use super::Context;

/// A time with the precision that it was given in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time {
    /// Nanoseconds since 1970, UTC.
    pub ns: i64,
    /// Digits of the second's fraction, 0 to 9.
    pub digits: u8,
}

/// A date and a time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Civil {
    pub(super) year: i16,
    pub(super) month: i8,
    pub(super) day: i8,
    pub(super) clock: Clock,
}

/// A time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Clock {
    pub(super) hour: i8,
    pub(super) minute: i8,
    pub(super) second: i8,
    pub(super) nanos: i32,
    pub(super) digits: u8,
}

const MONTHS: [&[u8; 3]; 12] = [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// A number of exactly these digits.
fn number(digits: &[u8]) -> Option<i32> {
    digits.iter().try_fold(0_i32, |value, digit| digit.is_ascii_digit().then(|| value * 10 + i32::from(digit - b'0')))
}

fn within(value: i32, least: i32, most: i32) -> Option<i8> {
    (least..=most).contains(&value).then(|| i8::try_from(value).ok())?
}

/// `hh:mm:ss` with a fraction behind `.` or `,`; and what follows.
pub(super) fn clock(bytes: &[u8]) -> Option<(Clock, &[u8])> {
    let (head, mut rest) = bytes.split_at_checked(8)?;
    let [h1, h2, b':', m1, m2, b':', s1, s2] = head else { return None };
    let hour = within(number(&[*h1, *h2])?, 0, 23)?;
    let minute = within(number(&[*m1, *m2])?, 0, 59)?;
    // A leap second is shown as the last one before it.
    let second = within(number(&[*s1, *s2])?, 0, 60)?.min(59);
    let (mut nanos, mut digits) = (0_i32, 0_u8);
    if let [b'.' | b',', fraction @ ..] = rest {
        let len = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if len > 0 {
            digits = u8::try_from(len.min(9)).unwrap_or(9);
            nanos = number(fraction.get(..usize::from(digits))?)? * 10_i32.pow(9 - u32::from(digits));
            rest = fraction.get(len..)?;
        }
    }
    Some((Clock { hour, minute, second, nanos, digits }, rest))
}

/// Year, month and day.
pub(super) type Day = (i16, i8, i8);

/// `yyyy-mm-dd`, and what follows.
pub(super) fn date(bytes: &[u8]) -> Option<(Day, &[u8])> {
    let (head, rest) = bytes.split_at_checked(10)?;
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = head else { return None };
    let year = i16::try_from(number(&[*y1, *y2, *y3, *y4])?).ok()?;
    Some(((year, within(number(&[*m1, *m2])?, 1, 12)?, within(number(&[*d1, *d2])?, 1, 31)?), rest))
}

/// A month by its English abbreviation, and what follows.
pub(super) fn month(bytes: &[u8]) -> Option<(i8, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<3>()?;
    let at = MONTHS.iter().position(|name| head.eq_ignore_ascii_case(*name))?;
    Some((i8::try_from(at + 1).ok()?, rest))
}

/// `Z`, `+hh:mm`, `+hhmm` or `+hh` as seconds east of UTC, and what follows.
pub(super) fn offset(bytes: &[u8]) -> Option<(i32, &[u8])> {
    let (sign, rest) = match bytes {
        [b'Z' | b'z', rest @ ..] => return Some((0, rest)),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let (hours, rest) = rest.split_at_checked(2)?;
    let hours = number(hours).filter(|hours| *hours <= 23)?;
    let digits = rest.strip_prefix(b":").unwrap_or(rest);
    let minutes = digits.get(..2).and_then(number).filter(|minutes| *minutes <= 59);
    let rest = if minutes.is_some() { digits.get(2..)? } else { rest };
    Some((sign * (hours * 3600 + minutes.unwrap_or(0) * 60), rest))
}

/// A time of RFC 3339, `T` or a space in it, and what follows; without an offset it is of the context's zone.
pub(super) fn rfc3339<'a>(bytes: &'a [u8], context: &Context) -> Option<(Time, &'a [u8])> {
    let ((year, month, day), rest) = date(bytes)?;
    let [b'T' | b't' | b' ', rest @ ..] = rest else { return None };
    let (clock, rest) = clock(rest)?;
    let civil = Civil { year, month, day, clock };
    // Some leave a space in front of the offset.
    let apart = || rest.strip_prefix(b" ").filter(|rest| matches!(rest, [b'+' | b'-', ..])).and_then(offset);
    match offset(rest).or_else(apart) {
        Some((offset, rest)) => Some((at_offset(&civil, offset)?, rest)),
        None => Some((in_zone(&civil, &context.zone)?, rest)),
    }
}

/// Seconds since 1970 with a fraction, as some appliances send them; at least ten digits. And what follows.
pub(super) fn epoch(bytes: &[u8]) -> Option<(Time, &[u8])> {
    let whole = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if whole != 10 {
        return None;
    }
    let (seconds, rest) = bytes.split_at_checked(whole)?;
    // Ten digits reach beyond what nanoseconds can count, which end in 2262.
    let ns = seconds.iter().fold(0_i64, |value, digit| value * 10 + i64::from(digit - b'0')).checked_mul(1_000_000_000)?;
    let Some(fraction) = rest.strip_prefix(b".") else { return Some((Time { ns, digits: 0 }, rest)) };
    let len = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let digits = u8::try_from(len.min(9)).unwrap_or(9);
    let nanos = number(fraction.get(..usize::from(digits))?)? * 10_i32.pow(9 - u32::from(digits));
    Some((Time { ns: ns.checked_add(i64::from(nanos))?, digits }, fraction.get(len..)?))
}

/// The time of a civil time so many seconds east of UTC. The date is that of the proleptic Gregorian calendar.
pub(super) fn at_offset(civil: &Civil, offset: i32) -> Option<Time> {
    if i32::from(civil.day) > days_of(civil.year, civil.month) {
        return None;
    }
    // Days since 1970, by the rule that a year begins in March.
    let (month, day) = (i64::from(civil.month), i64::from(civil.day));
    let year = i64::from(civil.year) - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let clock = &civil.clock;
    let seconds = days * 86_400 + i64::from(clock.hour) * 3600 + i64::from(clock.minute) * 60 + i64::from(clock.second) - i64::from(offset);
    let ns = seconds.checked_mul(1_000_000_000)?.checked_add(i64::from(clock.nanos))?;
    Some(Time { ns, digits: clock.digits })
}

fn days_of(year: i16, month: i8) -> i32 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The time of a civil time in a zone; where it is there twice, or not at all, as RFC 5545 has it.
pub(super) fn in_zone(civil: &Civil, zone: &TimeZone) -> Option<Time> {
    if *zone == TimeZone::UTC {
        return at_offset(civil, 0);
    }
    let clock = &civil.clock;
    let there = DateTime::new(civil.year, civil.month, civil.day, clock.hour, clock.minute, clock.second, clock.nanos).ok()?;
    let ns = zone.to_timestamp(there).ok()?.as_nanosecond();
    Some(Time { ns: i64::try_from(ns).ok()?, digits: clock.digits })
}

/// The same without a year: that of the year in which it is nearest to the time of receipt.
pub(super) fn nearest(month: i8, day: i8, clock: Clock, context: &Context) -> Option<Time> {
    let received = Timestamp::from_nanosecond(i128::from(context.received_ns)).ok()?;
    let this = context.zone.to_datetime(received).year();
    let candidates = [this - 1, this, this + 1].into_iter().filter(|year| Date::new(*year, month, day).is_ok());
    let times = candidates.filter_map(|year| in_zone(&Civil { year, month, day, clock }, &context.zone));
    times.min_by_key(|time| time.ns.abs_diff(context.received_ns))
}
