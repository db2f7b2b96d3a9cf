//! The messages of ORC's file format that reading needs; all other fields are skipped.
//!
//! ORC specification v1, sections "File Tail" and "Stripe Footer".

use prost::Message;

/// The last message of a file, which says how to read the others.
#[derive(Clone, PartialEq, Message)]
pub struct PostScript {
    /// Bytes of the footer, as stored.
    #[prost(uint64, tag = "1")]
    pub footer_length: u64,
    /// One of [`compression`].
    #[prost(int32, tag = "2")]
    pub compression: i32,
    /// No block decompresses to more bytes.
    #[prost(uint64, tag = "3")]
    pub compression_block_size: u64,
    /// `ORC`.
    #[prost(string, tag = "8000")]
    pub magic: String,
}

/// Values of [`PostScript::compression`].
pub mod compression {
    #![allow(missing_docs)]
    pub const NONE: i32 = 0;
    pub const ZLIB: i32 = 1;
    pub const SNAPPY: i32 = 2;
    pub const LZO: i32 = 3;
    pub const LZ4: i32 = 4;
    pub const ZSTD: i32 = 5;
}

/// What the file holds.
#[derive(Clone, PartialEq, Message)]
pub struct Footer {
    /// The stripes in the order of their rows.
    #[prost(message, repeated, tag = "3")]
    pub stripes: Vec<StripeInformation>,
    /// The types: the root first, each before its parts.
    #[prost(message, repeated, tag = "4")]
    pub types: Vec<Type>,
    /// Rows of all stripes.
    #[prost(uint64, tag = "6")]
    pub number_of_rows: u64,
    /// Present in files with encrypted columns.
    #[prost(bytes = "vec", optional, tag = "10")]
    pub encryption: Option<Vec<u8>>,
}

/// Where a stripe lies: its indexes, its data, then its footer.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct StripeInformation {
    /// Byte in the file.
    #[prost(uint64, tag = "1")]
    pub offset: u64,
    /// Bytes.
    #[prost(uint64, tag = "2")]
    pub index_length: u64,
    /// Bytes.
    #[prost(uint64, tag = "3")]
    pub data_length: u64,
    /// Bytes.
    #[prost(uint64, tag = "4")]
    pub footer_length: u64,
    /// Rows.
    #[prost(uint64, tag = "5")]
    pub number_of_rows: u64,
}

/// A column or a part of one.
#[derive(Clone, PartialEq, Message)]
pub struct Type {
    /// One of [`kind`].
    #[prost(int32, tag = "1")]
    pub kind: i32,
    /// Indices of its parts.
    #[prost(uint32, repeated, tag = "2")]
    pub subtypes: Vec<u32>,
    /// Names of a struct's parts.
    #[prost(string, repeated, tag = "3")]
    pub field_names: Vec<String>,
    /// Digits of a decimal.
    #[prost(uint32, tag = "5")]
    pub precision: u32,
    /// Digits of a decimal after the point.
    #[prost(uint32, tag = "6")]
    pub scale: u32,
    /// Whatever the writer adds: Iceberg's ids and types.
    #[prost(message, repeated, tag = "7")]
    pub attributes: Vec<StringPair>,
}

/// Values of [`Type::kind`].
pub mod kind {
    #![allow(missing_docs)]
    pub const BOOLEAN: i32 = 0;
    pub const BYTE: i32 = 1;
    pub const SHORT: i32 = 2;
    pub const INT: i32 = 3;
    pub const LONG: i32 = 4;
    pub const FLOAT: i32 = 5;
    pub const DOUBLE: i32 = 6;
    pub const STRING: i32 = 7;
    pub const BINARY: i32 = 8;
    pub const TIMESTAMP: i32 = 9;
    pub const LIST: i32 = 10;
    pub const MAP: i32 = 11;
    pub const STRUCT: i32 = 12;
    pub const DECIMAL: i32 = 14;
    pub const DATE: i32 = 15;
    pub const VARCHAR: i32 = 16;
    pub const CHAR: i32 = 17;
    pub const TIMESTAMP_INSTANT: i32 = 18;
}

/// A key and its value.
#[derive(Clone, PartialEq, Message)]
pub struct StringPair {
    /// The key.
    #[prost(string, tag = "1")]
    pub key: String,
    /// The value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// What a stripe holds.
#[derive(Clone, PartialEq, Message)]
pub struct StripeFooter {
    /// The streams in the order of their bytes.
    #[prost(message, repeated, tag = "1")]
    pub streams: Vec<Stream>,
    /// One for each type of the file.
    #[prost(message, repeated, tag = "2")]
    pub columns: Vec<ColumnEncoding>,
    /// Time zone of timestamps without zone.
    #[prost(string, tag = "3")]
    pub writer_timezone: String,
}

/// A run of bytes that belongs to one type.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Stream {
    /// One of [`stream`].
    #[prost(int32, tag = "1")]
    pub kind: i32,
    /// Index of the type.
    #[prost(uint32, tag = "2")]
    pub column: u32,
    /// Bytes.
    #[prost(uint64, tag = "3")]
    pub length: u64,
}

/// Values of [`Stream::kind`].
pub mod stream {
    #![allow(missing_docs)]
    pub const PRESENT: i32 = 0;
    pub const DATA: i32 = 1;
    pub const LENGTH: i32 = 2;
    pub const DICTIONARY_DATA: i32 = 3;
    pub const SECONDARY: i32 = 5;
}

/// How the values of a type are written.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct ColumnEncoding {
    /// One of [`encoding`].
    #[prost(int32, tag = "1")]
    pub kind: i32,
    /// Number of values in the dictionary.
    #[prost(uint32, tag = "2")]
    pub dictionary_size: u32,
}

/// Values of [`ColumnEncoding::kind`].
pub mod encoding {
    #![allow(missing_docs)]
    pub const DIRECT: i32 = 0;
    pub const DICTIONARY: i32 = 1;
    pub const DIRECT_V2: i32 = 2;
    pub const DICTIONARY_V2: i32 = 3;
}
