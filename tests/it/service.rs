//! What systemd hears of logferry: that it is ready when its sources are open, what it does, that it stops, and that it is alive while a broker is
//! frozen. The test is systemd here; the real one is in `install.rs`.

use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::harness::agent::Plan;
use crate::harness::broker::Broker;
use crate::harness::lines::LineWriter;
use crate::harness::{free_port, temp_dir};

const SOON: Duration = Duration::from_secs(20);
/// How often a sign of life is asked for.
const WATCHDOG: Duration = Duration::from_secs(4);

/// One that is told.
struct Manager {
    socket: UnixDatagram,
    dir: TempDir,
}

impl Manager {
    fn new() -> Manager {
        let dir = temp_dir("notify");
        let socket = UnixDatagram::bind(dir.path().join("notify")).expect("a socket");
        Manager { socket, dir }
    }

    fn plan(&self, plan: Plan) -> Plan {
        let path: PathBuf = self.dir.path().join("notify");
        plan.env("NOTIFY_SOCKET", path.to_str().unwrap()).env("WATCHDOG_USEC", &WATCHDOG.as_micros().to_string())
    }

    /// Waits until something with this beginning is told; what was told before it.
    #[track_caller]
    fn hear(&self, beginning: &str, patience: Duration) -> Vec<String> {
        let (until, mut before) = (Instant::now() + patience, Vec::new());
        loop {
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{beginning} was not told within {patience:?}, but {before:?}");
            self.socket.set_read_timeout(Some(left)).unwrap();
            let mut buffer = [0; 4096];
            let Ok(read) = self.socket.recv(&mut buffer) else { continue };
            let said = String::from_utf8_lossy(&buffer[..read]).trim_end().to_owned();
            if said.starts_with(beginning) {
                return before;
            }
            before.push(said);
        }
    }
}

#[test]
fn systemd_hears_that_it_is_ready_what_it_does_and_that_it_stops() {
    let broker = Broker::shared();
    broker.create_topic("service-ready", 1, &[]);
    let (manager, logs, port) = (Manager::new(), temp_dir("logs"), free_port());
    let syslog = format!("[[source]]\nname = \"net\"\ntype = \"syslog\"\nlisten = [\"tcp://127.0.0.1:{port}\"]");
    let plan = Plan::new(&broker.bootstrap(), "service-ready").include(logs.path().join("*.log")).extra(&syslog);
    let mut agent = manager.plan(plan).start();
    manager.hear("READY=1", SOON);
    drop(TcpStream::connect(("127.0.0.1", port)).expect("what is ready listens"));
    LineWriter::new("service", logs.path().join("a.log")).limit(100).start().finish();
    manager.hear("STATUS=at work; 100 delivered, 0 pending", SOON);
    manager.hear("WATCHDOG=1", SOON);
    assert!(agent.terminate(SOON).success());
    let before = manager.hear("STOPPING=1", SOON);
    assert!(!before.iter().any(|said| said == "READY=1"), "it is ready once: {before:?}");
}

#[test]
fn a_broker_that_is_frozen_is_no_reason_to_be_killed() {
    let mut broker = Broker::lent();
    broker.create_topic("service-frozen", 1, &[]);
    let (manager, logs) = (Manager::new(), temp_dir("logs"));
    let plan = Plan::new(&broker.bootstrap(), "service-frozen").include(logs.path().join("*.log"));
    let agent = manager.plan(plan.agent("stop_timeout = \"1s\"")).start();
    let writing = LineWriter::new("service", logs.path().join("a.log")).rate(100).start();
    broker.wait_for_count("service-frozen", 100, SOON);
    broker.freeze();
    let frozen = Instant::now();
    while frozen.elapsed() < WATCHDOG * 4 {
        manager.hear("WATCHDOG=1", WATCHDOG);
    }
    broker.thaw();
    let before = broker.count("service-frozen");
    broker.wait_for_count("service-frozen", before + 500, SOON);
    manager.hear("WATCHDOG=1", WATCHDOG);
    let written = writing.stop().values().sum();
    agent.assert_all_delivered("files", written);
}
