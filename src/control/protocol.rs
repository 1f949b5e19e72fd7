//! What is asked over the control socket, and what is answered: one line of JSON each, with lines of progress before the answer to what takes
//! long. Pure. Apart so that both ends, and a command that works on a stopped daemon's state without any socket, speak the same words.
//!
//! ```text
//! asked      {"v":1,"request":{"ask":"status"}}
//! answered   {"progress":{…}}   any number, for `drain`
//!            {"flow":{…}}       any number, for `tap`, until whoever asked closes the connection
//!            {"status":{…}}     or another of Answer, the last line
//! ```
//! An older command (which asked `explain PATH` in plain text) and a newer one are told plainly that they don't fit; nothing is done for them.

use std::ffi::OsString;

use serde::{Deserialize, Serialize};

use super::letters::{Letter, List};
use super::status::{Status, Stream};
use crate::tap::Flow;

/// The version that both ends must have. Raised when a question changes its meaning; a new question alone needs no new one.
pub const VERSION: u32 = 1;

/// Where a stream is to go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeekTo {
    /// At this byte, which must be the first of a line.
    Offset(u64),
    /// At the first byte of this line, counted from 1.
    Line(u64),
    /// Behind the last whole line, or the last entry.
    End,
    /// At the first byte, or the oldest entry.
    Start,
    /// Behind the entry of the journal that has this cursor.
    Cursor(String),
}

/// Something that changes what is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    /// Goes on with a stream elsewhere.
    Seek {
        /// Its id, hexadecimal.
        stream: String,
        /// Where.
        to: SeekTo,
    },
    /// Takes a stream out of the state.
    Forget {
        /// Its id, hexadecimal.
        stream: String,
    },
    /// Stops sending to a topic; what comes for it waits.
    Pause {
        /// The topic.
        lane: String,
    },
    /// Sends to it again.
    Resume {
        /// The topic.
        lane: String,
    },
    /// Sends dead letters again.
    Resend {
        /// The event's id, or its beginning up to a colon; empty for all.
        id: String,
    },
    /// Throws dead letters away.
    DiscardLetters {
        /// The same.
        id: String,
    },
    /// Throws away what waits in a lane.
    Discard {
        /// The topic.
        lane: String,
    },
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Request {
    /// For [`Answer::Status`].
    Status,
    /// What is known of a file: [`Answer::Text`].
    Explain {
        /// Its absolute path.
        path: OsString,
    },
    /// For [`Answer::Streams`].
    Streams,
    /// What of a lane's spill is acknowledged: [`Answer::Spilled`].
    Spilled {
        /// The topic.
        lane: String,
    },
    /// For [`Answer::DeadLetters`].
    DeadLetters,
    /// For [`Answer::DeadLetter`].
    DeadLetter {
        /// The event's id.
        id: String,
    },
    /// What a change would do ([`Answer::Text`]), or with `go` the change itself and what it did.
    Change {
        /// Which.
        change: Change,
        /// Whether it is to be done.
        go: bool,
    },
    /// Has the configuration read anew: [`Answer::Text`].
    Reload,
    /// Which level the log is at ([`Answer::Text`]); with a level, that one from now on for a time.
    LogLevel {
        /// Its name.
        level: Option<String>,
        /// For so long, seconds.
        for_s: u64,
    },
    /// What flows through a source: [`Answer::Flow`], until nobody takes it.
    Tap {
        /// Its name.
        source: String,
        /// Events a second at most.
        rate: u32,
    },
    /// Waits until all that exists now is acknowledged: [`Answer::Progress`], at last [`Answer::Drained`].
    Drain {
        /// At most so long, seconds.
        timeout_s: u64,
    },
}

/// What a drain still waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Left {
    /// Bytes in files that are not settled yet.
    pub unread_bytes: u64,
    /// Events that were read and are not acknowledged.
    pub events: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Lanes that can't send, each with what it waits for.
    pub blocked: Vec<String>,
}

/// What of the records of a lane's spill is acknowledged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Spilled {
    /// All records before this one.
    pub head: u64,
    /// From there on: of the record, of its run, so many messages from the first.
    pub acked: Vec<(u64, u32, u32)>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Everything at a glance.
    Status(Box<Status>),
    /// Every stream.
    Streams(Vec<Stream>),
    /// What is acknowledged.
    Spilled(Spilled),
    /// Every dead letter.
    DeadLetters(List),
    /// One of them, whole.
    DeadLetter(Box<Letter>),
    /// Words for people.
    Text(String),
    /// What flows; more lines follow.
    Flow(Flow),
    /// How far it has come; more lines follow.
    Progress(Left),
    /// It has ended; what is left, where the time was up before.
    Drained(Option<Left>),
    /// Not done, and why, with the remedy.
    Refused(String),
}

