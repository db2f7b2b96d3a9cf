//! Avro's object container files: a header with the schema, then blocks of rows.
//!
//! Avro specification 1.11, "Object Container Files".

use bytes::Bytes;

use super::super::MAX_BYTES;
use super::super::decompress::Codec;
use super::decode::Cursor;

const MAGIC: &[u8] = b"Obj\x01";

/// Follows the header and every block.
const MARK_BYTES: usize = 16;

/// What a file says about itself.
#[derive(Debug)]
pub struct Header {
    /// The schema of the rows, as JSON.
    pub schema: String,
    /// Name of the codec, if there is one.
    codec: Option<String>,
    mark: Vec<u8>,
    /// Length of the header in bytes.
    length: usize,
}

impl Header {
    /// Parses the start of a file.
    ///
    /// # Errors
    /// A sentence saying what is wrong with it.
    pub fn parse(file: &[u8]) -> Result<Self, String> {
        let mut cursor = Cursor::new(file);
        if cursor.bytes(MAGIC.len()) != Ok(MAGIC) {
            return Err("it is not an Avro file".to_string());
        }
        let mut schema = None;
        let mut codec = None;
        loop {
            let count = cursor.long()?;
            if count == 0 {
                break;
            }
            // A negative count is followed by the length of the entries.
            if count < 0 {
                cursor.long()?;
            }
            for _ in 0..count.unsigned_abs() {
                let key = cursor.sized()?;
                let value = cursor.sized()?;
                let text = || {
                    String::from_utf8(value.to_vec())
                        .map_err(|_| "its header is not text".to_string())
                };
                match key {
                    b"avro.schema" => schema = Some(text()?),
                    b"avro.codec" => codec = Some(text()?),
                    _ => {}
                }
            }
        }
        let mark = cursor.bytes(MARK_BYTES)?.to_vec();
        Ok(Self {
            schema: schema.ok_or("its header has no schema")?,
            codec,
            mark,
            length: cursor.at(),
        })
    }
}

/// A block of rows, decompressed.
#[derive(Debug)]
pub struct Block {
    /// How many rows it holds.
    pub rows: u64,
    /// The rows, one after the other.
    pub data: Bytes,
}

/// The blocks of a file, in order.
#[derive(Debug)]
pub struct Blocks {
    rest: Bytes,
    codec: Option<Codec>,
    mark: Vec<u8>,
}

impl Blocks {
    /// The blocks of a whole file.
    ///
    /// # Errors
    /// The name of the file's codec, when it is not known.
    pub fn new(mut file: Bytes, header: &Header) -> Result<Self, String> {
        let codec = match header.codec.as_deref() {
            None | Some("null") => None,
            Some("deflate") => Some(Codec::Deflate),
            Some("snappy") => Some(Codec::SnappyWithCrc),
            Some("zstandard") => Some(Codec::Zstd),
            Some(other) => return Err(other.to_string()),
        };
        Ok(Self {
            rest: file.split_off(header.length.min(file.len())),
            codec,
            mark: header.mark.clone(),
        })
    }

    /// The next block.
    ///
    /// # Errors
    /// A sentence saying what is wrong with the file, also when it ends in the middle of a block.
    pub fn next(&mut self) -> Result<Option<Block>, String> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let mut cursor = Cursor::new(&self.rest);
        let rows = u64::try_from(cursor.long()?).map_err(|_| "a block has a negative length")?;
        let length =
            usize::try_from(cursor.long()?).map_err(|_| "a block has a negative length")?;
        let start = cursor.at();
        cursor.bytes(length)?;
        if cursor.bytes(MARK_BYTES)? != self.mark {
            return Err("a block does not end with the file's mark".to_string());
        }
        let end = cursor.at();
        let data = self.rest.slice(start..start + length);
        let data = match self.codec {
            None => data,
            Some(codec) => {
                let most = usize::try_from(MAX_BYTES).unwrap_or(usize::MAX);
                codec.decompress(&data, most)?.into()
            }
        };
        self.rest = self.rest.slice(end..);
        Ok(Some(Block { rows, data }))
    }
}
