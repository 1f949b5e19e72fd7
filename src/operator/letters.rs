//! Dead letters in an operator's hands: shown, sent again, thrown away. The same for a running daemon and a stopped one; each brings its own way
//! to the books.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::resend;
use crate::control::Refusal;
use crate::control::letters::{Entry, Letter, List};
use crate::control::user::User;
use crate::dead_letters::{self, DeadLetters, Number};
use crate::kafka;
use crate::ledger::{Fate, Lost};

/// So many bytes of letters are sent, or removed, at a time.
const PORTION: usize = 8 << 20;

/// What is done with letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// They are sent to the topic that refused them.
    Resend,
    /// They are gone.
    Discard,
}

/// Whose letters: of this source, refused by this topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Letters {
    /// The source.
    pub source: Arc<str>,
    /// The topic.
    pub topic: Arc<str>,
}

/// Every letter.
///
/// # Errors
/// They can't be read.
pub fn list(letters: &DeadLetters) -> Result<List, Refusal> {
    let list = letters.list().map_err(|error| Refusal(error.to_string()))?;
    let shown = |entry: dead_letters::Entry| Entry {
        id: entry.id,
        source: entry.source.to_string(),
        topic: entry.topic.to_string(),
        reason: entry.reason,
        time: time(entry.time_ns),
        bytes: entry.value_bytes as u64,
        again: entry.again,
    };
    Ok(List { letters: list.entries.into_iter().map(shown).collect(), unreadable: list.unreadable })
}

/// The first letter that `id` means, whole.
///
/// # Errors
/// There is none, or it can't be read.
pub fn show(letters: &DeadLetters, id: &str) -> Result<Letter, Refusal> {
    let found = letters.letters(id, 0).map_err(|error| Refusal(error.to_string()))?;
    let (_, letter) = found.into_iter().next().ok_or_else(|| none(id))?;
    let entry = Entry {
        id: letter.id,
        source: letter.source.to_string(),
        topic: letter.topic.to_string(),
        reason: letter.reason,
        time: time(letter.time_ns),
        bytes: letter.value.len() as u64,
        again: false,
    };
    let headers = letter.headers.into_iter().map(|(name, value)| (name, value.into())).collect();
    Ok(Letter { entry, words: letter.words, key: letter.key.into(), headers, value: letter.value.into() })
}

/// What would be done with the letters that `id` means (all, if it is empty), in words.
///
/// # Errors
/// There is none, or they can't be read.
pub fn plan(letters: &DeadLetters, id: &str, deed: Deed) -> Result<String, Refusal> {
    let entries = meant(letters, id)?;
    let bytes: u64 = entries.iter().map(|entry| entry.value_bytes as u64).sum();
    let topics: BTreeSet<&str> = entries.iter().map(|entry| &*entry.topic).collect();
    let topics = topics.into_iter().collect::<Vec<_>>().join(", ");
    let count = entries.len();
    Ok(match deed {
        Deed::Resend => {
            format!("{count} letters ({bytes} bytes) would be sent to the topic that refused them ({topics}), and then be removed.")
        }
        Deed::Discard => {
            format!("{count} letters ({bytes} bytes) for {topics} would be removed for good: their events are lost (operator).")
        }
    })
}

fn meant(letters: &DeadLetters, id: &str) -> Result<Vec<dead_letters::Entry>, Refusal> {
    let mut entries = letters.list().map_err(|error| Refusal(error.to_string()))?.entries;
    entries.retain(|entry| dead_letters::is_meant(&entry.id, id));
    if entries.is_empty() { Err(none(id)) } else { Ok(entries) }
}

fn none(id: &str) -> Refusal {
    Refusal(if id.is_empty() {
        "there are no dead letters".into()
    } else {
        format!("there is no dead letter {id}: logferry dead-letters ls shows all")
    })
}

