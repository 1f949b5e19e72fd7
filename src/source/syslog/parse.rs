//! A syslog message in its fields. Never fails: what can't be understood stays in the message, with a word about it. Nothing is copied; the fields
//! are spans of the frame. Pure.
//!
//! RFC 5424 and RFC 3164 are told apart by looking: a version behind the priority, and a time of RFC 3339 or `-` behind that, is RFC 5424.
//!
//! | what | where |
//! | --- | --- |
//! | RFC 5424, structured data | [`rfc5424`] |
//! | RFC 3164 as it really comes | [`rfc3164`] |
//! | times | [`time`] |

pub mod rfc3164;
pub mod rfc5424;
#[cfg(test)]
mod tests;
pub mod time;

use jiff::tz::TimeZone;
use time::Time;

/// What a frame says; what it does not say is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed<'a> {
    /// Severity, 0 (emergency) to 7 (debug).
    pub severity: Option<u8>,
    /// Facility, 0 to 23.
    pub facility: Option<u8>,
    /// The time that the sender gave.
    pub time: Option<Time>,
    /// The host that it claims to come from.
    pub hostname: Option<&'a [u8]>,
    /// The program.
    pub app: Option<&'a [u8]>,
    /// Its process, as text.
    pub procid: Option<&'a [u8]>,
    /// The kind of message.
    pub msgid: Option<&'a [u8]>,
    /// Structured data as it stands in the frame, brackets included; sound by [`rfc5424::elements`].
    pub structured_data: Option<&'a [u8]>,
    /// What is left.
    pub message: &'a [u8],
    /// Why the frame, or the part of it that `message` begins with, was not understood.
    pub error: Option<&'static str>,
}

/// What is known beside the frame.
#[derive(Clone, Debug)]
pub struct Context {
    /// When it was received, nanoseconds since 1970: a time without a year is of the nearest one.
    pub received_ns: i64,
    /// For times that name no zone.
    pub zone: TimeZone,
}

/// Takes a frame apart.
#[must_use]
pub fn parse<'a>(frame: &'a [u8], context: &Context) -> Parsed<'a> {
    let (pri, rest) = priority(frame);
    let Some(pri) = pri else {
        // No priority, or one that can't be: it stays in the message, unless what follows is as clear as it would be behind one.
        let mut parsed = rfc3164::parse(frame, context);
        if parsed.time.is_none() {
            parsed = Parsed { message: frame, error: Some("no priority and no time"), ..Parsed::default() };
        }
        return parsed;
    };
    let body = version(rest);
    let mut parsed = match body.and_then(|body| rfc5424::parse(body, context)) {
        Some(parsed) => parsed,
        // Meraki puts a version in front of seconds since 1970, and the rest is not RFC 5424.
        None => rfc3164::parse(body.filter(|body| time::epoch(body).is_some()).unwrap_or(rest), context),
    };
    (parsed.severity, parsed.facility) = (Some(pri % 8), Some(pri / 8));
    parsed
}

/// The word for a facility (RFC 5424 section 6.2.1).
#[must_use]
pub fn facility_word(code: u8) -> &'static str {
    const WORDS: [&str; 24] = [
        "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "ntp", "audit", "alert",
        "clock", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
    ];
    WORDS.get(usize::from(code)).copied().unwrap_or("unknown")
}

/// The word for a severity.
#[must_use]
pub fn severity_word(code: u8) -> &'static str {
    super::arrival::shed::Severity::ALL.get(usize::from(code)).map_or("unknown", |severity| severity.word())
}

/// `<0>` to `<191>` in one to three digits, and what follows; `None` and the frame itself if it begins with none.
fn priority(frame: &[u8]) -> (Option<u8>, &[u8]) {
    let Some(rest) = frame.strip_prefix(b"<") else { return (None, frame) };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, rest) = rest.split_at(digits.min(rest.len()));
    let value = number.iter().fold(0_u32, |value, digit| value.saturating_mul(10).saturating_add(u32::from(digit - b'0')));
    match (digits, u8::try_from(value), rest.strip_prefix(b">")) {
        (1..=3, Ok(value @ 0..=191), Some(rest)) => (Some(value), rest),
        _ => (None, frame),
    }
}

/// What is behind `1 `; a version of RFC 5424 has one or two digits and does not begin with 0.
fn version(rest: &[u8]) -> Option<&[u8]> {
    match rest {
        [b'1'..=b'9', b' ', rest @ ..] | [b'1'..=b'9', b'0'..=b'9', b' ', rest @ ..] => Some(rest),
        _ => None,
    }
}

/// The bytes up to the first space, and those behind it; `None` if there is no space.
fn word(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(b' ', bytes)?;
    Some((bytes.get(..end)?, bytes.get(end + 1..)?))
}

/// `-` is RFC 5424's nothing.
fn present(word: &[u8]) -> Option<&[u8]> {
    (!word.is_empty() && word != b"-").then_some(word)
}
