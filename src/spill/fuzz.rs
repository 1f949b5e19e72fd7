//! What a fuzz target calls with arbitrary bytes: none of it may panic, and no size that the bytes name may be believed before they bear it out.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::body;
use super::codec::Codec;
use super::directory::SegmentId;
use super::format::{Header, SegmentHeader};
use super::walk::{Step, Walk};
use crate::durable::disk::{Handle, Real};

/// A record's header and body, and a body as it is before compression.
pub fn record(bytes: &[u8]) {
    drop(SegmentHeader::parse(bytes));
    let Ok(header) = Header::parse(bytes) else { return };
    let rest = bytes.get(header.len..).unwrap_or_default();
    drop(body::decode(rest, &header.runs));
    let mut codec = Codec::default();
    codec.packed.extend_from_slice(rest.get(..header.body_len).unwrap_or(rest));
    drop(codec.decode(&header));
}

/// A segment file with these bytes; says how many records were found. 0 also where the system gives no file.
#[must_use]
pub fn segment(bytes: &[u8]) -> usize {
    let file = rustix::fs::memfd_create("segment", rustix::fs::MemfdFlags::CLOEXEC).map(File::from);
    let Ok(file) = file else { return 0 };
    if file.write_all_at(bytes, 0).is_err() {
        return 0;
    }
    let log = SegmentHeader::parse(bytes).map_or(1, |(header, _)| header.log);
    let (id, handle) = (SegmentId { first: 0, attempt: 0 }, Handle { file, path: PathBuf::new() });
    let Ok(mut walk) = Walk::begin(&Real, id, handle, log, u64::MAX, bytes.len() as u64) else { return 0 };
    let mut records = 0;
    while let Ok(Step::Record(..) | Step::Damage(_)) =
        walk.next(&Real).inspect(|step| records += usize::from(matches!(step, Step::Record(..))))
    {}
    records
}
