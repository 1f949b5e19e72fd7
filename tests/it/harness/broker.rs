//! A real Apache Kafka broker (broker and controller in one, `KRaft`), from the jars in `target/kafka/libs`, on loopback ports of its own.
//!
//! [`Broker::shared`] is for tests that don't harm it; whoever kills, stops or freezes a broker starts one of their own, which `&mut self`
//! enforces.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rustix::process::Signal;
use tempfile::TempDir;

use super::process::Process;
use super::topic::{self, Isolation};
use super::{free_port, temp_dir, wait_until};

const JAVA_MISSING: &str = "Java 17 is needed for the real Kafka broker: run make test, or install openjdk-17-jre-headless";
const START: Duration = Duration::from_secs(90);
const ANSWER: Duration = Duration::from_secs(30);
/// Any 16 bytes in base64: what names a cluster.
const CLUSTER: &str = "bG9nZmVycnktdGVzdC1rZg";

/// How a broker is set up.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Whether producing to a topic that does not exist creates it.
    pub auto_create_topics: bool,
    /// The most memory that Java may take for its heap, MiB.
    pub heap_mib: u32,
    /// Whether the Java code is compiled for speed (slower to start).
    pub fast: bool,
    /// A second listener, for clients other than the harness itself.
    pub second: Option<Listener>,
    /// Further lines of server.properties.
    pub properties: Vec<(String, String)>,
}

/// A listener beside the plaintext one.
#[derive(Clone, Debug)]
pub struct Listener {
    /// `PLAINTEXT`, `SSL`, `SASL_SSL` or `SASL_PLAINTEXT`.
    pub protocol: &'static str,
    /// `host:port` that it advertises; `None`: where it listens.
    pub advertised: Option<String>,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup { auto_create_topics: false, heap_mib: 320, fast: false, second: None, properties: Vec::new() }
    }
}

/// A broker with its data; killed and removed when dropped.
pub struct Broker {
    // Dropped in this order: first the process ends, then its folder is removed.
    process: Process,
    probe: BaseConsumer,
    admin: AdminClient<DefaultClientContext>,
    dir: TempDir,
    setup: Setup,
    port: u16,
    controller: u16,
    second: u16,
}

/// A broker lent to one test, that may do to it what it likes.
pub struct Lent(Option<Broker>);

/// Brokers that were lent and came back.
static SPARE: Mutex<Vec<Broker>> = Mutex::new(Vec::new());

impl Deref for Lent {
    type Target = Broker;
    fn deref(&self) -> &Broker {
        self.0.as_ref().expect("there until it is dropped")
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut Broker {
        self.0.as_mut().expect("there until it is dropped")
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let broker = self.0.take().filter(|_| !std::thread::panicking());
        SPARE.lock().unwrap_or_else(PoisonError::into_inner).extend(broker);
    }
}

impl Broker {
    /// Starts a broker of its own and waits until it answers. Panics, with the broker's log, if it does not.
    pub fn start() -> Broker {
        Broker::start_with(Setup::default())
    }

    /// The same, set up otherwise.
    pub fn start_with(setup: Setup) -> Broker {
        let dir = temp_dir("kafka");
        let ports = [free_port(), free_port(), free_port()];
        write_properties(dir.path(), ports, &setup);
        for (name, bytes) in formatted() {
            fs::write(dir.path().join("data").join(name), bytes).expect("write the broker's folder");
        }
        Broker::launched(dir, ports, setup)
    }

    /// Starts a further broker of the same cluster, number 2, and waits until it answers. Its topics may be on either from now on, so it is for
    /// tests that have this broker for themselves.
    pub fn join(&mut self) -> Broker {
        let dir = temp_dir("kafka");
        let ports = [free_port(), self.controller, free_port()];
        let own = [
            ("process.roles", "broker".to_owned()),
            ("node.id", "2".to_owned()),
            ("listeners", format!("PLAINTEXT://127.0.0.1:{}", ports[0])),
        ];
        let setup = Setup { properties: own.map(|(key, value)| (key.to_owned(), value)).to_vec(), ..Setup::default() };
        write_properties(dir.path(), ports, &setup);
        let (name, bytes) = formatted().iter().find(|(name, _)| name == "meta.properties").expect("a formatted folder");
        let text = String::from_utf8_lossy(bytes).replace("node.id=1", "node.id=2");
        let other_id =
            |line: &str| line.strip_prefix("directory.id=").map(|id| format!("directory.id=logferry{}", &id["logferry".len()..]));
        let text: String = text.lines().map(|line| other_id(line).unwrap_or_else(|| line.to_owned()) + "\n").collect();
        fs::write(dir.path().join("data").join(name), text).expect("write the broker's folder");
        Broker::launched(dir, ports, setup)
    }

