//! `logferry dead-letters`: what Kafka refused for its size or content, and what becomes of it.

use std::io::Write as _;

use clap::{Args, Subcommand};

use crate::cli::desk::{Desk, Outcome};
use crate::cli::out::{Paint, Side, bytes, counted, harmless, line, say, table, under_heading};
use crate::control::letters::{Bytes, Letter, List};
use crate::control::protocol::{Answer, Change, Request};

/// What is to be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Lists every letter: the event's id, when and why it was refused, by which topic
    Ls {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Shows a letter with the message
    Show {
        /// Its id
        id: String,
        /// Write the message's bytes to standard output, and nothing else
        #[arg(long)]
        raw: bool,
    },
    /// Sends letters once more to the topic that refused them, and removes those that it takes
    ///
    /// Cure the reason first: raise the topic's max.message.bytes, for example. What is refused again stays.
    Resend(Which),
    /// Removes letters for good
    ///
    /// Their events are counted as lost with the reason "operator", and the log has who did it.
    Discard(Which),
}

/// Letters.
#[derive(Debug, Args)]
pub struct Which {
    /// A letter's id, or its beginning up to a colon: a line with all its parts, or a stream
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    id: Option<String>,
    /// All letters
    #[arg(long)]
    all: bool,
    /// Do it without asking
    #[arg(long)]
    yes: bool,
}

/// Does it.
///
/// # Errors
/// It failed or was refused.
pub fn run(desk: &Desk, command: Command) -> Outcome {
    match command {
        Command::Ls { json } => {
            let Answer::DeadLetters(list) = desk.ask(&Request::DeadLetters, &mut |_| ())? else { return Err(strange()) };
            if json {
                say(&format!("{}\n", serde_json::to_string_pretty(&list).map_err(|error| error.to_string())?));
            } else {
                say(&text(&list, Paint::of_stdout()));
            }
            Ok(())
        }
        Command::Show { id, raw } => {
            let Answer::DeadLetter(letter) = desk.ask(&Request::DeadLetter { id }, &mut |_| ())? else { return Err(strange()) };
            if raw {
                // A reader that has gone away is no reason to fail.
                let _ = std::io::stdout().write_all(&letter.value.to_vec());
            } else {
                say(&whole(&letter));
            }
            Ok(())
        }
        Command::Resend(Which { id, yes, .. }) => desk.change(Change::Resend { id: id.unwrap_or_default() }, yes),
        Command::Discard(Which { id, yes, .. }) => desk.change(Change::DiscardLetters { id: id.unwrap_or_default() }, yes),
    }
}

fn strange() -> String {
    "the daemon gave an answer to another question: restart it with the release of this command".into()
}

fn text(list: &List, paint: Paint) -> String {
    let mut rows = vec![["EVENT", "REFUSED AT", "BY TOPIC", "WHY", "SIZE", "SOURCE", ""].map(String::from).to_vec()];
    for letter in &list.letters {
        rows.push(vec![
            harmless(&letter.id),
            letter.time.clone(),
            harmless(&letter.topic),
            harmless(&letter.reason),
            bytes(letter.bytes),
            harmless(&letter.source),
            if letter.again { "again".into() } else { String::new() },
        ]);
    }
    let sides = [Side::Left, Side::Left, Side::Left, Side::Left, Side::Right, Side::Left, Side::Left];
    let mut text =
        if list.letters.is_empty() { "There are no dead letters.\n".into() } else { under_heading(&table(&sides, &rows), paint) };
    list.unreadable.iter().for_each(|words| line(&mut text, &paint.bad(&harmless(words))));
    if !list.letters.is_empty() {
        line(&mut text, &counted(list.letters.len() as u64, "letter", "letters"));
    }
    text
}

fn whole(letter: &Letter) -> String {
    let entry = &letter.entry;
    let show = |bytes: &Bytes| match bytes {
        Bytes::Text(text) => harmless(text),
        Bytes::Base64(text) => format!("{text} (base64)"),
    };
    let mut lines = vec![
        ("event", harmless(&entry.id)),
        ("source", harmless(&entry.source)),
        ("refused by", harmless(&entry.topic)),
        ("refused at", entry.time.clone()),
        ("why", format!("{}: {}", harmless(&entry.reason), harmless(&letter.words))),
        ("key", show(&letter.key)),
    ];
    lines.extend(letter.headers.iter().map(|(name, value)| ("header", format!("{}: {}", harmless(name), show(value)))));
    lines.extend([("size", bytes(entry.bytes)), ("value", show(&letter.value))]);
    let mut text = String::new();
    for (name, value) in &lines {
        line(&mut text, &format!("{name:<10} {value}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::letters::Entry;

    #[test]
    fn a_list_says_why_each_was_refused() {
        let letter = Entry {
            id: "00aa:7".into(),
            source: "app".into(),
            topic: "logs".into(),
            reason: "too_large".into(),
            time: "2026-03-01T03:00:00Z".into(),
            bytes: 2 << 20,
            again: false,
        };
        let twice = Entry { again: true, ..letter.clone() };
        let list = List { letters: vec![letter, twice], unreadable: vec!["a file is damaged".into()] };
        insta::assert_snapshot!(text(&list, Paint::NONE), @r"
        EVENT   REFUSED AT            BY TOPIC  WHY         SIZE  SOURCE
        00aa:7  2026-03-01T03:00:00Z  logs      too_large  2 MiB  app
        00aa:7  2026-03-01T03:00:00Z  logs      too_large  2 MiB  app     again
        a file is damaged
        2 letters
        ");
    }
}
