//! The text that Prometheus reads, format 0.0.4: families of samples, each with a line of help and its type. Pure.
//!
//! Prometheus takes a counter that falls for one that began anew, and counts all of it once more. The books fall: a little after a kill, when what
//! no snapshot had is read again, and by what leaves the dead letters. So what is shown of a counter is how much it has grown since the start:
//! [`Growth`] knows the last figure of each series, and a fall grows nothing.

use std::collections::HashMap;
use std::fmt::Write as _;

/// What this is, for HTTP.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What kind of figure a family has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Grows, from 0 at the start.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How often something took how long.
    Histogram,
}

/// Some series' last figure, and how much it has grown.
#[derive(Debug, Default)]
pub struct Growth {
    /// As many as there are series of counters.
    series: HashMap<String, (u64, u64)>,
    begun: bool,
}

impl Growth {
    /// How much this series has grown since the start; of one that was not there at the start all has grown.
    fn of(&mut self, series: &str, figure: u64) -> u64 {
        let before = if self.begun { 0 } else { figure };
        let (last, grown) = match self.series.get_mut(series) {
            Some(known) => known,
            None => self.series.entry(series.to_owned()).or_insert((before, 0)),
        };
        *grown += figure.saturating_sub(*last);
        *last = figure;
        *grown
    }

    /// What was shown until now was the start.
    pub fn begin(&mut self) {
        self.begun = true;
    }
}

/// The text being written.
#[derive(Debug)]
pub struct Text<'a> {
    out: String,
    growth: &'a mut Growth,
    name: &'static str,
    kind: Kind,
    series: String,
}

/// Names and values.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

impl<'a> Text<'a> {
    /// An empty one.
    #[must_use]
    pub fn new(growth: &'a mut Growth) -> Text<'a> {
        Text { out: String::new(), growth, name: "", kind: Kind::Gauge, series: String::new() }
    }

    /// Begins a family. `help` is one line without backslashes.
    pub fn family(&mut self, name: &'static str, kind: Kind, help: &str) {
        (self.name, self.kind) = (name, kind);
        let word = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        // Writing into a string can't fail.
        let _ = writeln!(self.out, "# HELP {name} {help}\n# TYPE {name} {word}");
    }

    /// A sample: of a counter what it stands at, whenever it began.
    pub fn whole(&mut self, labels: Labels<'_>, value: u64) {
        self.series_of("", labels);
        let value = if self.kind == Kind::Counter { self.growth.of(&self.series, value) } else { value };
        let _ = writeln!(self.out, "{} {value}", self.series);
    }

    /// A sample that is no whole number; of a counter, what it is to show.
    pub fn real(&mut self, labels: Labels<'_>, value: f64) {
        self.series_of("", labels);
        let _ =
            if value == f64::INFINITY { writeln!(self.out, "{} +Inf", self.series) } else { writeln!(self.out, "{} {value}", self.series) };
    }

    /// A histogram: for each bucket up to how many seconds it goes and how many were in it alone, the last one without a limit; and the sum.
    pub fn histogram(&mut self, labels: Labels<'_>, buckets: impl Iterator<Item = (f64, u64)>, seconds: f64) {
        let mut count = 0;
        for (limit, within) in buckets {
            count += within;
            let limit = if limit == f64::INFINITY { "+Inf".to_owned() } else { limit.to_string() };
            self.series_of("_bucket", &[labels, &[("le", limit.as_str())]].concat());
            let _ = writeln!(self.out, "{} {count}", self.series);
        }
        self.series_of("_sum", labels);
        let _ = writeln!(self.out, "{} {seconds}", self.series);
        self.series_of("_count", labels);
        let _ = writeln!(self.out, "{} {count}", self.series);
    }

    /// All of it.
    #[must_use]
    pub fn finish(self) -> String {
        self.out
    }

    fn series_of(&mut self, suffix: &str, labels: Labels<'_>) {
        self.series.clear();
        self.series.extend([self.name, suffix]);
        for (at, (name, value)) in labels.iter().enumerate() {
            self.series.push(if at == 0 { '{' } else { ',' });
            self.series.push_str(name);
            self.series.push_str("=\"");
            for c in value.chars() {
                match c {
                    '\\' => self.series.push_str(r"\\"),
                    '"' => self.series.push_str("\\\""),
                    '\n' => self.series.push_str(r"\n"),
                    c => self.series.push(c),
                }
            }
            self.series.push('"');
        }
        if !labels.is_empty() {
            self.series.push('}');
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counter(growth: &mut Growth, label: &str, value: u64) -> String {
        let mut text = Text::new(growth);
        text.family("a_total", Kind::Counter, "What.");
        text.whole(&[("l", label)], value);
        text.finish().lines().last().unwrap_or_default().to_owned()
    }

    #[test]
    fn a_counter_shows_what_it_has_grown_and_never_falls() {
        let mut growth = Growth::default();
        assert_eq!(counter(&mut growth, "x", 100), "a_total{l=\"x\"} 0", "what there was at the start");
        growth.begin();
        let shown = [100, 130, 120, 125, 5, 6].map(|value| counter(&mut growth, "x", value));
        assert_eq!(shown.map(|line| line.rsplit(' ').next().unwrap().to_owned()), ["0", "30", "30", "35", "35", "36"]);
        assert_eq!(counter(&mut growth, "new", 7), "a_total{l=\"new\"} 7", "what was not there at the start");
    }

    #[test]
    fn families_look_like_this() {
        let mut growth = Growth::default();
        growth.begin();
        let mut text = Text::new(&mut growth);
        text.family("a_bytes", Kind::Gauge, "So much.");
        text.whole(&[], 3);
        text.real(&[("b", "a\\b\"c\nd\u{1f600}")], f64::INFINITY);
        text.family("t_seconds", Kind::Histogram, "So long.");
        text.histogram(&[("topic", "logs")], [(0.1, 1), (2.0, 0), (f64::INFINITY, 2)].into_iter(), 7.5);
        insta::assert_snapshot!(text.finish(), @r#"
        # HELP a_bytes So much.
        # TYPE a_bytes gauge
        a_bytes 3
        a_bytes{b="a\\b\"c\nd😀"} +Inf
        # HELP t_seconds So long.
        # TYPE t_seconds histogram
        t_seconds_bucket{topic="logs",le="0.1"} 1
        t_seconds_bucket{topic="logs",le="2"} 1
        t_seconds_bucket{topic="logs",le="+Inf"} 3
        t_seconds_sum{topic="logs"} 7.5
        t_seconds_count{topic="logs"} 3
        "#);
    }

    proptest! {
        #[test]
        fn whatever_a_label_holds_a_sample_stays_one_line(label: String) {
            let mut growth = Growth::default();
            let line = counter(&mut growth, &label, 1);
            prop_assert!(line.starts_with("a_total{l=\"") && line.ends_with("\"} 0"), "{line}");
        }
    }
}