#[derive(Serialize, Deserialize)]
struct Question {
    v: u32,
    request: Request,
}

/// A question as a line, its end included.
///
/// # Errors
/// It can't be said in JSON, which none of ours is.
pub fn question(request: &Request) -> serde_json::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(&Question { v: VERSION, request: request.clone() })?;
    line.push(b'\n');
    Ok(line)
}

/// What was asked in a line without its end.
///
/// # Errors
/// What to answer: the line is of another version, or makes no sense.
pub fn understand(line: &[u8]) -> Result<Request, String> {
    #[derive(Deserialize)]
    struct Version {
        v: u32,
    }
    let ours = env!("CARGO_PKG_VERSION");
    match serde_json::from_slice::<Version>(line) {
        Err(_) => Err(format!("the daemon is logferry {ours} and the command is older: use the command of the same release")),
        Ok(Version { v }) if v != VERSION => Err(format!(
            "the daemon is logferry {ours} and speaks version {VERSION} of the control protocol, the command version {v}: use the command of the same release, or restart the daemon with it"
        )),
        Ok(_) => serde_json::from_slice::<Question>(line).map(|question| question.request).map_err(|error| {
            format!("the daemon (logferry {ours}) does not know that question ({error}): restart it with the release of the command")
        }),
    }
}

/// An answer as a line, its end included.
///
/// # Errors
/// It can't be said in JSON, which none of ours is.
pub fn answer(answer: &Answer) -> serde_json::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    Ok(line)
}

/// What was answered in a line.
///
/// # Errors
/// What to tell the person: it is no answer of this protocol.
pub fn heard(line: &[u8]) -> Result<Answer, String> {
    serde_json::from_slice(line).map_err(|_| {
        let said: String = String::from_utf8_lossy(line).trim().chars().take(200).collect();
        format!("the running daemon is of another release (it said: {said}): restart it with the release of this command")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::ffi::OsStringExt;

    #[test]
    fn every_question_and_answer_comes_back_as_it_was() {
        let change = Change::Seek { stream: "00ff".into(), to: SeekTo::Offset(7) };
        let requests = [
            Request::Status,
            Request::Explain { path: OsString::from_vec(b"/var/log/\xff\n".to_vec()) },
            Request::Streams,
            Request::Change { change, go: true },
            Request::Change { change: Change::Discard { lane: "t".into() }, go: false },
            Request::Drain { timeout_s: 300 },
            Request::Reload,
            Request::Tap { source: "web".into(), rate: 20 },
            Request::LogLevel { level: Some("debug".into()), for_s: 600 },
        ];
        for request in requests {
            let line = question(&request).unwrap();
            assert_eq!(memchr::memchr_iter(b'\n', &line).count(), 1, "one line");
            assert_eq!(understand(line.trim_ascii_end()), Ok(request));
        }
        let answers = [
            Answer::Status(Box::default()),
            Answer::Streams(vec![Stream::default()]),
            Answer::Flow(Flow::default()),
            Answer::Refused("a\nb".into()),
        ];
        for given in answers {
            assert_eq!(heard(answer(&given).unwrap().trim_ascii_end()), Ok(given));
        }
    }

    #[test]
    fn another_version_is_told_plainly_what_to_do() {
        let older = understand(b"explain /var/log/syslog").unwrap_err();
        assert!(older.contains("the command is older"), "{older}");
        let newer = understand(br#"{"v":2,"request":{"ask":"status"}}"#).unwrap_err();
        assert!(newer.contains("version 1") && newer.contains("version 2"), "{newer}");
        let unknown = understand(br#"{"v":1,"request":{"ask":"dance"}}"#).unwrap_err();
        assert!(unknown.contains("does not know that question"), "{unknown}");
        assert!(heard(b"this version does not know that question").unwrap_err().contains("another release"));
    }

    #[test]
    fn a_status_of_another_release_is_still_read() {
        let status = r#"{"status":{"version":"9","news":1,"lanes":{"t":{"condition":"dancing"}}}}"#;
        let Ok(Answer::Status(status)) = heard(status.as_bytes()) else { panic!("not read") };
        assert_eq!(status.lanes["t"].condition, crate::control::status::Doing::Unknown);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(line in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (understand(&line), heard(&line));
        }
    }
}
