//! `logferry positions`: how far every file has been read, and an operator's hand on it.

use clap::Subcommand;

use crate::cli::desk::{Desk, Outcome};
use crate::cli::out::{Paint, Side, amount, bytes, count, counted, harmless, line, say, table, under_heading};
use crate::control::protocol::{Change, SeekTo};
use crate::control::status::{Feed, Stream};

/// What is to be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Lists every stream: its file or journal, how far it is settled, what is left
    Ls {
        /// As JSON: an array of all that `show` tells
        #[arg(long)]
        json: bool,
    },
    /// Tells all that is known of a stream
    Show {
        /// Its id (or the beginning of it), or the path of its file
        stream: String,
    },
    /// Goes on with a stream elsewhere
    ///
    /// Forward, what lies in between is never sent; it is counted as missed with the reason "operator", and the log has who did it. Backward, what
    /// lies in between is sent again. The daemon must be stopped: systemctl stop logferry.
    Seek {
        /// Its id (or the beginning of it), or the path of its file
        stream: String,
        /// start, end, line:N (the first is 1), the offset of a line's first byte, or the cursor of a journal's entry, behind which it goes on
        #[arg(long, value_name = "PLACE", value_parser = place)]
        to: SeekTo,
        /// Do it without asking
        #[arg(long)]
        yes: bool,
    },
    /// Takes a stream out of the state; its counts stay with its source
    ///
    /// Refused while events of it are on their way. A file that is still there is read again from its first byte at the next start.
    Forget {
        /// Its id (or the beginning of it), or the path of its file
        stream: String,
        /// Do it without asking
        #[arg(long)]
        yes: bool,
    },
}

/// Does it.
///
/// # Errors
/// It failed or was refused.
pub fn run(desk: &Desk, command: Command) -> Outcome {
    match command {
        Command::Ls { json: true } => {
            let text = serde_json::to_string_pretty(&desk.streams()?).map_err(|error| error.to_string())?;
            say(&format!("{text}\n"));
            Ok(())
        }
        Command::Ls { json: false } => {
            say(&list(&desk.streams()?, Paint::of_stdout()));
            Ok(())
        }
        Command::Show { stream } => {
            say(&all_of(&find(desk, &stream)?));
            Ok(())
        }
        Command::Seek { stream, to, yes } => {
            let stream = find(desk, &stream)?.id;
            desk.change(Change::Seek { stream, to }, yes)
        }
        Command::Forget { stream, yes } => {
            let stream = find(desk, &stream)?.id;
            desk.change(Change::Forget { stream }, yes)
        }
    }
}

/// A place from the command line.
fn place(text: &str) -> Result<SeekTo, String> {
    let number = |text: &str| {
        text.parse::<u64>().map_err(|_| "it is start, end, line:N, an offset in bytes, or the cursor of an entry of the journal".to_owned())
    };
    match text {
        "start" => Ok(SeekTo::Start),
        "end" => Ok(SeekTo::End),
        cursor if cursor.contains("s=") && cursor.contains("i=") => Ok(SeekTo::Cursor(cursor.to_owned())),
        _ => match text.strip_prefix("line:") {
            Some(line) => number(line).map(SeekTo::Line),
            None => number(text).map(SeekTo::Offset),
        },
    }
}

fn find(desk: &Desk, wanted: &str) -> Result<Stream, String> {
    choose(desk.streams()?, wanted)
}

/// The one stream that is meant. Of several at a path the one that is there; in doubt none.
fn choose(streams: Vec<Stream>, wanted: &str) -> Result<Stream, String> {
    let by_path = wanted.starts_with('/');
    let meant = |stream: &Stream| if by_path { stream.path == wanted } else { stream.id.starts_with(&wanted.to_lowercase()) };
    let mut found: Vec<Stream> = streams.into_iter().filter(meant).collect();
    if by_path && found.iter().filter(|stream| stream.state == "live").count() == 1 {
        found.retain(|stream| stream.state == "live");
    }
    match found.as_slice() {
        [] => Err(format!("there is no stream {}: logferry positions ls shows all", harmless(wanted))),
        [_] => Ok(found.swap_remove(0)),
        [_, ..] => {
            let ids: Vec<_> =
                found.iter().take(10).map(|stream| format!("  {} ({}, {})", stream.id, harmless(&stream.path), stream.state)).collect();
            Err(format!("{} could be meant: name one by its id\n{}", counted(found.len() as u64, "stream", "streams"), ids.join("\n")))
        }
    }
}

fn list(streams: &[Stream], paint: Paint) -> String {
    if streams.is_empty() {
        return "No file has been read yet.\n".into();
    }
    let mut rows = vec![["STREAM", "SOURCE", "STATE", "SETTLED", "SIZE", "LAG", "LANE", "PATH"].map(String::from).to_vec()];
    for stream in streams {
        rows.push(vec![
            stream.id.clone(),
            harmless(&stream.source),
            stream.state.clone(),
            stream.journal.as_ref().map_or_else(|| count(stream.offset), |journal| format!("entry {}", count(journal.number))),
            if stream.journal.is_some() { "-".into() } else { count(stream.size) },
            if stream.lag == 0 { "-".into() } else { bytes(stream.lag) },
            stream.lane.as_deref().map_or_else(|| "-".into(), harmless),
            harmless(&stream.path),
        ]);
    }
    let sides = [Side::Left, Side::Left, Side::Left, Side::Right, Side::Right, Side::Right, Side::Left, Side::Left];
    under_heading(&table(&sides, &rows), paint)
}

