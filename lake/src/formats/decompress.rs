//! Block codecs of Avro and ORC. What comes out is bounded before it is allocated, because a broken
//! block may claim any size.

use std::io::Read;

use flate2::Crc;
use flate2::read::DeflateDecoder;

/// How a block was compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// Deflate without header (RFC 1951).
    Deflate,
    /// Snappy's raw format.
    Snappy,
    /// Snappy's raw format, then the big-endian CRC-32 of the plain bytes, as Avro has it.
    SnappyWithCrc,
    /// Zstandard frames.
    Zstd,
    /// LZ4's block format without its length.
    Lz4,
}

impl Codec {
    /// Decompresses a whole block to at most `most_bytes`.
    ///
    /// # Errors
    /// A sentence saying what about the block is wrong.
    pub fn decompress(self, block: &[u8], most_bytes: usize) -> Result<Vec<u8>, String> {
        match self {
            Self::Deflate => read_all(DeflateDecoder::new(block), most_bytes),
            Self::Snappy => snappy(block, most_bytes),
            Self::SnappyWithCrc => snappy_with_crc(block, most_bytes),
            Self::Zstd => {
                let decoder = zstd::stream::read::Decoder::new(block)
                    .map_err(|error| format!("a compressed block cannot be read: {error}"))?;
                read_all(decoder, most_bytes)
            }
            Self::Lz4 => lz4_flex::block::decompress(block, most_bytes)
                .map_err(|error| format!("a compressed block cannot be read: {error}")),
        }
    }
}

fn read_all(decoder: impl Read, most_bytes: usize) -> Result<Vec<u8>, String> {
    let mut plain = Vec::new();
    decoder
        .take((most_bytes as u64).saturating_add(1))
        .read_to_end(&mut plain)
        .map_err(|error| format!("a compressed block cannot be read: {error}"))?;
    if plain.len() > most_bytes {
        return Err(too_large(most_bytes));
    }
    Ok(plain)
}

fn too_large(most_bytes: usize) -> String {
    format!("a compressed block holds more than {most_bytes} bytes")
}

fn snappy(block: &[u8], most_bytes: usize) -> Result<Vec<u8>, String> {
    let broken = |error: snap::Error| format!("a compressed block cannot be read: {error}");
    if snap::raw::decompress_len(block).map_err(broken)? > most_bytes {
        return Err(too_large(most_bytes));
    }
    snap::raw::Decoder::new()
        .decompress_vec(block)
        .map_err(broken)
}

fn snappy_with_crc(block: &[u8], most_bytes: usize) -> Result<Vec<u8>, String> {
    let Some((compressed, expected)) = block.split_last_chunk::<4>() else {
        return Err("a compressed block has no checksum".to_string());
    };
    let plain = snappy(compressed, most_bytes)?;
    let mut crc = Crc::new();
    crc.update(&plain);
    if crc.sum() != u32::from_be_bytes(*expected) {
        return Err("a block does not match its checksum".to_string());
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write;

    use super::*;

    fn packed(codec: Codec, plain: &[u8]) -> Vec<u8> {
        match codec {
            Codec::Deflate => {
                let mut encoder =
                    flate2::write::DeflateEncoder::new(vec![], flate2::Compression::fast());
                encoder.write_all(plain).unwrap();
                encoder.finish().unwrap()
            }
            Codec::Snappy => snap::raw::Encoder::new().compress_vec(plain).unwrap(),
            Codec::SnappyWithCrc => {
                let mut block = packed(Codec::Snappy, plain);
                let mut crc = Crc::new();
                crc.update(plain);
                block.extend(crc.sum().to_be_bytes());
                block
            }
            Codec::Zstd => zstd::encode_all(plain, 1).unwrap(),
            Codec::Lz4 => lz4_flex::block::compress(plain),
        }
    }

    const ALL: [Codec; 5] = [
        Codec::Deflate,
        Codec::Snappy,
        Codec::SnappyWithCrc,
        Codec::Zstd,
        Codec::Lz4,
    ];

    #[test]
    fn blocks_come_out_as_they_went_in() {
        let plain: Vec<u8> = (0..5000_u32).flat_map(u32::to_le_bytes).collect();
        for codec in ALL {
            let block = packed(codec, &plain);
            assert_eq!(codec.decompress(&block, plain.len()).unwrap(), plain);
        }
    }

    #[test]
    fn a_block_beyond_the_bound_is_refused() {
        let plain = vec![0_u8; 100_000];
        for codec in ALL {
            let block = packed(codec, &plain);
            assert!(codec.decompress(&block, plain.len() - 1).is_err());
        }
    }

    #[test]
    fn broken_blocks_are_errors() {
        for codec in ALL {
            let block = packed(codec, &[7; 1000]);
            let cut = codec.decompress(&block[..block.len() / 2], 1000);
            assert_ne!(cut.unwrap_or_default(), vec![7; 1000], "{codec:?}");
        }
        let mut block = packed(Codec::SnappyWithCrc, b"some text");
        *block.last_mut().unwrap() ^= 1;
        assert!(Codec::SnappyWithCrc.decompress(&block, 100).is_err());
    }
}
