//! Between listeners and the arrival log: what a listener hands over, and what it is told. Apart so that neither knows the other.

use std::sync::Arc;
use std::time::Duration;

use crate::ledger::{Amount, Missed};

/// How a message came; shipped as `transport`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// A datagram of UDP.
    Udp,
    /// A TCP connection.
    Tcp,
    /// A TCP connection with TLS.
    Tls,
    /// A stream socket of this host.
    Unix,
    /// A datagram socket of this host.
    Unixgram,
    /// RELP.
    Relp,
}

impl Transport {
    /// All of them, in the order of their codes on disk.
    pub const ALL: [Transport; 6] = [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Unix, Transport::Unixgram, Transport::Relp];

    /// The word for events, labels and messages.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
            Transport::Unix => "unix",
            Transport::Unixgram => "unixgram",
            Transport::Relp => "relp",
        }
    }

    /// The code on disk.
    #[must_use]
    pub fn code(self) -> u8 {
        Transport::ALL.iter().position(|other| *other == self).and_then(|at| u8::try_from(at).ok()).unwrap_or(0)
    }

    /// The transport of a code.
    #[must_use]
    pub fn of_code(code: u8) -> Option<Transport> {
        Transport::ALL.get(usize::from(code)).copied()
    }
}

/// One message, or a part of a longer one, in the bytes that are handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its first byte.
    pub start: u32,
    /// Its length, bytes.
    pub len: u32,
    /// 0 for a whole message, else the number of the part, from 1.
    pub part: u32,
    /// Whether it is the whole message, or the last part of it.
    pub last: bool,
    /// Whether its end is missing: the connection ended, or the kernel cut the datagram.
    pub partial: bool,
}

/// Messages of one sender, in the order in which they came.
#[derive(Clone, Copy, Debug)]
pub struct Frames<'a> {
    /// How they came.
    pub transport: Transport,
    /// Who sent them, as seen: an IP address and port, or of a local socket what the kernel says; shipped as `peer`.
    pub peer: &'a str,
    /// What of `peer` the key is made of: the address without the port.
    pub peer_key: &'a str,
    /// When they were received, nanoseconds since 1970.
    pub received_ns: i64,
    /// What the frames are spans of.
    pub bytes: &'a [u8],
    /// The messages; not empty.
    pub frames: &'a [Frame],
}

impl<'a> Frames<'a> {
    /// The bytes of one of the frames.
    #[must_use]
    pub fn bytes_of(&self, frame: &Frame) -> &'a [u8] {
        let start = frame.start as usize;
        self.bytes.get(start..start.saturating_add(frame.len as usize)).unwrap_or_default()
    }
}

/// What became of [`Frames`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// They are accepted; what was refused by severity (`when_full = "shed"`) is counted already. They lie before `end` in the log.
    Accepted {
        /// See [`Intake::is_safe`].
        end: u64,
    },
    /// Nothing of them is accepted: there is no room, and the source waits (`when_full = "block"`). To be tried again after [`Intake::wait_for_room`].
    Full,
}

/// Takes what listeners receive. Called from several threads; each call is short (one write).
pub trait Intake: Send + Sync {
    /// Takes messages in. When it returns [`Taken::Accepted`], they survive a kill.
    fn take(&self, frames: &Frames<'_>) -> Taken;

    /// Waits for room, at most `patience`; for threads. Tasks poll [`Intake::has_room`] with a timer.
    fn wait_for_room(&self, patience: Duration) -> bool;

    /// Whether [`Intake::take`] would not be [`Taken::Full`].
    fn has_room(&self) -> bool;

    /// Calls for what was accepted to be made durable soon: a RELP sender waits.
    fn ask_for_safety(&self);

    /// Whether all before `end` is fsynced, or acknowledged by Kafka: it survives a loss of power.
    fn is_safe(&self, end: u64) -> bool;

    /// Books what was never read, with where (`udp://0.0.0.0:514`) and what else a person should know; becomes a gap record.
    fn missed(&self, reason: Missed, amount: Amount, place: &Arc<str>, words: &str);
}
