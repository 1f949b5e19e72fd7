//! What is refused when an arrival log that may not hold up its senders fills: the least important first. Pure.

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

/// How many messages of each severity were refused.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts([u64; 8]);

impl Counts {
    /// One more.
    pub fn add(&mut self, severity: Severity) {
        if let Some(count) = self.0.get_mut(severity as usize) {
            *count += 1;
        }
    }

    /// Those of which there are some.
    pub fn iter(&self) -> impl Iterator<Item = (Severity, u64)> + '_ {
        Severity::ALL.into_iter().zip(self.0).filter(|(_, count)| *count > 0)
    }
}

/// The least important severity that is accepted when the log is so full, per cent: all below 80, one less every three per cent from there, none at
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
    fn the_priority_alone_says_how_important_a_message_is() {
        let of = |message: &str| Severity::of(message.as_bytes()).word();
        assert_eq!([of("<0>x"), of("<191>x"), of("<13>x"), of("<165>1 x")], ["emergency", "debug", "notice", "notice"]);
        assert_eq!([of("<192>x"), of("<>x"), of("x"), of("<1234>x"), of("<12"), of("<1a>")], ["notice"; 6]);
    }
}
