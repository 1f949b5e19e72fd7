//! Which partition a key goes to: as Kafka's Java clients choose it, so that others who write with the same keys land in the same place.

/// Murmur 2 (32 bits) with the seed that Kafka's Java client uses (`org.apache.kafka.common.utils.Utils.murmur2`).
#[must_use]
pub fn murmur2(bytes: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    #[expect(clippy::cast_possible_truncation, reason = "the length enters modulo 2^32")]
    let mut hash = SEED ^ bytes.len() as u32;
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        let k = u32::from_le_bytes(*word).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ (k ^ (k >> 24)).wrapping_mul(M);
    }
    if !rest.is_empty() {
        let tail = rest.iter().rev().fold(0, |tail, byte| tail << 8 | u32::from(*byte));
        hash = (hash ^ tail).wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// The partition of a key in a topic of `count` partitions, as Java's default partitioner has it; 0 when `count` is not positive.
#[must_use]
pub fn partition_for(key: &[u8], count: i32) -> i32 {
    let positive = (murmur2(key) & 0x7fff_ffff).cast_signed();
    positive.checked_rem(count).filter(|_| count > 0).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_hash_as_in_kafkas_own_tests() {
        let known: [(&[u8], i32); 6] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            (b"abc", 479_470_107),
        ];
        for (key, hash) in known {
            assert_eq!(murmur2(key).cast_signed(), hash, "{}", String::from_utf8_lossy(key));
        }
        assert_eq!(murmur2(b""), 0x106e_08d9);
    }

    #[test]
    fn a_negative_hash_loses_its_sign_bit_not_its_value() {
        let hash = murmur2(b"21");
        assert!(hash.cast_signed() < 0);
        assert_eq!(partition_for(b"21", 12), ((hash & 0x7fff_ffff) % 12).cast_signed());
        assert_eq!((partition_for(b"21", 0), partition_for(b"21", -3)), (0, 0));
    }

    proptest! {
        #[test]
        fn a_key_always_goes_to_a_partition_that_is_there(key in prop::collection::vec(any::<u8>(), 0..80), count in 1..10_000_i32) {
            prop_assert!((0..count).contains(&partition_for(&key, count)));
        }
    }
}
