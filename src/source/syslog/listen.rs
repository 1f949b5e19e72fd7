//! The listeners of a syslog source: what comes over the network and local sockets is made into messages and handed to the [`Intake`]. Two threads for
//! each socket of datagrams, one for all connections.
//!
//! An address that can't be had, because another program has it or this one may not, is no reason to stop: it is said, and tried again.
//!
//! | what | where |
//! | --- | --- |
//! | addresses, as they are written | [`address`] |
//! | who may send, and how fast | [`gate`] |
//! | making sockets; those of systemd | `listen/socket.rs` |
//! | datagrams | `listen/udp.rs` |
//! | connections: TCP, TLS, local streams | `listen/stream.rs`, `listen/tls.rs` |
//! | RELP | `listen/relp.rs` |

pub mod address;
pub mod gate;
pub mod relp;
mod socket;
mod stream;
pub mod tls;
mod udp;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::frame::{Limits, TooLong};
use super::intake::{Intake, Transport};
use crate::source::Opening;
use crate::source::multiline::Multiline;
use crate::source::pulse::Pulse;
use address::Address;
use gate::Network;

/// How soon an address that can't be had is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(5);
/// How soon those that wait for room look again.
const ROOM: Duration = Duration::from_millis(50);

/// What the listeners need to know; built by `config/sources.rs`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name of the source.
    pub source: Arc<str>,
    /// Where it listens.
    pub listen: Vec<Address>,
    /// Connections at a time; one more is closed at once, said and counted.
    pub max_connections: usize,
    /// The longest message, bytes.
    pub max_message_size: usize,
    /// What becomes of a longer one.
    pub too_long: TooLong,
    /// The longest part that certainly fits into one Kafka message, bytes.
    pub piece: usize,
    /// A connection on which nothing comes for so long is closed.
    pub idle_timeout: Option<Duration>,
    /// How long the handshake of TLS may take.
    pub handshake_timeout: Duration,
    /// What the kernel is to keep for each socket of datagrams, bytes.
    pub receive_buffer: usize,
    /// Sockets for each address of UDP, among which the kernel spreads senders.
    pub udp_sockets: usize,
    /// Who may send; everybody, if it is empty.
    pub allow: Vec<Network>,
    /// Messages a second that each sender may send.
    pub peer_rate: Option<u32>,
    /// For `tls://`.
    pub tls: Option<TlsSettings>,
    /// Has its files read again.
    pub renew: tls::Renew,
    /// The mode of sockets in the file system.
    pub socket_mode: u32,
    /// Their owner and group, where they are to have others than this process.
    pub socket_owner: Option<(u32, u32)>,
    /// Which lines of a connection without counts belong to the message in front of them; `None`: each is a message.
    pub multiline: Option<Arc<Multiline>>,
    /// What messages that are not whole yet may take of memory, all connections together, bytes; beyond it they are handed on in parts.
    pub unfinished: usize,
    /// Told when an address is listened at.
    pub pulse: Arc<Pulse>,
}

/// Certificates of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// The server's certificates (PEM).
    pub cert_file: PathBuf,
    /// Their key (PEM).
    pub key_file: PathBuf,
    /// Clients need a certificate of one of these authorities (PEM).
    pub client_ca_file: Option<PathBuf>,
}

/// What all listeners of a source share.
struct Common {
    settings: Settings,
    intake: Arc<dyn Intake>,
    stop: AtomicBool,
    connections: AtomicUsize,
    unfinished: AtomicUsize,
}

impl Common {
    fn stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    fn limits(&self) -> Limits {
        let Settings { piece, max_message_size, too_long, .. } = self.settings;
        Limits { piece: piece.min(max_message_size), message: max_message_size, too_long }
    }
}

/// The listeners that run. They end with [`Listeners::stop`].
pub struct Listeners {
    common: Arc<Common>,
    threads: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Listeners {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listeners").field("source", &self.common.settings.source).finish_non_exhaustive()
    }
}

