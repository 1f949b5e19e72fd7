//! Syslog: what is accepted arrives, over every transport, in order, parsed, after kills and with everything full; what is not accepted is counted.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::agent::{Agent, Plan};
use crate::harness::broker::Broker;
use crate::harness::lines::{self, Written};
use crate::harness::oracle;
use crate::harness::topic::{Format, Isolation, records};
use crate::harness::{free_port, soaking, temp_dir, wait_until};

const SOON: Duration = Duration::from_secs(20);
const LATE: Duration = Duration::from_secs(60);

/// A plan with a syslog source `net` beside one of files that finds none.
fn plan(bootstrap: &str, topic: &str, listen: &[String], more: &str) -> Plan {
    let source = format!("[[source]]\nname = \"net\"\ntype = \"syslog\"\nlisten = {listen:?}\n{more}");
    Plan::new(bootstrap, topic).include("/nonexistent/*.log").extra(&source)
}

fn started(plan: Plan) -> Agent {
    let mut agent = plan.start();
    agent.wait_for_log("listening", SOON);
    agent
}

/// A connection to a port, as soon as somebody listens there.
fn connect(port: u16) -> TcpStream {
    let mut found = None;
    wait_until("the port to be open", SOON, || {
        found = TcpStream::connect(("127.0.0.1", port)).ok();
        found.is_some()
    });
    found.unwrap()
}

fn missed(agent: &Agent, reason: &str) -> u64 {
    agent.status().source("net").missed.get(reason).map_or(0, |count| count.events)
}

/// Numbered lines from `from` on, each made a message by `frame`.
fn lines(stream: &str, from: u64, to: u64, frame: impl Fn(&str) -> String) -> String {
    (from..to).map(|number| frame(&lines::line(stream, number, 60))).collect()
}

fn newline(line: &str) -> String {
    format!("{line}\n")
}

fn counted(line: &str) -> String {
    let message = format!("<13>1 - - - - - - {line}");
    format!("{} {message}", message.len())
}

#[test]
fn every_transport_and_framing_arrives_whole_and_in_order() {
    let (broker, dir) = (Broker::shared(), temp_dir("sockets"));
    broker.create_topic("syslog-all", 3, &[]);
    let ports = [free_port(), free_port(), free_port()];
    let (stream, datagram) = (dir.path().join("stream"), dir.path().join("log"));
    let listen = [
        format!("udp://127.0.0.1:{}", ports[0]),
        format!("tcp://127.0.0.1:{}", ports[1]),
        format!("tcp://[::1]:{}", ports[2]),
        format!("unix://{}", stream.display()),
        format!("unixgram://{}", datagram.display()),
    ];
    let mut agent = started(plan(&broker.bootstrap(), "syslog-all", &listen, "socket_mode = \"0622\"").format(Format::Json));
    let count = 2000;
    let mut tcp = connect(ports[1]);
    tcp.write_all(lines("newline", 0, count, newline).as_bytes()).unwrap();
    tcp.write_all(lines("counted", 0, count, counted).as_bytes()).unwrap();
    wait_until("the local socket", SOON, || stream.exists() && datagram.exists());
    let mut local = UnixStream::connect(&stream).unwrap();
    for piece in lines("local", 0, count, counted).as_bytes().chunks(777) {
        local.write_all(piece).unwrap();
    }
    let mut six = TcpStream::connect(("::1", ports[2])).unwrap();
    six.write_all(lines("six", 0, count, newline).as_bytes()).unwrap();
    let (udp, unix) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UnixDatagram::unbound().unwrap());
    for number in 0..count {
        udp.send_to(format!("<13>1 - - - - - - {}", lines::line("udp", number, 60)).as_bytes(), ("127.0.0.1", ports[0])).unwrap();
        unix.send_to(format!("<13>1 - - - - - - {}\n", lines::line("unixgram", number, 60)).as_bytes(), &datagram).unwrap();
    }
    let names = ["newline", "counted", "local", "six", "udp", "unixgram"];
    let written: Written = names.map(|name| (name.to_owned(), count)).into();
    drop((tcp, local, six));
    let verdict = oracle::read_when_whole(broker, "syslog-all", Format::Json, &written, LATE);
    verdict.assert_whole_of("net", "every transport", 0, &agent);
    let seen: BTreeMap<String, String> = records(&broker.bootstrap(), "syslog-all", Isolation::ReadUncommitted)
        .iter()
        .map(|record| serde_json::from_slice::<Value>(&record.value).unwrap())
        .map(|event| {
            let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
            assert_eq!((text("type"), text("source"), text("host")), ("syslog".into(), "net".into(), "harness".into()), "{event}");
            (
                text("message").split(' ').next().unwrap().to_owned(),
                format!("{} {}", text("transport"), text("peer").split(':').next().unwrap()),
            )
        })
        .collect();
    let seen: Vec<_> = seen.iter().map(|(stream, from)| format!("{stream}: {from}")).collect();
    let expected = [
        "counted: tcp 127.0.0.1",
        "local: unix local#1",
        "newline: tcp 127.0.0.1",
        "six: tcp [",
        "udp: udp 127.0.0.1",
        "unixgram: unixgram local",
    ];
    assert_eq!(seen, expected);
    assert!(agent.terminate(SOON).success());
    assert!(!stream.exists() && !datagram.exists(), "sockets are taken away at the end");
}

