//! Avro object container files, from bytes in memory.
//!
//! ```text
//! "Obj" 1 | metadata (a map of bytes: schema, codec, what the writer adds) | sync marker
//! block: number of records | bytes | records, compressed | sync marker
//! ```
//!
//! Source: Avro 1.12 specification, "Object Container Files" and "Binary Encoding". Nothing read is
//! believed: a length is compared with the bytes left before anything is allocated for it, and what
//! a block may grow to is bounded.

use std::io::Read as _;

use super::schema::{DEPTH_MAX, Node, NodeId, Schema};
use crate::{Error, Result};

/// First bytes of every file.
const MAGIC: &[u8] = b"Obj\x01";

/// Bytes of the marker between blocks.
const SYNC_BYTES: usize = 16;

/// Bytes of one block once decompressed.
const BLOCK_BYTES_MAX: usize = 1 << 30;

/// Bytes of all blocks of a file once decompressed.
const FILE_BYTES_MAX: usize = 1 << 32;

/// Snappy copies at most 64 bytes by an element of three, so it cannot expand by more than this.
const SNAPPY_RATIO_MAX: usize = 32;

/// What is wrong with a value, and in which field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    why: &'static str,
    field: Option<&'static str>,
}

/// Result of reading a value.
pub type Read<T> = std::result::Result<T, Fault>;

impl Fault {
    /// A fault for this reason.
    pub const fn new(why: &'static str) -> Self {
        Self { why, field: None }
    }

    /// The same fault, told to be in `field`.
    pub fn within(mut self, field: &'static str) -> Self {
        self.field.get_or_insert(field);
        self
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.field {
            Some(field) => write!(f, "field {field}: {}", self.why),
            None => f.write_str(self.why),
        }
    }
}

const ENDS: Fault = Fault::new("it ends in the middle of a value");
const NO_NUMBER: Fault = Fault::new("a number has more than 64 bits");
const LENGTH: Fault = Fault::new("a length is larger than what is left");
const BRANCH: Fault = Fault::new("a union has no such branch");
const DEEP: Fault = Fault::new("values are nested too deeply");
const TYPE: Fault = Fault::new("its type is not the one it must have");
const NOT_UTF8: Fault = Fault::new("a text is not UTF-8");

