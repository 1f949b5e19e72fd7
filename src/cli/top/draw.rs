//! How `logferry top` looks: state in, frame out. A terminal too small for all panels shows the one that is looked at. Pure.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row, Table};

use super::state::{Panel, State};
use crate::cli::out::{bytes, count, counted, harmless};
use crate::cli::status;
use crate::control::status::{Doing, Lane, Source, Status};
use crate::forecast;

const GOOD: Style = Style::new().fg(Color::Green);
const WARN: Style = Style::new().fg(Color::Yellow);
const BAD: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
const HEAD: Style = Style::new().add_modifier(Modifier::BOLD);
/// Below this height one panel is shown.
const ALL_PANELS: u16 = 20;
const KEYS: &str = "q ends · Tab: next panel · arrows, PgUp, PgDn: scroll";

/// Draws everything; `now` and `instant` are the same moment by two clocks.
pub fn draw(frame: &mut Frame<'_>, state: &mut State, now: Timestamp, instant: Instant) {
    let [head, body, keys] = Layout::vertical([Constraint::Length(4), Constraint::Fill(1), Constraint::Length(1)]).areas(frame.area());
    frame.render_widget(Paragraph::new(heading(state, instant)), head);
    frame.render_widget(Paragraph::new(Line::styled(KEYS, Style::new().add_modifier(Modifier::DIM))), keys);
    let Some(status) = state.status().cloned() else { return };
    if body.height < ALL_PANELS {
        return panel(frame, body, state, &status, (state.panel, true), now);
    }
    let lanes = u16::try_from(status.lanes.len()).unwrap_or(u16::MAX).saturating_add(3).min(body.height / 3);
    let [top, middle, bottom] =
        Layout::vertical([Constraint::Fill(1), Constraint::Length(lanes), Constraint::Length(body.height / 4)]).areas(body);
    for (area, which) in [top, middle, bottom].into_iter().zip(Panel::ALL) {
        panel(frame, area, state, &status, (which, which == state.panel), now);
    }
}

fn heading(state: &State, now: Instant) -> Vec<Line<'static>> {
    let gone = state.gone(now).map(|(time, why)| {
        let time = forecast::words(time.max(Duration::from_secs(1)));
        Span::styled(format!("no answer for {time} ({}); it is asked again every second", harmless(why)), BAD)
    });
    let Some(status) = state.status() else {
        let waits = gone.unwrap_or_else(|| Span::raw("asking the daemon …"));
        return vec![Line::from(vec![Span::styled("logferry ", HEAD), waits])];
    };
    let name = format!("logferry {} on {}, agent {}: ", harmless(&status.version), harmless(&status.host), harmless(&status.agent));
    let runs = gone.unwrap_or_else(|| Span::styled("runs", GOOD));
    let books = if status.balanced {
        Span::styled("the books balance", GOOD)
    } else {
        Span::styled(format!("OUT OF BALANCE: {}", harmless(&status.out_of_balance.join("; "))), BAD)
    };
    let rates = format!(
        "read {}/s, delivered {}/s, {}; ",
        rate(state.total(|source| source.read.events)),
        rate(state.total(|source| source.delivered.events)),
        speed(state.total(|source| source.delivered.bytes))
    );
    vec![
        Line::from(vec![Span::styled(name, HEAD), runs]),
        Line::from(vec![Span::raw(rates), books]),
        spill(status),
        Line::raw(format!(
            "memory {} of {}; gaps {} to be sent, {} sent",
            bytes(status.memory.used),
            bytes(status.memory.limit),
            count(status.gaps.waiting),
            count(status.gaps.sent)
        )),
    ]
}

fn spill(status: &Status) -> Line<'static> {
    let spill = &status.spill;
    let size = format!("spill {} of {}", bytes(spill.bytes), bytes(spill.max_bytes));
    match (&spill.full, spill.full_in_seconds) {
        (Some(why), _) => Line::styled(format!("{size}, FULL ({}): the sources wait", harmless(why)), BAD),
        (None, Some(seconds)) => Line::styled(format!("{size}, full in {}", forecast::words(Duration::from_secs(seconds))), WARN),
        (None, None) => Line::raw(size),
    }
}

