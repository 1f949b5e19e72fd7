//! The bytes of an arrival log: the one file that knows them. Pure.
//!
//! A log is one row of bytes; its offsets count from the first block that was ever written. It is kept in segments, files named
//! `<offset of the first block>-<attempt>.arr` in hexadecimal digits. All numbers are little-endian.
//!
//! ```text
//! segment header, 52 bytes, in front of the offsets     block header, 32 bytes
//!   0  8  magic "LFARRIV1", with the version              0  4  magic "LFBK"
//!   8  8  stream                                          4  4  length of the body
//!  16  8  offset of the first block                       8  8  when it was received, ns since 1970
//!  24  8  offset behind the last block before it         16  1  transport, see `intake`
//!  32 16  boot id of the machine                         17  1  kind: 0 messages, 1 the end of a clean stop
//!  48  4  CRC-32C of bytes 0 to 47                       18  2  messages
//!                                                        20  2  length of the sender
//! message in a body                                      22  2  length of what the key has of it
//!   0  4  length                                         24  4  CRC-32C of the body
//!   4  4  part (low 30 bits; 0 for a whole message),     28  4  CRC-32C of bytes 0 to 27
//!         bit 31 last part, bit 30 end is missing        body: the sender, its part of the key, the messages
//!   8  8  from part 2 on alone: offset at which the
//!         message began, which names it
//!   .  8  when it was received, ns since 1970
//!   .  .  the message as it came
//! ```
//! Offsets name messages, so none is given twice: after an end that was not in order, the next segment begins at the next multiple of [`LEAP`].
//! Between the two offsets of its header there was never anything. A file that is copied gets its header last: one of zeros is half a copy.
//!
//! The time stands at every message, so that those of several blocks can be handed on in one batch. What is between two messages belongs to the
//! second one: a block's first message begins where the block does.

use super::super::intake::{Frame, Frames, Transport};
use crate::batch::StreamId;

/// Length of a segment's header, bytes.
pub const SEGMENT_HEADER: usize = 52;
/// Length of a block's header, bytes.
pub const BLOCK_HEADER: usize = 32;
/// Length of what is in front of each message, bytes; 8 more from part 2 on.
pub const MESSAGE_HEADER: usize = 16;
/// The longest body that is written, bytes; a longer one is damage. Takes a message of 16 MiB.
pub const MAX_BODY: usize = 17 << 20;
/// A log whose last offsets may be lost goes on at the next multiple of this, bytes: more than is ever accepted between two snapshots.
pub const LEAP: u64 = 1 << 40;

const SEGMENT_MAGIC: &[u8; 8] = b"LFARRIV1";
const BLOCK_MAGIC: &[u8; 4] = b"LFBK";
const LAST: u32 = 1 << 31;
const PARTIAL: u32 = 1 << 30;

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The stream whose log it is of.
    pub stream: StreamId,
    /// The offset of its first block.
    pub first: u64,
    /// The offset behind the last block before it; at most `first`.
    pub after: u64,
    /// The boot in which it was written.
    pub boot: [u8; 16],
}

/// Why bytes are no segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoSegment {
    /// Written by a newer release.
    Newer,
    /// A copy that was not finished: what it was to hold is elsewhere.
    Unfinished,
    /// Cut short or damaged.
    Damaged,
}

impl SegmentHeader {
    /// As bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = SEGMENT_MAGIC.to_vec();
        bytes.extend_from_slice(&self.stream.0.to_le_bytes());
        bytes.extend_from_slice(&self.first.to_le_bytes());
        bytes.extend_from_slice(&self.after.to_le_bytes());
        bytes.extend_from_slice(&self.boot);
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    }

    /// From the first bytes of a file.
    ///
    /// # Errors
    /// A newer version, or damage.
    pub fn parse(bytes: &[u8]) -> Result<SegmentHeader, NoSegment> {
        let head = bytes.get(..SEGMENT_HEADER).ok_or(NoSegment::Damaged)?;
        if head.iter().all(|byte| *byte == 0) {
            return Err(NoSegment::Unfinished);
        }
        if !head.starts_with(SEGMENT_MAGIC) {
            let newer = head.starts_with(b"LFARRIV") && head.get(7).is_some_and(|digit| (b'2'..=b'9').contains(digit));
            return Err(if newer { NoSegment::Newer } else { NoSegment::Damaged });
        }
        let (Some(stream), Some(first), Some(after), Some(boot), Some(sum)) =
            (u64_at(head, 8), u64_at(head, 16), u64_at(head, 24), array(head, 32), u32_at(head, 48))
        else {
            return Err(NoSegment::Damaged);
        };
        let sound = after <= first && head.get(..48).is_some_and(|covered| crc32c::crc32c(covered) == sum);
        if sound { Ok(SegmentHeader { stream: StreamId(stream), first, after, boot }) } else { Err(NoSegment::Damaged) }
    }
}

