//! The sender against librdkafka's mock cluster, with an outbox of which snapshots are made by hand. Against a real broker: `tests/it/gaps.rs`.

use std::net::TcpListener;
use std::sync::Mutex;

use rdkafka::Message as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Headers as _;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::*;
use crate::encode::{self, Format};
use crate::gaps::outbox::Outbox;
use crate::gaps::{Amount, Place};

const SOON: Duration = Duration::from_secs(20);

impl Store for Mutex<Outbox> {
    fn take(&self) -> Vec<Gap> {
        self.lock().unwrap().take()
    }
    fn sent(&self, number: u64) {
        self.lock().unwrap().sent(number);
    }
    fn is_empty(&self) -> bool {
        self.lock().unwrap().is_empty()
    }
}

fn gap(path: &str) -> Gap {
    Gap {
        number: 0,
        source: "app".into(),
        of: "file".into(),
        reason: "truncated".into(),
        place: Place::Path(path.as_bytes().into()),
        stream: None,
        from: None,
        to: None,
        amount: Amount { bytes: 5, ..Amount::default() },
        first_ns: 1,
        last_ns: 2,
        words: "".into(),
    }
}

/// An outbox with a sender.
struct Rig {
    outbox: Arc<Mutex<Outbox>>,
    bell: Arc<Bell>,
    stop: Arc<Stop>,
    sender: Sender,
}

impl Rig {
    fn start(servers: &str, outbox: Outbox, idle: Duration) -> Rig {
        let encode =
            encode::Settings { format: Format::Raw, max_event: 900 << 10, host: "h".into(), labels: vec![], zone: jiff::tz::TimeZone::UTC };
        let properties = ["enable.idempotence", "enable.gapless.guarantee"].map(|name| (name.to_owned(), "true".to_owned()));
        let kafka = crate::kafka::Settings { bootstrap_servers: vec![servers.to_owned()], properties: properties.into() };
        let kafka = crate::kafka::Current::new(kafka);
        let settings = Settings { kafka, topic: "gaps".into(), encoder: GapEncoder::new(&encode, "agent"), idle };
        let (outbox, bell, stop) = (Arc::new(Mutex::new(outbox)), Arc::new(Bell::default()), Arc::new(Stop::default()));
        let store: Arc<dyn Store> = Arc::clone(&outbox) as _;
        let sender = Sender::start(settings, store, Arc::clone(&bell), Arc::clone(&stop)).unwrap();
        Rig { outbox, bell, stop, sender }
    }

    fn add(&self, path: &str) {
        self.outbox.lock().unwrap().add(gap(path));
    }

    fn snapshot(&self) {
        let mut outbox = self.outbox.lock().unwrap();
        let changes = outbox.changes();
        if outbox.committed(&changes) {
            self.bell.ring();
        }
    }

    /// Lets snapshots be made until everything is sent.
    #[track_caller]
    fn wait_until_sent(&self) {
        wait_until("all gaps to be sent", || {
            self.snapshot();
            self.outbox.lock().unwrap().is_empty()
        });
    }
}

