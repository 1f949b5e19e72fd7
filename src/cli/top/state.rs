//! What `logferry top` knows: the last two answers, and where its user looks. Pure.

use std::time::{Duration, Instant};

use crate::control::status::{Source, Status};

/// What can be looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Panel {
    /// Sources.
    #[default]
    Sources,
    /// Lanes.
    Lanes,
    /// Gaps, losses, and what else needs a person.
    Gaps,
}

impl Panel {
    /// In their order.
    pub const ALL: [Panel; 3] = [Panel::Sources, Panel::Lanes, Panel::Gaps];
}

/// A look at the daemon.
#[derive(Clone, Debug)]
struct Look {
    at: Instant,
    status: Status,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct State {
    last: Option<Look>,
    before: Option<Look>,
    /// Since when there is no answer, and why.
    gone: Option<(Instant, String)>,
    /// Where the user looks.
    pub panel: Panel,
    /// Rows that were scrolled past, by panel.
    scrolled: [usize; 3],
}

impl State {
    /// The daemon answered, or did not. Figures of one that is gone stay, as what was seen last.
    pub fn hear(&mut self, at: Instant, answer: Result<Status, String>) {
        match answer {
            Ok(status) => {
                // Of two daemons, or with a pause in between, no rate can be told.
                self.before = if self.gone.take().is_some() { None } else { self.last.take() };
                self.last = Some(Look { at, status });
            }
            Err(why) => {
                let since = self.gone.take().map_or(at, |(since, _)| since);
                self.gone = Some((since, why));
                self.before = None;
            }
        }
    }

    /// What was seen last.
    #[must_use]
    pub fn status(&self) -> Option<&Status> {
        self.last.as_ref().map(|look| &look.status)
    }

    /// For how long there has been no answer, and why.
    #[must_use]
    pub fn gone(&self, now: Instant) -> Option<(Duration, &str)> {
        self.gone.as_ref().map(|(since, why)| (now.saturating_duration_since(*since), why.as_str()))
    }

    /// How fast a figure of a source grows, a second. `None`: it is not known, since there are no two answers, or it fell (another daemon).
    #[must_use]
    pub fn rate(&self, source: &str, of: fn(&Source) -> u64) -> Option<f64> {
        let (before, last) = (self.before.as_ref()?, self.last.as_ref()?);
        let seconds = last.at.saturating_duration_since(before.at).as_secs_f64();
        let grown = of(last.status.sources.get(source)?).checked_sub(before.status.sources.get(source).map_or(0, of))?;
        #[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
        let grown = grown as f64;
        (seconds > 0.0).then(|| grown / seconds)
    }

    /// The same of all sources together.
    #[must_use]
    pub fn total(&self, of: fn(&Source) -> u64) -> Option<f64> {
        let status = self.status()?;
        status.sources.keys().map(|name| self.rate(name, of)).sum()
    }

    /// Looks at a panel so many further on.
    pub fn turn(&mut self, by: usize) {
        let at = (self.at() + by) % Panel::ALL.len();
        self.panel = Panel::ALL.get(at).copied().unwrap_or_default();
    }

    fn at(&self) -> usize {
        Panel::ALL.iter().position(|panel| *panel == self.panel).unwrap_or(0)
    }

    /// Scrolls the panel that is looked at.
    pub fn scroll(&mut self, by: isize) {
        let at = self.at();
        if let Some(rows) = self.scrolled.get_mut(at) {
            *rows = rows.saturating_add_signed(by);
        }
    }

    /// How many of a panel's rows are scrolled past, where `shown` of `all` can be seen.
    pub fn scrolled(&mut self, panel: Panel, all: usize, shown: usize) -> usize {
        let at = Panel::ALL.iter().position(|known| *known == panel).unwrap_or(0);
        let Some(rows) = self.scrolled.get_mut(at) else { return 0 };
        *rows = (*rows).min(all.saturating_sub(shown));
        *rows
    }
}
