//! The live line on a terminal: what `run`, `demo` and commands that take long do right now. Where standard error is no terminal there is no line, and logging alone speaks.

use std::io::{self, IsTerminal};
use std::sync::OnceLock;
use std::time::Instant;

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::lane::Condition;

static LINE: OnceLock<ProgressBar> = OnceLock::new();

/// What the line shows.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Events acknowledged since the start.
    pub events: u64,
    /// Their source bytes.
    pub bytes: u64,
    /// Bytes that are there and not acknowledged.
    pub lag: u64,
    /// What the lanes are doing; the worst is shown.
    pub lanes: Vec<Condition>,
}

/// Draws the line while it lives.
#[derive(Debug)]
pub struct Line {
    bar: ProgressBar,
    before: (Instant, u64, u64),
    rate: (f64, f64),
}

impl Line {
    /// A line on standard error, if that is a terminal.
    #[must_use]
    pub fn on_terminal() -> Option<Line> {
        if !io::stderr().is_terminal() {
            return None;
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(4));
        bar.set_style(ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()));
        let bar = LINE.get_or_init(|| bar).clone();
        Some(Line { bar, before: (Instant::now(), 0, 0), rate: (0.0, 0.0) })
    }

    /// Shows new figures.
    pub fn show(&mut self, figures: &Figures) {
        let seconds = self.before.0.elapsed().as_secs_f64().max(0.001);
        let per_second = |now: u64, before: u64| precise(now.saturating_sub(before)) / seconds;
        // Half old, half new: readable, and still quick.
        self.rate.0 = f64::midpoint(self.rate.0, per_second(figures.events, self.before.1));
        self.rate.1 = f64::midpoint(self.rate.1, per_second(figures.bytes, self.before.2));
        self.before = (Instant::now(), figures.events, figures.bytes);
        self.bar.set_message(words(figures, self.rate));
        self.bar.tick();
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// What a command that takes long is doing, on a terminal; nothing where standard error is none.
#[derive(Debug)]
pub struct Task(Option<ProgressBar>);

impl Task {
    /// Something whose end can't be told.
    #[must_use]
    pub fn begin(name: &str) -> Task {
        Task::drawn(None, "{spinner} {prefix}  {elapsed}  {msg}", name)
    }

    /// Something with `total` bytes.
    #[must_use]
    pub fn of_bytes(name: &str, total: u64) -> Task {
        Task::drawn(Some(total), "{prefix}  {bar:30}  {binary_bytes} of {binary_total_bytes}  {binary_bytes_per_sec}  {eta} left", name)
    }

    fn drawn(total: Option<u64>, template: &str, name: &str) -> Task {
        if !io::stderr().is_terminal() {
            return Task(None);
        }
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(4));
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(name.to_owned());
        bar.enable_steady_tick(std::time::Duration::from_millis(250));
        Task(Some(bar))
    }

    /// What it waits for now.
    pub fn say(&self, words: &str) {
        if let Some(bar) = &self.0 {
            bar.set_message(words.to_owned());
        }
    }

    /// So many bytes are done.
    pub fn done(&self, bytes: u64) {
        if let Some(bar) = &self.0 {
            bar.set_position(bytes);
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

fn words(figures: &Figures, rate: (f64, f64)) -> String {
    let lag = if figures.lag == 0 {
        "no lag".to_owned()
    } else if rate.1 >= 1000.0 {
        format!("lag {} ({:.0} s)", HumanBytes(figures.lag), precise(figures.lag) / rate.1)
    } else {
        format!("lag {}", HumanBytes(figures.lag))
    };
    format!("{} events  {:.0}/s  {:.1} MB/s  {lag}  Kafka: {}", HumanCount(figures.events), rate.0, rate.1 / 1e6, state(&figures.lanes))
}

fn state(lanes: &[Condition]) -> String {
    let blocked = lanes.iter().find_map(|lane| match lane {
        Condition::Blocked { reason, .. } => Some(format!("blocked: {reason}")),
        _ => None,
    });
    let waiting = || lanes.iter().any(|lane| matches!(lane, Condition::Connecting(_))).then(|| "waiting".to_owned());
    let open = || lanes.iter().any(|lane| matches!(lane, Condition::Open)).then(|| "sending".to_owned());
    blocked.or_else(waiting).or_else(open).unwrap_or_else(|| "nothing to send yet".to_owned())
}

#[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
fn precise(value: u64) -> f64 {
    value as f64
}

/// Runs `write` with the line out of the way.
///
/// # Errors
/// What `write` returns.
pub fn above_line<T>(write: impl FnOnce() -> T) -> T {
    match LINE.get() {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_rate_lag_and_the_worst_lane() {
        let blocked = Condition::Blocked { reason: "unknown_topic", words: String::new() };
        let figures = Figures { events: 1_500, bytes: 3_000_000, lag: 2_000_000, lanes: vec![Condition::Open, blocked] };
        let line = words(&figures, (1000.0, 1e6));
        for part in ["1,500 events", "1000/s", "1.0 MB/s", "(2 s)", "blocked: unknown_topic"] {
            assert!(line.contains(part), "{line}");
        }
    }
}
