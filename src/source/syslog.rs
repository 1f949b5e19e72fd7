//! The syslog source: [`listen`]ers take messages in, the [`arrival`] log keeps them, and a [`reader`] makes batches of it.
//!
//! | what | where |
//! | --- | --- |
//! | UDP, TCP, TLS, local sockets, RELP | [`listen`] |
//! | messages out of a stream of bytes | [`frame`] |
//! | between the listeners and the log | [`intake`] |
//! | the log that makes what was accepted replayable | [`arrival`] |
//! | from the log to batches | [`reader`] |
//! | a message in its fields; as JSON by `encode/json/syslog.rs` | [`parse`] |

pub mod arrival;
pub mod frame;
pub mod intake;
pub mod listen;
pub mod parse;
pub mod reader;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::tz::TimeZone;

use crate::batch::StreamId;
use crate::bell::Bell;
use crate::budget::Budget;
use crate::durable::disk::Real;
use crate::pool::Pool;
use crate::settlement::Settlement;
use crate::shutdown::{Phase, Stop};
use crate::source::multiline::Multiline;
use crate::source::pulse::Pulse;
use crate::source::{Opening, Outlet};
use crate::spill;
use crate::spill::room::Room;
use arrival::recover::OpenError;
use arrival::shed::First;
use arrival::{Arrivals, WhenFull};
use frame::TooLong;
use intake::Transport;
use listen::address::Address;
use listen::gate::Network;
use listen::tls::Renew;
use listen::{Listeners, TlsSettings};
use reader::Reader;

/// What the configuration says of a source; built by `config/sources.rs`.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The name of the source.
    pub name: Arc<str>,
    /// The topic its events go to.
    pub topic: Arc<str>,
    /// Where it listens.
    pub listen: Vec<Address>,
    /// What happens without room, where it is set.
    pub when_full: Option<WhenFull>,
    /// Without room, what is refused first where something is refused.
    pub shed_first: First,
    /// For times that name no zone.
    pub zone: TimeZone,
    /// The longest message, bytes.
    pub max_message_size: usize,
    /// What becomes of a longer one.
    pub too_long: TooLong,
    /// Connections at a time.
    pub max_connections: usize,
    /// A connection on which nothing comes for so long is closed.
    pub idle_timeout: Option<Duration>,
    /// How long the handshake of TLS may take.
    pub handshake_timeout: Duration,
    /// What the kernel is to keep for each UDP socket, bytes.
    pub receive_buffer: usize,
    /// Sockets for each UDP address.
    pub udp_sockets: usize,
    /// Who may send; everybody, if it is empty.
    pub allow: Vec<Network>,
    /// Messages a second that each sender may send.
    pub peer_rate: Option<u32>,
    /// The mode of local sockets.
    pub socket_mode: u32,
    /// Their owner and group.
    pub socket_owner: Option<(u32, u32)>,
    /// For `tls://`.
    pub tls: Option<TlsSettings>,
    /// Which lines of a connection are joined.
    pub multiline: Option<Arc<Multiline>>,
}

/// What the source shares with the rest of the daemon.
pub struct Common {
    /// `agent.host`, the beginning of every key.
    pub host: Arc<str>,
    /// Where positions and counts are kept.
    pub settlement: Arc<Settlement>,
    /// The reader waits for it.
    pub budget: Arc<Budget>,
    /// Buffers.
    pub pool: Arc<Pool>,
    /// What spills and arrival logs may take together.
    pub room: Arc<Room>,
    /// For `keep_free` and `sync`.
    pub spill: spill::Settings,
    /// The directory of all arrival logs.
    pub dir: PathBuf,
    /// The longest part that certainly fits into one Kafka message, bytes.
    pub piece: usize,
    /// A number that no stream has.
    pub mint: fn() -> StreamId,
    /// What is told of it while it runs.
    pub pulse: Arc<Pulse>,
}

/// The source; it listens from [`Syslog::run`] on.
pub struct Syslog {
    settings: Settings,
    arrivals: Arc<Arrivals>,
    reader: Reader,
    piece: usize,
    unfinished: usize,
    renew: Renew,
    pulse: Arc<Pulse>,
}

impl std::fmt::Debug for Syslog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Syslog").field("name", &self.settings.name).finish_non_exhaustive()
    }
}

impl Settings {
    /// How many sockets it listens at; what systemd hands over counts as one for each name.
    #[must_use]
    pub fn sockets(&self) -> usize {
        let of = |address: &Address| if address.transport() == Some(Transport::Udp) { self.udp_sockets } else { 1 };
        self.listen.iter().map(of).sum()
    }
}

