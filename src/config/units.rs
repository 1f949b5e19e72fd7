//! Sizes and times as people write them: a whole number and a unit, never without. Pure.

use std::time::Duration;

use serde::Deserialize;

use crate::spill::KeepFree;

const SIZES: &[(&str, u64)] =
    &[("GiB", 1 << 30), ("GB", 1_000_000_000), ("MiB", 1 << 20), ("MB", 1_000_000), ("KiB", 1 << 10), ("KB", 1_000), ("B", 1)];

/// Units of time, in milliseconds.
const TIMES: &[(&str, u64)] = &[("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// A number of bytes, as `"24MiB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Size(pub usize);

impl TryFrom<String> for Size {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Size, Self::Error> {
        size(&text).and_then(|bytes| usize::try_from(bytes).ok()).map(Size).ok_or("not a size")
    }
}

/// What is left free of a file system, as `"10%"` or `"5GiB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Free(pub KeepFree);

impl TryFrom<String> for Free {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Free, Self::Error> {
        free(&text).map(Free).ok_or("neither a size nor per cent")
    }
}

/// A time, as `"10s"`; `None` when it is switched off, as `"off"` or `"never"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Time(pub Option<Duration>);

impl TryFrom<String> for Time {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Time, Self::Error> {
        if is_off(&text) { Ok(Time(None)) } else { time(&text).map(|time| Time(Some(time))).ok_or("not a time") }
    }
}

/// Whether the text switches a time off.
#[must_use]
pub fn is_off(text: &str) -> bool {
    text == "off" || text == "never"
}

/// The bytes that a size means; `None` when it is none, or more than 2⁶⁴.
#[must_use]
pub fn size(text: &str) -> Option<u64> {
    number(text, SIZES)
}

/// The per cent or the bytes that a text means; `None` when it means neither, or more than 255 per cent.
#[must_use]
pub fn free(text: &str) -> Option<KeepFree> {
    let percent = text.trim().strip_suffix('%').map(str::trim_end);
    match percent {
        Some(number) if number.bytes().all(|byte| byte.is_ascii_digit()) => number.parse().ok().map(KeepFree::Percent),
        Some(_) => None,
        None => size(text).map(KeepFree::Bytes),
    }
}

/// The time that a text means; `None` when it is none, or beyond 2⁶⁴ milliseconds.
#[must_use]
pub fn time(text: &str) -> Option<Duration> {
    number(text, TIMES).map(Duration::from_millis)
}

/// A size in its largest unit that needs no fraction.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    show(bytes, SIZES)
}

/// A time in its largest unit that needs no fraction; what is below a millisecond is left out.
#[must_use]
pub fn show_time(time: Duration) -> String {
    show(u64::try_from(time.as_millis()).unwrap_or(u64::MAX), TIMES)
}

fn number(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (digits, unit) = text.split_at_checked(digits)?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    digits.parse::<u64>().ok()?.checked_mul(*factor)
}

fn show(amount: u64, units: &[(&str, u64)]) -> String {
    let unit = units.iter().filter(|(_, factor)| amount >= *factor && amount.is_multiple_of(*factor)).max_by_key(|(_, factor)| *factor);
    match unit {
        Some((name, factor)) => format!("{}{name}", amount / factor),
        None => format!("{amount}{}", units.last().map_or("", |(name, _)| name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_number_without_a_unit_or_with_a_strange_one_is_no_size_and_no_time() {
        for text in ["", "5", "MiB", "5 ", "5mib", "5M", "-5MiB", "1.5GiB", "5 5MiB", "99999999999GiB", "²MiB"] {
            assert_eq!(size(text), None, "{text:?}");
        }
        for text in ["", "5", "s", "5sec", "1h30m", "-1s", "99999999999999999d"] {
            assert_eq!(time(text), None, "{text:?}");
        }
        assert_eq!((size("24MiB"), size("24 MB"), size("0B")), (Some(24 << 20), Some(24_000_000), Some(0)));
        for text in ["", "%", "10", "-1%", "+1%", "1.5%", "10 percent", "256%", "10%%"] {
            assert_eq!(free(text), None, "{text:?}");
        }
        let both = [("10%", KeepFree::Percent(10)), ("0 %", KeepFree::Percent(0)), ("5GiB", KeepFree::Bytes(5 << 30))];
        assert!(both.into_iter().all(|(text, meant)| free(text) == Some(meant)));
        assert_eq!((time("7d"), time("250ms")), (Some(Duration::from_hours(168)), Some(Duration::from_millis(250))));
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_as_what_it_was(amount in any::<u64>(), shift in 0_u32..64) {
            let amount = amount >> shift;
            prop_assert_eq!(size(&show_size(amount)), Some(amount));
            let span = Duration::from_millis(amount);
            prop_assert_eq!(time(&show_time(span)), Some(span));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC*") {
            let _ = (size(&text), time(&text), free(&text));
        }
    }
}
