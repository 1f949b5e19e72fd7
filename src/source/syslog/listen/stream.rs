//! Connections: one thread with tokio's executor for all of a source, a task for each. A slow sender costs its task and the few bytes that are no
//! whole message yet; no sender holds up another one, save by using up the room.

mod plain;

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::address::Address;
use super::gate::allows;
use super::tls::Tls;
use super::{Common, ROOM, TRY_AGAIN, now_ns, relp, socket};
use crate::ledger::{Amount, Missed};
use crate::source::Opening;
use crate::source::syslog::intake::{Frame, Frames, Taken, Transport};
use plain::Plain;

/// How much is read from a connection at a time, bytes; one buffer for all of them.
const READ: usize = 64 << 10;
/// Messages that are handed over at a time, so that a block of the log stays small.
const AT_ONCE: usize = 2048;
/// An unfinished message of fewer bytes is kept, however many connections there are.
const SMALL: usize = 2 << 10;
/// How often the word to stop is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// How long a stop waits for what connections have sent already.
const LAST: Duration = Duration::from_millis(300);

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ]);
}

/// A listening socket of either kind.
enum Door {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Both directions of a connection.
pub(super) trait Conn: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Conn for T {}

/// One connection, as those who serve it need to know it.
pub(super) struct Peer {
    pub(super) common: Arc<Common>,
    pub(super) transport: Transport,
    pub(super) place: Arc<str>,
    /// Address and port; a local one has a number, since it is to be told from the others.
    pub(super) name: String,
    pub(super) key: String,
    pub(super) ip: Option<IpAddr>,
}

/// The thread for these addresses, and for sockets that are there already.
pub(super) fn start(
    common: &Arc<Common>,
    addresses: Vec<Address>,
    ready: Vec<(Address, socket2::Socket, Transport)>,
    opening: Opening,
) -> io::Result<JoinHandle<()>> {
    let common = Arc::clone(common);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let name = format!("listen {}", common.settings.source);
    std::thread::Builder::new().name(name).spawn(move || {
        runtime.block_on(async {
            let mut doors = JoinSet::new();
            for address in addresses {
                doors.spawn(open(Arc::clone(&common), address, opening.clone()));
            }
            for (address, socket, transport) in ready {
                doors.spawn(handed(Arc::clone(&common), address, socket, transport));
            }
            drop(opening);
            while doors.join_next().await.is_some() {}
        });
    })
}

async fn handed(common: Arc<Common>, address: Address, socket: socket2::Socket, transport: Transport) {
    match door(socket, transport == Transport::Unix) {
        Ok(door) => serve(common, address, transport, door).await,
        Err(error) => tracing::error!(source = %common.settings.source, %address, %error, "the socket of systemd can't be used"),
    }
}

/// Listens at an address, as soon as it can be had.
async fn open(common: Arc<Common>, address: Address, opening: Opening) {
    let transport = address.transport().unwrap_or(Transport::Tcp);
    let mut opening = Some(opening);
    let mut told = String::new();
    while !common.stopping() {
        let made = socket::streams(&common.settings, &address);
        drop(opening.take());
        match made.and_then(|socket| door(socket, transport == Transport::Unix).map_err(|error| error.to_string())) {
            Ok(door) => {
                common.settings.pulse.opened();
                serve(Arc::clone(&common), address.clone(), transport, door).await;
                return socket::leave(&address);
            }
            Err(words) => {
                if words != told {
                    tracing::error!(source = %common.settings.source, %address, "{words}; trying again every {} s", TRY_AGAIN.as_secs());
                    told = words;
                }
                sleep(TRY_AGAIN).await;
            }
        }
    }
}

fn door(socket: socket2::Socket, local: bool) -> io::Result<Door> {
    Ok(if local { Door::Unix(UnixListener::from_std(socket.into())?) } else { Door::Tcp(TcpListener::from_std(socket.into())?) })
}

/// Accepts until the word to stop.
async fn serve(common: Arc<Common>, address: Address, transport: Transport, door: Door) {
    let mut tls = Tls::new(&common.settings);
    tracing::info!(source = %common.settings.source, %address, "listening");
    let place: Arc<str> = address.to_string().into();
    let mut connections = JoinSet::new();
    let mut number = 0_u64;
    while !common.stopping() {
        while connections.try_join_next().is_some() {}
        let Ok(accepted) = timeout(LOOK, accept(&door)).await else { continue };
        let (conn, sender) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // No descriptors, mostly: those that are served go on.
                tracing::error!(source = %common.settings.source, %address, %error, "a connection can't be accepted");
                sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        number += 1;
        let ip = sender.map(|sender| sender.ip().to_canonical());
        let name = sender
            .map_or_else(|| format!("local#{number}"), |sender| SocketAddr::new(sender.ip().to_canonical(), sender.port()).to_string());
        let key = ip.map_or_else(|| "local".to_owned(), |ip| ip.to_string());
        let peer = Peer { common: Arc::clone(&common), transport, place: Arc::clone(&place), name, key, ip };
        if let Some(ip) = ip.filter(|ip| !allows(&common.settings.allow, *ip)) {
            refuse(&peer, &format!("the source's allow does not name {ip}"));
        } else if common.connections.load(Ordering::Relaxed) >= common.settings.max_connections {
            refuse(&peer, &format!("there are {} connections, as many as max_connections allows", common.settings.max_connections));
        } else {
            common.connections.fetch_add(1, Ordering::Relaxed);
            let acceptor = if transport == Transport::Tls { Some(tls.acceptor()) } else { None };
            connections.spawn(async move {
                attend(&peer, conn, acceptor).await;
                peer.common.connections.fetch_sub(1, Ordering::Relaxed);
            });
        }
    }
    // Those that are served see the word to stop themselves.
    while connections.join_next().await.is_some() {}
}

async fn accept(door: &Door) -> io::Result<(Box<dyn Conn>, Option<SocketAddr>)> {
    match door {
        Door::Tcp(listener) => listener.accept().await.map(|(conn, sender)| (Box::new(conn) as Box<dyn Conn>, Some(sender))),
        Door::Unix(listener) => listener.accept().await.map(|(conn, _)| (Box::new(conn) as Box<dyn Conn>, None)),
    }
}

fn refuse(peer: &Peer, words: &str) {
    tracing::warn!(source = %peer.common.settings.source, place = %peer.place, peer = peer.name, "a connection was closed: {words}");
    // What it would have sent nobody knows.
    let amount = Amount { unknown: 1, ..Amount::default() };
    peer.common.intake.missed(Missed::Refused, amount, &peer.place, words);
}

async fn attend(peer: &Peer, conn: Box<dyn Conn>, acceptor: Option<Result<tokio_rustls::TlsAcceptor, String>>) {
    let settings = &peer.common.settings;
    let conn: Box<dyn Conn> = match acceptor {
        None => conn,
        Some(Err(words)) => return refuse(peer, &words),
        Some(Ok(acceptor)) => match timeout(settings.handshake_timeout, acceptor.accept(conn)).await {
            Ok(Ok(conn)) => Box::new(conn),
            Ok(Err(error)) => return refuse(peer, &format!("its TLS handshake failed: {error}")),
            Err(_) => {
                return refuse(peer, &format!("its TLS handshake took longer than handshake_timeout ({:?})", settings.handshake_timeout));
            }
        },
    };
    tracing::debug!(source = %settings.source, peer = peer.name, "connected");
    if peer.transport == Transport::Relp {
        relp::serve(peer, conn).await;
    } else {
        Plain::new(peer).run(conn).await;
    }
}

/// Why reading ends.
pub(super) enum Ended {
    Closed,
    Idle,
    Stop,
    Failed(io::Error),
}

/// Waits for bytes and gives them to `take`; `None` when the time is up.
pub(super) async fn read_some<T>(conn: &mut dyn Conn, patience: Duration, mut take: impl FnMut(&[u8]) -> T) -> Option<io::Result<T>> {
    let read = poll_fn(|context| {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            Pin::new(&mut *conn).poll_read(context, &mut buffer).map_ok(|()| take(buffer.filled()))
        })
    });
    timeout(patience, read).await.ok()
}

/// Hands messages over, waiting for room; says where in the log they end. At a stop without room they are counted as missed.
pub(super) async fn accept_all(peer: &Peer, bytes: &[u8], frames: &[Frame]) -> Option<u64> {
    let frames = Frames { transport: peer.transport, peer: &peer.name, peer_key: &peer.key, received_ns: now_ns(), bytes, frames };
    loop {
        match peer.common.intake.take(&frames) {
            Taken::Accepted { end } => return Some(end),
            Taken::Full if peer.common.stopping() => {
                let whole = frames.frames.iter().filter(|frame| frame.last).count() as u64;
                if peer.transport != Transport::Relp {
                    peer.common.intake.missed(
                        Missed::Shed,
                        Amount { events: whole, ..Amount::default() },
                        &peer.place,
                        "at a stop, with no room",
                    );
                }
                return None;
            }
            Taken::Full => sleep(ROOM).await,
        }
    }
}
