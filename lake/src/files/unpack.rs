//! Stores whose files come out as plain lines: without their compression, and without the array
//! around JSON objects.
//!
//! DataFusion's readers of CSV and JSON ask their store for whole files. A store that unpacks is
//! registered beside each plain one, under its key with a suffix: `s3+gzip://bucket`. A file in it
//! has no ranges, so a scan of it is dealt out by files.

use std::fmt;
use std::io::Write;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnv;
use flate2::write::MultiGzDecoder;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result as StoreResult,
};
use zstd::stream::raw::{InBuffer, Operation, OutBuffer};

use crate::{Error, Result};

/// Bytes that are unpacked at once.
const STEP_BYTES: usize = 128 << 10;

/// What separates the suffix in the scheme of a store's key.
const MARK: char = '+';

/// How a file of text is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// It is not.
    #[default]
    None,
    /// RFC 1952; several members are one file.
    Gzip,
    /// RFC 8878; several frames are one file.
    Zstd,
}

/// What is around the lines of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packing {
    /// The compression.
    pub compression: Compression,
    /// JSON values that are not one to a line: in an array, or over several lines.
    pub values: bool,
}

impl Packing {
    /// Whether there is nothing to unpack.
    pub fn is_plain(self) -> bool {
        self == Self::default()
    }

    fn all() -> impl Iterator<Item = Self> {
        [Compression::None, Compression::Gzip, Compression::Zstd]
            .into_iter()
            .flat_map(|compression| {
                [false, true].map(|values| Self {
                    compression,
                    values,
                })
            })
            .filter(|packing| !packing.is_plain())
    }

    /// The key of the unpacking store beside the plain one of this key.
    ///
    /// # Errors
    /// [`Error::Internal`].
    pub fn url(self, plain: &ObjectStoreUrl) -> Result<ObjectStoreUrl> {
        let text = plain.as_str();
        let (scheme, rest) = text.split_once("://").unwrap_or((text, ""));
        let compression = match self.compression {
            Compression::None => "",
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
        };
        let values = if self.values { "values" } else { "" };
        ObjectStoreUrl::parse(format!("{scheme}{MARK}{compression}{values}://{rest}"))
            .map_err(|error| Error::Internal(error.strip_backtrace()))
    }

    /// The store that unpacks what `plain` has.
    pub fn over(self, plain: &Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
        Arc::new(UnpackingStore {
            inner: Arc::clone(plain),
            packing: self,
        })
    }
}

/// Whether a store of this key gives whole files only.
pub fn is_unpacking(url: &ObjectStoreUrl) -> bool {
    let scheme = url.as_str().split_once("://");
    scheme.is_some_and(|(scheme, _)| scheme.contains(MARK))
}

/// Registers the unpacking stores beside a plain one.
pub fn register_unpacking(env: &RuntimeEnv, url: &ObjectStoreUrl, plain: &Arc<dyn ObjectStore>) {
    for packing in Packing::all() {
        if let Ok(url) = packing.url(url) {
            env.register_object_store(url.as_ref(), packing.over(plain));
        }
    }
}

#[derive(Debug)]
struct UnpackingStore {
    inner: Arc<dyn ObjectStore>,
    packing: Packing,
}

impl fmt::Display for UnpackingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} unpacked", self.inner)
    }
}

impl UnpackingStore {
    fn read_only<T>(&self) -> StoreResult<T> {
        Err(object_store::Error::NotSupported {
            source: format!("{self} is read only").into(),
        })
    }
}

#[async_trait]
impl ObjectStore for UnpackingStore {
    async fn put_opts(&self, _: &Path, _: PutPayload, _: PutOptions) -> StoreResult<PutResult> {
        self.read_only()
    }

