//! What a gap is in a sentence, and how bad it is: the one table of what reasons mean to people. Pure.

use super::{Amount, Bound, Gap, LIMITED, Place, QUIET};

/// How bad a gap is: `error` where something is gone that was to be shipped, `warning` where it was left out on purpose or held nothing.
#[must_use]
pub fn severity(reason: &str) -> &'static str {
    match reason {
        "hole" | "before_first_run" | "operator" | "suppressed" | QUIET | LIMITED => "warning",
        _ => "error",
    }
}

/// The gap in a sentence, without a stop at its end.
#[must_use]
pub fn sentence(gap: &Gap) -> String {
    if &*gap.reason == QUIET {
        return format!("no event came from source \"{}\": {}", gap.source, gap.words);
    }
    if &*gap.reason == LIMITED {
        let by = if let Place::Named(name) = &gap.place { name } else { "several rules" };
        return format!("suppressed {} of source \"{}\": {by}", amount(&gap.amount), gap.source);
    }
    let place = match &gap.place {
        Place::Path(path) => format!("of {}", String::from_utf8_lossy(path)),
        Place::Named(name) => format!("of {name}"),
        Place::Topic(topic) => format!("on the way to topic \"{topic}\""),
        Place::Several => format!("of several places of source \"{}\"", gap.source),
    };
    let one = is_one(&gap.amount);
    let (were, they_were) = if one { ("was", "it was") } else { ("were", "they were") };
    let what = match &*gap.reason {
        "truncated" => format!("{were} truncated before {they_were} read"),
        "deleted" => format!("{were} deleted before {they_were} read"),
        "hole" => format!("{were} skipped: a hole in the file, which holds nothing"),
        "before_first_run" => format!("{were} there before the source first ran and left out by start_at or ignore_older"),
        "power_loss" => format!("{were} lost with the power before {they_were} on disk"),
        "operator" => format!("{were} discarded by an operator"),
        "damaged" => format!("{were} in a compressed file that is damaged"),
        "hold_deleted" => format!("{were} in deleted files that took more than agent.hold_deleted"),
        "keep_free" => format!("{were} in deleted files on a disk with less than spill.keep_free left"),
        "kernel_drop" => format!("{were} dropped by the kernel: its buffer for the socket was full"),
        "shed" => format!("{were} refused since there was no room left: when_full is \"shed\""),
        "rate_limit" => format!("{were} refused since their sender exceeded the source's peer_rate"),
        "refused" => format!("{were} refused by allow, max_connections or TLS"),
        "cut" => format!("{were} cut off from messages longer than the source takes"),
        "framing" => format!("{were} received that are no message: the sender's framing is broken"),
        "vacuumed" => format!("{were} deleted from the journal before {they_were} read"),
        "suppressed" => format!("{were} suppressed by journald's rate limit before {they_were} stored"),
        "unreadable" => format!("{were} in a part that is damaged"),
        "undecodable" => format!("{were} shipped with U+FFFD in place of bytes that are no characters in the source's encoding"),
        other => format!("{were} lost ({})", other.replace('_', " ")),
    };
    let amount = amount(&gap.amount);
    if gap.words.is_empty() { format!("{amount} {place} {what}") } else { format!("{amount} {place} {what}: {}", gap.words) }
}

fn amount(amount: &Amount) -> String {
    let least = match amount.bound {
        Bound::Exact => "",
        Bound::AtLeast => "at least ",
        Bound::AtMost => "at most ",
    };
    let known = match (amount.events, amount.bytes) {
        (0, bytes) => counted(bytes, "byte"),
        (events, 0) => counted(events, "event"),
        (events, bytes) => format!("{} ({})", counted(events, "event"), counted(bytes, "byte")),
    };
    let times = if amount.unknown > 1 { format!(" ({} times)", grouped(amount.unknown)) } else { String::new() };
    match (amount.unknown, amount.events | amount.bytes) {
        (0, _) => format!("{least}{known}"),
        (_, 0) => format!("an unknown amount{times}"),
        _ => format!("{least}{known} and an unknown amount{times}"),
    }
}

/// Whether the sentence goes on with "was".
fn is_one(amount: &Amount) -> bool {
    match (amount.events, amount.bytes, amount.unknown) {
        (0, 0, unknown) => unknown > 0,
        (events, bytes, 0) => events == 1 || (events == 0 && bytes == 1),
        _ => false,
    }
}

fn counted(number: u64, unit: &str) -> String {
    format!("{} {unit}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// A number with a comma between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Missed;

    fn of(reason: &str, place: Place, amount: Amount) -> String {
        let (source, of) = ("app".into(), "file".into());
        let (stream, from, to, first_ns, last_ns) = (None, None, None, 0, 0);
        let words = match reason {
            "power_loss" => "within 100ms before the end",
            "quiet" => "silent for 16 m, longer than expect_every (15 m)",
            _ => "",
        };
        let words = words.into();
        sentence(&Gap { number: 1, source, of, reason: reason.into(), place, stream, from, to, amount, first_ns, last_ns, words })
    }

    #[test]
    fn a_person_understands_it() {
        let path = || Place::Path(b"/var/log/app.log".as_slice().into());
        let amount = |events, bytes, unknown| Amount { events, bytes, unknown, bound: Bound::Exact };
        let said = [
            of("truncated", path(), amount(0, 12_345, 0)),
            of("deleted", path(), Amount { bound: Bound::AtLeast, ..amount(0, 1_234_567, 0) }),
            of("deleted", path(), amount(0, 1, 0)),
            of("deleted", path(), amount(0, 0, 1)),
            of("truncated", Place::Several, amount(0, 999, 3)),
            of("operator", Place::Topic("logs".into()), amount(1000, 65_536, 0)),
            of("power_loss", path(), amount(0, 0, 2)),
            of("kernel_drops", path(), amount(7, 0, 0)),
            of("quiet", Place::Named("source app".into()), amount(0, 0, 0)),
            of("limited", Place::Named("rule chatter, billing".into()), amount(1234, 5678, 0)),
            of("limited", Place::Several, amount(1, 10, 0)),
        ];
        insta::assert_snapshot!(said.join("\n"), @r#"
        12,345 bytes of /var/log/app.log were truncated before they were read
        at least 1,234,567 bytes of /var/log/app.log were deleted before they were read
        1 byte of /var/log/app.log was deleted before it was read
        an unknown amount of /var/log/app.log was deleted before it was read
        999 bytes and an unknown amount (3 times) of several places of source "app" were truncated before they were read
        1,000 events (65,536 bytes) on the way to topic "logs" were discarded by an operator
        an unknown amount (2 times) of /var/log/app.log was lost with the power before it was on disk: within 100ms before the end
        7 events of /var/log/app.log were lost (kernel drops)
        no event came from source "app": silent for 16 m, longer than expect_every (15 m)
        suppressed 1,234 events (5,678 bytes) of source "app": rule chatter, billing
        suppressed 1 event (10 bytes) of source "app": several rules
        "#);
    }

    #[test]
    fn every_reason_of_the_ledger_has_words_of_its_own() {
        for reason in Missed::ALL {
            let said = of(reason.word(), Place::Several, Amount { bytes: 2, ..Amount::default() });
            assert!(!said.contains("were lost ("), "{said}");
        }
    }
}
