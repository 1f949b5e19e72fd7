//! A machine on which the package is installed: what its administrator does there, what is written into its logs, and what has to arrive. Apart
//! from `install.rs`, which tells what becomes of it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::harness::broker::Broker;
use crate::harness::container::Container;
use crate::harness::lines::{LineWriter, Writing, Written, line};
use crate::harness::topic::Format;
use crate::harness::{oracle, wait_until};
use crate::journald::arrived;
use crate::tls::secure;

const SOON: Duration = Duration::from_secs(60);
const LATE: Duration = Duration::from_secs(180);
/// On Debian.
const ADM: u32 = 4;

/// The package in this folder below target whose name ends so.
#[track_caller]
pub(crate) fn package(folder: &str, end: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target").join(folder);
    let found = fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path());
    found
        .into_iter()
        .find(|path| path.to_string_lossy().ends_with(end))
        .unwrap_or_else(|| panic!("there is no *{end} in {}: run make test-install", folder.display()))
}

/// A machine on which logferry is installed.
pub(crate) struct Site<'a> {
    pub(crate) container: Container,
    pub(crate) broker: &'a Broker,
    pub(crate) topics: BTreeMap<&'static str, String>,
    /// Syslog messages that were sent, by stream.
    pub(crate) sent: Written,
    /// Where it listens, as 514 a port for which a right is needed; the machine's own syslog may have that.
    pub(crate) port: u16,
}

/// What is written all the while.
pub(crate) struct Load {
    file: Writing,
    stop: Arc<AtomicBool>,
    journal: JoinHandle<u64>,
}

impl<'a> Site<'a> {
    /// A machine that has booted, with the packages in /root and logs of a program in /var/log/app that the group adm may read.
    pub(crate) fn boot(suite: &str, name: &str, broker: &'a Broker) -> Site<'a> {
        let mut container = Container::of(suite);
        fs::copy(package("packages/previous", ".deb"), container.path("root/previous.deb")).expect("copy");
        fs::copy(package("packages", ".deb"), container.path("root/current.deb")).expect("copy");
        let logs = container.path("var/log/app");
        fs::create_dir(&logs).expect("make a folder");
        chown(&logs, None, Some(ADM)).expect("chown");
        fs::set_permissions(&logs, fs::Permissions::from_mode(0o750)).expect("chmod");
        container.boot();
        let topics: BTreeMap<_, _> = ["journal", "app", "net"].map(|source| (source, format!("{name}-{suite}-{source}"))).into();
        for topic in topics.values() {
            broker.create_topic(topic, 1, &[]);
        }
        let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok() && UdpSocket::bind(("127.0.0.1", *port)).is_ok();
        let port = (514..1024).find(free).expect("a free port below 1024");
        Site { container, broker, topics, sent: Written::new(), port }
    }

    /// Runs a command that must succeed.
    #[track_caller]
    pub(crate) fn run(&self, command: &[&str]) -> String {
        let output = self.container.run(command);
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {said}");
        said
    }

    /// A property of the unit.
    pub(crate) fn show(&self, property: &str) -> String {
        self.run(&["systemctl", "show", "--property", property, "--value", "logferry.service"]).trim().to_owned()
    }

    /// What its administrator writes.
    pub(crate) fn configure(&self, listen: &[String]) {
        let (broker, keys) = secure();
        // Every other broker asks for nothing.
        let security = "[kafka.tls]\nca_file = \"/etc/logferry/ca.pem\"\n\
            [kafka.sasl]\nmechanism = \"PLAIN\"\nusername = \"ferry\"\npassword.credential = \"kafka\"\n";
        let (servers, security) =
            if std::ptr::eq(self.broker, broker) { (broker.second(), security) } else { (self.broker.bootstrap(), "") };
        let [journal, app, net] = ["journal", "app", "net"].map(|source| &self.topics[source]);
        let config = format!(
            "[kafka]\nbootstrap_servers = {servers:?}\ntopic = {journal:?}\n{security}[[source]]\nname = \"journal\"\ntype = \"journald\"\n\
             [[source]]\nname = \"app\"\ntype = \"file\"\ninclude = [\"/var/log/app/*.log\"]\ntopic = {app:?}\n\
             [[source]]\nname = \"net\"\ntype = \"syslog\"\nlisten = {listen:?}\ntopic = {net:?}\n"
        );
        let write = |path: &str, text: &str| fs::write(self.container.path(path), text).expect("write");
        write("etc/logferry/config.toml", &config);
        write("etc/logferry/password", "secret\n");
        fs::copy(keys.path().join("ca.pem"), self.container.path("etc/logferry/ca.pem")).expect("copy");
        // Only root may read it: systemd hands it over.
        fs::set_permissions(self.container.path("etc/logferry/password"), fs::Permissions::from_mode(0o600)).expect("chmod");
        fs::set_permissions(self.container.path("etc/logferry/ca.pem"), fs::Permissions::from_mode(0o644)).expect("chmod");
        let drop_in = self.container.path("etc/systemd/system/logferry.service.d");
        fs::create_dir_all(&drop_in).expect("make a folder");
        fs::write(drop_in.join("password.conf"), "[Service]\nLoadCredential=kafka:/etc/logferry/password\n").expect("write");
        self.run(&["systemctl", "daemon-reload"]);
    }

    /// Gives the socket unit the port.
    pub(crate) fn listen_elsewhere(&self) {
        let drop_in = self.container.path("etc/systemd/system/logferry.socket.d");
        fs::create_dir_all(&drop_in).expect("make a folder");
        let port = self.port;
        let text = format!("[Socket]\nListenDatagram=\nListenStream=\nListenDatagram=127.0.0.1:{port}\nListenStream=127.0.0.1:{port}\n");
        fs::write(drop_in.join("port.conf"), text).expect("write");
        self.run(&["systemctl", "daemon-reload"]);
    }

    pub(crate) fn load(&self) -> Load {
        let file = LineWriter::new("app", self.container.path("var/log/app/app.log")).rate(2_000).start();
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, mut sender) = (Arc::clone(&stop), self.container.sender());
        let journal = thread::spawn(move || {
            let mut number = 0;
            while !stopped.load(Ordering::Relaxed) {
                number += 1;
                sender.number(number);
                thread::sleep(Duration::from_millis(5));
            }
            number
        });
        Load { file, stop, journal }
    }