    async fn put_multipart_opts(
        &self,
        _: &Path,
        _: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        self.read_only()
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> StoreResult<GetResult> {
        if options.range.is_some() {
            return Err(object_store::Error::NotSupported {
                source: format!("{location} has no ranges: it is unpacked from its beginning")
                    .into(),
            });
        }
        let head = options.head;
        let found = self.inner.get_opts(location, options).await?;
        if head {
            return Ok(found);
        }
        let (meta, range) = (found.meta.clone(), found.range.clone());
        let attributes = found.attributes.clone();
        let plain = unpacked(location.clone(), found.into_stream(), self.packing);
        Ok(GetResult {
            payload: GetResultPayload::Stream(plain),
            meta,
            range,
            attributes,
        })
    }

    fn delete_stream(
        &self,
        _: BoxStream<'static, StoreResult<Path>>,
    ) -> BoxStream<'static, StoreResult<Path>> {
        let refused = self.read_only();
        stream::once(async { refused }).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> StoreResult<()> {
        self.read_only()
    }
}

fn unpacked(
    location: Path,
    packed: BoxStream<'static, StoreResult<Bytes>>,
    packing: Packing,
) -> BoxStream<'static, StoreResult<Bytes>> {
    let failed = move |error: std::io::Error| object_store::Error::Generic {
        store: "unpacking",
        source: format!("file {location} cannot be unpacked: {error}").into(),
    };
    let decoder = match Decoder::new(packing) {
        Ok(decoder) => decoder,
        Err(error) => return stream::once(async move { Err(failed(error)) }).boxed(),
    };
    let state = (packed, Some(decoder), failed);
    stream::try_unfold(state, |(mut packed, decoder, failed)| async move {
        let Some(mut decoder) = decoder else {
            return Ok(None);
        };
        Ok(Some(match packed.next().await {
            Some(chunk) => {
                let plain = decoder.push(&chunk?).map_err(&failed)?;
                (plain.into(), (packed, Some(decoder), failed))
            }
            None => {
                let plain = decoder.finish().map_err(&failed)?;
                (plain.into(), (packed, None, failed))
            }
        }))
    })
    .boxed()
}

/// Unpacks a file piece by piece.
struct Decoder {
    plain: Decompressor,
    lines: Option<Lines>,
}

enum Decompressor {
    None,
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
    Zstd {
        decoder: Box<zstd::stream::raw::Decoder<'static>>,
        /// Whether the last frame is complete.
        complete: bool,
    },
}

impl Decoder {
    fn new(packing: Packing) -> std::io::Result<Self> {
        Ok(Self {
            plain: match packing.compression {
                Compression::None => Decompressor::None,
                Compression::Gzip => Decompressor::Gzip(Box::new(MultiGzDecoder::new(Vec::new()))),
                Compression::Zstd => Decompressor::Zstd {
                    decoder: Box::new(zstd::stream::raw::Decoder::new()?),
                    complete: true,
                },
            },
            lines: packing.values.then(Lines::default),
        })
    }

    fn push(&mut self, chunk: &[u8]) -> std::io::Result<Vec<u8>> {
        let plain = match &mut self.plain {
            Decompressor::None => chunk.to_vec(),
            Decompressor::Gzip(decoder) => {
                decoder.write_all(chunk)?;
                decoder.flush()?;
                std::mem::take(decoder.get_mut())
            }
            Decompressor::Zstd { decoder, complete } => unzstd(decoder, complete, chunk)?,
        };
        Ok(self.lined(plain))
    }

    fn finish(mut self) -> std::io::Result<Vec<u8>> {
        let plain = match &mut self.plain {
            Decompressor::None => Vec::new(),
            Decompressor::Gzip(decoder) => {
                decoder.try_finish()?;
                std::mem::take(decoder.get_mut())
            }
            Decompressor::Zstd { complete: true, .. } => Vec::new(),
            Decompressor::Zstd { .. } => {
                return Err(std::io::Error::other("it ends in the middle"));
            }
        };
        Ok(self.lined(plain))
    }

    fn lined(&mut self, plain: Vec<u8>) -> Vec<u8> {
        match &mut self.lines {
            Some(lines) => lines.push(&plain),
            None => plain,
        }
    }
}

fn unzstd(
    decoder: &mut zstd::stream::raw::Decoder<'static>,
    complete: &mut bool,
    chunk: &[u8],
) -> std::io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    let mut step = vec![0; STEP_BYTES];
    let mut input = InBuffer::around(chunk);
    loop {
        let mut output = OutBuffer::around(step.as_mut_slice());
        if input.pos() < chunk.len() || !*complete {
            *complete = decoder.run(&mut input, &mut output)? == 0;
        }
        let length = output.pos();
        plain.extend_from_slice(step.get(..length).unwrap_or_default());
        if input.pos() == chunk.len() && length < STEP_BYTES {
            return Ok(plain);
        }
    }
}