impl Syslog {
    /// Opens the arrival log, and says what of it a loss of power may have cost. `bell` wakes the reader.
    ///
    /// # Errors
    /// The log can't be read, or is a newer release's.
    pub fn open(settings: Settings, common: Common, outlet: Box<dyn Outlet>, bell: &Arc<Bell>) -> Result<Syslog, OpenError> {
        let Common { host, settlement, budget, pool, room, spill, dir, piece, mint, pulse } = common;
        // The rest of memory is for what is on its way.
        let quarter = budget.limit() / 4;
        let log = arrival::Settings {
            source: Arc::clone(&settings.name),
            dir,
            keep_free: spill.keep_free,
            sync: spill.sync,
            memory: quarter,
            when_full: settings.when_full,
            shed_first: settings.shed_first.clone(),
            boot: boot_id(),
        };
        let (arrivals, recovered) = Arrivals::open(log, Arc::new(Real), &room, Arc::clone(&settlement), Arc::clone(bell), mint)?;
        if recovered.torn > 0 {
            tracing::info!(source = %settings.name, bytes = recovered.torn, "the end of the arrival log was not written whole; it was never accepted, and is cut");
        }
        let reached = settlement.reached(arrivals.stream()).0;
        let waiting = arrivals.size(reached).saturating_sub(reached);
        if waiting > 0 {
            tracing::info!(source = %settings.name, bytes = waiting, "the arrival log holds messages from before; they go out first");
        }
        let reading = reader::Settings { source: Arc::clone(&settings.name), topic: Arc::clone(&settings.topic), host };
        let reader = Reader::new(reading, Arc::clone(&arrivals), Arc::clone(&settlement), budget, pool, outlet);
        // What an earlier run of the source in this process has left there was counted then.
        settlement.read_whole(arrivals.stream());
        settlement.arrived(arrivals.stream(), recovered.unread);
        Ok(Syslog { settings, arrivals, reader, piece, unfinished: quarter, renew: Renew::default(), pulse })
    }

    /// Its arrival log.
    #[must_use]
    pub fn arrivals(&self) -> Arc<Arrivals> {
        Arc::clone(&self.arrivals)
    }

    /// Has the files of `tls` read again while it runs.
    #[must_use]
    pub fn renew(&self) -> Renew {
        self.renew.clone()
    }

    /// Listens and reads until the word to stop; with `once` it does not listen, and ends when the arrival log is read. It is open when it listens at
    /// every address that can be had.
    pub fn run(mut self, stop: &Arc<Stop>, bell: &Arc<Bell>, opening: Opening, once: bool) {
        let done = Arc::new(AtomicBool::new(false));
        let keeper = self.keep(stop, &done);
        let listeners = if once { None } else { self.listen(opening) };
        if let Some(listeners) = listeners {
            // The listeners end in a thread of their own, while the reader still makes room for what they have.
            let (stopping, ring) = (Arc::clone(stop), Arc::clone(bell));
            let ender = std::thread::Builder::new().name(format!("listen {}", self.settings.name)).spawn(move || {
                while !stopping.sleep_unless(Phase::Leave, Duration::from_secs(3600)) {}
                listeners.stop();
                ring.ring();
            });
            self.reader.run_with(stop, bell, || ender.as_ref().is_ok_and(|ender| !ender.is_finished()));
        } else {
            self.reader.run(stop, bell, once);
        }
        done.store(true, Ordering::Release);
        if let Some(keeper) = keeper {
            self.arrivals.wake_keeper();
            drop(keeper.join());
        }
        self.arrivals.close();
    }

    fn keep(&self, stop: &Arc<Stop>, done: &Arc<AtomicBool>) -> Option<JoinHandle<()>> {
        let (arrivals, stop, done) = (Arc::clone(&self.arrivals), Arc::clone(stop), Arc::clone(done));
        let thread = std::thread::Builder::new().name(format!("arrivals {}", self.settings.name));
        let spawned = thread.spawn(move || arrivals.keep(&stop, &done));
        spawned.map_err(|error| tracing::error!(source = %self.settings.name, %error, "the system gives no thread: what is accepted is not made durable, and segments stay")).ok()
    }

    fn listen(&self, opening: Opening) -> Option<Listeners> {
        let Settings { name, listen, max_connections, max_message_size, too_long, idle_timeout, handshake_timeout, receive_buffer, .. } =
            &self.settings;
        let settings = listen::Settings {
            source: Arc::clone(name),
            listen: listen.clone(),
            max_connections: *max_connections,
            max_message_size: *max_message_size,
            too_long: *too_long,
            piece: self.piece,
            idle_timeout: *idle_timeout,
            handshake_timeout: *handshake_timeout,
            receive_buffer: *receive_buffer,
            udp_sockets: self.settings.udp_sockets,
            allow: self.settings.allow.clone(),
            peer_rate: self.settings.peer_rate,
            tls: self.settings.tls.clone(),
            renew: self.renew.clone(),
            socket_mode: self.settings.socket_mode,
            socket_owner: self.settings.socket_owner,
            multiline: self.settings.multiline.clone(),
            unfinished: self.unfinished,
            pulse: Arc::clone(&self.pulse),
        };
        let started = Listeners::start(settings, Arc::clone(&self.arrivals) as Arc<dyn intake::Intake>, opening);
        started.map_err(|error| tracing::error!(source = %name, %error, "the system gives no thread: this source does not listen")).ok()
    }
}

/// The id of this boot of the machine; all zeros where the kernel has none.
fn boot_id() -> [u8; 16] {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let number = u128::from_str_radix(&text.trim().replace('-', ""), 16).unwrap_or(0);
    number.to_be_bytes()
}