#[test]
fn what_was_accepted_by_tcp_survives_kills_with_kafka_away() {
    let mut broker = Broker::lent();
    broker.create_topic("syslog-kills", 3, &[]);
    let port = free_port();
    let listen = [format!("tcp://127.0.0.1:{port}")];
    let mut agent = started(plan(&broker.bootstrap(), "syslog-kills", &listen, "").agent("memory = \"4MiB\""));
    let (rounds, each) = (if soaking() { 20 } else { 5 }, 20_000);
    let mut written = Written::new();
    for round in 0..rounds {
        if round % 2 == 1 {
            broker.kill9();
        }
        let stream = format!("round-{round}");
        let read = agent.status().source("net").read.events;
        let mut tcp = connect(port);
        tcp.write_all(lines(&stream, 0, each, newline).as_bytes()).unwrap();
        drop(tcp);
        written.insert(stream, each);
        // Read from the arrival log, so accepted; most of it is not in any snapshot.
        agent.wait_for_status("the messages to be accepted", LATE, |status| status.source("net").read.events >= read + each);
        agent.kill9();
        if round % 2 == 1 {
            broker.restart();
        }
        agent.restart();
        agent.wait_for_log("listening", SOON);
    }
    let verdict = oracle::read_when_whole(&broker, "syslog-kills", Format::Raw, &written, LATE * 2);
    eprintln!("kills under TCP: {verdict}");
    verdict.assert_nothing_lost();
    agent.assert_all_delivered("net", verdict.written());
    assert!(agent.terminate(SOON).success());
}

#[test]
fn a_flood_of_datagrams_is_accounted_for_to_the_last_one() {
    let broker = Broker::shared();
    broker.create_topic("syslog-flood", 3, &[]);
    let port = free_port();
    let listen = [format!("udp://127.0.0.1:{port}")];
    // A buffer so small that the kernel has to drop.
    let mut agent = started(plan(&broker.bootstrap(), "syslog-flood", &listen, "receive_buffer = \"64KiB\""));
    let count = 400_000_u64;
    let senders: Vec<_> = (0..4)
        .map(|sender| {
            thread::spawn(move || {
                let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
                for number in 0..count / 4 {
                    udp.send_to(format!("{sender} {number}").as_bytes(), ("127.0.0.1", port)).unwrap();
                }
            })
        })
        .collect();
    for sender in senders {
        sender.join().unwrap();
    }
    let status = agent.wait_for_status("every datagram to be accounted for", LATE, |status| {
        let books = status.source("net");
        books.delivered.events + books.missed.get("kernel_drop").map_or(0, |count| count.events) >= count
    });
    let books = status.source("net");
    let dropped = books.missed.get("kernel_drop").map_or(0, |count| count.events);
    eprintln!("flood: sent {count} = arrived {} + dropped by the kernel {dropped}", books.delivered.events);
    assert_eq!(books.read.events + dropped, count);
    assert!(dropped > 0, "the kernel dropped nothing: this test has shown nothing");
    assert!(agent.terminate(SOON).success());
    let gaps: Vec<Value> = records(&broker.bootstrap(), "syslog-flood", Isolation::ReadUncommitted)
        .iter()
        .filter(|record| record.value.starts_with(b"{"))
        .map(|record| serde_json::from_slice(&record.value).unwrap())
        .collect();
    let told: u64 = gaps.iter().filter(|gap| gap["reason"] == "kernel_drop").map(|gap| gap["events"].as_u64().unwrap()).sum();
    assert_eq!(told, dropped, "{gaps:?}");
}