#[track_caller]
fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + SOON;
    while !condition() {
        assert!(Instant::now() < until, "waited {SOON:?} for: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn cluster() -> MockCluster<'static, DefaultProducerContext> {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("gaps", 3, 1).unwrap();
    cluster
}

/// The paths of the gaps that the topic has, in their order.
fn arrived(cluster: &MockCluster<'_, DefaultProducerContext>) -> Vec<String> {
    let servers = cluster.bootstrap_servers();
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers).set("group.id", "test").set("enable.partition.eof", "true");
    let consumer: BaseConsumer = config.create().unwrap();
    let mut from = TopicPartitionList::new();
    for partition in 0..3 {
        from.add_partition_offset("gaps", partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&from).unwrap();
    let (mut paths, mut ends) = (Vec::new(), 0);
    while ends < 3 {
        match consumer.poll(SOON).expect("an answer") {
            Ok(message) => {
                assert_eq!(message.key(), Some(&b"h:gaps"[..]));
                assert_eq!(message.partition(), crate::kafka::partition::partition_for(b"h:gaps", 3));
                let header = message.headers().unwrap().get(0);
                assert_eq!((header.key, header.value), ("logferry-type", Some(&b"gap"[..])));
                let value: serde_json::Value = serde_json::from_slice(message.payload().unwrap()).unwrap();
                paths.push(value["path"].as_str().unwrap().to_owned());
            }
            Err(rdkafka::error::KafkaError::PartitionEOF(_)) => ends += 1,
            Err(error) => panic!("{error}"),
        }
    }
    paths
}

#[test]
fn gaps_are_sent_in_order_with_key_and_header_and_counted_as_sent() {
    let cluster = cluster();
    let rig = Rig::start(&cluster.bootstrap_servers(), Outbox::default(), SOON);
    let paths: Vec<String> = (0..250).map(|i| format!("/{i}")).collect();
    for path in &paths {
        rig.add(path);
    }
    assert!(!rig.sender.is_open(), "nothing may be sent without a snapshot");
    rig.wait_until_sent();
    assert_eq!(rig.outbox.lock().unwrap().counters().sent, 250);
    rig.sender.finish();
    assert_eq!(arrived(&cluster), paths);
}

#[test]
fn a_refused_gap_is_sent_again_until_it_is_taken() {
    let cluster = cluster();
    let denied = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED; 2];
    cluster.request_errors(RDKafkaApiKey::Produce, &denied);
    let rig = Rig::start(&cluster.bootstrap_servers(), Outbox::default(), SOON);
    rig.add("/a");
    rig.wait_until_sent();
    rig.sender.finish();
    assert_eq!(arrived(&cluster), ["/a"]);
}

#[test]
fn gaps_that_are_too_large_in_one_batch_are_sent_again() {
    let cluster = cluster();
    let too_large = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE];
    cluster.request_errors(RDKafkaApiKey::Produce, &too_large);
    let rig = Rig::start(&cluster.bootstrap_servers(), Outbox::default(), SOON);
    for path in ["/a", "/b", "/c"] {
        rig.add(path);
    }
    rig.wait_until_sent();
    rig.sender.finish();
    assert_eq!(arrived(&cluster), ["/a", "/b", "/c"]);
}

#[test]
fn a_finish_waits_for_what_waits_and_for_its_snapshot() {
    let cluster = cluster();
    let rig = Rig::start(&cluster.bootstrap_servers(), Outbox::default(), SOON);
    rig.add("/a");
    rig.stop.advance(Phase::Drain);
    let Rig { outbox, bell, sender, .. } = rig;
    let finishing = std::thread::spawn(move || sender.finish());
    wait_until("the gap to be sent", || {
        assert!(!finishing.is_finished() || outbox.lock().unwrap().is_empty());
        let mut outbox = outbox.lock().unwrap();
        let changes = outbox.changes();
        if outbox.committed(&changes) {
            bell.ring();
        }
        outbox.is_empty()
    });
    finishing.join().unwrap();
    assert_eq!(arrived(&cluster), ["/a"]);
}

#[test]
fn with_no_broker_it_ends_when_the_time_has_come_and_the_same_gap_goes_out_next_time() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let servers = nobody.local_addr().unwrap().to_string();
    drop(nobody);
    let rig = Rig::start(&servers, Outbox::default(), SOON);
    rig.add("/a");
    wait_until("a try", || {
        rig.snapshot();
        rig.sender.is_open()
    });
    rig.stop.advance(Phase::Now);
    let asked = Instant::now();
    rig.sender.finish();
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    let left: Vec<Gap> = rig.outbox.lock().unwrap().waiting().cloned().collect();
    assert_eq!(left, [Gap { number: 1, ..gap("/a") }]);

    let cluster = cluster();
    let counters = rig.outbox.lock().unwrap().counters();
    let rig = Rig::start(&cluster.bootstrap_servers(), Outbox::restored(left, counters), SOON);
    wait_until("the gap to be sent", || rig.outbox.lock().unwrap().is_empty());
    rig.sender.finish();
    assert_eq!(arrived(&cluster), ["/a"]);
}

#[test]
fn the_producer_is_closed_after_a_time_without_gaps_and_opened_for_the_next() {
    let cluster = cluster();
    let rig = Rig::start(&cluster.bootstrap_servers(), Outbox::default(), Duration::from_millis(300));
    for path in ["/a", "/b"] {
        assert!(!rig.sender.is_open());
        rig.add(path);
        rig.wait_until_sent();
        wait_until("the producer to be closed", || !rig.sender.is_open());
    }
    rig.sender.finish();
    assert_eq!(arrived(&cluster), ["/a", "/b"]);
}