    /// Sends syslog by TCP.
    #[track_caller]
    pub(crate) fn send_tcp(&mut self, stream: &str, count: u64) {
        let mut connection = TcpStream::connect(("127.0.0.1", self.port)).expect("connect to the syslog port");
        for number in 0..count {
            connection.write_all(format!("{}\n", message(stream, number)).as_bytes()).expect("send");
        }
        self.sent.insert(stream.to_owned(), count);
    }

    /// Sends syslog by UDP, few enough for any buffer.
    pub(crate) fn send_udp(&mut self, stream: &str) {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        for number in 0..50 {
            socket.send_to(message(stream, number).as_bytes(), ("127.0.0.1", self.port)).expect("send");
        }
        self.sent.insert(stream.to_owned(), 50);
    }

    /// All syslog messages that were sent have arrived.
    #[track_caller]
    pub(crate) fn assert_syslog_is_there(&self) {
        let verdict = oracle::read_when_whole(self.broker, &self.topics["net"], Format::Json, &self.sent, SOON);
        assert_eq!(verdict.lost(), 0, "syslog: {verdict}");
    }

    /// Ends the load, and judges what arrived.
    #[track_caller]
    pub(crate) fn assert_nothing_is_lost(&self, load: Load) {
        load.stop.store(true, Ordering::Relaxed);
        let (written, numbers) = (load.file.stop(), load.journal.join().expect("the sender failed"));
        let verdict = oracle::read_when_whole(self.broker, &self.topics["app"], Format::Json, &written, LATE);
        assert_eq!(verdict.lost(), 0, "files: {verdict}");
        let broker = self.broker;
        let journal = &self.topics["journal"];
        wait_until("the last of the journal", LATE, || arrived(broker, journal).numbers.contains(&numbers));
        let found = arrived(broker, journal);
        let first = found.numbers.first().copied().expect("some");
        assert_eq!(found.numbers, (first..=numbers).collect::<Vec<_>>(), "the journal, from the first that came after the start");
        assert!(first <= 2 && found.told.is_empty(), "from {first}: {:?}", found.told);
        self.assert_syslog_is_there();
        eprintln!("{}: files: {verdict}; journal: {numbers}; syslog: {:?}", self.topics["app"], self.sent);
    }

    /// Waits until the service runs again, after so many restarts.
    pub(crate) fn wait_for_restarts(&self, restarts: &str) {
        wait_until("systemd to restart it", SOON, || self.show("NRestarts") == restarts && self.show("ActiveState") == "active");
    }
}

impl Drop for Site<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = self.container.run(&["journalctl", "--unit=logferry", "--output=cat", "--lines=60"]);
            eprintln!("{}", String::from_utf8_lossy(&log.stdout));
        }
    }
}

fn message(stream: &str, number: u64) -> String {
    format!("<14>1 - web-01 test - - - {}", line(stream, number, 60))
}