/// What a block says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHeader {
    /// Length of the body, bytes.
    pub body: u32,
    /// When its first message was received, ns since 1970.
    pub received_ns: i64,
    /// How they came.
    pub transport: Transport,
    /// Whether it is the end of a clean stop, and holds nothing.
    pub end: bool,
    /// Messages in it.
    pub messages: u16,
    peer: u16,
    key: u16,
    sum: u32,
}

impl BlockHeader {
    /// From the bytes at a block's beginning; `None` if they are none.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<BlockHeader> {
        let head = bytes.get(..BLOCK_HEADER)?;
        if !head.starts_with(BLOCK_MAGIC) || u32_at(head, 28)? != crc32c::crc32c(head.get(..28)?) {
            return None;
        }
        let header = BlockHeader {
            body: u32_at(head, 4)?,
            received_ns: i64::from_le_bytes(array(head, 8)?),
            transport: Transport::of_code(*head.get(16)?)?,
            end: *head.get(17)? == 1,
            messages: u16::from_le_bytes(array(head, 18)?),
            peer: u16::from_le_bytes(array(head, 20)?),
            key: u16::from_le_bytes(array(head, 22)?),
            sum: u32_at(head, 24)?,
        };
        (header.body as usize <= MAX_BODY).then_some(header)
    }

    /// The length of the whole block, bytes.
    #[must_use]
    pub fn block_len(&self) -> usize {
        BLOCK_HEADER + self.body as usize
    }

    fn to_bytes(self) -> Vec<u8> {
        let mut bytes = BLOCK_MAGIC.to_vec();
        bytes.extend_from_slice(&self.body.to_le_bytes());
        bytes.extend_from_slice(&self.received_ns.to_le_bytes());
        bytes.extend_from_slice(&[self.transport.code(), u8::from(self.end)]);
        bytes.extend_from_slice(&self.messages.to_le_bytes());
        bytes.extend_from_slice(&self.peer.to_le_bytes());
        bytes.extend_from_slice(&self.key.to_le_bytes());
        bytes.extend_from_slice(&self.sum.to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    }
}

/// A block whose checksums hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block<'a> {
    /// Its header.
    pub header: BlockHeader,
    /// Who sent its messages.
    pub peer: &'a str,
    /// What of that the key is made of.
    pub peer_key: &'a str,
    /// Its messages, each with its header.
    pub messages: &'a [u8],
}

impl<'a> Block<'a> {
    /// From bytes that begin with a whole block; `None` if they are none.
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Option<Block<'a>> {
        let header = BlockHeader::parse(bytes)?;
        let body = bytes.get(BLOCK_HEADER..header.block_len())?;
        if crc32c::crc32c(body) != header.sum {
            return None;
        }
        let (peer, rest) = body.split_at_checked(usize::from(header.peer))?;
        let (key, messages) = rest.split_at_checked(usize::from(header.key))?;
        Some(Block { header, peer: std::str::from_utf8(peer).ok()?, peer_key: std::str::from_utf8(key).ok()?, messages })
    }

    /// Where its messages begin, from its first byte.
    #[must_use]
    pub fn messages_at(&self) -> usize {
        BLOCK_HEADER + usize::from(self.header.peer) + usize::from(self.header.key)
    }
}

/// One message of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its first byte, from the first message's header of the block.
    pub start: usize,
    /// Its length, bytes.
    pub len: usize,
    /// 0 for a whole message, else the number of the part.
    pub part: u32,
    /// Whether it is whole or the last part.
    pub last: bool,
    /// Whether its end is missing.
    pub partial: bool,
    /// From part 2 on, the offset at which the message began.
    pub began: Option<u64>,
}

/// The messages of [`Block::messages`], in order. Ends early if the bytes do.
pub fn messages(bytes: &[u8]) -> impl Iterator<Item = Message> + '_ {
    let mut at = 0_usize;
    std::iter::from_fn(move || {
        let head = bytes.get(at..at.checked_add(MESSAGE_HEADER)?)?;
        let (len, form) = (u32_at(head, 0)? as usize, u32_at(head, 4)?);
        let part = form & !(LAST | PARTIAL);
        let (began, more) = if part > 1 { (Some(u64_at(head, 8)?), 8) } else { (None, 0) };
        let start = at + MESSAGE_HEADER + more;
        let end = start.checked_add(len).filter(|end| *end <= bytes.len())?;
        at = end;
        Some(Message { start, len, part, last: form & LAST != 0, partial: form & PARTIAL != 0, began })
    })
}

