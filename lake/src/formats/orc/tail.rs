//! The end of an ORC file: a footer, a postscript that says how to read it, and its length.
//!
//! ORC specification v1, section "File Tail".

use bytes::Bytes;
use datafusion::error::Result;
use object_store::ObjectStoreExt;
use prost::Message;

use super::super::decompress::Codec;
use super::super::{Source, corrupt, store_error, unsupported};
use super::proto::{Footer, PostScript, compression};
use super::stream::{ByteStream, Compression, MAX_CHUNK_BYTES};

/// Bytes read from the end of a file at first: enough for the footers of most files.
const TAIL_READ_BYTES: u64 = 64 * 1024;

/// Bytes of a chunk when the postscript does not say.
const DEFAULT_CHUNK_BYTES: u64 = 256 * 1024;

/// A footer is refused beyond this size.
pub const MAX_FOOTER_BYTES: usize = 256 << 20;

/// What the end of a file says.
#[derive(Debug)]
pub struct Tail {
    /// The file's actual size.
    pub size_bytes: u64,
    /// How streams and footers are compressed.
    pub compression: Option<Compression>,
    /// What the file holds.
    pub footer: Footer,
}

/// Reads the end of a file.
///
/// # Errors
/// Every error names the file.
pub async fn load(source: &Source) -> Result<Tail> {
    let error = match load_sized(source, source.size_bytes).await {
        Ok(tail) => return Ok(tail),
        Err(error) => error,
    };
    // Some writers put a wrong file size into the manifest.
    match source.store.head(&source.path).await {
        Ok(actual) if actual.size != source.size_bytes => load_sized(source, actual.size).await,
        _ => Err(error),
    }
}

async fn load_sized(source: &Source, size: u64) -> Result<Tail> {
    let end = read_end(source, size, TAIL_READ_BYTES).await?;
    let broken = |why: &str| corrupt(source, why);
    let Some((length, rest)) = end.split_last() else {
        return Err(broken("it is empty"));
    };
    let start = rest.len().checked_sub(usize::from(*length));
    let postscript = start
        .and_then(|start| rest.get(start..))
        .unwrap_or_default();
    let postscript = PostScript::decode(postscript)
        .ok()
        .filter(|postscript| postscript.magic == "ORC")
        .ok_or_else(|| broken("it is not an ORC file"))?;
    let compression = codec(source, &postscript)?;

    let after = u64::from(*length) + 1;
    let needed = after.checked_add(postscript.footer_length);
    let needed = needed
        .filter(|needed| *needed <= size && postscript.footer_length <= MAX_FOOTER_BYTES as u64);
    let needed = needed.ok_or_else(|| broken("its footer lies outside of it"))?;
    let end = if needed > end.len() as u64 {
        read_end(source, size, needed).await?
    } else {
        end
    };
    let (Ok(needed), Ok(after)) = (usize::try_from(needed), usize::try_from(after)) else {
        return Err(broken("its footer is too large"));
    };
    if needed > end.len() {
        return Err(broken("it ends before its footer does"));
    }
    let footer = end.slice(end.len() - needed..end.len() - after);
    let footer = ByteStream::new(footer, compression)
        .read_all(MAX_FOOTER_BYTES)
        .map_err(|why| broken(&format!("its footer is broken: {why}")))?;
    let footer = Footer::decode(footer.as_slice())
        .map_err(|error| broken(&format!("its footer is broken: {error}")))?;
    check(source, &footer)?;
    Ok(Tail {
        size_bytes: size,
        compression,
        footer,
    })
}

async fn read_end(source: &Source, size: u64, bytes: u64) -> Result<Bytes> {
    if size == 0 {
        return Ok(Bytes::new());
    }
    source
        .store
        .get_range(&source.path, size.saturating_sub(bytes)..size)
        .await
        .map_err(|error| store_error(source, error))
}

fn codec(source: &Source, postscript: &PostScript) -> Result<Option<Compression>> {
    let codec = match postscript.compression {
        compression::NONE => return Ok(None),
        compression::ZLIB => Codec::Deflate,
        compression::SNAPPY => Codec::Snappy,
        compression::LZ4 => Codec::Lz4,
        compression::ZSTD => Codec::Zstd,
        other => {
            let name = match other {
                compression::LZO => "LZO".to_string(),
                other => format!("codec {other}"),
            };
            let why = format!("it is compressed with {name}, which is not supported");
            return Err(unsupported(source, "the file".to_string(), why));
        }
    };
    let chunk_bytes = match postscript.compression_block_size {
        0 => DEFAULT_CHUNK_BYTES,
        bytes => bytes,
    };
    if chunk_bytes > MAX_CHUNK_BYTES {
        return Err(corrupt(source, "its compressed chunks are too large"));
    }
    Ok(Some(Compression {
        codec,
        chunk_bytes: chunk_bytes as usize,
    }))
}

fn check(source: &Source, footer: &Footer) -> Result<()> {
    if footer.encryption.is_some() {
        let why = "it has encrypted columns".to_string();
        return Err(unsupported(source, "the file".to_string(), why));
    }
    let rows = footer.stripes.iter().try_fold(0_u64, |rows, stripe| {
        rows.checked_add(stripe.number_of_rows)
    });
    if rows != Some(footer.number_of_rows) {
        let why = "its stripes have another number of rows than it says";
        return Err(corrupt(source, why));
    }
    Ok(())
}
