//! A lane's directory: the names of what lies in it, and where damaged bytes are set aside. Apart so that names are made and read in one place.
//!
//! `<first seq>-<attempt>.seg`, in hexadecimal digits: so their order by name is their order, and of two that begin with the same record, or
//! overlap because writing the earlier one failed, the later one counts. `damaged-<seq>`: bytes that should have been record `seq` and those
//! behind it.

use std::io;
use std::path::{Path, PathBuf};

use crate::durable::disk::{Disk, Handle, write_full};

/// How many damaged pieces are kept for people to look at; of more only the counts are told.
const DAMAGED: usize = 16;

/// Which segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId {
    /// The first record that may be in it.
    pub first: u64,
    /// Counts from 0 for segments that begin with the same record.
    pub attempt: u32,
}

impl SegmentId {
    /// Its file's name.
    #[must_use]
    pub fn name(self) -> String {
        format!("{:016x}-{:04x}.seg", self.first, self.attempt)
    }

    /// The reverse; `None` for other names.
    #[must_use]
    pub fn parse(name: &str) -> Option<SegmentId> {
        let (first, attempt) = name.strip_suffix(".seg")?.split_once('-')?;
        let id = SegmentId { first: u64::from_str_radix(first, 16).ok()?, attempt: u32::from_str_radix(attempt, 16).ok()? };
        (id.name() == name).then_some(id)
    }
}

/// What lies in a lane's directory.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// In order.
    pub(super) segments: Vec<SegmentId>,
    pub(super) damaged: Vec<String>,
}

/// Lists `dir`; an absent one is empty.
pub(super) fn list(disk: &dyn Disk, dir: &Path) -> io::Result<Listing> {
    let names = match disk.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Listing::default()),
        names => names?,
    };
    let mut segments: Vec<SegmentId> = names.iter().filter_map(|name| SegmentId::parse(name)).collect();
    segments.sort_unstable();
    Ok(Listing { segments, damaged: names.into_iter().filter(|name| name.starts_with("damaged-")).collect() })
}

/// The lane's directory for a topic; `None` for a name that can be no topic and would lead elsewhere.
pub(super) fn of_topic(dir: &Path, topic: &str) -> Option<PathBuf> {
    let sound = !topic.is_empty() && topic != "." && topic != ".." && topic.len() <= 249;
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (sound && topic.bytes().all(legal)).then(|| dir.join(topic))
}

/// Keeps bytes that should have been record `seq`; says how many were kept: none when they are kept already, when there are enough, when it
/// fails (they stay in their segment until that is settled, and what was lost is counted all the same).
pub(super) fn set_aside(disk: &dyn Disk, dir: &Path, seq: u64, bytes: &[u8]) -> u64 {
    let path = dir.join(format!("damaged-{seq:016x}"));
    let full = list(disk, dir).is_ok_and(|listing| listing.damaged.len() >= DAMAGED);
    if bytes.is_empty() || full {
        return 0;
    }
    let kept = disk.create(&path).and_then(|handle: Handle| write_full(disk, &handle, bytes, 0));
    match kept {
        Ok(()) => {
            tracing::warn!(file = %path.display(), bytes = bytes.len(), "damaged bytes of the spill were set aside");
            bytes.len() as u64
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => 0,
        Err(error) => {
            tracing::warn!(file = %path.display(), bytes = bytes.len(), %error, "damaged bytes of the spill could not be set aside");
            // Half a file would pass for the whole.
            drop(disk.remove(&path));
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_and_sort_as_their_numbers() {
        let ids = [(1, 0), (1, 1), (0x1_0000, 0), (u64::MAX, u32::MAX)].map(|(first, attempt)| SegmentId { first, attempt });
        for id in ids {
            assert_eq!(SegmentId::parse(&id.name()), Some(id));
        }
        assert!(ids.windows(2).all(|pair| pair[0].name() < pair[1].name()));
        for other in ["1-0.seg", "damaged-0000000000000001", "", "0000000000000001-0000.seg.tmp", "000000000000000G-0000.seg"] {
            assert_eq!(SegmentId::parse(other), None);
        }
    }

    #[test]
    fn a_topic_never_leads_out_of_the_spill() {
        for topic in ["", ".", "..", "a/b", "a\0", "ä"] {
            assert_eq!(of_topic(Path::new("/s"), topic), None, "{topic}");
        }
        assert_eq!(of_topic(Path::new("/s"), "logs.v1-a_b"), Some("/s/logs.v1-a_b".into()));
    }
}