fn all_of(stream: &Stream) -> String {
    let Stream { id, source, path, first_path, state, offset, size, lag, lane, feeds, seen, evidence, journal } = stream;
    let state = match state.as_str() {
        "live" => "at its path",
        "rotated" => "renamed away, perhaps still written to",
        "gone" => "deleted or truncated: nothing more will come",
        "copy" => "a copy that rotation left: what it holds was read from its original",
        other => other,
    };
    let mut lines = vec![
        ("stream", id.clone()),
        ("source", harmless(source)),
        ("path", harmless(path)),
        ("first seen at", harmless(first_path)),
        ("state", state.to_owned()),
        ("last seen", seen.clone()),
        (
            "settled",
            match journal {
                Some(journal) => format!("up to entry {}; {} of events so far", count(journal.number), bytes(*offset)),
                None => format!("up to byte {} of {}", count(*offset), count(*size)),
            },
        ),
        ("lag", if journal.is_some() { format!("about {}", bytes(*lag)) } else { bytes(*lag) }),
    ];
    lines.extend(lane.as_ref().map(|lane| ("lane", harmless(lane))));
    lines.extend(feeds.iter().map(|(topic, feed)| ("sent to", fed(topic, feed))));
    let or_none = |text: &String| if text.is_empty() { "none was read yet".to_owned() } else { harmless(text) };
    match journal {
        Some(journal) => lines.extend([
            ("cursor", or_none(&journal.cursor)),
            ("of the boot", or_none(&journal.boot)),
            ("received", or_none(&journal.received)),
            ("numbers of", harmless(&journal.counter)),
        ]),
        None => lines.extend([
            ("device, inode", format!("{}, {}", evidence.dev, evidence.ino)),
            ("made", evidence.born.clone().unwrap_or_else(|| "not known: its file system does not tell".into())),
            ("fingerprint", format!("{} of its first {} bytes", evidence.head_hash, evidence.head_len)),
            ("read from", format!("byte {}; CRC-32C since then {}", count(evidence.begun_at), evidence.hash)),
            ("line", line_of(stream)),
            ("before it", harmless(&evidence.tail)),
        ]),
    }
    let mut text = String::new();
    for (name, value) in lines {
        line(&mut text, &format!("{name:<14} {value}"));
    }
    text
}

fn fed(topic: &str, feed: &Feed) -> String {
    let settled = format!("{} ({} partitions): {} settled", harmless(topic), feed.partitions, amount(&feed.settled));
    match feed.mark {
        Some(mark) => format!("{settled}, also beyond the offset, up to byte {}", count(mark)),
        None => settled,
    }
}

fn line_of(stream: &Stream) -> String {
    let evidence = &stream.evidence;
    if evidence.line_start == stream.offset {
        return "goes on at the beginning of a line".into();
    }
    format!(
        "goes on within a line that begins at byte {}, {} sent",
        count(evidence.line_start),
        counted(evidence.part.into(), "part", "parts")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(id: &str, path: &str, state: &str) -> Stream {
        Stream { id: id.into(), path: path.into(), state: state.into(), source: "s".into(), ..Stream::default() }
    }

    #[test]
    fn a_stream_is_found_by_the_beginning_of_its_id_or_by_its_path() {
        let all =
            || vec![stream("aa01", "/a", "gone"), stream("aa02", "/a", "live"), stream("bb03", "/b", "gone"), stream("bb04", "/b", "gone")];
        let chosen = |wanted| choose(all(), wanted).map(|stream| stream.id);
        assert_eq!(chosen("AA01"), Ok("aa01".into()));
        assert_eq!(chosen("/a"), Ok("aa02".into()), "the one that is there");
        let doubt = chosen("/b").unwrap_err();
        assert!(doubt.contains("2 streams") && doubt.contains("bb03") && doubt.contains("bb04"), "{doubt}");
        assert!(chosen("aa").is_err() && chosen("cc").is_err() && chosen("/c").is_err());
    }

    #[test]
    fn a_place_is_a_word_a_line_or_an_offset() {
        assert_eq!(place("end"), Ok(SeekTo::End));
        assert_eq!(place("line:3"), Ok(SeekTo::Line(3)));
        assert_eq!(place("17"), Ok(SeekTo::Offset(17)));
        assert!(place("-1").is_err() && place("line:x").is_err() && place("").is_err());
    }

    #[test]
    fn a_list_shows_where_each_file_stands() {
        let one = Stream {
            offset: 1_000,
            size: 2_500,
            lag: 1_500,
            lane: Some("logs".into()),
            ..stream("00000000000000aa", "/var/log/a\n", "live")
        };
        insta::assert_snapshot!(list(&[one], Paint::NONE), @r"
STREAM            SOURCE  STATE  SETTLED   SIZE      LAG  LANE  PATH
00000000000000aa  s       live     1,000  2,500  1.4 KiB  logs  /var/log/a\n
");
    }
}
