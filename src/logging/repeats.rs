//! A warning or an error that repeats: of one place in the code, source and topic, [`SHOWN`] are logged in [`INTERVAL`]; what is beyond is held
//! back, and told with its count when the interval is over. Apart because no place in the code has to think of it. [`Table`] is pure.
//!
//! What is less important than a warning, and what has a `user` (what a person did), is never held back.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::fmt::{Debug, Write as _};
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// So many of one kind are logged in an interval.
pub const SHOWN: u32 = 30;
/// How long one lasts.
pub const INTERVAL: Duration = Duration::from_secs(60);
/// Kinds that are told apart; those beyond share one count.
pub const KINDS: usize = 256;
/// Of the message that is repeated, so many characters are kept.
const WORDS: usize = 200;
/// Of what was held back itself: never held back.
const TARGET: &str = "logferry::repeats";
/// The kind of all that are beyond [`KINDS`].
const OTHERS: u64 = 0;

/// What was held back of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Whether they were errors; else warnings.
    pub error: bool,
    /// How many.
    pub count: u64,
    /// The first of them, cut.
    pub words: String,
}

struct Kind {
    since: Instant,
    seen: u32,
    held: Held,
}

/// How often what was logged; at most [`KINDS`] entries and one more.
#[derive(Default)]
pub struct Table {
    kinds: HashMap<u64, Kind>,
}

impl Table {
    /// Whether one more of this kind is logged; if not, it is counted, and `words` asked for where they are not known yet.
    pub fn takes(&mut self, kind: u64, error: bool, now: Instant, words: impl FnOnce() -> String) -> bool {
        let full = self.kinds.len() >= KINDS && !self.kinds.contains_key(&kind);
        let fresh = || Kind { since: now, seen: 0, held: Held { error, count: 0, words: String::new() } };
        let kind = self.kinds.entry(if full { OTHERS } else { kind }).or_insert_with(fresh);
        if kind.held.count == 0 && now.saturating_duration_since(kind.since) >= INTERVAL {
            *kind = fresh();
        }
        kind.seen = kind.seen.saturating_add(1);
        if kind.seen <= SHOWN {
            return true;
        }
        if kind.held.count == 0 {
            kind.held.words = words();
        }
        kind.held.count += 1;
        kind.held.error |= error;
        false
    }

    /// What was held back in intervals that are over by now (`None`: in all), and forgets them.
    pub fn over(&mut self, now: Option<Instant>) -> Vec<Held> {
        let is_over = |kind: &Kind| now.is_none_or(|now| now.saturating_duration_since(kind.since) >= INTERVAL);
        let over = self.kinds.extract_if(|_, kind| is_over(kind));
        over.map(|(_, kind)| kind.held).filter(|held| held.count > 0).collect()
    }
}

/// The layer over a [`Table`]. Off until it is needed: a command that ends soon says all it has to say.
pub struct Repeats {
    on: AtomicBool,
    table: OnceLock<Mutex<Table>>,
}

impl Repeats {
    /// Nothing is held back yet.
    #[must_use]
    pub const fn new() -> Repeats {
        Repeats { on: AtomicBool::new(false), table: OnceLock::new() }
    }

    /// From now on.
    pub fn on(&self) {
        self.on.store(true, Ordering::Relaxed);
    }

    fn table(&self) -> &Mutex<Table> {
        self.table.get_or_init(Mutex::default)
    }

    fn takes(&self, event: &Event<'_>) -> bool {
        let meta = event.metadata();
        if *meta.level() > Level::WARN
            || meta.target() == TARGET
            || !self.on.load(Ordering::Relaxed)
            || meta.fields().field("user").is_some()
        {
            return true;
        }
        let mut kind = OfKind(DefaultHasher::new());
        meta.callsite().hash(&mut kind.0);
        event.record(&mut kind);
        let words = || {
            let mut words = Words(String::new());
            event.record(&mut words);
            words.0.chars().take(WORDS).collect()
        };
        let is_error = *meta.level() == Level::ERROR;
        self.table().lock().unwrap_or_else(PoisonError::into_inner).takes(kind.0.finish(), is_error, Instant::now(), words)
    }

