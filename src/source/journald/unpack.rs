//! Compressed fields of a journal become plain ones, however they were compressed, up to a limit. Pure.

use std::io::Read as _;

use super::format::{Damage, Packing, u64_at};

/// A field beyond this is cut, bytes: it would not fit into a message anyway, and memory is bounded.
pub const MAX_FIELD: usize = 16 << 20;

/// Unpacks; keeps its context and its buffer.
pub struct Unpacker {
    zstd: Option<zstd::bulk::Decompressor<'static>>,
    room: Vec<u8>,
}

impl std::fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unpacker").finish_non_exhaustive()
    }
}

impl Default for Unpacker {
    fn default() -> Unpacker {
        Unpacker { zstd: zstd::bulk::Decompressor::new().ok(), room: Vec::new() }
    }
}

impl Unpacker {
    /// The plain bytes of a field, at most [`MAX_FIELD`] of them, and how long the field is, as far as that was looked at: more than [`MAX_FIELD`] where it is cut.
    ///
    /// # Errors
    /// The bytes make no sense.
    pub fn unpack<'a>(&'a mut self, packing: Packing, bytes: &'a [u8]) -> Result<(&'a [u8], u64), Damage> {
        // A field that was large once must not keep its buffer for ever.
        if self.room.capacity() > 1 << 20 {
            self.room = Vec::new();
        }
        match packing {
            Packing::Plain => return Ok((bytes.get(..MAX_FIELD).unwrap_or(bytes), bytes.len() as u64)),
            Packing::Xz => {
                self.room.clear();
                let mut reader = lzma_rust2::XzReader::new(bytes, false).take(MAX_FIELD as u64 + 1);
                reader.read_to_end(&mut self.room).map_err(|_| Damage::Compressed)?;
            }
            Packing::Lz4 => self.lz4(bytes)?,
            Packing::Zstd => self.zstd(bytes)?,
        }
        Ok((self.room.get(..MAX_FIELD).unwrap_or(&self.room), self.room.len() as u64))
    }

    fn lz4(&mut self, bytes: &[u8]) -> Result<(), Damage> {
        let len = u64_at(bytes, 0).and_then(|len| usize::try_from(len).ok()).ok_or(Damage::Compressed)?;
        let block = bytes.get(8..).unwrap_or_default();
        // A block grows by 255 times at most: what says more lies.
        if len > block.len().saturating_mul(255) || len > MAX_FIELD * 4 {
            return Err(Damage::Compressed);
        }
        self.room.clear();
        self.room.resize(len, 0);
        let written = lz4_flex::block::decompress_into(block, &mut self.room).map_err(|_| Damage::Compressed)?;
        self.room.truncate(written);
        Ok(())
    }

    fn zstd(&mut self, bytes: &[u8]) -> Result<(), Damage> {
        let known = zstd::zstd_safe::get_frame_content_size(bytes).ok().flatten().and_then(|len| usize::try_from(len).ok());
        self.room.clear();
        if let (Some(len), Some(zstd)) = (known.filter(|len| *len <= MAX_FIELD), self.zstd.as_mut()) {
            self.room.reserve(len);
            zstd.decompress_to_buffer(bytes, &mut self.room).map_err(|_| Damage::Compressed)?;
            return Ok(());
        }
        let reader = zstd::stream::read::Decoder::with_buffer(bytes).map_err(|_| Damage::Compressed)?;
        reader.take(MAX_FIELD as u64 + 1).read_to_end(&mut self.room).map_err(|_| Damage::Compressed)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A block of lz4 that has nothing but one run of literals.
    fn literals(bytes: &[u8]) -> Vec<u8> {
        let rest = bytes.len() - 15;
        let lengths = std::iter::repeat_n(255, rest / 255).chain([u8::try_from(rest % 255).unwrap()]);
        std::iter::once(0xF0).chain(lengths).chain(bytes.iter().copied()).collect()
    }

    #[test]
    fn every_compression_gives_back_the_field() {
        let field = b"MESSAGE=".iter().copied().chain((0..5_000_u32).map(|i| (i % 251) as u8)).collect::<Vec<_>>();
        let zstd = zstd::bulk::compress(&field, 3).unwrap();
        let mut lz4 = (field.len() as u64).to_le_bytes().to_vec();
        lz4.extend(literals(&field));
        let mut unpacker = Unpacker::default();
        for (packing, bytes) in [(Packing::Plain, &field), (Packing::Zstd, &zstd), (Packing::Lz4, &lz4)] {
            assert_eq!(unpacker.unpack(packing, bytes), Ok((field.as_slice(), field.len() as u64)), "{packing:?}");
        }
    }

    #[test]
    fn a_field_of_any_length_takes_bounded_memory() {
        let bomb = zstd::bulk::compress(&vec![b'a'; MAX_FIELD * 3], 1).unwrap();
        let mut unpacker = Unpacker::default();
        assert_eq!(unpacker.unpack(Packing::Zstd, &bomb).map(|(bytes, _)| bytes.len()), Ok(MAX_FIELD));
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut unpacker = Unpacker::default();
            for packing in [Packing::Xz, Packing::Lz4, Packing::Zstd] {
                let _ = unpacker.unpack(packing, &bytes);
            }
        }
    }
}
