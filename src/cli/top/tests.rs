//! What is drawn for given answers, on terminals of any size.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use proptest::prelude::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::draw::draw;
use super::pressed;
use super::state::{Panel, State};
use crate::control::status::{Amount, Doing, Gaps, Lane, LaneSpill, LastGap, Memory, Source, Spill, Status};

const SECOND: Duration = Duration::from_secs(1);

fn status(read: u64, delivered: u64) -> Status {
    let of = |events| Amount { events, bytes: events * 100 };
    let web = Source { read: of(read), delivered: of(delivered), pending: of(read - delivered), lag_bytes: 2048, ..Source::default() };
    let lost = Source { read: of(7), lost: BTreeMap::from([("operator".into(), of(7))]), ..Source::default() };
    let blocked = Lane {
        condition: Doing::Blocked,
        reason: Some("unknown_topic".into()),
        words: Some("create the topic\u{1b}[2J".into()),
        spill: LaneSpill { bytes: 1 << 20, pending: of(3), oldest: Some("2026-11-27T11:00:00Z".into()), ..LaneSpill::default() },
    };
    let gap = LastGap { at: "2026-11-27T11:59:00Z".into(), source: "old".into(), error: true, words: "7 events were discarded".into() };
    Status {
        version: "1.0.0".into(),
        host: "web-01".into(),
        agent: "a1".into(),
        running: true,
        balanced: true,
        sources: BTreeMap::from([("web".into(), web), ("old".into(), lost)]),
        lanes: BTreeMap::from([("logs".into(), Lane::default()), ("more".into(), blocked)]),
        spill: Spill { bytes: 1 << 20, max_bytes: 2 << 30, full_in_seconds: Some(7200), ..Spill::default() },
        gaps: Gaps { waiting: 1, sent: 2, last: vec![gap] },
        memory: Memory { used: 1 << 20, limit: 24 << 20 },
        ..Status::default()
    }
}

fn drawn(state: &mut State, (width, height): (u16, u16), instant: Instant) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let now: Timestamp = "2026-11-27T12:00:00Z".parse().unwrap();
    terminal.draw(|frame| draw(frame, state, now, instant)).unwrap();
    let buffer = terminal.backend().buffer();
    let cells: Vec<&str> = buffer.content().iter().map(ratatui::buffer::Cell::symbol).collect();
    cells.chunks(usize::from(width.max(1))).map(|line| line.concat().trim_end().to_owned() + "\n").collect()
}

#[test]
fn one_screen_has_sources_lanes_spill_and_gaps_with_rates_of_two_answers() {
    let (mut state, start) = (State::default(), Instant::now());
    state.hear(start, Ok(status(1000, 900)));
    state.hear(start + SECOND * 2, Ok(status(3000, 1000)));
    let screen = drawn(&mut state, (120, 40), start + SECOND * 2);
    for part in [
        "logferry 1.0.0 on web-01, agent a1: runs",
        "read 1,000/s, delivered 50/s, 4.8 KiB/s; the books balance",
        "spill 1 MiB of 2 GiB, full in 2 h",
        "memory 1 MiB of 24 MiB; gaps 1 to be sent, 2 sent",
        "BLOCKED: unknown_topic",
        "create the topic\\u{1b}[2J",
        "7 events were discarded",
        "7 events lost in all (operator)",
        "q ends",
    ] {
        assert!(screen.contains(part), "{part} is not in\n{screen}");
    }
    let web = screen.lines().find(|line| line.starts_with("web ")).unwrap();
    let cells: Vec<&str> = web.split_whitespace().collect();
    assert_eq!(cells, ["web", "1,000", "50", "4.8", "KiB/s", "2", "KiB", "2,000", "0", "0", "3,000"]);
}

