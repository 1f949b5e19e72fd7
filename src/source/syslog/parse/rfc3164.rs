//! RFC 3164 as it really comes: the time in a dozen forms, with a host or without, a tag or none. What can't be placed stays in the message. Pure.

use super::time::{Civil, Time};
use super::{Context, Parsed, time};

/// The longest tag that is taken for one; RFC 3164 has 32, programs have longer ones.
const TAG: usize = 64;
/// The longest host name (RFC 1035).
const HOST: usize = 255;

/// Takes apart what follows the priority.
pub(super) fn parse<'a>(rest: &'a [u8], context: &Context) -> Parsed<'a> {
    if let Some(parsed) = pairs(rest, context) {
        return parsed;
    }
    let begin = trim(rest);
    let (begin, host_before) = counter(begin);
    let Some((time, behind)) = stamp(marks(begin), context) else {
        // No time: a program that wrote to the socket by itself, or a relay that leaves it out.
        let (app, procid, message) = tag(rest);
        return Parsed { app, procid, message, ..Parsed::default() };
    };
    let mut parsed = Parsed { time: Some(time), hostname: host_before, ..Parsed::default() };
    // Cisco ends the time with a colon, and has no host behind it.
    let (colon, behind) = match trim(behind) {
        [b':', behind @ ..] => (true, trim(behind)),
        behind => (false, behind),
    };
    let (host, mut behind) = if colon { (None, behind) } else { host(behind) };
    parsed.hostname = parsed.hostname.or(host);
    // A switch that was told to send a header all the same sends its own one behind it.
    let (inner, _) = counter(behind);
    if inner.len() < behind.len()
        && let Some((time, rest)) = stamp(marks(inner), context)
    {
        parsed.time = Some(time);
        behind = trim(trim(rest).strip_prefix(b":").unwrap_or(rest));
    }
    (parsed.app, parsed.procid, parsed.message) = tag(behind);
    parsed
}

fn trim(bytes: &[u8]) -> &[u8] {
    let spaces = bytes.iter().take_while(|byte| **byte == b' ').count();
    bytes.get(spaces..).unwrap_or_default()
}

/// Cisco's counter of messages, `123: ` or `: `, with the host's name before or behind it where it was asked to send that. Only if a time follows.
fn counter(bytes: &[u8]) -> (&[u8], Option<&[u8]>) {
    let mut rest = bytes;
    let mut host = None;
    for _ in 0..3 {
        let end = rest.iter().position(|byte| *byte == b':').filter(|end| *end <= HOST);
        let Some((word, behind)) = end.and_then(|end| Some((rest.get(..end)?, rest.get(end + 1..)?))) else { break };
        let word = word.strip_suffix(b" ").unwrap_or(word);
        // Wireless controllers name the task, with a star.
        let word = word.strip_prefix(b"*").unwrap_or(word);
        let is_count = word.iter().all(u8::is_ascii_digit);
        let ends = behind.starts_with(b" ") || looks_like_time(behind);
        if !ends || !(is_count || is_host(word)) || looks_like_time(word) {
            break;
        }
        if !is_count {
            host.get_or_insert(word);
        }
        rest = trim(behind);
    }
    let begin = marks(rest);
    // Without a time behind it, it is none.
    if looks_like_time(begin) { (rest, host) } else { (bytes, None) }
}

/// `*` and `.` in front of Cisco's time say that the clock is not set, or has lost its source.
fn marks(bytes: &[u8]) -> &[u8] {
    match bytes {
        [b'*' | b'.', rest @ ..] => rest,
        _ => bytes,
    }
}

fn looks_like_time(bytes: &[u8]) -> bool {
    let year = bytes
        .get(..5)
        .is_some_and(|head| matches!(head, [b'1' | b'2', b, c, d, b' ' | b'-'] if [b, c, d].iter().all(|byte| byte.is_ascii_digit())));
    let month = time::month(bytes).is_some_and(|(_, rest)| rest.starts_with(b" "));
    year || month
}

/// The time in one of its forms, and what follows.
fn stamp<'a>(bytes: &'a [u8], context: &Context) -> Option<(Time, &'a [u8])> {
    let found = named_month(bytes, context)
        .or_else(|| year_first(bytes, context))
        .or_else(|| time::rfc3339(bytes, context))
        .or_else(|| with_colons(bytes, context));
    let (time, rest) = found.or_else(|| time::epoch(bytes))?;
    // A time is a word of its own.
    matches!(rest, [] | [b' ' | b':' | b',', ..]).then(|| (time, rest.strip_prefix(b",").unwrap_or(rest)))
}