/// A place in encoded values.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// The start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes left.
    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The next `count` bytes.
    #[inline]
    pub fn take(&mut self, count: usize) -> Read<&'a [u8]> {
        if count > self.left() {
            return Err(ENDS);
        }
        let taken = &self.bytes[self.at..self.at + count];
        self.at += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// A variable-length number.
    #[inline]
    pub fn number(&mut self) -> Read<i64> {
        let first = *self.bytes.get(self.at).ok_or(ENDS)?;
        self.at += 1;
        if first < 0x80 {
            return Ok(unzigzag(u64::from(first)));
        }
        self.number_rest(u64::from(first & 0x7f))
    }

    fn number_rest(&mut self, mut value: u64) -> Read<i64> {
        for shift in (7..70).step_by(7) {
            let byte = *self.bytes.get(self.at).ok_or(ENDS)?;
            self.at += 1;
            // Bits past the 64th are dropped: some writers make snapshot ids of 64 bits, which are
            // one bit too long when zigzagged.
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(unzigzag(value));
            }
        }
        Err(NO_NUMBER)
    }

    /// A length in bytes or a number of items; never more than the bytes left.
    #[inline]
    fn length(&mut self) -> Read<usize> {
        match usize::try_from(self.number()?) {
            Ok(length) if length <= self.left() => Ok(length),
            _ => Err(LENGTH),
        }
    }

    /// Bytes after their length.
    #[inline]
    pub fn bytes(&mut self) -> Read<&'a [u8]> {
        let length = self.length()?;
        self.take(length)
    }

    /// The number of items in the next block of an array; none after the last.
    #[inline]
    pub fn block(&mut self) -> Read<usize> {
        let count = self.number()?;
        if count >= 0 {
            let count = usize::try_from(count).map_err(|_| LENGTH)?;
            return (count <= self.left()).then_some(count).ok_or(LENGTH);
        }
        // A negative number is followed by the block's size in bytes.
        self.length()?;
        let count = count.checked_neg().and_then(|n| usize::try_from(n).ok());
        count.filter(|n| *n <= self.left()).ok_or(LENGTH)
    }

    /// The type of the next value: the branch of a union, or the type itself.
    #[inline]
    pub fn branch(&mut self, schema: &Schema, node: NodeId) -> Read<NodeId> {
        let Node::Union(branches) = schema.node(node) else {
            return Ok(node);
        };
        let place = usize::try_from(self.number()?).map_err(|_| BRANCH)?;
        branches.get(place).copied().ok_or(BRANCH)
    }

    /// A number of any width; `None` for null.
    #[inline]
    pub fn long(&mut self, schema: &Schema, node: NodeId) -> Read<Option<i64>> {
        let node = self.branch(schema, node)?;
        match schema.node(node) {
            Node::Long(_) | Node::Int(_) => self.number().map(Some),
            Node::Null => Ok(None),
            _ => Err(TYPE),
        }
    }

    /// A number of 32 bits; `None` for null.
    #[inline]
    pub fn int(&mut self, schema: &Schema, node: NodeId) -> Read<Option<i32>> {
        let Some(value) = self.long(schema, node)? else {
            return Ok(None);
        };
        let value = i32::try_from(value);
        value.map(Some).map_err(|_| Fault::new("it is too large"))
    }

    /// A truth value; `None` for null.
    pub fn boolean(&mut self, schema: &Schema, node: NodeId) -> Read<Option<bool>> {
        let node = self.branch(schema, node)?;
        match schema.node(node) {
            Node::Boolean => Ok(Some(self.take(1)? != [0])),
            Node::Null => Ok(None),
            _ => Err(TYPE),
        }
    }

    /// Bytes, of a fixed length or not; `None` for null.
    #[inline]
    pub fn binary(&mut self, schema: &Schema, node: NodeId) -> Read<Option<&'a [u8]>> {
        let node = self.branch(schema, node)?;
        match schema.node(node) {
            Node::Bytes | Node::String => self.bytes().map(Some),
            Node::Fixed(size) => self.take(*size).map(Some),
            Node::Null => Ok(None),
            _ => Err(TYPE),
        }
    }

    /// A text; `None` for null.
    pub fn text(&mut self, schema: &Schema, node: NodeId) -> Read<Option<&'a str>> {
        let Some(bytes) = self.binary(schema, node)? else {
            return Ok(None);
        };
        std::str::from_utf8(bytes).map(Some).map_err(|_| NOT_UTF8)
    }

    /// Four bytes as a number.
    pub fn float(&mut self) -> Read<f32> {
        self.array().map(f32::from_le_bytes)
    }

    /// Eight bytes as a number.
    pub fn double(&mut self) -> Read<f64> {
        self.array().map(f64::from_le_bytes)
    }

    /// Passes a value over.
    pub fn skip(&mut self, schema: &Schema, node: NodeId) -> Read<()> {
        self.skip_at(schema, node, 0)
    }

    fn skip_at(&mut self, schema: &Schema, node: NodeId, depth: usize) -> Read<()> {
        if depth > DEPTH_MAX {
            return Err(DEEP);
        }
        if schema.is_empty(node) {
            return Ok(());
        }
        match schema.node(node) {
            Node::Null => Ok(()),
            Node::Boolean => self.take(1).map(drop),
            Node::Int(_) | Node::Long(_) | Node::Enum => self.number().map(drop),
            Node::Float => self.take(4).map(drop),
            Node::Double => self.take(8).map(drop),
            Node::Bytes | Node::String => self.bytes().map(drop),
            Node::Fixed(size) => self.take(*size).map(drop),
            Node::Union(_) => {
                let branch = self.branch(schema, node)?;
                self.skip_at(schema, branch, depth + 1)
            }
            Node::Record(fields) => fields
                .iter()
                .try_for_each(|field| self.skip_at(schema, field.node, depth + 1)),
            Node::Array(items) => self.skip_blocks(schema, *items, false, depth),
            Node::Map(values) => self.skip_blocks(schema, *values, true, depth),
        }
    }

    fn skip_blocks(
        &mut self,
        schema: &Schema,
        item: NodeId,
        keyed: bool,
        depth: usize,
    ) -> Read<()> {
        loop {
            let count = self.number()?;
            if count == 0 {
                return Ok(());
            }
            if count < 0 {
                let length = self.length()?;
                self.take(length)?;
                continue;
            }
            // However many there are, they take no time.
            if schema.is_empty(item) && !keyed {
                continue;
            }
            if usize::try_from(count).map_or(true, |count| count > self.left()) {
                return Err(LENGTH);
            }
            for _ in 0..count {
                if keyed {
                    self.bytes()?;
                }
                self.skip_at(schema, item, depth + 1)?;
            }
        }
    }
}