#[test]
fn a_narrow_terminal_has_fewer_columns_and_no_half_numbers() {
    let (mut state, start) = (State::default(), Instant::now());
    let large = |more: u64| status(123_456_789_000 + more, 123_456_780_000);
    state.hear(start, Ok(large(0)));
    state.hear(start + SECOND, Ok(large(7_000_000)));
    for (width, wanted) in [
        (130, vec!["7,000,000", "0", "0", "B/s", "2", "KiB", "7,009,000", "0", "0", "123,463,789,000"]),
        (80, vec!["7,000,000", "0", "2", "KiB", "7,009,000", "0"]),
        (50, vec!["7,000,000", "0", "2", "KiB"]),
        (24, vec!["7,000,000"]),
    ] {
        let screen = drawn(&mut state, (width, 40), start + SECOND);
        let web = screen.lines().find(|line| line.starts_with("web ")).unwrap();
        assert_eq!(web.split_whitespace().skip(1).collect::<Vec<_>>(), wanted, "{width} columns\n{screen}");
    }
}

#[test]
fn a_daemon_that_is_gone_is_said_and_its_last_figures_stay() {
    let (mut state, start) = (State::default(), Instant::now());
    state.hear(start, Err("no daemon runs".into()));
    assert!(drawn(&mut state, (100, 30), start + SECOND * 9).contains("no answer for 9 s (no daemon runs)"));
    state.hear(start, Ok(status(1000, 900)));
    state.hear(start + SECOND, Ok(status(2000, 900)));
    state.hear(start + SECOND * 2, Err("no daemon runs".into()));
    state.hear(start + SECOND * 3, Err("no daemon runs".into()));
    let screen = drawn(&mut state, (100, 30), start + SECOND * 62);
    assert!(screen.contains("no answer for 1 m") && screen.contains("2,000"), "{screen}");
    assert_eq!(state.rate("web", |source| source.read.events), None);
    // Another daemon, whose counts begin anew.
    state.hear(start + SECOND * 63, Ok(status(10, 10)));
    assert_eq!(state.rate("web", |source| source.read.events), None);
    state.hear(start + SECOND * 64, Ok(status(15, 10)));
    assert_eq!(state.rate("web", |source| source.read.events), Some(5.0));
    state.hear(start + SECOND * 65, Ok(status(14, 10)));
    assert_eq!(state.rate("web", |source| source.read.events), None, "a count never falls");
    assert!(drawn(&mut state, (100, 30), start + SECOND * 65).contains("a1: runs"));
}

#[test]
fn many_sources_can_be_scrolled_and_the_end_is_the_end() {
    let mut many = status(10, 10);
    many.sources = (0..100).map(|number| (format!("s{number:02}"), Source::default())).collect();
    let (mut state, now) = (State::default(), Instant::now());
    state.hear(now, Ok(many));
    assert!(drawn(&mut state, (100, 16), now).contains("1–8 of 100"));
    let press = |state: &mut State, code| pressed(state, KeyEvent::new(code, KeyModifiers::NONE));
    assert!(press(&mut state, KeyCode::Down) && press(&mut state, KeyCode::PageDown));
    assert!(drawn(&mut state, (100, 16), now).contains("12–19 of 100"));
    (0..50).for_each(|_| assert!(press(&mut state, KeyCode::PageDown)));
    let screen = drawn(&mut state, (100, 16), now);
    assert!(screen.contains("93–100 of 100") && screen.contains("s99"), "{screen}");
    assert!(press(&mut state, KeyCode::Up));
    assert!(drawn(&mut state, (100, 16), now).contains("92–99 of 100"));
    assert!(press(&mut state, KeyCode::Home));
    assert!(drawn(&mut state, (100, 16), now).contains("1–8 of 100"));
    assert!(press(&mut state, KeyCode::Tab));
    assert_eq!(state.panel, Panel::Lanes);
    assert!(drawn(&mut state, (100, 16), now).contains("Lanes"), "a small terminal shows the panel that is looked at");
    assert!(press(&mut state, KeyCode::BackTab) && press(&mut state, KeyCode::BackTab));
    assert_eq!(state.panel, Panel::Gaps);
    assert!(!press(&mut state, KeyCode::Char('q')) && !press(&mut state, KeyCode::Esc));
    assert!(!pressed(&mut state, KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_terminal_is_too_small(width in 0_u16..60, height in 0_u16..40, turns in 0_usize..3, down in 0_isize..200) {
        let (mut state, now) = (State::default(), Instant::now());
        drawn(&mut state, (width, height), now);
        state.hear(now, Ok(status(1000, 900)));
        state.turn(turns);
        state.scroll(down);
        drawn(&mut state, (width, height), now);
    }
}