/// Does it with the letters that `id` means. `book` moves events from the dead letters to another fate, durably if nobody else does.
///
/// # Errors
/// A letter was refused again, or could not be removed; the words say how many were done with.
pub fn carry_out(
    letters: &DeadLetters,
    kafka: &kafka::Settings,
    (id, deed): (&str, Deed),
    user: &User,
    book: &mut dyn FnMut(&Letters, u64, Fate) -> Result<(), Refusal>,
) -> Result<String, Refusal> {
    let refusal = |error: &dyn std::fmt::Display| Refusal(error.to_string());
    meant(letters, id)?;
    let (mut done, mut refused) = (0, None);
    while refused.is_none() {
        let mut portion = letters.letters(id, PORTION).map_err(|error| refusal(&error))?;
        if portion.is_empty() {
            break;
        }
        if deed == Deed::Resend {
            let (sent, words) = resend::send(kafka, portion.iter().map(|(_, letter)| letter));
            refused = words;
            let mut sent = sent.into_iter();
            portion.retain(|_| sent.next().unwrap_or(false));
        }
        let numbers: Vec<Number> = portion.iter().map(|(number, _)| *number).collect();
        let of = |letter: &dead_letters::Letter| Letters { source: Arc::clone(&letter.source), topic: Arc::clone(&letter.topic) };
        let ended: BTreeSet<_> = portion.iter().map(|(_, letter)| (of(letter), event_of(&letter.id).to_owned())).collect();
        done += letters.remove(&numbers).map_err(|error| refusal(&error))?;
        for (whose, events) in without_letters(letters, ended)? {
            book(&whose, events, if deed == Deed::Resend { Fate::Delivered } else { Fate::Lost(Lost::Operator) })?;
        }
    }
    match deed {
        Deed::Resend => tracing::warn!(%user, letters = done, asked = id, "an operator sent dead letters again"),
        Deed::Discard => tracing::error!(%user, letters = done, asked = id, "lost: an operator discarded dead letters"),
    }
    match refused {
        Some(words) => {
            Err(Refusal(format!("{done} letters were sent and removed; then one was refused again, and the rest stay: {words}")))
        }
        None if deed == Deed::Resend => Ok(format!("{done} letters were acknowledged by Kafka and removed.")),
        None => Ok(format!("{done} letters are removed; their events are counted as lost (operator).")),
    }
}

/// Of these events, those of which no letter is left, counted by whose they are: of a long event each part is a letter.
fn without_letters(letters: &DeadLetters, mut events: BTreeSet<(Letters, String)>) -> Result<BTreeMap<Letters, u64>, Refusal> {
    for entry in letters.list().map_err(|error| Refusal(error.to_string()))?.entries {
        events.remove(&(Letters { source: entry.source, topic: entry.topic }, event_of(&entry.id).to_owned()));
    }
    let mut counts = BTreeMap::new();
    for (whose, _) in events {
        *counts.entry(whose).or_default() += 1;
    }
    Ok(counts)
}

/// The id without the part: `<stream>:<line start>`.
fn event_of(id: &str) -> &str {
    id.match_indices(':').nth(1).map_or(id, |(at, _)| id.get(..at).unwrap_or(id))
}

fn time(ns: i64) -> String {
    Timestamp::from_nanosecond(ns.into()).map_or_else(|_| String::new(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shutdown::Stop;
    use crate::spill::KeepFree;

    fn letters(dir: &std::path::Path) -> DeadLetters {
        let settings = dead_letters::Settings { dir: dir.to_owned(), max_size: 1 << 30, keep_free: KeepFree::Bytes(0), topic: None };
        DeadLetters::new(
            &settings,
            &kafka::Current::new(kafka::Settings { bootstrap_servers: vec![], properties: vec![] }),
            Arc::new(Stop::default()),
        )
    }

    fn put(letters: &DeadLetters, id: &str) {
        let letter =
            dead_letters::Letter { id: id.into(), source: "s".into(), topic: "t".into(), value: b"x\xff".to_vec(), ..Default::default() };
        letters.put(&letter).unwrap();
    }

    #[test]
    fn discarded_letters_are_lost_once_for_each_event_when_its_last_part_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let letters = letters(dir.path());
        for id in ["aa:0:1", "aa:0:2", "aa:9", "aa:9", "bb:0"] {
            put(&letters, id);
        }
        let kafka = kafka::Settings { bootstrap_servers: vec![], properties: vec![] };
        let mut lost = 0;
        let mut discard = |id| {
            lost = 0;
            let outcome = carry_out(&letters, &kafka, (id, Deed::Discard), &User::me(), &mut |whose, events, fate| {
                assert_eq!((&*whose.source, &*whose.topic, fate), ("s", "t", Fate::Lost(Lost::Operator)));
                lost += events;
                Ok(())
            });
            outcome.map(|_| lost)
        };
        assert_eq!(discard("aa:0:1"), Ok(0), "its other part is still there");
        assert_eq!(discard("aa"), Ok(2), "the long one, and one that was put twice");
        assert!(discard("aa").is_err() && discard("b").is_err());
        assert_eq!(discard(""), Ok(1));
        assert_eq!(list(&letters).unwrap(), List::default());
    }

    #[test]
    fn a_letter_is_shown_with_all_its_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let letters = letters(dir.path());
        put(&letters, "aa:0");
        assert_eq!(show(&letters, "aa").unwrap().value.to_vec(), b"x\xff");
        assert!(plan(&letters, "", Deed::Resend).unwrap().contains("1 letters"));
        assert!(show(&letters, "bb").is_err());
    }
}
