//! What is blotted out of a message: matches of a regex, or of what is ready: e-mail addresses, IP addresses, card numbers, bearer tokens, AWS
//! keys. What is ready and frequent is found by hand, since a regex is tried at every character. Pure.

use std::fmt;
use std::io::Write as _;
use std::net::Ipv6Addr;

use memchr::memchr;
use regex::bytes::Regex;

/// What is replaced, and by what.
#[derive(Debug)]
pub struct Redact {
    /// What is looked for.
    pub find: Find,
    /// What stands there afterwards; with a regex, `$1` or `${name}` is what a group of it matched.
    pub with: Vec<u8>,
    /// With a salt, what stands there instead is a hash of what was found: the same for the same text, so that events can be told to belong together.
    pub hash: Option<Salt>,
}

/// The secret of hashes: without it nobody can try which text has which hash.
pub struct Salt(ring::hmac::Key);

impl Salt {
    /// Of these bytes.
    #[must_use]
    pub fn new(secret: &[u8]) -> Salt {
        Salt(ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret))
    }

    /// Writes the first 16 bytes of the HMAC-SHA-256 (RFC 2104) as 32 hexadecimal digits.
    fn write(&self, text: &[u8], out: &mut Vec<u8>) {
        let hash = ring::hmac::sign(&self.0, text);
        for byte in hash.as_ref().iter().take(16) {
            let _ = write!(out, "{byte:02x}");
        }
    }
}

/// Tells salts apart without telling them.
impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut hash = Vec::new();
        self.write(b"", &mut hash);
        write!(f, "Salt({})", String::from_utf8_lossy(&hash))
    }
}

/// What is looked for.
#[derive(Debug)]
pub enum Find {
    /// `somebody@example.org`.
    Email,
    /// Dotted quads; with a number of bits that is kept, the others become 0 and nothing else is put there.
    Ipv4 {
        /// 0 to 32.
        keep: Option<u32>,
    },
    /// Addresses with at least two colons; likewise.
    Ipv6 {
        /// 0 to 128.
        keep: Option<u32>,
    },
    /// 13 to 19 digits, perhaps with a space or `-` between them, whose check digit (Luhn, ISO/IEC 7812-1) is right.
    Card,
    /// What this matches.
    Regex(Regex),
}