/// `yyyy:mm:dd-hh:mm:ss`, as Sophos UTM has it.
fn with_colons<'a>(bytes: &'a [u8], context: &Context) -> Option<(Time, &'a [u8])> {
    let [y1, y2, y3, y4, b':', m1, m2, b':', d1, d2] = bytes.first_chunk::<10>()? else { return None };
    let ((year, month, day), _) = time::date(&[*y1, *y2, *y3, *y4, b'-', *m1, *m2, b'-', *d1, *d2])?;
    let (clock, rest) = time::clock(bytes.get(10..)?.strip_prefix(b"-")?)?;
    Some((time::in_zone(&Civil { year, month, day, clock }, &context.zone)?, rest))
}

/// `Mmm dd hh:mm:ss`, a year before or behind the clock, a zone behind it; the day with one digit or two.
fn named_month<'a>(bytes: &'a [u8], context: &Context) -> Option<(Time, &'a [u8])> {
    let (month, rest) = time::month(bytes)?;
    let (day, rest) = day(rest.strip_prefix(b" ")?)?;
    let mut rest = rest.strip_prefix(b" ")?;
    let mut year = None;
    if let Some((found, behind)) = four_digits(rest)
        && let Some(behind) = behind.strip_prefix(b" ")
    {
        (year, rest) = (Some(found), behind);
    }
    let (clock, mut rest) = time::clock(rest)?;
    if year.is_none()
        && let Some((found, behind)) = rest.strip_prefix(b" ").and_then(four_digits)
        && matches!(behind, [b' ', ..] | [b':'] | [b':', b' ', ..])
    {
        (year, rest) = (Some(found), behind);
    }
    let (offset, rest) = zone(rest);
    let time = match (year, offset) {
        (Some(year), Some(offset)) => time::at_offset(&Civil { year, month, day, clock }, offset),
        (Some(year), None) => time::in_zone(&Civil { year, month, day, clock }, &context.zone),
        (None, Some(offset)) => {
            let zone = jiff::tz::Offset::from_seconds(offset).map(jiff::tz::TimeZone::fixed).ok()?;
            time::nearest(month, day, clock, &Context { zone, ..context.clone() })
        }
        (None, None) => time::nearest(month, day, clock, context),
    };
    Some((time?, rest))
}

/// `yyyy Mmm dd hh:mm:ss`, as NX-OS has it.
fn year_first<'a>(bytes: &'a [u8], context: &Context) -> Option<(Time, &'a [u8])> {
    let (year, rest) = four_digits(bytes)?;
    let (month, rest) = time::month(rest.strip_prefix(b" ")?)?;
    let (day, rest) = day(rest.strip_prefix(b" ")?)?;
    let (clock, rest) = time::clock(rest.strip_prefix(b" ")?)?;
    let civil = Civil { year, month, day, clock };
    let (offset, rest) = zone(rest);
    Some((offset.map_or_else(|| time::in_zone(&civil, &context.zone), |offset| time::at_offset(&civil, offset))?, rest))
}

fn day(bytes: &[u8]) -> Option<(i8, &[u8])> {
    let bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
    let len = bytes.iter().take(2).take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = bytes.split_at_checked(len)?;
    let day = digits.iter().fold(0_i8, |value, digit| value * 10 + i8::try_from(digit - b'0').unwrap_or(0));
    (1..=31).contains(&day).then_some((day, rest))
}

fn four_digits(bytes: &[u8]) -> Option<(i16, &[u8])> {
    let (digits, rest) = bytes.split_first_chunk::<4>()?;
    let year = digits.iter().try_fold(0_i16, |value, digit| digit.is_ascii_digit().then(|| value * 10 + i16::from(digit - b'0')))?;
    (1970..=2200).contains(&year).then_some((year, rest))
}

/// A zone behind the clock: an offset, or a name that means one offset; other names are passed over as they may mean several.
fn zone(bytes: &[u8]) -> (Option<i32>, &[u8]) {
    if let Some((offset, rest)) = time::offset(bytes).or_else(|| bytes.strip_prefix(b" ").and_then(time::offset))
        && matches!(rest, [] | [b' ' | b':', ..])
    {
        return (Some(offset), rest);
    }
    let Some(word) = bytes.strip_prefix(b" ") else { return (None, bytes) };
    let len = word.iter().take_while(|byte| byte.is_ascii_uppercase()).count();
    let Some((name, rest)) = word.split_at_checked(len).filter(|(_, rest)| matches!(rest, [b':' | b' ', ..])) else {
        return (None, bytes);
    };
    let hours = match name {
        b"UTC" | b"GMT" | b"WET" => 0,
        b"CET" => 1,
        b"CEST" | b"EET" => 2,
        b"EEST" | b"MSK" => 3,
        b"EDT" => -4,
        b"EST" | b"CDT" => -5,
        b"MDT" => -6,
        b"PDT" => -7,
        b"PST" => -8,
        b"JST" => 9,
        // A host may be named in capitals: only what stands in front of a colon is a zone for certain.
        _ if rest.starts_with(b":") && (3..=5).contains(&len) => return (None, rest),
        _ => return (None, bytes),
    };
    (Some(hours * 3600), rest)
}

