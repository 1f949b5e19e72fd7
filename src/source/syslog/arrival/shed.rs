//! What is refused when an arrival log that may not hold up its senders fills: what rules name, then the least important. Pure.

use std::sync::Arc;

use jiff::tz::TimeZone;

use super::super::parse::{Context, parse};
use crate::rules::when::{Look, When};

/// The severity of a syslog message (RFC 5424 section 6.2.1), the most important first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the RFC's own words")]
pub enum Severity {
    Emergency,
    Alert,
    Critical,
    Error,
    Warning,
    Notice,
    Informational,
    Debug,
}

impl Severity {
    /// All of them, in the order of their codes.
    pub const ALL: [Severity; 8] = [
        Severity::Emergency,
        Severity::Alert,
        Severity::Critical,
        Severity::Error,
        Severity::Warning,
        Severity::Notice,
        Severity::Informational,
        Severity::Debug,
    ];

    /// That of a message, by its PRI alone; one without counts as a notice, as RFC 3164 section 4.3.3 has it.
    #[must_use]
    pub fn of(message: &[u8]) -> Severity {
        let digits =
            message.strip_prefix(b"<").and_then(|rest| rest.iter().take(4).position(|byte| *byte == b'>').and_then(|end| rest.get(..end)));
        let number = digits.filter(|digits| !digits.is_empty()).and_then(|digits| {
            digits.iter().try_fold(0_u16, |number, digit| digit.is_ascii_digit().then(|| number * 10 + u16::from(digit - b'0')))
        });
        let code = number.filter(|pri| *pri < 192).map_or(5, |pri| pri % 8);
        Severity::ALL.get(usize::from(code)).copied().unwrap_or(Severity::Notice)
    }

    /// The word for events and labels.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Severity::Emergency => "emergency",
            Severity::Alert => "alert",
            Severity::Critical => "critical",
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Notice => "notice",
            Severity::Informational => "info",
            Severity::Debug => "debug",
        }
    }
}

/// From how full a log on something is refused, per cent.
pub const BEGINS: u64 = 80;

/// What is refused before all else, from 80 per cent on: messages for which a condition of a rule holds. Only then is a message looked into.
#[derive(Clone, Debug, Default)]
pub struct First(Arc<[(Arc<str>, When)]>);

/// A condition can't be compared, but its text can, which `Debug` shows.
impl PartialEq for First {
    fn eq(&self, other: &First) -> bool {
        format!("{:?}", self.0) == format!("{:?}", other.0)
    }
}

impl First {
    /// What these rules mean, by their names.
    #[must_use]
    pub fn new(classes: Vec<(Arc<str>, When)>) -> First {
        First(classes.into())
    }

    /// The number of the rule for which a message is refused when the log is so full, per cent.
    #[must_use]
    pub fn class(&self, message: &[u8], percent: u64) -> Option<usize> {
        if self.0.is_empty() || percent < BEGINS {
            return None;
        }
        let parsed = parse(message, &Context { received_ns: 0, zone: TimeZone::UTC });
        let (app, severity, facility) = (parsed.app, parsed.severity, parsed.facility);
        let look = Look { message: parsed.message, app, severity, facility, ..Look::default() };
        self.0.iter().position(|(_, when)| when.holds(&look))
    }

    /// The name of a rule.
    #[must_use]
    pub fn name(&self, class: usize) -> &str {
        self.0.get(class).map_or("", |(name, _)| name)
    }
}

/// How many messages of each severity were refused, and how many for each rule of [`First`], which are not among those.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    severities: [u64; 8],
    first: Vec<u64>,
}

impl Counts {
    /// One more: of this severity, or for this rule.
    pub fn add(&mut self, severity: Severity, class: Option<usize>) {
        let count = match class {
            None => self.severities.get_mut(severity as usize),
            Some(class) => {
                self.first.resize(self.first.len().max(class + 1), 0);
                self.first.get_mut(class)
            }
        };
        if let Some(count) = count {
            *count += 1;
        }
    }

    /// Those of which there are some, in words, and how many.
    pub fn iter<'a>(&'a self, first: &'a First) -> impl Iterator<Item = (String, u64)> + 'a {
        let severities =
            Severity::ALL.into_iter().zip(self.severities).map(|(severity, count)| (format!("severity {}", severity.word()), count));
        let classes = self.first.iter().enumerate().map(|(class, count)| (format!("rule {}", first.name(class)), *count));
        severities.chain(classes).filter(|(_, count)| *count > 0)
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> u64 {
        self.severities.iter().chain(&self.first).sum()
    }
}

/// The least important severity that is accepted when the log is so full, per cent: all below [`BEGINS`], one less every three per cent from there, none at
/// 100.
#[must_use]
pub fn least_accepted(percent: u64) -> Option<Severity> {
    if percent >= 100 {
        return None;
    }
    let refused = usize::try_from(percent.saturating_sub(77) / 3).unwrap_or(7).min(7);
    Severity::ALL.get(7 - refused).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fuller_the_log_the_more_important_must_a_message_be() {
        let least: Vec<_> =
            [0, 79, 80, 83, 86, 89, 92, 95, 98, 99, 100, 500].map(|percent| least_accepted(percent).map(Severity::word)).into();
        let expected = ["debug", "debug", "info", "notice", "warning", "error", "critical", "alert", "emergency", "emergency"];
        assert_eq!(least, expected.map(Some).into_iter().chain([None, None]).collect::<Vec<_>>());
    }

    #[test]
    fn what_a_rule_names_is_refused_before_all_else() {
        let first = First::new(vec![("cron".into(), When::App(vec![(*b"cron").into()])), ("bad".into(), When::Severity(1 << 3))]);
        let of = |message: &str, percent| first.class(message.as_bytes(), percent).map(|class| first.name(class));
        assert_eq!((of("<11>Nov 27 10:00:00 h cron[1]: x", 79), of("<11>Nov 27 10:00:00 h cron[1]: x", 80)), (None, Some("cron")));
        assert_eq!((of("<11>Nov 27 10:00:00 h app: x", 80), of("<14>Nov 27 10:00:00 h app: x", 99)), (Some("bad"), None));
        let mut counts = Counts::default();
        for class in [None, Some(1), Some(1), Some(0)] {
            counts.add(Severity::Debug, class);
        }
        let told: Vec<_> = counts.iter(&first).collect();
        assert_eq!(
            (counts.all(), told),
            (4, [("severity debug", 1), ("rule cron", 1), ("rule bad", 2)].map(|(name, count)| (name.to_owned(), count)).into())
        );
        assert_eq!(First::default().class(b"x", 99), None);
        assert_ne!(First::default(), first);
    }

    #[test]
    fn the_priority_alone_says_how_important_a_message_is() {
        let of = |message: &str| Severity::of(message.as_bytes()).word();
        assert_eq!([of("<0>x"), of("<191>x"), of("<13>x"), of("<165>1 x")], ["emergency", "debug", "notice", "notice"]);
        assert_eq!([of("<192>x"), of("<>x"), of("x"), of("<1234>x"), of("<12"), of("<1a>")], ["notice"; 6]);
    }
}