fn panel(frame: &mut Frame<'_>, area: Rect, state: &mut State, status: &Status, (which, looked_at): (Panel, bool), now: Timestamp) {
    let (title, head, widths, rows) = match which {
        Panel::Sources => sources(state, status, area.width),
        Panel::Lanes => lanes(status, now, area.width),
        Panel::Gaps => gaps(status),
    };
    // The border and the heading.
    let shown = usize::from(area.height.saturating_sub(3));
    let all = rows.len();
    let past = state.scrolled(which, all, shown);
    let hidden = all.saturating_sub(past + shown);
    let more = if past + hidden > 0 { format!(" {}–{} of {all} ", past + 1, all - hidden) } else { String::new() };
    let border = if looked_at { HEAD } else { Style::new().add_modifier(Modifier::DIM) };
    let block = Block::new().borders(Borders::TOP | Borders::BOTTOM).border_style(border).title(format!(" {title}{more} "));
    let table = Table::new(rows.into_iter().skip(past), widths).header(Row::new(head).style(HEAD)).column_spacing(1).block(block);
    frame.render_widget(table, area);
}

/// A panel: its title, the heads of its columns, their widths, its rows.
type Parts = (&'static str, Vec<Cell<'static>>, Vec<Constraint>, Vec<Row<'static>>);

fn right(text: impl Into<String>) -> Cell<'static> {
    Cell::new(Line::from(text.into()).right_aligned())
}

fn left(text: impl Into<String>) -> Cell<'static> {
    Cell::new(Line::from(text.into()))
}

