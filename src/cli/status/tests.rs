//! What people see, as text.

use super::*;
use crate::control::status::{Amount, Gaps, Memory, Spill, Unread};

fn events(events: u64) -> Amount {
    Amount { events, bytes: events * 100 }
}

fn now() -> Timestamp {
    "2026-03-01T03:00:00Z".parse().unwrap()
}

fn bad_night() -> Status {
    let nginx = Source {
        kind: "file".into(),
        read: events(1_234_567),
        delivered: events(1_200_000),
        filtered: events(4_000),
        pending: events(30_555),
        lost: [("operator".to_owned(), events(12))].into(),
        missed: [
            ("truncated".to_owned(), Unread { bytes: 4_096, ..Unread::default() }),
            ("before_first_run".to_owned(), Unread { bytes: 1 << 30, ..Unread::default() }),
        ]
        .into(),
        possible_duplicates: 1,
        lag_bytes: 3_500_000,
        files: 12,
        ..Source::default()
    };
    let app = Source { kind: "file".into(), read: events(7), delivered: events(7), files: 1, ..Source::default() };
    let spill = LaneSpill { bytes: 1 << 30, records: 4_000, pending: events(30_000), oldest: Some("2026-03-01T00:57:00Z".into()) };
    let blocked = Lane {
        condition: Doing::Blocked,
        reason: Some("unknown_topic".into()),
        words: Some("topic audit does not exist: create it".into()),
        spill,
    };
    Status {
        version: "0.2.0".into(),
        agent: "ab12".into(),
        host: "web-01".into(),
        running: true,
        balanced: true,
        sources: [("nginx".to_owned(), nginx), ("app".to_owned(), app)].into(),
        lanes: [("audit".to_owned(), blocked), ("logs".to_owned(), Lane { condition: Doing::Open, ..Lane::default() })].into(),
        spill: Spill { bytes: 1_288_490_189, max_bytes: 2 << 30, full_in_seconds: Some(12_000), full: None },
        gaps: Gaps { waiting: 2, sent: 14, ..Gaps::default() },
        memory: Memory { used: 3 << 20, limit: 24 << 20 },
        rules: vec![
            Rule { name: "health checks".into(), matched: 4_000, dropped: 4_000, ..Rule::default() },
            Rule { name: "access log".into(), matched: 1_230_567, changed: 1_230_500, errors: 67, ..Rule::default() },
        ],
        ..Status::default()
    }
}

#[test]
fn a_bad_night_is_told_on_one_screen() {
    insta::assert_snapshot!(text(&bad_night(), now(), Paint::NONE), @r"
logferry 0.2.0 on web-01, agent ab12: runs
The books balance: every event that was read is accounted for.

SOURCE       READ  = DELIVERED  + FILTERED  + LOST  + PENDING      LAG  FILES
app             7            7           0       0          0     none      1
nginx   1,234,567    1,200,000       4,000      12     30,555  3.3 MiB     12

nginx: 12 events lost (operator), 1.1 KiB
nginx: never read (before_first_run): 1 GiB
nginx: never read (truncated): 4 KiB
nginx: 1 file was read that may repeat others

RULE             MATCHED  DROPPED    CHANGED  ERRORS
health checks      4,000    4,000          0       0
access log     1,230,567        0  1,230,500      67

LANE   STATE                   SPILL  WAITING IN IT   OLDEST
audit  BLOCKED: unknown_topic  1 GiB  30,000 events  2 h 3 m
  topic audit does not exist: create it
logs   sending                     -              -        -

Spill   1.2 GiB of 2 GiB, full in 3 h 20 m
Gaps    2 to be sent, 14 sent
Memory  3 MiB of 24 MiB
");
}

#[test]
fn a_stopped_daemon_and_books_that_do_not_balance_are_said_first() {
    let out_of_balance = vec!["app: read 8, accounted for 7".to_owned()];
    let full = Spill { full: Some("no_space".into()), ..bad_night().spill };
    let status = Status {
        running: false,
        balanced: false,
        out_of_balance,
        spill: full,
        lanes: [("t".to_owned(), Lane::default())].into(),
        ..bad_night()
    };
    let text = text(&Status { sources: [].into(), ..status }, now(), Paint::NONE);
    insta::assert_snapshot!(text, @r"
logferry 0.2.0 on web-01, agent ab12: no daemon runs; this is what its last snapshot holds
OUT OF BALANCE: events are unaccounted for. Please report this as a defect.
  app: read 8, accounted for 7

No source has run yet.

RULE             MATCHED  DROPPED    CHANGED  ERRORS
health checks      4,000    4,000          0       0
access log     1,230,567        0  1,230,500      67

LANE  STATE    SPILL  WAITING IN IT  OLDEST
t     stopped      -              -       -

Spill   1.2 GiB of 2 GiB, FULL: the disk is full. The sources wait; free some of the disk
Gaps    2 to be sent, 14 sent
Memory  3 MiB of 24 MiB
");
}

#[test]
fn the_terms_that_are_shown_add_up() {
    let status = bad_night();
    for source in status.sources.values() {
        let [read, terms @ ..] = EQUATION.map(|(.., of)| of(source));
        assert_eq!(read, terms.iter().sum::<u64>());
    }
}

#[test]
fn colour_changes_nothing_but_colour() {
    let painted = text(&bad_night(), now(), Paint::ON);
    assert!(painted.contains("\x1b[1;31m"));
    let mut plain = painted;
    for code in ["\x1b[1;31m", "\x1b[32m", "\x1b[33m", "\x1b[1m", "\x1b[0m"] {
        plain = plain.replace(code, "");
    }
    assert_eq!(plain, text(&bad_night(), now(), Paint::NONE));
}