fn is_host(word: &[u8]) -> bool {
    let legal = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'/' | b'%');
    !word.is_empty() && word.len() <= HOST && word.iter().all(legal) && word.iter().any(u8::is_ascii_alphanumeric)
}

/// The host's name and what follows; none where the word is a tag already.
fn host(bytes: &[u8]) -> (Option<&[u8]>, &[u8]) {
    let bytes = trim(bytes);
    // AIX says so in words.
    let (forwarded, bytes) = bytes.strip_prefix(b"Message forwarded from ").map_or((false, bytes), |bytes| (true, bytes));
    let Some((word, rest)) = super::word(bytes) else { return (None, bytes) };
    // `host :` is how some firewalls say that no tag follows.
    let bare = word.strip_suffix(b":").unwrap_or(word);
    let is_tag = word.ends_with(b":") && !bare.contains(&b':') || word.contains(&b'[') || word.starts_with(b"%");
    if forwarded && is_host(bare) {
        return (Some(bare), trim(rest));
    }
    if is_tag || !is_host(word) {
        return (None, bytes);
    }
    let rest = trim(rest);
    let rest = if rest.starts_with(b": ") { rest.get(2..).unwrap_or_default() } else { rest };
    (Some(word), rest)
}

/// `app[pid]: `, `app: `, `%FACILITY-5-WORD: `: the program, its process, and the message.
fn tag(bytes: &[u8]) -> (Option<&[u8]>, Option<&[u8]>, &[u8]) {
    let rest = trim(bytes);
    let len = rest.iter().take(TAG + 1).take_while(|byte| byte.is_ascii_graphic() && !matches!(byte, b':' | b'[')).count();
    let Some((app, behind)) = rest.split_at_checked(len).filter(|(app, _)| !app.is_empty() && app.len() <= TAG) else {
        return (None, None, bytes);
    };
    let (procid, behind) = match behind {
        [b'[', inside @ ..] => match memchr::memchr(b']', inside).filter(|end| *end <= TAG) {
            Some(end) => (inside.get(..end).filter(|procid| !procid.is_empty()), inside.get(end + 1..).unwrap_or_default()),
            None => return (None, None, bytes),
        },
        _ => (None, behind),
    };
    let (message, named) = match behind {
        // Without a process, a space belongs behind the colon: `CEF:0|…` is a message.
        [b':', message @ ..] => (message, procid.is_some() || matches!(message, [] | [b' ', ..])),
        message => (message, procid.is_some()),
    };
    // A pair of key and value is no program.
    let odd = app.contains(&b'=') || app.contains(&b'"');
    if !named || odd {
        return (None, None, bytes);
    }
    (Some(app), procid, message.strip_prefix(b" ").unwrap_or(message))
}

/// Fortinet and others: pairs of key and value from the first byte on, the time in `date=` and `time=`. The message is all of it.
fn pairs<'a>(rest: &'a [u8], context: &Context) -> Option<Parsed<'a>> {
    let begin = trim(rest);
    if !begin.starts_with(b"date=") {
        return None;
    }
    let value = |key: &[u8]| {
        let at = memchr::memmem::find_iter(begin, key).find(|at| *at == 0 || matches!(begin.get(at - 1), Some(b' ' | b',')))?;
        let value = begin.get(at + key.len()..)?;
        match value {
            [b'"', quoted @ ..] => quoted.get(..memchr::memchr(b'"', quoted)?),
            _ => value.get(..memchr::memchr2(b' ', b',', value).unwrap_or(value.len())),
        }
    };
    let ((year, month, day), left) = time::date(value(b"date=")?)?;
    let (clock, _) = time::clock(value(b"time=")?)?;
    let civil = Civil { year, month, day, clock };
    let offset = value(b"tz=").and_then(time::offset);
    let time = offset.map_or_else(|| time::in_zone(&civil, &context.zone), |(offset, _)| time::at_offset(&civil, offset));
    left.is_empty().then(|| Parsed { time, hostname: value(b"devname="), message: rest, ..Parsed::default() })
}