#[test]
fn with_everything_full_local_programs_do_not_hang_and_what_is_refused_is_counted() {
    let (mut broker, dir) = (Broker::lent(), temp_dir("full"));
    broker.create_topic("syslog-full", 1, &[]);
    let socket = dir.path().join("log");
    let listen = [format!("unixgram://{}", socket.display())];
    let spill = "[spill]\nmax_size = \"64MiB\"\nafter = \"100ms\"";
    let rule = "shed_first = [\"chatter\"]\n[[rule]]\nname = \"chatter\"\nwhen = { app = \"chatter\" }\nkeep = true\n";
    let mut agent = started(plan(&broker.bootstrap(), "syslog-full", &listen, &format!("{rule}{spill}")).agent("memory = \"4MiB\""));
    broker.kill9();
    let unix = UnixDatagram::unbound().unwrap();
    unix.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut sent = 0_u64;
    let begun = Instant::now();
    while missed(&agent, "shed") == 0 {
        assert!(begun.elapsed() < LATE * 2, "it never fills: {}", agent.log());
        for _ in 0..2000 {
            let line = lines::noisy_line("full", sent, 1000);
            let tag = if sent.is_multiple_of(2) { "chatter: " } else { "" };
            unix.send_to(format!("<11>{tag}{line}").as_bytes(), &socket).expect("a full logferry never holds up a sender");
            sent += 1;
        }
    }
    // What the rule names goes first, then the least important; an emergency is taken for longest.
    assert!(missed(&agent, "shed") > 0);
    let begun = Instant::now();
    let logger = Command::new("logger").arg("-u").arg(&socket).args(["-p", "user.info", "still here"]).status().unwrap();
    assert!(logger.success() && begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    sent += 1;
    // A login through a shell whose profile logs, before and after what the user has it do.
    fs::write(
        dir.path().join(".profile"),
        "logger -u \"$LOG\" -p auth.info 'session opened'\ntrap 'logger -u \"$LOG\" -p auth.info closed' EXIT\n",
    )
    .unwrap();
    let begun = Instant::now();
    let login = Command::new("sh").args(["-l", "-c", "echo in; exit 0"]).env("HOME", dir.path()).env("LOG", &socket).output().unwrap();
    assert!(login.status.success() && begun.elapsed() < Duration::from_secs(2), "{:?} {login:?}", begun.elapsed());
    assert_eq!((&*login.stdout, &*login.stderr), (&b"in\n"[..], &b""[..]));
    sent += 2;
    broker.restart();
    let status = agent.wait_for_status("everything to be accounted for", LATE * 3, |status| {
        let books = status.source("net");
        books.delivered.events + books.missed.get("shed").map_or(0, |count| count.events) >= sent
    });
    let books = status.source("net");
    let shed = books.missed.get("shed").map_or(0, |count| count.events);
    eprintln!("full: sent {sent} = delivered {} + shed {shed}", books.delivered.events);
    assert_eq!(books.read.events + shed, sent);
    status.assert_balanced();
    agent.wait_for_status("the gaps to be sent", SOON, |status| status.gaps().0 == 0);
    let records = records(&broker.bootstrap(), "syslog-full", Isolation::ReadUncommitted);
    let gaps = records.iter().filter_map(|record| serde_json::from_slice::<serde_json::Value>(&record.value).ok());
    let told: BTreeMap<String, u64> = gaps.filter(|gap| gap["reason"] == "shed").fold(BTreeMap::new(), |mut told, gap| {
        *told.entry(gap["place"].as_str().unwrap_or_default().to_owned()).or_default() += gap["events"].as_u64().unwrap_or(0);
        told
    });
    assert_eq!(told.values().sum::<u64>(), shed, "{told:?}");
    assert!(told.get("unixgram, rule chatter").is_some_and(|events| *events > 0), "{told:?}");
    assert!(agent.terminate(SOON).success());
}

/// A rsyslogd of the test's own, which forwards what its socket gets.
struct Rsyslog {
    child: std::process::Child,
    socket: std::path::PathBuf,
    _dir: tempfile::TempDir,
}

impl Rsyslog {
    fn start(actions: &str) -> Rsyslog {
        let dir = temp_dir("rsyslog");
        let (socket, work) = (dir.path().join("in"), dir.path().display().to_string());
        let config = format!(
            "global(workDirectory=\"{work}\" maxMessageSize=\"64k\")\nmodule(load=\"imuxsock\" SysSock.Use=\"off\")\nmodule(load=\"omrelp\")\n\
             input(type=\"imuxsock\" Socket=\"{}\" RateLimit.Interval=\"0\" UseSysTimeStamp=\"off\")\n\
             template(name=\"wire\" type=\"string\" string=\"<%pri%>1 %timestamp:::date-rfc3339% %hostname% %app-name% %procid% %msgid% %structured-data% %msg:2:$%\")\n{actions}\n",
            socket.display()
        );
        fs::write(dir.path().join("rsyslog.conf"), config).unwrap();
        let child = Command::new("/usr/sbin/rsyslogd")
            .args(["-n", "-f"])
            .arg(dir.path().join("rsyslog.conf"))
            .arg("-i")
            .arg(dir.path().join("pid"))
            .stderr(Stdio::inherit())
            .spawn()
            .expect("run rsyslogd (Debian packages rsyslog and rsyslog-relp)");
        wait_until("rsyslogd's socket", SOON, || socket.exists());
        Rsyslog { child, socket, _dir: dir }
    }

    /// Gives it numbered lines, waiting as it asks to.
    fn send(&self, stream: &str, from: u64, to: u64) {
        let unix = UnixDatagram::unbound().unwrap();
        for number in from..to {
            let message = format!("<13>Nov 26 10:00:00 test: {}", lines::line(stream, number, 60));
            unix.send_to(message.as_bytes(), &self.socket).unwrap();
        }
    }
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// One message by each way that `logger` has, to a port of UDP and one of TCP.
fn log_by_logger(agent: &Agent, ports: [u16; 2]) {
    for args in [&["-d", "-P"][..], &["-T", "-P"], &["-T", "--octet-count", "-P"]] {
        let port = if args[0] == "-d" { ports[0] } else { ports[1] };
        let before = agent.status().source("net").read.events;
        let logger = Command::new("logger")
            .args(["-n", "127.0.0.1", "--rfc5424", "-t", "tester", "-p", "local3.warning"])
            .args(args)
            .arg(port.to_string())
            .arg("hello from logger")
            .status();
        assert!(logger.unwrap().success());
        agent.wait_for_status("logger's message", SOON, |status| status.source("net").read.events > before);
    }
}

#[test]
fn the_real_rsyslogd_and_logger_are_understood() {
    let broker = Broker::shared();
    broker.create_topic("syslog-rsyslog", 1, &[]);
    let ports = [free_port(), free_port(), free_port()];
    let listen =
        [format!("udp://127.0.0.1:{}", ports[0]), format!("tcp://127.0.0.1:{}", ports[1]), format!("relp://127.0.0.1:{}", ports[2])];
    let mut agent = started(plan(&broker.bootstrap(), "syslog-rsyslog", &listen, "").format(Format::Json));
    for port in [ports[1], ports[2]] {
        drop(connect(port));
    }
    let forward = |protocol: &str, port: u16, framing: &str| {
        format!("action(type=\"omfwd\" Target=\"127.0.0.1\" Port=\"{port}\" Protocol=\"{protocol}\" {framing} Template=\"wire\")\n")
    };
    let count = 500;
    let kinds = [
        ("udp", forward("udp", ports[0], "")),
        ("traditional", forward("tcp", ports[1], "TCP_Framing=\"traditional\"")),
        ("octets", forward("tcp", ports[1], "TCP_Framing=\"octet-counted\"")),
        ("relp", format!("action(type=\"omrelp\" Target=\"127.0.0.1\" Port=\"{}\" Template=\"wire\")\n", ports[2])),
    ];
    let mut written = Written::new();
    for (name, action) in &kinds {
        let rsyslog = Rsyslog::start(action);
        let before = agent.status().source("net").read.events;
        rsyslog.send(name, 0, count);
        agent.wait_for_status(&format!("what came by {name}"), SOON, |status| status.source("net").read.events >= before + count);
        written.insert((*name).to_owned(), count);
    }
    log_by_logger(&agent, [ports[0], ports[1]]);
    let status = agent.wait_for_status("everything to be delivered", SOON, |status| status.source("net").pending.events == 0);
    assert_eq!(status.source("net").delivered.events, 4 * count + 3);
    let events: Vec<Value> = records(&broker.bootstrap(), "syslog-rsyslog", Isolation::ReadUncommitted)
        .iter()
        .map(|record| serde_json::from_slice(&record.value).unwrap())
        .collect();
    let mut streams = Written::new();
    for event in &events {
        assert_eq!(event.get("parse_error"), None, "{event}");
        let message = event["message"].as_str().unwrap();
        if let Some((stream, _)) = lines::parse(message.as_bytes()) {
            *streams.entry(stream.to_owned()).or_default() += 1;
            assert_eq!(
                (event["app"].as_str(), event["severity"].as_str(), event["facility"].as_str()),
                (Some("test"), Some("notice"), Some("user"))
            );
        } else {
            assert_eq!(
                (message, event["app"].as_str(), event["severity"].as_str(), event["facility"].as_str()),
                ("hello from logger", Some("tester"), Some("warning"), Some("local3"))
            );
            assert!(event["structured_data"]["timeQuality"]["tzKnown"].is_string(), "{event}");
        }
    }
    assert_eq!(streams, written);
    assert!(agent.terminate(SOON).success());
}

#[test]
fn what_was_confirmed_by_relp_arrives_and_rsyslog_sends_the_rest_again_over_kills() {
    let broker = Broker::shared();
    broker.create_topic("syslog-relp", 1, &[]);
    let port = free_port();
    let listen = [format!("relp://127.0.0.1:{port}")];
    let mut agent = started(plan(&broker.bootstrap(), "syslog-relp", &listen, ""));
    let queue = "queue.type=\"LinkedList\" queue.size=\"200000\" action.resumeRetryCount=\"-1\" action.resumeInterval=\"1\"";
    let rsyslog = Rsyslog::start(&format!("action(type=\"omrelp\" Target=\"127.0.0.1\" Port=\"{port}\" Template=\"wire\" {queue})"));
    let (kills, each) = (if soaking() { 20 } else { 4 }, 3000);
    for kill in 0..kills {
        rsyslog.send("relp", kill * each, (kill + 1) * each);
        let seen = broker.count("syslog-relp");
        wait_until("something to arrive", LATE, || broker.count("syslog-relp") > seen);
        agent.kill9();
        agent.restart();
        agent.wait_for_log("listening", SOON);
    }
    let total = kills * each;
    let got = || {
        let mut numbers = std::collections::BTreeSet::new();
        for record in records(&broker.bootstrap(), "syslog-relp", Isolation::ReadUncommitted) {
            let text = String::from_utf8(record.value).unwrap();
            let line = &text[text.find("relp seq=").unwrap()..];
            numbers.insert(lines::parse(line.as_bytes()).unwrap_or_else(|| panic!("{line}")).1);
        }
        numbers
    };
    let mut numbers = std::collections::BTreeSet::new();
    wait_until("all that rsyslog was given", LATE * 2, || {
        numbers = got();
        numbers.len() as u64 == total
    });
    eprintln!("RELP: given to rsyslog {total}, arrived {}, {kills} kills", numbers.len());
    agent.status().assert_balanced();
    assert!(agent.terminate(SOON).success());
}

#[test]
fn hostile_and_slow_senders_harm_nobody_else() {
    let broker = Broker::shared();
    broker.create_topic("syslog-hostile", 1, &[]);
    let port = free_port();
    let listen = [format!("tcp://127.0.0.1:{port}")];
    let mut agent = started(plan(&broker.bootstrap(), "syslog-hostile", &listen, "max_connections = 2100\nmax_message_size = \"16KiB\""));
    let number = if soaking() { 2000 } else { 500 };
    let connections: Vec<TcpStream> = (0..number).map(|_| connect(port)).collect();
    let trickle = thread::spawn(move || {
        // Half of them send a byte now and then, and never a whole message.
        for byte in 0..20 {
            for mut connection in connections.iter().step_by(2) {
                drop(connection.write_all(&[b'a' + byte]));
            }
            thread::sleep(Duration::from_millis(100));
        }
        connections
    });
    let mut garbage = connect(port);
    garbage.write_all(b"99999999999 <13>absurd\n\0\0\xFF\xFE\n").unwrap();
    let mut endless = connect(port);
    let megabytes = if soaking() { 1024 } else { 64 };
    let flood = thread::spawn(move || {
        let block = vec![b'x'; 1 << 20];
        for _ in 0..megabytes {
            endless.write_all(&block).unwrap();
        }
        endless
    });
    let count = 20_000;
    let mut good = connect(port);
    good.write_all(lines("good", 0, count, newline).as_bytes()).unwrap();
    let (connections, endless) = (trickle.join().unwrap(), flood.join().unwrap());
    drop((garbage, endless, good));
    let whole = |agent: &Agent| agent.status().source("net").read.events;
    wait_until("the good messages, the absurd count, two of garbage and the endless one", LATE, || whole(&agent) >= count + 3);
    let rss = agent.usage().peak_rss;
    eprintln!("hostile senders: peak RSS {} MiB", rss >> 20);
    assert!(rss < 96 << 20, "{rss} bytes");
    drop(connections);
    wait_until("what the slow ones sent, as partial", LATE, || whole(&agent) >= count + 3 + number / 2);
    agent.wait_for_status("everything to be delivered", LATE, |status| status.source("net").pending.events == 0);
    let mut written = Written::new();
    written.insert("good".into(), count);
    let mut seen = oracle::Oracle::new(&written);
    for record in records(&broker.bootstrap(), "syslog-hostile", Isolation::ReadUncommitted) {
        if record.value.starts_with(b"good ") {
            seen.see(record.partition, &record.value);
        }
    }
    let verdict = seen.verdict();
    verdict.assert_nothing_lost();
    verdict.assert_order_kept();
    assert!(agent.log().contains("can't be true"), "{}", agent.log());
    assert!(agent.terminate(SOON).success());
}

#[test]
fn one_connection_too_many_is_closed_said_and_counted() {
    let broker = Broker::shared();
    broker.create_topic("syslog-many", 1, &[]);
    let port = free_port();
    let listen = [format!("tcp://127.0.0.1:{port}")];
    let mut agent = started(plan(&broker.bootstrap(), "syslog-many", &listen, "max_connections = 3\nallow = [\"127.0.0.0/8\"]"));
    let kept: Vec<TcpStream> = (0..3).map(|_| connect(port)).collect();
    thread::sleep(Duration::from_millis(200));
    let mut refused = connect(port);
    refused.set_read_timeout(Some(SOON)).unwrap();
    assert_eq!(refused.read(&mut [0; 8]).unwrap_or(0), 0, "it is closed");
    agent.wait_for_log("max_connections allows", SOON);
    drop(kept);
    assert!(agent.terminate(SOON).success());
}

#[test]
fn a_socket_that_systemd_opened_is_read_from_its_first_datagram_on() {
    let (broker, dir, port) = (Broker::shared(), temp_dir("activated"), free_port());
    broker.create_topic("syslog-activated", 1, &[]);
    let config = plan(&broker.bootstrap(), "syslog-activated", &["systemd://syslog".to_owned()], "").write(dir.path());
    let mut agent = Command::new("systemd-socket-activate")
        .args([
            "--datagram",
            "--fdname=syslog",
            "--listen",
            &format!("127.0.0.1:{port}"),
            env!("CARGO_BIN_EXE_logferry"),
            "run",
            "--config",
        ])
        .arg(config)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("run systemd-socket-activate (Debian package systemd)");
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    // The first one makes systemd start the service, whose socket holds it until then.
    wait_until("systemd to listen", SOON, || {
        udp.connect(("127.0.0.1", port)).and_then(|()| udp.send(lines::line("activated", 0, 40).as_bytes())).is_ok() && {
            thread::sleep(Duration::from_millis(100));
            udp.take_error().unwrap().is_none()
        }
    });
    wait_until("the first datagram", SOON, || broker.count("syslog-activated") >= 1);
    let before = broker.count("syslog-activated");
    for number in 1..=100 {
        udp.send(lines::line("activated", number, 40).as_bytes()).unwrap();
    }
    wait_until("the others", SOON, || broker.count("syslog-activated") == before + 100);
    agent.kill().unwrap();
    agent.wait().unwrap();
}

#[test]
fn an_address_in_use_is_named_with_the_remedy_and_taken_once_it_is_free() {
    let broker = Broker::shared();
    broker.create_topic("syslog-in-use", 1, &[]);
    let other = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = other.local_addr().unwrap().port();
    let mut agent = plan(&broker.bootstrap(), "syslog-in-use", &[format!("tcp://127.0.0.1:{port}")], "").start();
    agent.wait_for_log("is in use by another program: stop that (ss -lpn tells which one it is), or listen elsewhere", SOON);
    drop(other);
    agent.wait_for_log("listening", SOON);
    connect(port).write_all(b"<14>now\n").unwrap();
    broker.wait_for_count("syslog-in-use", 1, SOON);
    assert!(agent.terminate(SOON).success());
}
