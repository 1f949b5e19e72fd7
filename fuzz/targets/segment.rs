//! A segment of the spill: records whose sums are right and whose fields are anything, then bytes changed at will. Whatever stands there is
//! read or told as damage, without a hole between: nothing is passed over in silence.
#![no_main]

use std::fs;
use std::path::PathBuf;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use logferry::spill::inspect::{Inspector, Item};

/// A segment as it is described in src/spill/format.rs.
#[derive(Arbitrary, Debug)]
struct Segment {
    log: u64,
    topic: String,
    records: Vec<Record>,
    /// Bytes that are changed at the end: where, and to what.
    harm: Vec<(u16, u8)>,
}

#[derive(Arbitrary, Debug)]
struct Record {
    seq: u16,
    raw_len: Option<u32>,
    names: Vec<String>,
    runs: Vec<Run>,
    body: Vec<u8>,
    behind: Vec<u8>,
}

#[derive(Arbitrary, Debug)]
struct Run {
    numbers: [u64; 3],
    before: [u64; 2],
    events: u64,
    messages: u16,
    source: u8,
    flags: u16,
}

fn short(text: &str) -> (&[u8], [u8; 2]) {
    let bytes = &text.as_bytes()[..text.len().min(1000)];
    (bytes, (bytes.len() as u16).to_le_bytes())
}

fn with_sum(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes
}

impl Segment {
    fn bytes(&self) -> Vec<u8> {
        let (topic, topic_len) = short(&self.topic);
        let mut out = b"LFSPILL\n\x01\x00".to_vec();
        out.extend_from_slice(&((38 + topic.len()) as u16).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.log.to_le_bytes());
        out.extend_from_slice(&0u64.to_le_bytes());
        out.extend_from_slice(&topic_len);
        out.extend_from_slice(topic);
        let mut out = with_sum(out);
        for record in &self.records {
            out.extend_from_slice(&record.bytes(self.log));
        }
        for (at, byte) in &self.harm {
            if let Some(harmed) = out.get_mut(usize::from(*at)) {
                *harmed = *byte;
            }
        }
        out
    }
}

impl Record {
    fn bytes(&self, log: u64) -> Vec<u8> {
        let body = zstd::bulk::compress(&self.body, 1).expect("compress");
        let names: Vec<_> = self.names.iter().map(|name| short(name)).collect();
        let len = 64 + names.iter().map(|(name, _)| 2 + name.len()).sum::<usize>() + self.runs.len() * 56 + 4;
        let mut out = b"LFRC\x01\x00\x00\x00".to_vec();
        for number in [len as u32, body.len() as u32, self.raw_len.unwrap_or(self.body.len() as u32), crc32c::crc32c(&body)] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for number in [log, u64::from(self.seq), 1, 2] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for number in [names.len() as u32, self.runs.len() as u32] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for (name, len) in names {
            out.extend_from_slice(&len);
            out.extend_from_slice(name);
        }
        for run in &self.runs {
            for number in run.numbers.iter().chain(&run.before).chain([&run.events]) {
                out.extend_from_slice(&number.to_le_bytes());
            }
            out.extend_from_slice(&u32::from(run.messages).to_le_bytes());
            out.extend_from_slice(&u16::from(run.source).to_le_bytes());
            out.extend_from_slice(&run.flags.to_le_bytes());
        }
        let mut out = with_sum(out);
        out.extend_from_slice(&body);
        out.extend_from_slice(&self.behind);
        out
    }
}

fuzz_target!(|segment: Segment| {
    // In memory: nothing of it is to last.
    let dir = PathBuf::from(format!("/dev/shm/logferry-fuzz-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("make a folder");
    let bytes = segment.bytes();
    fs::write(dir.join("0000000000000000-0000.seg"), &bytes).expect("write the segment");
    let mut inspector = Inspector::open(&dir).expect("open it");
    let (mut next, mut records) = (None, Vec::new());
    inspector
        .each(|item| {
            let (from, to) = match &item {
                Item::Record(record) => (record.at, record.at + record.bytes),
                Item::Damage { bytes, .. } => (bytes.start, bytes.end),
            };
            assert!(from < to && next.is_none_or(|next| next == from), "{from} follows {next:?}");
            next = Some(to);
            if let Item::Record(record) = item {
                records.push(record);
            }
            true
        })
        .expect("read it");
    assert!(next.is_none_or(|next| next <= bytes.len() as u64), "{next:?} is beyond the end");
    for record in records {
        let _ = inspector.messages(&record).expect("read it");
    }
    let _ = inspector.verify().expect("read it");
    let _ = fs::remove_dir_all(&dir);
});
