//! Streams of bytes, decompressed chunk by chunk.
//!
//! ORC specification v1, section "Compression": each chunk begins with three bytes, little-endian,
//! that hold its length and, in the lowest bit, whether it is stored as it is.

use bytes::Bytes;

use super::super::decompress::Codec;

/// The length of a chunk has 23 bits.
pub const MAX_CHUNK_BYTES: u64 = 1 << 23;

/// How the streams of a file are compressed.
#[derive(Clone, Copy, Debug)]
pub struct Compression {
    /// The codec of every chunk.
    pub codec: Codec,
    /// No chunk decompresses to more bytes.
    pub chunk_bytes: usize,
}

/// The bytes of a stream, in order.
#[derive(Debug)]
pub struct ByteStream {
    compression: Option<Compression>,
    rest: Bytes,
    chunk: Bytes,
}

impl ByteStream {
    /// The stream stored in `bytes`.
    pub fn new(bytes: Bytes, compression: Option<Compression>) -> Self {
        Self {
            compression,
            rest: bytes,
            chunk: Bytes::new(),
        }
    }

    /// Makes sure that there is something in the current chunk, unless the stream has ended.
    fn fill(&mut self) -> Result<(), String> {
        while self.chunk.is_empty() && !self.rest.is_empty() {
            let Some(Compression { codec, chunk_bytes }) = self.compression else {
                self.chunk = std::mem::take(&mut self.rest);
                return Ok(());
            };
            let Some(([a, b, c], rest)) = self.rest.split_first_chunk::<3>() else {
                return Err("a stream ends in the middle of a chunk".to_string());
            };
            let header = u32::from_le_bytes([*a, *b, *c, 0]);
            let length = (header >> 1) as usize;
            if rest.len() < length {
                return Err("a stream ends in the middle of a chunk".to_string());
            }
            let stored = self.rest.slice(3..3 + length);
            self.rest = self.rest.slice(3 + length..);
            self.chunk = if header & 1 == 1 {
                stored
            } else {
                codec.decompress(&stored, chunk_bytes)?.into()
            };
        }
        Ok(())
    }

    /// The next byte.
    pub fn byte(&mut self) -> Result<u8, String> {
        self.fill()?;
        if self.chunk.is_empty() {
            return Err(ended());
        }
        Ok(self.chunk.split_to(1)[0])
    }

    /// Adds the next `count` bytes to `to`.
    pub fn read(&mut self, mut count: usize, to: &mut Vec<u8>) -> Result<(), String> {
        while count > 0 {
            self.fill()?;
            if self.chunk.is_empty() {
                return Err(ended());
            }
            let part = self.chunk.split_to(count.min(self.chunk.len()));
            to.extend_from_slice(&part);
            count -= part.len();
        }
        Ok(())
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        if let Some(array) = self.chunk.first_chunk::<N>().copied() {
            drop(self.chunk.split_to(N));
            return Ok(array);
        }
        let mut array = [0; N];
        for byte in &mut array {
            *byte = self.byte()?;
        }
        Ok(array)
    }

    /// All that is left, if it is no more than `most_bytes`.
    pub fn read_all(&mut self, most_bytes: usize) -> Result<Vec<u8>, String> {
        let mut all = Vec::new();
        loop {
            self.fill()?;
            if self.chunk.is_empty() {
                return Ok(all);
            }
            let part = std::mem::take(&mut self.chunk);
            if all.len() + part.len() > most_bytes {
                return Err(format!("a footer holds more than {most_bytes} bytes"));
            }
            all.extend_from_slice(&part);
        }
    }
}

fn ended() -> String {
    "a stream has too few values".to_string()
}