    /// Logs what was held back in intervals that are over (`None`: in all).
    pub fn tell(&self, now: Option<Instant>) {
        // Not under the lock: what is logged comes here.
        let held = self.table().lock().unwrap_or_else(PoisonError::into_inner).over(now);
        for Held { error, count, words } in held {
            if error {
                tracing::error!(target: TARGET, held_back = count, "{count} more like this were held back: {words}");
            } else {
                tracing::warn!(target: TARGET, held_back = count, "{count} more like this were held back: {words}");
            }
        }
    }
}

impl Default for Repeats {
    fn default() -> Repeats {
        Repeats::new()
    }
}

impl<S: Subscriber> Layer<S> for &'static Repeats {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        self.takes(event)
    }
}

/// What tells kinds of one place in the code apart.
struct OfKind(DefaultHasher);

impl Visit for OfKind {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if matches!(field.name(), "source" | "topic") {
            format!("{value:?}").hash(&mut self.0);
        }
    }
}

/// The message with its fields.
struct Words(String);

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing into a string can't fail.
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?} "),
            name => write!(self.0, "{name}={value:?} "),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> String {
        "disk is full".into()
    }

    #[test]
    fn what_repeats_is_held_back_and_told_once_with_its_count() {
        let (mut table, start) = (Table::default(), Instant::now());
        let taken = (0..100).filter(|_| table.takes(7, true, start, words)).count();
        assert_eq!(taken, SHOWN as usize);
        assert!(table.takes(8, true, start, words), "another kind");
        assert_eq!(table.over(Some(start + INTERVAL / 2)), []);
        let told = table.over(Some(start + INTERVAL));
        assert_eq!(told, [Held { error: true, count: 100 - u64::from(SHOWN), words: words() }]);
        assert!(table.takes(7, true, start + INTERVAL, words), "a new interval");
        assert_eq!(table.over(None), [], "nothing was held back since");
    }

    #[test]
    fn its_memory_has_a_limit_and_no_kind_escapes_the_counting() {
        let (mut table, now) = (Table::default(), Instant::now());
        let taken = (1..=10_000).filter(|kind| table.takes(*kind, false, now, words)).count();
        assert_eq!((taken, table.kinds.len()), (KINDS + SHOWN as usize, KINDS + 1));
        let held: u64 = table.over(None).iter().map(|held| held.count).sum();
        assert_eq!(usize::try_from(held).unwrap() + taken, 10_000);
    }

    #[test]
    fn only_warnings_and_errors_of_one_source_and_topic_are_held_back() {
        use tracing_subscriber::layer::SubscriberExt;
        struct Count(Mutex<Vec<String>>);
        impl<S: Subscriber> Layer<S> for &'static Count {
            fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
                let mut words = Words(String::new());
                event.record(&mut words);
                self.0.lock().unwrap().push(words.0);
            }
        }
        let count: &'static Count = Box::leak(Box::new(Count(Mutex::default())));
        let repeats: &'static Repeats = Box::leak(Box::default());
        repeats.on();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(count).with(repeats), || {
            for _ in 0..SHOWN + 5 {
                for source in ["a", "b"] {
                    tracing::warn!(source, "can't be read");
                }
                tracing::info!("all is well");
                tracing::error!(user = "root", "discarded");
            }
            repeats.tell(None);
        });
        let seen = count.0.lock().unwrap();
        let of = |text: &str| seen.iter().filter(|words| words.starts_with(text)).count();
        assert_eq!(of("can't be read"), SHOWN as usize * 2);
        assert_eq!((of("all is well"), of("discarded")), (SHOWN as usize + 5, SHOWN as usize + 5));
        assert_eq!(of("5 more like this were held back: can't be read"), 2, "{seen:?}");
    }
}