impl Listeners {
    /// Begins to listen; what comes goes to `intake`. `opening` is held until every address has been had, or could not be.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(settings: Settings, intake: Arc<dyn Intake>, opening: Opening) -> std::io::Result<Listeners> {
        let (stop, connections, unfinished) = Default::default();
        let common = Arc::new(Common { settings, intake, stop, connections, unfinished });
        let mut threads = Vec::new();
        let (mut streams, mut handed) = (Vec::new(), Vec::new());
        for address in &common.settings.listen {
            match address.transport() {
                Some(Transport::Udp | Transport::Unixgram) => {
                    let sockets = if address.transport() == Some(Transport::Udp) { common.settings.udp_sockets } else { 1 };
                    for _ in 0..sockets {
                        threads.push(datagrams(&common, address.clone(), None, opening.clone())?);
                    }
                }
                Some(_) => streams.push(address.clone()),
                None => handed.push(address.clone()),
            }
        }
        for address in handed {
            match socket::of_systemd(&address) {
                Ok(found) if found.is_empty() => {
                    tracing::error!(source = %common.settings.source, %address, "systemd hands over no socket of this name: set FileDescriptorName= in the socket's unit, and start logferry by it");
                }
                Ok(found) => {
                    common.settings.pulse.opened();
                    for (socket, transport) in found {
                        if matches!(transport, Transport::Udp | Transport::Unixgram) {
                            threads.push(datagrams(&common, address.clone(), Some((socket, transport)), opening.clone())?);
                        } else {
                            threads.push(stream::start(&common, Vec::new(), vec![(address.clone(), socket, transport)], opening.clone())?);
                        }
                    }
                }
                Err(error) => {
                    tracing::error!(source = %common.settings.source, %address, %error, "the sockets of systemd can't be taken over");
                }
            }
        }
        if !streams.is_empty() {
            threads.push(stream::start(&common, streams, Vec::new(), opening)?);
        }
        Ok(Listeners { common, threads })
    }

    /// Ends: what has been received is handed over, connections are closed.
    pub fn stop(self) {
        self.common.stop.store(true, Ordering::Release);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!(source = %self.common.settings.source, "a listener's thread panicked");
            }
        }
    }
}

/// A thread for a socket of datagrams.
fn datagrams(
    common: &Arc<Common>,
    address: Address,
    ready: Option<(socket2::Socket, Transport)>,
    opening: Opening,
) -> std::io::Result<JoinHandle<()>> {
    let common = Arc::clone(common);
    let name = format!("listen {}", common.settings.source);
    std::thread::Builder::new().name(name).spawn(move || {
        let place: Arc<str> = address.to_string().into();
        let handed = ready.is_some();
        let mut ready = ready;
        let mut opening = Some(opening);
        let mut told = String::new();
        while !common.stopping() {
            let made = ready.take().map_or_else(|| socket::datagrams(&common.settings, &address).map(|socket| (socket, address.transport())), |(socket, transport)| Ok((socket, Some(transport))));
            drop(opening.take());
            match made {
                Ok((socket, transport)) => {
                    if !handed {
                        common.settings.pulse.opened();
                    }
                    tracing::info!(source = %common.settings.source, %address, "listening");
                    udp::run(&common, transport.unwrap_or(Transport::Udp), &place, &socket);
                    return socket::leave(&address);
                }
                Err(words) => {
                    if words != told {
                        tracing::error!(source = %common.settings.source, %address, "{words}; trying again every {} s", TRY_AGAIN.as_secs());
                        told = words;
                    }
                    sleep(&common, TRY_AGAIN);
                }
            }
        }
    })
}

/// Sleeps, less if the word to stop comes.
fn sleep(common: &Common, time: Duration) {
    let until = std::time::Instant::now() + time;
    while !common.stopping() && std::time::Instant::now() < until {
        std::thread::sleep(ROOM);
    }
}

fn now_ns() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok();
    now.and_then(|time| i64::try_from(time.as_nanos()).ok()).unwrap_or(0)
}
