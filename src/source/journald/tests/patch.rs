//! Files as journald would have left them: made by `systemd-journal-remote`, then given the numbers and ids of another.

use std::fs;
use std::path::Path;

use super::super::format::{Id, Type, u64_at};
pub(super) use super::super::fuzz::objects;

/// Gives a file these ids, and adds `shift` to the numbers of its entries.
pub(super) fn renumber(path: &Path, seqnum_id: Id, file_id: Id, shift: u64) {
    renumber_by(path, seqnum_id, file_id, |number| number + shift);
}

/// The same with new numbers for old ones, which must grow.
pub(super) fn renumber_by(path: &Path, seqnum_id: Id, file_id: Id, new: impl Fn(u64) -> u64) {
    let mut bytes = fs::read(path).unwrap();
    bytes[24..40].copy_from_slice(&file_id);
    bytes[72..88].copy_from_slice(&seqnum_id);
    let entries = objects(&bytes).into_iter().filter(|(_, object)| object.kind == Type::Entry).map(|(at, _)| at + 16);
    for at in entries.chain([160, 168]).collect::<Vec<_>>() {
        let number = new(u64_at(&bytes, at).unwrap());
        bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
    }
    fs::write(path, bytes).unwrap();
}