#[inline]
fn unzigzag(value: u64) -> i64 {
    ((value >> 1) as i64) ^ -((value & 1) as i64)
}

/// How blocks are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Codec {
    Null,
    Deflate,
    Snappy,
    Zstandard,
}

/// An opened file.
#[derive(Debug)]
pub struct Container<'a> {
    path: &'a str,
    metadata: Vec<(&'a [u8], &'a [u8])>,
    /// The schema its values were written with.
    pub schema: Schema,
    blocks: Blocks<'a>,
}

/// The blocks of a file that are not read yet.
#[derive(Debug)]
pub struct Blocks<'a> {
    path: &'a str,
    codec: Codec,
    sync: &'a [u8],
    cursor: Cursor<'a>,
}

impl<'a> Container<'a> {
    /// Reads the header of a file; `path` is for messages.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when it is no Avro file, [`Error::Unsupported`] for its compression.
    pub fn open(path: &'a str, bytes: &'a [u8]) -> Result<Self> {
        let corrupt = |why: String| Error::Corrupt {
            path: path.to_string(),
            why,
        };
        let header = |fault: Fault| corrupt(format!("in the header, {fault}"));
        let mut cursor = Cursor::new(bytes);
        if cursor.take(MAGIC.len()) != Ok(MAGIC) {
            return Err(corrupt("it is no Avro file".to_string()));
        }
        let metadata = header_metadata(&mut cursor).map_err(header)?;
        let sync = cursor.take(SYNC_BYTES).map_err(header)?;
        let find = |key: &str| {
            let pair = metadata.iter().find(|(name, _)| *name == key.as_bytes());
            pair.map(|(_, value)| *value)
        };
        let schema = find("avro.schema")
            .ok_or_else(|| corrupt("its header has no schema".to_string()))
            .and_then(|json| {
                Schema::parse(json).map_err(|why| corrupt(format!("in its Avro schema, {why}")))
            })?;
        let codec = match find("avro.codec").unwrap_or(b"null") {
            b"null" | b"" => Codec::Null,
            b"deflate" => Codec::Deflate,
            b"snappy" => Codec::Snappy,
            b"zstandard" => Codec::Zstandard,
            other => {
                return Err(Error::Unsupported {
                    table: path.to_string(),
                    what: "the metadata".to_string(),
                    why: format!(
                        "it is compressed with {}; null, deflate, snappy and zstandard are read",
                        String::from_utf8_lossy(other.get(..32).unwrap_or(other))
                    ),
                });
            }
        };
        Ok(Self {
            path,
            metadata,
            schema,
            blocks: Blocks {
                path,
                codec,
                sync,
                cursor,
            },
        })
    }