    fn launched(dir: TempDir, [port, controller, second]: [u16; 3], setup: Setup) -> Broker {
        let bootstrap = format!("127.0.0.1:{port}");
        let process = launch(dir.path(), &setup);
        let probe = topic::consumer(&bootstrap, Isolation::ReadUncommitted);
        let admin = ClientConfig::new().set("bootstrap.servers", &bootstrap).create().expect("make an admin client");
        let mut broker = Broker { process, probe, admin, dir, setup, port, controller, second };
        broker.wait_until_it_answers();
        broker
    }

    /// The broker of this test process, started by the first test that asks for it, killed with the process.
    pub fn shared() -> &'static Broker {
        static SHARED: OnceLock<Broker> = OnceLock::new();
        SHARED.get_or_init(Broker::start)
    }

    /// A broker that this test alone has, to kill and to freeze; with topics of tests before it. How it is left does not matter.
    pub fn lent() -> Lent {
        let spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let broker = spare.map(|mut broker| {
            broker.thaw();
            if broker.process.exited().is_some() {
                broker.restart();
            }
            broker
        });
        Lent(Some(broker.unwrap_or_else(Broker::start)))
    }

    /// The port of the second listener.
    pub fn second_port(&self) -> u16 {
        self.second
    }

    /// `host:port` of the second listener.
    pub fn second(&self) -> String {
        format!("127.0.0.1:{}", self.second)
    }

    /// `host:port`, for `bootstrap.servers`.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Creates a topic and waits until it can be written to.
    #[track_caller]
    pub fn create_topic(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) {
        self.create_replicated_topic(name, partitions, 1, configs);
    }

    /// The same with more than one replica, for a cluster that has them.
    #[track_caller]
    pub fn create_replicated_topic(&self, name: &str, partitions: i32, replicas: i32, configs: &[(&str, &str)]) {
        let mut new = NewTopic::new(name, partitions, TopicReplication::Fixed(replicas));
        for (key, value) in configs {
            new = new.set(key, value);
        }
        let made = run(self.admin.create_topics([&new], &AdminOptions::new().request_timeout(Some(ANSWER)))).expect("ask for a topic");
        for result in made {
            result.unwrap_or_else(|(topic, error)| panic!("create topic {topic}: {error}"));
        }
        wait_until(&format!("a leader for each partition of {name}"), ANSWER, || {
            self.probe.fetch_metadata(Some(name), ANSWER).is_ok_and(|metadata| {
                let with_leader = |topic: &rdkafka::metadata::MetadataTopic| topic.partitions().iter().filter(|p| p.leader() >= 0).count();
                metadata.topics().iter().map(with_leader).sum::<usize>() == usize::try_from(partitions).expect("a number of partitions")
            })
        });
    }

    /// Deletes a topic and waits until it is gone.
    #[track_caller]
    pub fn delete_topic(&self, name: &str) {
        let gone = run(self.admin.delete_topics(&[name], &AdminOptions::new().request_timeout(Some(ANSWER)))).expect("ask for a deletion");
        for result in gone {
            result.unwrap_or_else(|(topic, error)| panic!("delete topic {topic}: {error}"));
        }
        wait_until(&format!("topic {name} to be gone"), ANSWER, || topic::count(&self.probe, name).is_none());
    }

    /// Sets configuration values of a topic that exists; those not named go back to their defaults.
    #[track_caller]
    pub fn configure_topic(&self, name: &str, configs: &[(&str, &str)]) {
        let alter = configs.iter().fold(AlterConfig::new(ResourceSpecifier::Topic(name)), |alter, (key, value)| alter.set(key, value));
        let done = run(self.admin.alter_configs([&alter], &AdminOptions::new().request_timeout(Some(ANSWER)))).expect("ask for a change");
        for result in done {
            result.unwrap_or_else(|(_, error)| panic!("configure topic {name}: {error}"));
        }
    }

    /// Runs one of Kafka's own command line tools (the name of its class) on this broker.
    #[track_caller]
    pub fn tool(&self, class: &str, args: &[&str]) {
        let mut tool = java(self.dir.path(), 128);
        tool.args(["-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", class]);
        tool.args(["--bootstrap-server", &self.bootstrap()]).args(args);
        let output = tool.output().unwrap_or_else(|error| panic!("{JAVA_MISSING} ({error})"));
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{class} {args:?}:\n{}", String::from_utf8_lossy(&said));
    }

    /// How many records a topic holds, by its watermarks; 0 while it does not exist.
    pub fn count(&self, topic: &str) -> u64 {
        topic::count(&self.probe, topic).unwrap_or(0)
    }

    /// Waits until a topic holds at least so many records.
    #[track_caller]
    pub fn wait_for_count(&self, topic: &str, records: u64, timeout: Duration) {
        let mut seen = 0;
        let what = format!("{records} records in topic {topic}");
        let started = std::time::Instant::now();
        while seen < records {
            assert!(started.elapsed() < timeout, "waited {timeout:?} for: {what}; it has {seen}");
            seen = self.count(topic);
            std::thread::sleep(super::LOOK_EVERY);
        }
    }

    /// Ends it as a power cut would end it, apart from what the kernel has cached.
    pub fn kill9(&mut self) {
        self.process.kill9();
    }

