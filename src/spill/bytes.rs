//! Reading and writing of little-endian numbers and varints. Apart because the headers and the bodies of records share it; pure.

/// What is left to parse. Every step is `None` when the bytes end too early.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl<'a> Bytes<'a> {
    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    /// A number of 32 bits in one to five bytes, the low seven bits first.
    pub(super) fn varint(&mut self) -> Option<u32> {
        let mut number = 0_u32;
        for shift in [0, 7, 14, 21, 28] {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            let low = u32::from(byte & 0x7F);
            if shift == 28 && low > 0x0F {
                return None;
            }
            number |= low << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }
}

/// See [`Bytes::varint`].
pub(super) fn put_varint(out: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        out.push(u8::try_from(number & 0x7F).unwrap_or(0) | 0x80);
        number >>= 7;
    }
    out.push(u8::try_from(number).unwrap_or(0));
}

/// Small numbers of either sign as small numbers.
pub(super) fn zigzag(number: u32) -> u32 {
    (number << 1) ^ if number >> 31 == 1 { u32::MAX } else { 0 }
}

/// The reverse of [`zigzag`].
pub(super) fn unzigzag(number: u32) -> u32 {
    (number >> 1) ^ if number & 1 == 1 { u32::MAX } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_come_back(number in any::<u32>()) {
            let mut out = Vec::new();
            put_varint(&mut out, number);
            let mut bytes = Bytes(&out);
            prop_assert_eq!((bytes.varint(), bytes.0.len()), (Some(number), 0));
            prop_assert_eq!(unzigzag(zigzag(number)), number);
        }
    }

    #[test]
    fn a_varint_that_is_too_long_or_too_short_is_none() {
        assert_eq!(Bytes(&[0xFF, 0xFF, 0xFF, 0xFF, 0x1F]).varint(), None);
        assert_eq!(Bytes(&[0x80, 0x80]).varint(), None);
        assert_eq!((zigzag(0), zigzag(u32::MAX), zigzag(1)), (0, 1, 2));
    }
}