    /// A value of the header, if it is text.
    pub fn metadata(&self, key: &str) -> Option<&'a str> {
        let pair = self.metadata.iter().find(|(k, _)| *k == key.as_bytes())?;
        std::str::from_utf8(pair.1).ok()
    }

    /// An error about this file.
    pub fn corrupt(&self, why: impl Into<String>) -> Error {
        Error::Corrupt {
            path: self.path.to_string(),
            why: why.into(),
        }
    }

    /// The schema and the blocks, apart.
    pub fn into_parts(self) -> (Schema, Blocks<'a>) {
        (self.schema, self.blocks)
    }
}

fn header_metadata<'a>(cursor: &mut Cursor<'a>) -> Read<Vec<(&'a [u8], &'a [u8])>> {
    let mut metadata = vec![];
    loop {
        let count = cursor.block()?;
        if count == 0 {
            return Ok(metadata);
        }
        for _ in 0..count {
            metadata.push((cursor.bytes()?, cursor.bytes()?));
        }
    }
}

impl<'a> Blocks<'a> {
    /// Reads every record of the file with `record`, which has to take exactly one value.
    ///
    /// # Errors
    /// [`Error::Corrupt`] naming the file, the block and the record.
    pub fn for_each(mut self, mut record: impl FnMut(&mut Cursor<'_>) -> Read<()>) -> Result<()> {
        let mut buffer = vec![];
        let mut total = 0_usize;
        while self.cursor.left() > 0 {
            let start = self.cursor.at;
            let path = self.path;
            let corrupt = |why: String| Error::Corrupt {
                path: path.to_string(),
                why: format!("in the block at byte {start}, {why}"),
            };
            let (count, bytes) = self.block().map_err(|fault| corrupt(fault.to_string()))?;
            let bytes = decompress(self.codec, bytes, BLOCK_BYTES_MAX, &mut buffer)
                .map_err(|fault| corrupt(fault.to_string()))?;
            total = total.saturating_add(bytes.len());
            if total > FILE_BYTES_MAX {
                return Err(corrupt("it grows too large".to_string()));
            }
            // No record of a manifest takes less than a byte.
            let count = usize::try_from(count)
                .ok()
                .filter(|count| *count <= bytes.len())
                .ok_or_else(|| corrupt(format!("{count} records cannot be")))?;
            let mut cursor = Cursor::new(bytes);
            for number in 0..count {
                record(&mut cursor)
                    .map_err(|fault| corrupt(format!("record {number}: {fault}")))?;
            }
            if cursor.left() > 0 {
                return Err(corrupt(format!(
                    "{} bytes are left after its last record",
                    cursor.left()
                )));
            }
        }
        Ok(())
    }

    fn block(&mut self) -> Read<(i64, &'a [u8])> {
        let count = self.cursor.number()?;
        let bytes = self.cursor.bytes()?;
        if self.cursor.take(SYNC_BYTES)? != self.sync {
            return Err(Fault::new("the sync marker after it is not the file's"));
        }
        Ok((count, bytes))
    }
}

/// The bytes of a block. None of the codecs may give more than `limit`.
fn decompress<'b>(
    codec: Codec,
    bytes: &'b [u8],
    limit: usize,
    buffer: &'b mut Vec<u8>,
) -> Read<&'b [u8]> {
    buffer.clear();
    match codec {
        Codec::Null => return Ok(bytes),
        Codec::Deflate => read_all(flate2::read::DeflateDecoder::new(bytes), limit, buffer)?,
        Codec::Snappy => unsnap(bytes, limit, buffer)?,
        Codec::Zstandard => {
            let decoder = zstd::stream::read::Decoder::with_buffer(bytes);
            let decoder = decoder.map_err(|_| Fault::new("zstandard cannot be set up"))?;
            read_all(decoder, limit, buffer)?;
        }
    }
    Ok(buffer)
}

