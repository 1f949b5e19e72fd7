//! Where the bytes of a stream are: in a file as it is, or in a compressed one. Apart so that a turn of reading needs not know which.

use std::fs::File;
use std::io;

use super::reader::{self, Found};
use super::unpack::Packed;
use crate::batch::Position;

/// The content of a stream's file.
#[derive(Debug)]
pub enum Content {
    /// As it is.
    Plain(File),
    /// Compressed.
    Packed(Box<Packed>),
}

impl Content {
    /// The file itself, compressed or not.
    #[must_use]
    pub fn file(&self) -> &File {
        match self {
            Content::Plain(file) => file,
            Content::Packed(packed) => packed.file(),
        }
    }

    /// The file, if its bytes are the content.
    #[must_use]
    pub fn plain(&self) -> Option<&File> {
        match self {
            Content::Plain(file) => Some(file),
            Content::Packed(_) => None,
        }
    }

    /// See [`reader::read`].
    ///
    /// # Errors
    /// See there and [`Packed::read`].
    pub fn read(&mut self, at: &Position, (limit, unit): (usize, usize), block: &mut Vec<u8>) -> io::Result<Found> {
        match self {
            Content::Plain(file) => reader::read(file, at, (limit, unit), block),
            Content::Packed(packed) => packed.read(at, (limit, unit), block),
        }
    }

    /// The first bytes of the content, a few.
    ///
    /// # Errors
    /// Whatever the file system says; damage.
    pub fn head(&self) -> io::Result<Vec<u8>> {
        match self {
            Content::Plain(file) => reader::head(file, 4),
            Content::Packed(packed) => packed.head(),
        }
    }
}
