//! A long way between agent and broker: a relay that hands on every byte after a delay, in both directions, and that can be cut: connections
//! then stay open and nothing comes through. It needs no rights, unlike the kernel's netem (which many kernels lack). What it does not show is
//! TCP itself over that way: it takes from both sides as fast as they give.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// How much is read at once, and how many such pieces may be under way in one direction; the sender waits beyond that.
const PIECE: usize = 64 << 10;
const PIECES: usize = 4096;
/// How often a cut link is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A relay on a port of 127.0.0.1; gone when dropped (connections end when one of their sides does).
pub struct Link {
    port: u16,
    state: Arc<State>,
}

struct State {
    delay: Duration,
    /// The port it leads to; 0 as long as it leads nowhere.
    to: AtomicU16,
    cut: AtomicBool,
    over: AtomicBool,
}

impl Link {
    /// A relay that holds each byte for half of `round_trip`. It refuses connections until it is told where it leads to.
    pub fn new(round_trip: Duration) -> Link {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port for the relay");
        let port = listener.local_addr().expect("the relay's port").port();
        let [cut, over] = [false, false].map(AtomicBool::new);
        let state = Arc::new(State { delay: round_trip / 2, to: AtomicU16::new(0), cut, over });
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for near in listener.incoming() {
                if shared.over.load(Ordering::Relaxed) {
                    return;
                }
                let far = TcpStream::connect((Ipv4Addr::LOCALHOST, shared.to.load(Ordering::Relaxed)));
                if let (Ok(near), Ok(far)) = (near, far) {
                    let _ = join(near, far, &shared);
                }
            }
        });
        Link { port, state }
    }

    /// `host:port` where it listens.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Leads connections made from now on to this port of 127.0.0.1.
    pub fn lead_to(&self, port: u16) {
        self.state.to.store(port, Ordering::Relaxed);
    }

    /// Lets nothing through any more; what comes in meanwhile is kept.
    pub fn cut(&self) {
        self.state.cut.store(true, Ordering::Relaxed);
    }

    /// Lets everything through again.
    pub fn mend(&self) {
        self.state.cut.store(false, Ordering::Relaxed);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

/// Two directions, each with a thread that takes and one that gives.
fn join(near: TcpStream, far: TcpStream, state: &Arc<State>) -> io::Result<()> {
    for (from, to) in [(near.try_clone()?, far.try_clone()?), (far, near)] {
        to.set_nodelay(true)?;
        let (sender, receiver) = sync_channel(PIECES);
        let delay = state.delay;
        thread::spawn(move || take(from, &sender, delay));
        let state = Arc::clone(state);
        thread::spawn(move || give(to, &receiver, &state));
    }
    Ok(())
}

fn take(mut from: TcpStream, sender: &SyncSender<(Instant, Vec<u8>)>, delay: Duration) {
    let mut piece = vec![0; PIECE];
    while let Ok(bytes @ 1..) = from.read(&mut piece) {
        if sender.send((Instant::now() + delay, piece[..bytes].to_vec())).is_err() {
            return;
        }
    }
}

fn give(mut to: TcpStream, receiver: &Receiver<(Instant, Vec<u8>)>, state: &State) {
    while let Ok((due, piece)) = receiver.recv() {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        while state.cut.load(Ordering::Relaxed) {
            thread::sleep(LOOK_EVERY);
        }
        if to.write_all(&piece).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}