fn read_all(decoder: impl std::io::Read, limit: usize, buffer: &mut Vec<u8>) -> Read<()> {
    let read = decoder.take(limit as u64 + 1).read_to_end(buffer);
    match read {
        Ok(length) if length <= limit => Ok(()),
        Ok(_) => Err(Fault::new("it grows too large")),
        Err(_) => Err(Fault::new("it cannot be decompressed")),
    }
}

/// Snappy without framing, and after it the CRC-32 of the uncompressed bytes, big-endian.
fn unsnap(bytes: &[u8], limit: usize, buffer: &mut Vec<u8>) -> Read<()> {
    let Some((bytes, sum)) = bytes.split_last_chunk::<4>() else {
        return Err(ENDS);
    };
    let length =
        snap::raw::decompress_len(bytes).map_err(|_| Fault::new("it cannot be decompressed"))?;
    if length > limit || length > bytes.len().saturating_mul(SNAPPY_RATIO_MAX) {
        return Err(Fault::new("it grows too large"));
    }
    buffer.resize(length, 0);
    snap::raw::Decoder::new()
        .decompress(bytes, buffer)
        .map_err(|_| Fault::new("it cannot be decompressed"))?;
    if crc32fast::hash(buffer) != u32::from_be_bytes(*sum) {
        return Err(Fault::new("its checksum is wrong"));
    }
    Ok(())
}

