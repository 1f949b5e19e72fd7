//! Which file is which: the evidence that a file found now is the one a stream was read from. Pure. In doubt a file is read, not skipped.

use xxhash_rust::xxh3::xxh3_64;

use crate::snapshot::rows::Evidence;

/// How many bytes of a file's head make a full fingerprint; a shorter one counts only with birth time or tail.
pub const HEAD: usize = 1024;

/// What evidence says of a file that has the inode number of a known stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The same file, to be read on.
    Same,
    /// The same inode, but its content is not what was read: truncated or written anew.
    Truncated,
    /// Another file that got the inode number.
    Other,
    /// Could be either; it is read as another, and that is said.
    Doubt,
}

/// What is seen of a file now.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Device and inode numbers, birth time; the head fields are not looked at.
    pub evidence: Evidence,
    /// Its size, bytes.
    pub size: u64,
    /// Its first bytes, at most [`HEAD`].
    pub head: &'a [u8],
    /// Whether the bytes before the stream's position are the ones that were read.
    pub tail_agrees: bool,
}

/// The fingerprint of a head: its length and xxh3. Zeros at its end may be room for lines to come and are left out.
#[must_use]
pub fn fingerprint(head: &[u8]) -> (u16, u64) {
    let head = head.get(..HEAD).unwrap_or(head);
    let head = head.get(..head.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)).unwrap_or(head);
    (u16::try_from(head.len()).unwrap_or(0), xxh3_64(head))
}

/// Whether a file that begins with `head` begins with what the fingerprint covers.
#[must_use]
pub fn head_agrees(known: &Evidence, head: &[u8]) -> bool {
    head.get(..usize::from(known.head_len)).is_some_and(|head| xxh3_64(head) == known.head_hash)
}

/// Judges a file by a stream's evidence and its position's offset. Device numbers are not looked at: they change over reboots and remounts.
#[must_use]
pub fn judge(known: &Evidence, offset: u64, seen: &Seen<'_>) -> Verdict {
    if known.ino != seen.evidence.ino {
        return Verdict::Other;
    }
    let content = head_agrees(known, seen.head) && seen.size >= offset && seen.tail_agrees;
    match (known.btime_ns, seen.evidence.btime_ns) {
        (Some(known), Some(now)) if known != now => Verdict::Other,
        (Some(_), Some(_)) => {
            if content {
                Verdict::Same
            } else {
                Verdict::Truncated
            }
        }
        _ if content && (usize::from(known.head_len) == HEAD || offset > 0) => Verdict::Same,
        _ if known.dev == seen.evidence.dev && !content => Verdict::Truncated,
        _ => Verdict::Doubt,
    }
}

/// Whether a name is one that rotation gives to a copy of `original`: the name with something appended (`app.log.1`, `app.log-20260101`),
/// or with something put before its extension (`app-20260101.log`, `app.1.log`).
#[must_use]
pub fn is_rotated_name(original: &[u8], name: &[u8]) -> bool {
    let joins = |byte: Option<&u8>| matches!(byte, Some(b'.' | b'-' | b'_' | b'~'));
    if let Some(added) = name.strip_prefix(original) {
        return joins(added.first());
    }
    let Some(dot) = original.iter().rposition(|byte| *byte == b'.').filter(|dot| *dot > 0) else { return false };
    let (stem, extension) = original.split_at(dot);
    name.strip_prefix(stem).and_then(|rest| rest.strip_suffix(extension)).is_some_and(|middle| joins(middle.first()))
}

/// All names that `name` may be a rotated one of by [`is_rotated_name`], and perhaps some more.
pub fn original_names(name: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let dot = name.iter().rposition(|byte| *byte == b'.').unwrap_or(0);
    let joints = name.iter().enumerate().skip(1).filter(|(_, byte)| matches!(byte, b'.' | b'-' | b'_' | b'~'));
    joints.flat_map(move |(at, _)| {
        let stem = name.get(..at).unwrap_or_default();
        let extension = name.get(dot..).filter(|_| at < dot);
        [Some(stem.to_vec()), extension.map(|extension| [stem, extension].concat())].into_iter().flatten()
    })
}

