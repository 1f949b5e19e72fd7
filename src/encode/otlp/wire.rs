//! The wire format of protocol buffers (protobuf.dev, "Encoding"), as far as it is written here. Pure.

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const LENGTH: u32 = 2;

/// The longest varint, bytes.
const LONGEST: usize = 10;

fn put_varint(out: &mut Vec<u8>, value: u64) {
    let mut room = [0; LONGEST];
    out.extend_from_slice(varint(value, &mut room));
}

fn varint(mut value: u64, room: &mut [u8; LONGEST]) -> &[u8] {
    let mut used = 0;
    for byte in room.iter_mut() {
        used += 1;
        *byte = value.to_le_bytes()[0] & 0x7F;
        value >>= 7;
        if value == 0 {
            break;
        }
        *byte |= 0x80;
    }
    room.get(..used).unwrap_or_default()
}

fn width(len: usize) -> usize {
    varint(len as u64, &mut [0; LONGEST]).len()
}

fn put_tag(out: &mut Vec<u8>, field: u32, wire: u32) {
    put_varint(out, u64::from(field << 3 | wire));
}

pub(super) fn tagged_varint(out: &mut Vec<u8>, field: u32, value: u64) {
    put_tag(out, field, VARINT);
    put_varint(out, value);
}

pub(super) fn tagged_fixed64(out: &mut Vec<u8>, field: u32, value: u64) {
    put_tag(out, field, FIXED64);
    out.extend_from_slice(&value.to_le_bytes());
}

pub(super) fn tagged_bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    put_tag(out, field, LENGTH);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// What `write` writes, behind its length. Room is left for a length of about `expected`; only where the real one is wider or narrower does what was
/// written move.
pub(super) fn nested(out: &mut Vec<u8>, field: u32, expected: usize, write: impl FnOnce(&mut Vec<u8>)) {
    put_tag(out, field, LENGTH);
    let (at, wide) = (out.len(), width(expected));
    out.resize(at + wide, 0);
    write(out);
    let len = out.len() - at - wide;
    let mut room = [0; LONGEST];
    let prefix = varint(len as u64, &mut room);
    match out.get_mut(at..at + prefix.len()) {
        Some(place) if prefix.len() == wide => place.copy_from_slice(prefix),
        _ => drop(out.splice(at..at + wide, prefix.iter().copied())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_as_short_as_they_can_be_whatever_was_expected() {
        for len in [0, 1, 127, 128, 16_383, 16_384, 3_000_000] {
            for expected in [0, 128, 20_000, 3_000_000] {
                let mut out = b"before".to_vec();
                nested(&mut out, 5, expected, |out| out.resize(out.len() + len, 7));
                let mut right = b"before".to_vec();
                tagged_bytes(&mut right, 5, &vec![7; len]);
                assert!(out == right, "{len} where {expected} was expected");
            }
        }
    }
}