/// A column of figures: its head, its width, and how soon it gives way on a narrow terminal, since half a number is a wrong one.
type Column = (&'static str, u16, u8);

const OF_SOURCES: [Column; 8] = [
    ("READ/s", 9, 1),
    ("SENT/s", 9, 2),
    ("SPEED", 11, 6),
    ("LAG", 10, 3),
    ("PENDING", 13, 5),
    ("FILTERED", 16, 8),
    ("LOST", 11, 4),
    ("READ", 16, 7),
];
const OF_LANES: [Column; 3] = [("SPILL", 10, 1), ("WAITING", 13, 2), ("OLDEST", 10, 3)];
/// The least width of a name.
const NAME: u16 = 12;
const STATE: u16 = 24;

/// Which of these columns have room in this width: those that give way last.
fn fitting(columns: &[Column], room: u16) -> Vec<bool> {
    let before = |rank: u8| columns.iter().filter(|(_, _, other)| *other <= rank).map(|(_, width, _)| width + 1).sum::<u16>();
    columns.iter().map(|(_, _, rank)| before(*rank) <= room).collect()
}

/// Those that fit.
fn those<T>(all: impl IntoIterator<Item = T>, fit: &[bool]) -> impl Iterator<Item = T> {
    all.into_iter().zip(fit).filter(|(_, fits)| **fits).map(|(one, _)| one)
}

fn sources(state: &State, status: &Status, width: u16) -> Parts {
    let fit = fitting(&OF_SOURCES, width.saturating_sub(NAME));
    let head = std::iter::once(left("SOURCE")).chain(those(OF_SOURCES.map(|(head, ..)| right(head)), &fit)).collect();
    let widths = those(OF_SOURCES.map(|(_, width, _)| Constraint::Length(width)), &fit);
    let widths = std::iter::once(Constraint::Min(NAME)).chain(widths).collect();
    let row = |(name, source): (&String, &Source)| {
        let lost: u64 = source.lost.values().map(|lost| lost.events).sum();
        let figures = [
            rate(state.rate(name, |source| source.read.events)),
            rate(state.rate(name, |source| source.delivered.events)),
            speed(state.rate(name, |source| source.delivered.bytes)),
            if source.lag_bytes == 0 { "none".to_owned() } else { bytes(source.lag_bytes) },
            count(source.pending.events),
            count(source.filtered.events),
            count(lost),
            count(source.read.events),
        ];
        let style = match () {
            () if lost > 0 || source.unprotected => BAD,
            () if source.arrivals_full.is_some() => WARN,
            () => Style::new(),
        };
        Row::new(std::iter::once(left(harmless(name))).chain(those(figures.map(right), &fit))).style(style)
    };
    ("Sources", head, widths, status.sources.iter().map(row).collect())
}

fn lanes(status: &Status, now: Timestamp, width: u16) -> Parts {
    let fit = fitting(&OF_LANES, width.saturating_sub(NAME + STATE + 1));
    let head = [left("LANE"), left("STATE")].into_iter().chain(those(OF_LANES.map(|(head, ..)| right(head)), &fit));
    let head = head.chain([left("WHAT IT WAITS FOR")]).collect();
    let widths = [Constraint::Min(NAME), Constraint::Length(STATE)].into_iter();
    let widths = widths.chain(those(OF_LANES.map(|(_, width, _)| Constraint::Length(width)), &fit)).chain([Constraint::Fill(1)]).collect();
    let row = |(topic, lane): (&String, &Lane)| {
        let oldest = lane.spill.oldest.as_ref().and_then(|oldest| oldest.parse::<Timestamp>().ok());
        let age = oldest.map_or_else(|| "-".into(), |oldest| forecast::words(now.duration_since(oldest).unsigned_abs()));
        let style = match lane.condition {
            Doing::Blocked => BAD,
            Doing::Connecting | Doing::Paused | Doing::Unknown => WARN,
            Doing::Idle | Doing::Open => Style::new(),
        };
        let names = [left(harmless(topic)), left(status::state(lane, status.running))].into_iter();
        let figures = [bytes(lane.spill.bytes), count(lane.spill.pending.events), age].map(right);
        let words = left(lane.words.as_deref().map(harmless).unwrap_or_default());
        Row::new(names.chain(those(figures, &fit)).chain([words])).style(style)
    };
    ("Lanes", head, widths, status.lanes.iter().map(row).collect())
}

/// What was lost or missed last; else the sums of earlier times.
fn gaps(status: &Status) -> Parts {
    let head = vec![left("SEEN"), left("SOURCE"), left("WHAT")];
    let widths = vec![Constraint::Length(20), Constraint::Length(14), Constraint::Fill(1)];
    let last = status.gaps.last.iter().map(|gap| {
        let style = if gap.error { BAD } else { WARN };
        Row::new([&gap.at, &gap.source, &gap.words].map(|text| left(harmless(text)))).style(style)
    });
    let sums = status.sources.iter().flat_map(|(name, source)| {
        let gone = source.lost.iter().filter(|(_, amount)| !amount.is_none());
        let gone = gone.map(|(why, amount)| format!("{} lost in all ({why})", counted(amount.events, "event", "events")));
        let missed = source.missed.iter().filter(|(why, _)| !matches!(why.as_str(), "before_first_run" | "hole"));
        let missed = missed.map(|(why, missed)| {
            format!("never read in all ({why}): {}, {}", counted(missed.events, "event", "events"), bytes(missed.bytes))
        });
        gone.chain(missed).map(|words| Row::new([left("in all"), left(harmless(name)), left(harmless(&words))])).collect::<Vec<_>>()
    });
    ("Last gaps", head, widths, last.chain(sums).collect())
}

/// So many a second.
fn rate(rate: Option<f64>) -> String {
    match rate {
        None => "-".into(),
        Some(rate) if rate > 0.0 && rate < 10.0 => format!("{rate:.1}"),
        Some(rate) => count(whole(rate)),
    }
}

fn speed(rate: Option<f64>) -> String {
    rate.map_or_else(|| "-".into(), |rate| format!("{}/s", bytes(whole(rate))))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate is not negative, and what is too large is shown as the largest"
)]
fn whole(rate: f64) -> u64 {
    rate.round() as u64
}