/// What stands in front of a message in its batch, bytes: when it was received.
pub const RECEIVED: usize = 8;

/// When the message at `start` of these bytes, which hold its header in front of it, was received, ns since 1970.
#[must_use]
pub fn received_ns(bytes: &[u8], start: usize) -> i64 {
    let time = start.checked_sub(RECEIVED).and_then(|at| array(bytes, at));
    time.map_or(0, i64::from_le_bytes)
}

/// Writes one block; says how many messages are in it. Nothing is written if there are none. `place` is told of each where it would begin in the
/// block, and says at which offset of the log the message began that it is a part of; `None`: it is left out.
pub fn write_block(out: &mut Vec<u8>, frames: &Frames<'_>, mut place: impl FnMut(&Frame, u64) -> Option<u64>) -> usize {
    let start = out.len();
    out.resize(start + BLOCK_HEADER, 0);
    let names = |text: &str| u16::try_from(text.len()).unwrap_or(0);
    let (peer, key) = (names(frames.peer), names(frames.peer_key));
    // A name that long is no address; it is left out.
    out.extend_from_slice(frames.peer.as_bytes().get(..usize::from(peer)).unwrap_or_default());
    out.extend_from_slice(frames.peer_key.as_bytes().get(..usize::from(key)).unwrap_or_default());
    let mut count = 0_u16;
    for frame in frames.frames {
        let message = frames.bytes_of(frame);
        let at = if count == 0 { 0 } else { out.len() - start };
        let Some(began) = place(frame, at as u64) else { continue };
        let form = (frame.part & !(LAST | PARTIAL)) | if frame.last { LAST } else { 0 } | if frame.partial { PARTIAL } else { 0 };
        out.extend_from_slice(&u32::try_from(message.len()).unwrap_or(0).to_le_bytes());
        out.extend_from_slice(&form.to_le_bytes());
        if frame.part > 1 {
            out.extend_from_slice(&began.to_le_bytes());
        }
        out.extend_from_slice(&frames.received_ns.to_le_bytes());
        out.extend_from_slice(message);
        // Only told of a block that is damaged; those who listen hand over far fewer.
        count = count.saturating_add(1);
    }
    if count == 0 {
        out.truncate(start);
        return 0;
    }
    let body = out.get(start + BLOCK_HEADER..).unwrap_or_default();
    let (len, sum) = (u32::try_from(body.len()).unwrap_or(u32::MAX), crc32c::crc32c(body));
    let header = BlockHeader {
        body: len,
        received_ns: frames.received_ns,
        transport: frames.transport,
        end: false,
        messages: count,
        peer,
        key,
        sum,
    };
    if let Some(room) = out.get_mut(start..start + BLOCK_HEADER) {
        room.copy_from_slice(&header.to_bytes());
    }
    usize::from(count)
}

/// The block that a clean stop writes last.
#[must_use]
pub fn end_block(now_ns: i64) -> Vec<u8> {
    BlockHeader { body: 0, received_ns: now_ns, transport: Transport::Udp, end: true, messages: 0, peer: 0, key: 0, sum: 0 }.to_bytes()
}

/// Where in these bytes the next block may begin, at `from` or behind it: a header whose checksum holds.
#[must_use]
pub fn next_block(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(found) = memchr::memmem::find(bytes.get(at..)?, BLOCK_MAGIC) {
        at += found;
        if BlockHeader::parse(bytes.get(at..)?).is_some() {
            return Some(at);
        }
        at += 1;
    }
    None
}

/// The name of a segment.
#[must_use]
pub fn segment_name(first: u64, attempt: u32) -> String {
    format!("{first:016x}-{attempt:04x}.arr")
}

/// The reverse of [`segment_name`]; `None` for other names.
#[must_use]
pub fn parse_segment_name(name: &str) -> Option<(u64, u32)> {
    let (first, attempt) = name.strip_suffix(".arr")?.split_once('-')?;
    let id = (u64::from_str_radix(first, 16).ok()?, u32::from_str_radix(attempt, 16).ok()?);
    (segment_name(id.0, id.1) == name).then_some(id)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array(bytes, at).map(u64::from_le_bytes)
}