/// Puts every JSON value on a line of its own, and takes the array around them away.
#[derive(Debug, Default)]
struct Lines {
    depth: usize,
    in_array: bool,
    in_string: bool,
    escaped: bool,
}

impl Lines {
    fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len() + 1);
        for byte in bytes {
            if self.in_string {
                out.push(*byte);
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'[' if self.depth == 0 && !self.in_array => self.in_array = true,
                b']' if self.depth == 0 => self.in_array = false,
                b',' if self.depth == 0 => out.push(b'\n'),
                b'\n' | b'\r' if self.depth > 0 => out.push(b' '),
                b'\n' | b'\r' | b'\t' | b' ' if self.depth == 0 => {}
                b'{' | b'[' => {
                    self.depth += 1;
                    out.push(*byte);
                }
                b'}' | b']' => {
                    self.depth -= 1;
                    out.push(*byte);
                    if self.depth == 0 && !self.in_array {
                        out.push(b'\n');
                    }
                }
                b'"' => {
                    self.in_string = true;
                    out.push(*byte);
                }
                other => out.push(*other),
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn unpack(packing: Packing, packed: &[u8], step: usize) -> std::io::Result<String> {
        let mut decoder = Decoder::new(packing)?;
        let mut plain = Vec::new();
        for chunk in packed.chunks(step) {
            plain.extend(decoder.push(chunk)?);
        }
        plain.extend(decoder.finish()?);
        Ok(String::from_utf8(plain).unwrap())
    }

    fn packed(compression: Compression) -> (String, Vec<u8>, Packing) {
        let text: String = (0..100_000).map(|n| format!("{n},\"x {n}\"\n")).collect();
        let bytes = match compression {
            Compression::None => text.clone().into_bytes(),
            Compression::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(vec![], Default::default());
                encoder.write_all(text.as_bytes()).unwrap();
                encoder.finish().unwrap()
            }
            Compression::Zstd => zstd::stream::encode_all(text.as_bytes(), 3).unwrap(),
        };
        let packing = Packing {
            compression,
            values: false,
        };
        (text, bytes, packing)
    }

    #[test]
    fn members_and_frames_follow_each_other() {
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let (text, bytes, packing) = packed(compression);
            let twice = [bytes.clone(), bytes].concat();
            for step in [7, 4096, twice.len()] {
                let plain = unpack(packing, &twice, step).unwrap();
                assert!(plain == text.repeat(2), "{compression:?} by {step}");
            }
        }
    }

    #[test]
    fn a_file_that_ends_too_early_is_refused() {
        for compression in [Compression::Gzip, Compression::Zstd] {
            let (_, bytes, packing) = packed(compression);
            let cut = &bytes[..bytes.len() - 3];
            assert!(unpack(packing, cut, 1000).is_err(), "{compression:?}");
        }
    }

    #[test]
    fn json_values_get_lines_of_their_own() {
        let packing = Packing {
            compression: Compression::None,
            values: true,
        };
        for text in [
            r#"[{"a":1,"b":[1,2]},{"a":"],}\"\\","c":{"d":"x\ny"}}]"#,
            "\n [ {\"a\":1,\"b\":[1,2]}\n,\n{\"a\":\"],}\\\"\\\\\",\"c\":{\"d\":\"x\\ny\"}} ]\n",
            "{\"a\":1,\"b\":[1,\n2]} {\"a\":\"],}\\\"\\\\\",\r\n\"c\":{\"d\":\"x\\ny\"}}",
        ] {
            for step in [1, 5, 1000] {
                let plain = unpack(packing, text.as_bytes(), step).unwrap();
                let lines: Vec<serde_json::Value> = plain
                    .lines()
                    .map(|line| serde_json::from_str(line).unwrap())
                    .collect();
                let expected = [
                    serde_json::json!({"a": 1, "b": [1, 2]}),
                    serde_json::json!({"a": "],}\"\\", "c": {"d": "x\ny"}}),
                ];
                assert_eq!(lines, expected, "{text} by {step}");
            }
        }
    }
}
