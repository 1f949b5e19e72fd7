//! Rules that give an event a time or a severity out of what was found in it. Pure.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::fmt::strtime;
use jiff::tz::TimeZone;

/// Takes the event's time from a field.
#[derive(Debug)]
pub struct Time {
    /// The field.
    pub field: Box<[u8]>,
    /// How it is written; the first that fits counts.
    pub formats: Vec<Format>,
    /// For times that name no zone.
    pub zone: TimeZone,
    /// Where it can't be read, the event's time becomes that of reading; else it stays what it was.
    pub forget: bool,
}

/// How a time is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// RFC 3339.
    Rfc3339,
    /// A number since 1970, perhaps with a fraction, of which so many make a second.
    Unix(u32),
    /// In the letters of `strftime`.
    Pattern(Box<str>),
}

/// The words for formats that are no patterns.
pub const FORMATS: [&str; 5] = ["rfc3339", "unix", "unix_ms", "unix_us", "unix_ns"];

impl Format {
    /// The format of this name, or of this pattern.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn named(text: &str) -> Result<Format, String> {
        Ok(match text {
            "rfc3339" => Format::Rfc3339,
            "unix" => Format::Unix(1),
            "unix_ms" => Format::Unix(1000),
            "unix_us" => Format::Unix(1_000_000),
            "unix_ns" => Format::Unix(1_000_000_000),
            _ if !text.contains('%') => {
                return Err(format!(
                    "{text:?} is no format; there are {}, and patterns such as \"%d/%b/%Y:%H:%M:%S %z\"",
                    FORMATS.join(", ")
                ));
            }
            pattern => {
                // What can't be written can't be read.
                strtime::format(pattern, Timestamp::UNIX_EPOCH).map_err(|error| error.to_string())?;
                Format::Pattern(pattern.into())
            }
        })
    }

    /// Nanoseconds since 1970; `None` if it is not written so, or not between 1677 and 2262.
    fn read(&self, text: &str, zone: &TimeZone) -> Option<i64> {
        let time = match self {
            Format::Rfc3339 => text.parse().ok()?,
            Format::Unix(parts) => return since_1970(text, *parts),
            Format::Pattern(pattern) => {
                let broken = strtime::parse(&**pattern, text).ok()?;
                if let Ok(time) = broken.to_timestamp() {
                    time
                } else {
                    let civil: DateTime = broken.to_datetime().or_else(|_| broken.to_date().map(DateTime::from)).ok()?;
                    zone.to_timestamp(civil).ok()?
                }
            }
        };
        let time: Timestamp = time;
        i64::try_from(time.as_nanosecond()).ok()
    }
}

impl Time {
    /// Nanoseconds since 1970; `None` if it can't be read.
    #[must_use]
    pub fn read(&self, text: &[u8]) -> Option<i64> {
        let text = std::str::from_utf8(text).ok()?.trim();
        self.formats.iter().find_map(|format| format.read(text, &self.zone))
    }
}

/// A decimal number of which `parts` make a second, exactly.
fn since_1970(text: &str, parts: u32) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let unit = 1_000_000_000 / i128::from(parts);
    let whole: i128 = whole.parse().ok()?;
    let digits = u32::try_from(fraction.len()).ok()?;
    let fraction: i128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let fraction = fraction * unit / 10_i128.pow(digits);
    let ns = whole.checked_mul(unit)? + if text.starts_with('-') { -fraction } else { fraction };
    i64::try_from(ns).ok()
}

/// The severity, 0 (emergency) to 7 (debug), that programs mean by such a word; their numbers are those of syslog.
#[must_use]
pub fn severity(text: &[u8]) -> Option<u8> {
    const WORDS: [(&str, u8); 30] = [
        ("emergency", 0),
        ("emerg", 0),
        ("panic", 0),
        ("alert", 1),
        ("critical", 2),
        ("crit", 2),
        ("fatal", 2),
        ("error", 3),
        ("err", 3),
        ("eror", 3),
        ("severe", 3),
        ("e", 3),
        ("warning", 4),
        ("warn", 4),
        ("w", 4),
        ("notice", 5),
        ("note", 5),
        ("info", 6),
        ("information", 6),
        ("informational", 6),
        ("inf", 6),
        ("i", 6),
        ("config", 6),
        ("log", 6),
        ("debug", 7),
        ("dbg", 7),
        ("d", 7),
        ("trace", 7),
        ("verbose", 7),
        ("fine", 7),
    ];
    let text = text.trim_ascii();
    if let [digit @ b'0'..=b'7'] = text {
        return Some(digit - b'0');
    }
    WORDS.iter().find(|(word, _)| word.as_bytes().eq_ignore_ascii_case(text)).map(|(_, code)| *code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(format: &str, zone: &str, text: &str) -> Option<String> {
        let zone = TimeZone::get(zone).unwrap();
        let time = Time { field: Box::default(), formats: vec![Format::named(format).unwrap()], zone, forget: false };
        time.read(text.as_bytes()).map(|ns| Timestamp::from_nanosecond(i128::from(ns)).unwrap().to_string())
    }

    #[test]
    fn times_are_read_as_they_are_written() {
        let at = |text: &str| Some(text.to_owned());
        assert_eq!(read("rfc3339", "UTC", "2026-11-27T10:00:00.5+01:00"), at("2026-11-27T09:00:00.5Z"));
        assert_eq!(read("unix", "UTC", "1764237600.25"), at("2025-11-27T10:00:00.25Z"));
        assert_eq!(read("unix_ms", "UTC", "1764237600250"), at("2025-11-27T10:00:00.25Z"));
        assert_eq!(read("unix", "UTC", "-1.5"), at("1969-12-31T23:59:58.5Z"));
        assert_eq!(read("%d/%b/%Y:%H:%M:%S %z", "UTC", "27/Nov/2026:10:00:00 +0100"), at("2026-11-27T09:00:00Z"));
        assert_eq!(read("%Y-%m-%d %H:%M:%S%.f", "Europe/Berlin", "2026-07-01 10:00:00.123"), at("2026-07-01T08:00:00.123Z"));
        assert_eq!(read("%Y-%m-%d", "UTC", "2026-07-01"), at("2026-07-01T00:00:00Z"));
        for (format, text) in
            [("rfc3339", "yesterday"), ("unix", "99999999999999"), ("unix", "1.x"), ("%H:%M", "25:00"), ("%H:%M", "10:00")]
        {
            assert_eq!(read(format, "UTC", text), None, "{format} {text}");
        }
        assert!(Format::named("iso").is_err() && Format::named("100%").is_err());
    }

    #[test]
    fn severities_have_many_names() {
        for (word, code) in [("FATAL", 2), ("Warn", 4), (" info ", 6), ("TRACE", 7), ("3", 3), ("err", 3)] {
            assert_eq!(severity(word.as_bytes()), Some(code), "{word}");
        }
        assert_eq!((severity(b"9"), severity(b""), severity(b"warnings")), (None, None, None));
    }
}
