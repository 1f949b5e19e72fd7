//! One record to bytes and back, with the contexts and buffers that are used again. Apart because it alone knows zstd.

use std::io;

use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::compress_bound;

use super::body::{self, Messages};
use super::format::{Header, MAX_RAW, Run};
use crate::batch::Batch;

/// A buffer that a rare large record made larger than this is freed, bytes.
const KEPT: usize = 4 << 20;

/// zstd's level. -2 takes in a quarter more a second, and its files are 1.4 times as large: more than a quarter of a log that is shipped as JSON.
const LEVEL: i32 = 1;

/// Compressor, decompressor and their buffers; made when first needed, about 3 MiB when all are.
#[derive(Default)]
pub(super) struct Codec {
    compressor: Option<Compressor<'static>>,
    decompressor: Option<Decompressor<'static>>,
    /// A body before compression.
    raw: Vec<u8>,
    header: Vec<u8>,
    /// A body as it is in the file.
    pub(super) packed: Vec<u8>,
}

/// Encoded records one after the other, as they go to the file. Its bytes stay initialised, so that a record is compressed to where it stays.
#[derive(Debug, Default)]
pub(super) struct Encoded {
    bytes: Vec<u8>,
    used: usize,
}

impl Encoded {
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.used).unwrap_or_default()
    }

    pub(super) fn len(&self) -> usize {
        self.used
    }

    /// Takes off what is behind the first `len` bytes.
    pub(super) fn cut(&mut self, len: usize) {
        self.used = self.used.min(len);
        if self.used == 0 && self.bytes.len() > KEPT {
            self.bytes = Vec::new();
        }
    }

    /// Room for `len` bytes more.
    fn spare(&mut self, len: usize) -> &mut [u8] {
        let end = self.used + len;
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes.get_mut(self.used..end).unwrap_or_default()
    }
}

/// What a record is made of, besides its number.
pub(super) struct Record<'a> {
    pub(super) log: u64,
    pub(super) seq: u64,
    /// Batches, each from an event on.
    pub(super) parts: &'a [(&'a Batch, usize)],
}

impl Codec {
    /// Appends a record to `out`.
    ///
    /// # Errors
    /// Its body is larger than [`MAX_RAW`] (the size is given), or zstd has no memory. Nothing is appended then.
    pub(super) fn encode(&mut self, record: &Record<'_>, out: &mut Encoded) -> Result<Header, EncodeError> {
        self.raw.clear();
        for (batch, first) in record.parts {
            if self.raw.len() + batch.bytes.len() > MAX_RAW {
                return Err(EncodeError::TooLarge(self.raw.len() + batch.bytes.len()));
            }
            body::encode(&mut self.raw, batch, *first);
        }
        if self.raw.len() > MAX_RAW {
            return Err(EncodeError::TooLarge(self.raw.len()));
        }
        let runs: Vec<Run> = record.parts.iter().map(|(batch, first)| body::run_of(batch, *first)).collect();
        let times = || record.parts.iter().map(|(batch, _)| batch.observed_ns);
        let (first_ns, last_ns) = (times().min().unwrap_or(0), times().max().unwrap_or(0));
        let (len, raw_len) = (Header::len_of(&runs), self.raw.len());
        let compressor = match &mut self.compressor {
            Some(compressor) => compressor,
            none => none.insert(Compressor::new(LEVEL).map_err(EncodeError::Zstd)?),
        };
        let spare = out.spare(len + compress_bound(raw_len));
        let (head, tail) = spare.split_at_mut_checked(len).unwrap_or_default();
        let body_len = compressor.compress_to_buffer(&self.raw, tail).map_err(EncodeError::Zstd)?;
        let body_sum = crc32c::crc32c(tail.get(..body_len).unwrap_or_default());
        let header = Header { log: record.log, seq: record.seq, first_ns, last_ns, len, body_len, raw_len, body_sum, runs };
        header.encode(&mut self.header);
        head.copy_from_slice(self.header.get(..len).unwrap_or_default());
        out.used += len + body_len;
        if self.raw.capacity() > KEPT {
            self.raw = Vec::new();
        }
        Ok(header)
    }

    /// Whether `packed` is the body of `header`.
    pub(super) fn is_body_of(&self, header: &Header) -> bool {
        self.packed.len() == header.body_len && crc32c::crc32c(&self.packed) == header.body_sum
    }

    /// What `packed` holds, which must be the body of `header`; `None` if it is not.
    ///
    /// # Errors
    /// No memory for zstd's context.
    pub(super) fn decode(&mut self, header: &Header) -> io::Result<Option<Vec<Messages>>> {
        if header.raw_len > MAX_RAW || !self.is_body_of(header) {
            return Ok(None);
        }
        let decompressor = match &mut self.decompressor {
            Some(decompressor) => decompressor,
            none => none.insert(Decompressor::new()?),
        };
        self.raw.clear();
        self.raw.reserve(header.raw_len);
        let got = decompressor.decompress_to_buffer(&self.packed, &mut self.raw);
        let whole = got.is_ok_and(|len| len == header.raw_len);
        let messages = if whole { body::decode(&self.raw, &header.runs) } else { None };
        if self.raw.capacity() > KEPT {
            self.raw = Vec::new();
        }
        Ok(messages)
    }
}

impl std::fmt::Debug for Codec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Codec").finish_non_exhaustive()
    }
}

/// Why a record could not be made.
#[derive(Debug)]
pub(super) enum EncodeError {
    /// Bytes before compression.
    TooLarge(usize),
    Zstd(io::Error),
}
