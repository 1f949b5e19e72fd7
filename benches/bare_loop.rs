//! The bare librdkafka loop: what shipping a file costs when nothing but the least is done. It reads blocks of 1 MiB, splits them with
//! memchr, hands the lines to `rd_kafka_produce_batch` without copying them, and waits for the acknowledgements. No positions, no rotation, no
//! budget: the upper bound that logferry is measured against.

#![expect(unsafe_code, reason = "rd_kafka_produce_batch, the fastest way into librdkafka, has no safe wrapper")]

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::ClientContext;
use rdkafka::bindings as rdsys;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, Producer, ProducerContext};
use rdkafka::util::IntoOpaque;

const BLOCK: usize = 1 << 20;

/// What is shared with librdkafka's callbacks.
#[derive(Default)]
struct Reports {
    acknowledged: AtomicU64,
    failed: AtomicU64,
}

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    /// Keeps the block alive that the message lies in.
    type DeliveryOpaque = Arc<Vec<u8>>;

    fn delivery(&self, result: &DeliveryResult<'_>, _block: Arc<Vec<u8>>) {
        let counter = if result.is_ok() { &self.acknowledged } else { &self.failed };
        counter.fetch_add(1, Ordering::Release);
    }
}

impl Reports {
    fn all(&self) -> u64 {
        self.acknowledged.load(Ordering::Acquire) + self.failed.load(Ordering::Acquire)
    }
}

/// Ships `file` to `topic`, with at most `queue` messages in librdkafka, and returns how many lines were acknowledged.
pub fn run(bootstrap: &str, topic: &str, file: &str, queue: u64) -> io::Result<u64> {
    let producer: BaseProducer<Reports> = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("compression.codec", "lz4")
        .set("linger.ms", "20")
        .set("batch.size", "1000000")
        // The bound is kept below; librdkafka counts a message until all reports of its batch are handled, so its own must be wider.
        .set("queue.buffering.max.messages", (queue * 2).to_string())
        .set("queue.buffering.max.kbytes", "2000000")
        .create_with_context(Reports::default())
        .map_err(io::Error::other)?;
    let done = AtomicBool::new(false);
    let sent = thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                producer.poll(Duration::from_millis(50));
            }
        });
        let sent = send_file(&producer, topic, File::open(file)?, queue);
        while sent.as_ref().is_ok_and(|&sent| producer.context().all() < sent) {
            thread::sleep(Duration::from_millis(1));
        }
        done.store(true, Ordering::Relaxed);
        sent
    })?;
    let acknowledged = producer.context().acknowledged.load(Ordering::Acquire);
    if acknowledged == sent { Ok(acknowledged) } else { Err(io::Error::other(format!("{acknowledged} of {sent} lines were acknowledged"))) }
}

fn send_file(producer: &BaseProducer<Reports>, topic: &str, mut file: File, queue: u64) -> io::Result<u64> {
    let handle = Topic::new(producer, topic)?;
    let (mut sent, mut rest, mut spans) = (0, Vec::new(), Vec::new());
    loop {
        let mut block = Vec::with_capacity(BLOCK);
        block.append(&mut rest);
        let room = u64::try_from(BLOCK - block.len()).map_err(io::Error::other)?;
        let ended = (&mut file).take(room).read_to_end(&mut block)? == 0;
        spans.clear();
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', &block) {
            spans.push((start, end - start));
            start = end + 1;
        }
        rest.extend_from_slice(&block[start..]);
        let block = Arc::new(block);
        for some in spans.chunks(usize::try_from(queue).map_err(io::Error::other)?.min(8192)) {
            while sent + some.len() as u64 > queue + producer.context().all() {
                thread::sleep(Duration::from_micros(500));
            }
            handle.send(&block, some)?;
            sent += some.len() as u64;
        }
        if ended && rest.is_empty() {
            return Ok(sent);
        }
        if ended {
            return Err(io::Error::other("a line without end, or longer than a block"));
        }
    }
}

/// A topic handle, destroyed before its producer.
struct Topic<'p> {
    handle: *mut rdsys::rd_kafka_topic_t,
    _producer: &'p BaseProducer<Reports>,
}

impl<'p> Topic<'p> {
    fn new(producer: &'p BaseProducer<Reports>, name: &str) -> io::Result<Topic<'p>> {
        let name = CString::new(name)?;
        // SAFETY: the client is alive as long as `producer`, which the result borrows; the name is copied; a null configuration means the
        // client's defaults.
        let handle = unsafe { rdsys::rd_kafka_topic_new(producer.client().native_ptr(), name.as_ptr(), ptr::null_mut()) };
        if handle.is_null() { Err(io::Error::other("no topic handle")) } else { Ok(Topic { handle, _producer: producer }) }
    }

    /// Hands the spans of `block` to librdkafka, all of which must fit into its queue.
    fn send(&self, block: &Arc<Vec<u8>>, spans: &[(usize, usize)]) -> io::Result<()> {
        let message = |&(start, len): &(usize, usize)| rdsys::rd_kafka_message_t {
            err: rdsys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR,
            rkt: ptr::null_mut(),
            partition: 0,
            payload: block[start..start + len].as_ptr().cast_mut().cast(),
            len,
            key: ptr::null_mut(),
            key_len: 0,
            offset: 0,
            _private: Arc::clone(block).into_ptr(),
        };
        let mut messages: Vec<_> = spans.iter().map(message).collect();
        let count = i32::try_from(messages.len()).map_err(io::Error::other)?;
        // SAFETY: `messages` holds `count` messages. No flag is set, so librdkafka neither copies nor frees payloads and never writes to them;
        // each message's `_private` owns a reference to the block that its payload lies in, given back by the delivery callback.
        let taken = unsafe { rdsys::rd_kafka_produce_batch(self.handle, 0, 0, messages.as_mut_ptr(), count) };
        if taken == count {
            return Ok(());
        }
        for refused in messages.iter().filter(|message| message.err != rdsys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR) {
            // SAFETY: librdkafka did not take this message, so its reference is still ours.
            drop(unsafe { Arc::<Vec<u8>>::from_ptr(refused._private) });
        }
        Err(io::Error::other(format!("librdkafka took {taken} of {count} messages")))
    }
}

impl Drop for Topic<'_> {
    fn drop(&mut self) {
        // SAFETY: made by rd_kafka_topic_new, destroyed once, and the client still lives. Messages under way hold references of their own.
        unsafe { rdsys::rd_kafka_topic_destroy(self.handle) }
    }
}
