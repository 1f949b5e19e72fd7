//! What the integration tests and the benchmark are built from. It knows logferry only from outside: its command line, its standard error,
//! its files, and what arrives in Kafka.

// The paths are spelled out because benches/throughput.rs mounts this file at another place of its own tree.
#[path = "harness/agent.rs"]
pub mod agent;
#[path = "harness/books.rs"]
pub mod books;
#[path = "harness/broker.rs"]
pub mod broker;
#[path = "harness/container.rs"]
pub mod container;
#[path = "harness/disk.rs"]
pub mod disk;
#[path = "harness/journald.rs"]
pub mod journald;
#[path = "harness/lines.rs"]
pub mod lines;
#[path = "harness/link.rs"]
pub mod link;
#[path = "harness/oracle.rs"]
pub mod oracle;
#[path = "harness/process.rs"]
pub mod process;
#[path = "harness/topic.rs"]
pub mod topic;

use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How often a condition that is waited for is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Whether this is `make soak`, where rounds are many, sizes large and waits long.
pub fn soaking() -> bool {
    std::env::var_os("LOGFERRY_SOAK").is_some()
}

/// Numbers that look random: from `LOGFERRY_TEST_SEED`, which is said, else the same ones each time, and others each time in `make soak`.
pub struct Random(u64);

impl Random {
    /// Begins a row of numbers for the test `name`.
    pub fn new(name: &str) -> Random {
        let told = std::env::var("LOGFERRY_TEST_SEED").ok().map(|seed| seed.parse().expect("LOGFERRY_TEST_SEED is a number"));
        let drawn = || RandomState::new().hash_one(name) >> 1;
        let seed = told.unwrap_or_else(|| if soaking() { drawn() } else { 4 });
        eprintln!("{name}: LOGFERRY_TEST_SEED={seed}");
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// The next one (xorshift64*), from 0 to `below` - 1.
    pub fn below(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16) % below
    }
}

/// Waits until `condition` holds; panics after `timeout` with `what` was waited for.
#[track_caller]
pub fn wait_until(what: &str, timeout: Duration, mut condition: impl FnMut() -> bool) {
    wait_for(what, timeout, || condition().then_some(()));
}

/// Waits until `condition` gives a value; panics after `timeout` with `what` was waited for.
#[track_caller]
pub fn wait_for<T>(what: &str, timeout: Duration, condition: impl FnMut() -> Option<T>) -> T {
    wait(timeout, condition).unwrap_or_else(|| panic!("waited {timeout:?} for: {what}"))
}

/// Waits until `condition` gives a value; `None` after `timeout`.
pub fn wait<T>(timeout: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let started = Instant::now();
    loop {
        match condition() {
            None if started.elapsed() < timeout => thread::sleep(LOOK_EVERY),
            found => return found,
        }
    }
}

/// A folder of its own for a test, under cargo's target folder, removed when dropped.
pub fn temp_dir(name: &str) -> TempDir {
    tempfile::Builder::new().prefix(&format!("{name}.")).tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("make a folder for the test")
}

/// A TCP port of 127.0.0.1 on which nobody listens. Below the range from which the kernel takes ports for outgoing connections, so that
/// it is still free when a broker comes back to it; never given out twice by one process.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 12_000;
    const COUNT: u16 = 18_000;
    let own = u16::try_from(std::process::id() * 64 % u32::from(COUNT)).expect("COUNT fits");
    (0..COUNT)
        .map(|_| FIRST + (own + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT)
        .find(|&port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
        .expect("a free port")
}
