//! What rules can mean for a source before its first event: which of them concern it, where they may send its events, and the number that stands for them.
//! Apart because it is asked once for a source, and by the configuration too. Pure.

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use crate::rules::parse::Form;
use crate::rules::when::Of;
use crate::rules::{Action, Rule};
use crate::snapshot::rows::MIXED;

/// Which rules can concern a source.
#[expect(clippy::struct_excessive_bools, reason = "each is an answer of its own")]
pub(super) struct Reach {
    pub(super) any: bool,
    /// Its events are entries of the journal.
    pub(super) entries: bool,
    /// The topics that they may give events to, in order.
    pub(super) topics: Vec<Arc<str>>,
    pub(super) enriches: bool,
    pub(super) gives_severity: bool,
}

impl Reach {
    pub(super) fn of(rules: &[Rule], (source, kind): (&str, &str)) -> Reach {
        let of = |fields| Of { source, kind, path: None, fields };
        let reaches = |rule: &Rule, fields: bool| !rule.when.of(&of(fields)).is_never();
        let gives = |rule: &Rule| matches!(rule.action, Action::Severity(_) | Action::Parse(Form::Syslog));
        let gives_severity = kind == "file" && rules.iter().any(|rule| gives(rule) && reaches(rule, false));
        let fields = kind == "syslog" || kind == "journald" || gives_severity;
        let any = rules.iter().any(|rule| reaches(rule, fields));
        let mut topics: Vec<Arc<str>> = Vec::new();
        for rule in rules.iter().filter(|rule| reaches(rule, fields)) {
            let Action::Route(route) = &rule.action else { continue };
            topics.extend(route.topics.iter().cloned());
        }
        topics.sort();
        topics.dedup();
        // Entries are written anew here, and not by the encoder.
        let enriches = kind != "journald" && rules.iter().any(|rule| rule.action.enriches() && reaches(rule, fields));
        Reach { any, topics, enriches, gives_severity, entries: kind == "journald" }
    }
}

/// Always the same for the same rules, and neither 0 nor [`MIXED`]. A regex can't be hashed, but its text can, which `Debug` shows.
pub(super) fn number(rules: &[Rule]) -> u64 {
    let written = rules.iter().map(|rule| format!("{:?}", (&rule.when, &rule.action))).collect::<Vec<_>>().join("\n");
    xxh3_64(written.as_bytes()).clamp(1, MIXED - 1)
}

/// The same with what stands for the stamp as well.
pub(super) fn with_stamp(number: u64, stamp: &str) -> u64 {
    xxh3_64(format!("{number} {stamp}").as_bytes()).clamp(1, MIXED - 1)
}