impl Find {
    /// The ready ones, as the configuration names them.
    pub const READY: [&'static str; 6] = ["email", "ipv4", "ipv6", "card", "bearer", "aws_key"];

    /// What is ready under this name.
    #[must_use]
    pub fn ready(name: &str, keep: Option<u32>) -> Option<Find> {
        let regex = |pattern: &str| Regex::new(pattern).ok().map(Find::Regex);
        match name {
            "email" => Some(Find::Email),
            "ipv4" => Some(Find::Ipv4 { keep }),
            "ipv6" => Some(Find::Ipv6 { keep }),
            "card" => Some(Find::Card),
            // RFC 6750 section 2.1.
            "bearer" => regex(r"(?i-u)\bbearer\s+[a-z0-9._~+/-]+=*"),
            // Long-term and temporary access keys; secret keys have nothing to be known by.
            "aws_key" => regex(r"(?-u)\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
            _ => None,
        }
    }
}

impl Redact {
    /// Writes the text as it is afterwards to `out`; false, with nothing written, if nothing is to be replaced. It becomes no longer than it
    /// was or than `room`: once it would, what is found is taken out and nothing put in its place.
    pub fn apply(&self, text: &[u8], out: &mut Vec<u8>, room: usize) -> Blotted {
        let (begin, limit, mut short) = (out.len(), text.len().max(room), false);
        let (mut copied, mut found_any) = (0, false);
        let mut put = |start: usize, end: usize, write: &dyn Fn(&mut Vec<u8>)| {
            out.extend_from_slice(text.get(copied..start).unwrap_or_default());
            (copied, found_any) = (end, true);
            let before = out.len();
            write(out);
            if out.len() - begin + (text.len() - end) > limit {
                out.truncate(before);
                short = true;
            }
        };
        let with = |start: usize, end: usize| {
            move |out: &mut Vec<u8>| match &self.hash {
                Some(salt) => salt.write(text.get(start..end).unwrap_or_default(), out),
                None => out.extend_from_slice(&self.with),
            }
        };
        match &self.find {
            Find::Regex(regex) if self.hash.is_none() && memchr(b'$', &self.with).is_some() => {
                for captures in regex.captures_iter(text) {
                    if let Some(all) = captures.get(0) {
                        put(all.start(), all.end(), &|out| captures.expand(&self.with, out));
                    }
                }
            }
            Find::Regex(regex) => {
                regex.find_iter(text).for_each(|found| put(found.start(), found.end(), &with(found.start(), found.end())));
            }
            Find::Email => emails(text, |start, end| put(start, end, &with(start, end))),
            Find::Card => cards(text, |start, end| put(start, end, &with(start, end))),
            Find::Ipv4 { keep } => ipv4s(text, |start, end, address| match keep {
                Some(bits) => put(start, end, &|out| {
                    let kept = address & u32::MAX.checked_shl(32 - (*bits).min(32)).unwrap_or(0);
                    let _ = write!(out, "{}", std::net::Ipv4Addr::from(kept));
                }),
                None => put(start, end, &with(start, end)),
            }),
            Find::Ipv6 { keep } => ipv6s(text, |start, end, address| match keep {
                Some(bits) => put(start, end, &|out| {
                    let kept = u128::from(address) & u128::MAX.checked_shl(128 - (*bits).min(128)).unwrap_or(0);
                    let _ = write!(out, "{}", Ipv6Addr::from(kept));
                }),
                None => put(start, end, &with(start, end)),
            }),
        }
        if !found_any {
            return Blotted::No;
        }
        out.extend_from_slice(text.get(copied..).unwrap_or_default());
        if short { Blotted::Short } else { Blotted::Yes }
    }
}

/// A text as these leave it one after the other; `None`: as it was. `room` as in [`Redact::apply`].
#[must_use]
pub fn all(redacts: &[&Redact], text: &[u8], room: usize) -> Option<Vec<u8>> {
    let (mut changed, mut out) = (None::<Vec<u8>>, Vec::new());
    for redact in redacts {
        out.clear();
        if redact.apply(changed.as_deref().unwrap_or(text), &mut out, room) != Blotted::No {
            changed = Some(std::mem::take(&mut out));
        }
    }
    changed
}

/// What [`Redact::apply`] has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Blotted {
    /// Nothing was found.
    #[default]
    No,
    /// All that was found is replaced.
    Yes,
    /// Something was taken out with nothing in its place: else the text would have become too long.
    Short,
}

/// How many bytes at the end of `text` are such.
fn before(text: &[u8], is: impl Fn(u8) -> bool) -> usize {
    text.iter().rev().take_while(|byte| is(**byte)).count()
}

/// How many bytes at the beginning of `text` are such.
fn behind(text: &[u8], is: impl Fn(u8) -> bool) -> usize {
    text.iter().take_while(|byte| is(**byte)).count()
}

/// Each `local@domain`: the local part of letters, digits and `._%+-`, other than ASCII included; the domain with at least one dot.
fn emails(text: &[u8], mut found: impl FnMut(usize, usize)) {
    let is_local = |byte: u8| byte.is_ascii_alphanumeric() || b"._%+-".contains(&byte) || !byte.is_ascii();
    let is_domain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-' || !byte.is_ascii();
    let mut done = 0;
    for at in memchr::memchr_iter(b'@', text) {
        if at < done {
            continue;
        }
        let (left, right) = (text.get(done..at).unwrap_or_default(), text.get(at + 1..).unwrap_or_default());
        let local = before(left, is_local);
        let run = right.get(..behind(right, is_domain)).unwrap_or_default();
        let domain = run.len() - before(run, |byte| byte == b'.' || byte == b'-');
        let inner = run.get(..domain).unwrap_or_default();
        if local > 0 && memchr(b'.', inner).is_some_and(|dot| dot > 0) {
            done = at + 1 + domain;
            found(at - local, done);
        }
    }
}

/// Each dotted quad that is not part of a longer run of digits and dots.
fn ipv4s(text: &[u8], mut found: impl FnMut(usize, usize, u32)) {
    let is_run = |byte: u8| byte.is_ascii_digit() || byte == b'.';
    let mut done = 0;
    while let Some(dot) = text.get(done..).and_then(|rest| memchr(b'.', rest)).map(|at| done + at) {
        let left = before(text.get(done..dot).unwrap_or_default(), is_run);
        let right = behind(text.get(dot..).unwrap_or_default(), is_run);
        let run = text.get(dot - left..dot + right).unwrap_or_default();
        let end = run.len() - before(run, |byte| byte == b'.');
        if let Some(address) = run.get(..end).filter(|run| run.len() >= 7).and_then(quad) {
            found(dot - left, dot - left + end, address);
        }
        done = dot + right;
    }
}

/// Four numbers up to 255 of one to three digits; a leading zero does not hide one.
fn quad(run: &[u8]) -> Option<u32> {
    let mut address = 0_u32;
    let mut parts = 0;
    for part in run.split(|byte| *byte == b'.') {
        if part.is_empty() || part.len() > 3 || parts == 4 {
            return None;
        }
        let value = part.iter().fold(0_u32, |value, digit| value * 10 + u32::from(digit - b'0'));
        if value > 255 {
            return None;
        }
        (address, parts) = (address << 8 | value, parts + 1);
    }
    (parts == 4).then_some(address)
}

/// Each address of RFC 4291 section 2.2 that is not part of a word.
fn ipv6s(text: &[u8], mut found: impl FnMut(usize, usize, Ipv6Addr)) {
    let is_run = |byte: u8| byte.is_ascii_hexdigit() || byte == b':' || byte == b'.';
    let mut done = 0;
    while let Some(colon) = text.get(done..).and_then(|rest| memchr(b':', rest)).map(|at| done + at) {
        let start = colon - before(text.get(done..colon).unwrap_or_default(), is_run);
        let right = behind(text.get(colon..).unwrap_or_default(), is_run);
        let run = text.get(start..colon + right).unwrap_or_default();
        let word = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        let whole = !word(start.checked_sub(1).and_then(|at| text.get(at))) && !word(text.get(colon + right));
        // What ends a sentence or stands in front of a value is no part of it.
        let mut end = run.len() - before(run, |byte| byte == b'.');
        let parsed = |end: usize| std::str::from_utf8(run.get(..end)?).ok()?.parse().ok();
        let mut address = parsed(end);
        if address.is_none() && end > 1 && run.get(end - 1) == Some(&b':') {
            end -= 1;
            address = parsed(end);
        }
        if let Some(address) = address.filter(|_| whole && run.iter().any(u8::is_ascii_hexdigit)) {
            found(start, start + end, address);
        }
        done = colon + right;
    }
}

/// Each number of a payment card.
fn cards(text: &[u8], mut found: impl FnMut(usize, usize)) {
    let mut at = 0;
    while let Some(start) = text.get(at..).and_then(|rest| rest.iter().position(u8::is_ascii_digit)).map(|digit| at + digit) {
        let (mut digits, mut count, mut end) = ([0_u8; 19], 0, start);
        let mut next = start;
        while let Some(byte) = text.get(next) {
            if byte.is_ascii_digit() {
                if let Some(digit) = digits.get_mut(count) {
                    *digit = byte - b'0';
                }
                (count, end) = (count + 1, next + 1);
            } else if !(matches!(byte, b' ' | b'-') && text.get(next + 1).is_some_and(u8::is_ascii_digit)) {
                break;
            }
            next += 1;
        }
        if (13..=19).contains(&count) && digits.get(..count).is_some_and(luhn) {
            found(start, end);
        }
        at = next.max(end);
    }
}

fn luhn(digits: &[u8]) -> bool {
    let doubled = |digit: u8| if digit > 4 { 2 * digit - 9 } else { 2 * digit };
    let value = |(place, digit): (usize, &u8)| u32::from(if place % 2 == 1 { doubled(*digit) } else { *digit });
    digits.iter().rev().enumerate().map(value).sum::<u32>().is_multiple_of(10)
}