    /// Asks it to stop and waits until it has.
    pub fn stop_gently(&mut self) {
        self.process.signal(Signal::TERM);
        self.process.wait(ANSWER);
    }

    /// Starts it again, on the same ports and data, and waits until it answers.
    pub fn restart(&mut self) {
        self.process.kill9();
        self.process = launch(self.dir.path(), &self.setup);
        self.wait_until_it_answers();
    }

    /// Its process id.
    pub fn process_id(&self) -> u32 {
        self.process.pid()
    }

    /// Stops it from answering, its connections stay open.
    pub fn freeze(&mut self) {
        self.process.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn thaw(&mut self) {
        self.process.signal(Signal::CONT);
    }

    fn wait_until_it_answers(&mut self) {
        let (process, probe) = (&mut self.process, &self.probe);
        wait_until("the broker to answer a request for metadata", START, || {
            let ended = process.exited().is_some();
            assert!(!ended, "the broker ended at its start; its log ends with:\n{}", explained(&process.log_tail(40)));
            probe.fetch_metadata(None, Duration::from_secs(1)).is_ok_and(|metadata| !metadata.brokers().is_empty())
        });
    }
}

fn launch(dir: &Path, setup: &Setup) -> Process {
    let mut java = java(dir, setup.heap_mib);
    if !setup.fast {
        java.arg("-XX:TieredStopAtLevel=1");
    }
    java.args(["-Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.config=warn", "kafka.Kafka"]).arg(dir.join("server.properties"));
    Process::start("the Kafka broker", &mut java, &dir.join("kafka.log"), dir).unwrap_or_else(|error| panic!("{JAVA_MISSING} ({error})"))
}

fn java(dir: &Path, heap_mib: u32) -> Command {
    let libs = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/kafka/libs");
    assert!(libs.is_dir(), "Apache Kafka's jars are not in target/kafka/libs: run make test, or tests/kafka/fetch.sh");
    let program = std::env::var_os("JAVA_HOME").map_or_else(|| PathBuf::from("java"), |home| PathBuf::from(home).join("bin/java"));
    let mut java = Command::new(program);
    java.arg(format!("-Xmx{heap_mib}m")).args(["-XX:+UseSerialGC", "-cp"]).arg(libs.join("*")).current_dir(dir);
    java
}

/// The files of a freshly formatted data folder. Nothing in them depends on the ports, so that one run of Kafka's tool serves all brokers.
fn formatted() -> &'static [(String, Vec<u8>)] {
    static FILES: OnceLock<Vec<(String, Vec<u8>)>> = OnceLock::new();
    FILES.get_or_init(|| {
        let dir = temp_dir("kafka-format");
        write_properties(dir.path(), [1, 2, 3], &Setup::default());
        let mut tool = java(dir.path(), 128);
        tool.args(["-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "kafka.tools.StorageTool"]);
        tool.args(["format", "--cluster-id", CLUSTER, "--config", "server.properties"]);
        let output = tool.output().unwrap_or_else(|error| panic!("{JAVA_MISSING} ({error})"));
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "Kafka's storage could not be formatted:\n{}", explained(&String::from_utf8_lossy(&said)));
        let entries: io::Result<Vec<_>> = fs::read_dir(dir.path().join("data")).and_then(Iterator::collect);
        let entries = entries.expect("read the formatted folder");
        let read = |path: PathBuf| fs::read(path).expect("read a formatted file");
        entries.iter().map(|entry| (entry.file_name().to_string_lossy().into_owned(), read(entry.path()))).collect()
    })
}

fn explained(log: &str) -> String {
    let too_old = log.contains("UnsupportedClassVersionError");
    if too_old { format!("{log}\nThis Java is too old. {JAVA_MISSING}") } else { log.to_owned() }
}

fn write_properties(dir: &Path, [port, controller, second]: [u16; 3], setup: &Setup) {
    let data = dir.join("data");
    fs::create_dir_all(&data).expect("make the broker's folder");
    let [mut listens, mut advertised, mut protocols] = <[String; 3]>::default();
    if let Some(listener) = &setup.second {
        listens = format!(",SECOND://127.0.0.1:{second}");
        advertised = format!(",SECOND://{}", listener.advertised.clone().unwrap_or_else(|| format!("127.0.0.1:{second}")));
        protocols = format!(",SECOND:{}", listener.protocol);
    }
    let mut text = format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}{listens}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}{advertised}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT{protocols}
log.dirs={}
auto.create.topics.enable={}
num.partitions=1
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
num.network.threads=2
num.io.threads=2
background.threads=2
log.cleaner.dedupe.buffer.size=4194304
",
        data.display(),
        setup.auto_create_topics,
    );
    for (key, value) in &setup.properties {
        writeln!(text, "{key}={value}").expect("write to a string");
    }
    fs::write(dir.join("server.properties"), text).expect("write server.properties");
}

/// The admin client's futures are driven by its own thread; this only waits.
fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("make a runtime").block_on(future)
}