/// Which compression a file's magic bytes name, if any; such files are never read as text.
#[must_use]
pub fn compression(head: &[u8]) -> Option<&'static str> {
    const MAGIC: [(&[u8], &str); 6] = [
        (&[0x1f, 0x8b], "gzip"),
        (&[0x28, 0xb5, 0x2f, 0xfd], "zstd"),
        (&[0xfd, b'7', b'z', b'X', b'Z', 0], "xz"),
        (b"BZh", "bzip2"),
        (&[0x04, 0x22, 0x4d, 0x18], "lz4"),
        (b"PK\x03\x04", "zip"),
    ];
    MAGIC.iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(head: &[u8], btime_ns: Option<i64>) -> Evidence {
        let (head_len, head_hash) = fingerprint(head);
        Evidence { dev: 1, ino: 7, btime_ns, head_len, head_hash }
    }

    fn seen(head: &[u8], btime_ns: Option<i64>, size: u64, tail_agrees: bool) -> Seen<'_> {
        Seen { evidence: Evidence { dev: 2, ino: 7, btime_ns, ..Evidence::default() }, size, head, tail_agrees }
    }

    #[test]
    fn a_changed_device_number_alone_never_makes_a_file_new() {
        assert_eq!(judge(&known(b"abc", Some(5)), 3, &seen(b"abcdef", Some(5), 6, true)), Verdict::Same);
    }

    #[test]
    fn another_birth_time_is_another_file_even_with_equal_content() {
        assert_eq!(judge(&known(b"abc", Some(5)), 3, &seen(b"abc", Some(6), 3, true)), Verdict::Other);
    }

    #[test]
    fn a_file_that_grew_past_the_offset_after_truncation_is_truncated() {
        assert_eq!(judge(&known(b"abc", Some(5)), 3, &seen(b"abcdef", Some(5), 6, false)), Verdict::Truncated);
        assert_eq!(judge(&known(b"abc", Some(5)), 3, &seen(b"a", Some(5), 1, false)), Verdict::Truncated);
        assert_eq!(judge(&known(b"abc", Some(5)), 0, &seen(b"xyz", Some(5), 3, true)), Verdict::Truncated);
    }

    #[test]
    fn a_short_fingerprint_without_birth_time_counts_only_with_the_tail() {
        assert_eq!(judge(&known(b"abc", None), 3, &seen(b"abcdef", None, 6, true)), Verdict::Same);
        assert_eq!(judge(&known(b"abc", None), 0, &seen(b"abcdef", None, 6, true)), Verdict::Doubt);
        assert_eq!(judge(&known(&[b'x'; HEAD], None), 0, &seen(&[b'x'; HEAD], None, 2000, true)), Verdict::Same);
    }

    #[test]
    fn rotated_names_are_known_and_others_are_not() {
        for name in ["app.log.1", "app.log-20260101", "app-20260101.log", "app.1.log", "app.log~", "app_old.log"] {
            assert!(is_rotated_name(b"app.log", name.as_bytes()), "{name}");
        }
        for name in ["app.log", "app2.log", "other.log", "app.logx", "apt.log.1", "app.txt"] {
            assert!(!is_rotated_name(b"app.log", name.as_bytes()), "{name}");
        }
        assert!(!is_rotated_name(b"app.log.1", b"app.log"));
    }

    proptest::proptest! {
        #[test]
        fn every_name_that_a_rotated_one_may_come_from_is_listed(original in "[a.-]{1,5}", name in "[ab.-]{1,9}") {
            let listed = original_names(name.as_bytes()).any(|listed| listed == original.as_bytes());
            proptest::prop_assert!(listed || !is_rotated_name(original.as_bytes(), name.as_bytes()));
        }
    }

    #[test]
    fn compression_is_known_by_magic() {
        assert_eq!(compression(&[0x1f, 0x8b, 8]), Some("gzip"));
        assert_eq!(compression(b"GET / HTTP"), None);
    }
}