#[cfg(test)]
pub mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write as _;

    use super::*;

    pub fn long(value: i64) -> Vec<u8> {
        let mut rest = ((value << 1) ^ (value >> 63)) as u64;
        let mut bytes = vec![];
        while rest >= 0x80 {
            bytes.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        bytes.push(rest as u8);
        bytes
    }

    pub fn text(value: &[u8]) -> Vec<u8> {
        [long(value.len() as i64), value.to_vec()].concat()
    }

    /// A file with one block.
    pub fn file(pairs: &[(&str, &str)], count: i64, block: &[u8]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(long(pairs.len() as i64));
        for (key, value) in pairs {
            bytes.extend(text(key.as_bytes()));
            bytes.extend(text(value.as_bytes()));
        }
        bytes.extend(long(0));
        bytes.extend([7; SYNC_BYTES]);
        bytes.extend(long(count));
        bytes.extend(text(block));
        bytes.extend([7; SYNC_BYTES]);
        bytes
    }

    fn longs(bytes: &[u8]) -> Result<Vec<i64>> {
        let container = Container::open("f.avro", bytes)?;
        let mut found = vec![];
        let (schema, blocks) = container.into_parts();
        blocks.for_each(|cursor| {
            found.extend(cursor.long(&schema, schema.root())?);
            Ok(())
        })?;
        Ok(found)
    }

    fn compressed(codec: &str, plain: &[u8]) -> Vec<u8> {
        match codec {
            "deflate" => {
                let mut encoder =
                    flate2::write::DeflateEncoder::new(vec![], flate2::Compression::default());
                encoder.write_all(plain).unwrap();
                encoder.finish().unwrap()
            }
            "snappy" => {
                let mut bytes = snap::raw::Encoder::new().compress_vec(plain).unwrap();
                bytes.extend(crc32fast::hash(plain).to_be_bytes());
                bytes
            }
            "zstandard" => zstd::stream::encode_all(plain, 3).unwrap(),
            _ => plain.to_vec(),
        }
    }

    #[test]
    fn every_codec_gives_the_same_records() {
        let values = [0, -1, 63, 64, -65, i64::MAX, i64::MIN, 1 << 40];
        let plain: Vec<u8> = values.iter().flat_map(|value| long(*value)).collect();
        for codec in ["null", "deflate", "snappy", "zstandard"] {
            let pairs = [("avro.schema", "\"long\""), ("avro.codec", codec)];
            let bytes = file(&pairs, 8, &compressed(codec, &plain));
            assert_eq!(longs(&bytes).unwrap(), values, "{codec}");
            for end in 0..bytes.len() {
                // A file without blocks is whole.
                let result = longs(&bytes[..end]);
                assert!(
                    result.is_err() || result.unwrap().is_empty(),
                    "{codec} {end}"
                );
            }
        }
    }

    #[test]
    fn other_codecs_are_refused_by_name() {
        for codec in ["bzip2", "xz"] {
            let bytes = file(
                &[("avro.schema", "\"long\""), ("avro.codec", codec)],
                0,
                b"",
            );
            let error = longs(&bytes).unwrap_err();
            assert_eq!(error.code(), crate::error::Code::Unsupported);
            assert!(error.to_string().contains(codec), "{error}");
        }
    }

    #[test]
    fn a_wrong_checksum_is_noticed() {
        let mut block = compressed("snappy", &long(5));
        *block.last_mut().unwrap() ^= 1;
        let pairs = [("avro.schema", "\"long\""), ("avro.codec", "snappy")];
        let error = longs(&file(&pairs, 1, &block)).unwrap_err();
        assert!(error.to_string().contains("checksum"), "{error}");
    }

    #[test]
    fn bombs_are_refused() {
        let plain = vec![0; 1 << 20];
        for codec in [Codec::Deflate, Codec::Snappy, Codec::Zstandard] {
            let name = match codec {
                Codec::Deflate => "deflate",
                Codec::Snappy => "snappy",
                _ => "zstandard",
            };
            let mut buffer = vec![];
            let bytes = compressed(name, &plain);
            let result = decompress(codec, &bytes, 1 << 19, &mut buffer);
            assert_eq!(result, Err(Fault::new("it grows too large")), "{name}");
            assert!(buffer.capacity() <= 1 << 20, "{name}");
        }
        // A header of snappy that claims four gigabytes.
        let mut buffer = vec![];
        let claim = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0, 0, 0];
        assert!(decompress(Codec::Snappy, &claim, BLOCK_BYTES_MAX, &mut buffer).is_err());
        assert_eq!(buffer.capacity(), 0);
    }

    #[test]
    fn lengths_are_not_believed() {
        let schema = Schema::parse(br#"{"type":"array","items":"null"}"#).unwrap();
        let endless = [long(i64::MAX), long(0)].concat();
        assert!(Cursor::new(&endless).skip(&schema, schema.root()).is_ok());
        let schema = Schema::parse(br#"{"type":"array","items":"int"}"#).unwrap();
        assert!(Cursor::new(&endless).skip(&schema, schema.root()).is_err());
        let schema = Schema::parse(br#""bytes""#).unwrap();
        assert!(Cursor::new(&endless).skip(&schema, schema.root()).is_err());
        let negative = [long(i64::MIN), long(0), long(0)].concat();
        assert!(Cursor::new(&negative).block().is_err());
        let pairs = [("avro.schema", "\"null\"")];
        assert!(longs(&file(&pairs, i64::MAX, b"")).is_err());
    }

    #[test]
    fn values_inside_themselves_end() {
        let list =
            br#"{"type":"record","name":"l","fields":[{"name":"next","type":["null","l"]}]}"#;
        let schema = Schema::parse(list).unwrap();
        let mut short = vec![2; 10];
        short.push(0);
        assert!(Cursor::new(&short).skip(&schema, schema.root()).is_ok());
        let deep = vec![2; 10_000];
        let mut cursor = Cursor::new(&deep);
        assert_eq!(cursor.skip(&schema, schema.root()), Err(DEEP));
    }

    #[test]
    fn a_negative_block_count_is_followed_by_its_size() {
        let schema = Schema::parse(br#"{"type":"map","values":"int"}"#).unwrap();
        let pair = [text(b"k"), long(4)].concat();
        let bytes = [long(-1), long(pair.len() as i64), pair, long(0)].concat();
        let mut cursor = Cursor::new(&bytes);
        cursor.skip(&schema, schema.root()).unwrap();
        assert_eq!(cursor.left(), 0);
        let mut cursor = Cursor::new(&bytes);
        assert_eq!(cursor.block(), Ok(1));
    }
}
