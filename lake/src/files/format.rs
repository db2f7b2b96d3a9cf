//! Formats of files, and what a statement may say about them.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::unpack::Compression;
use crate::{Error, Result};

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Apache Parquet.
    Parquet,
    /// Lines of values with delimiters (RFC 4180).
    Csv,
    /// JSON objects, one to a line or in an array.
    Json,
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Parquet => "parquet",
            Self::Csv => "csv",
            Self::Json => "json",
        })
    }
}

impl FromStr for FileKind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name.to_ascii_lowercase().as_str() {
            "parquet" => Ok(Self::Parquet),
            "csv" | "tsv" => Ok(Self::Csv),
            "json" | "ndjson" | "jsonl" => Ok(Self::Json),
            _ => Err(Error::Refused(format!(
                "files of format {name} are not supported; parquet, csv and json are"
            ))),
        }
    }
}

/// Files to be read as a table.
#[derive(Clone, Debug, PartialEq)]
pub struct FileRequest {
    /// Files, folders or patterns.
    pub paths: Vec<String>,
    /// The format; by the files' names when absent.
    pub kind: Option<FileKind>,
    /// Options by name, as the statement gives them.
    pub options: BTreeMap<String, String>,
}

impl FileRequest {
    /// A place by its name alone.
    pub fn of_path(path: impl Into<String>) -> Self {
        Self {
            paths: vec![path.into()],
            kind: None,
            options: BTreeMap::new(),
        }
    }
}

/// What a file's name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameKind {
    /// The format.
    pub kind: FileKind,
    /// How it is compressed as a whole.
    pub compression: Compression,
    /// Whether values are separated by tabs.
    pub tabs: bool,
}

/// The format that the ending of a file's name stands for: `x.csv.gz`. None for other endings.
pub fn kind_of_name(name: &str) -> Option<NameKind> {
    let name = name.rsplit('/').next()?.to_ascii_lowercase();
    let packed = [
        (".gz", Compression::Gzip),
        (".gzip", Compression::Gzip),
        (".zst", Compression::Zstd),
        (".zstd", Compression::Zstd),
    ];
    let (name, compression) = packed
        .into_iter()
        .find_map(|(ending, compression)| Some((name.strip_suffix(ending)?, compression)))
        .unwrap_or((&name, Compression::None));
    let (_, ending) = name.rsplit_once('.')?;
    let kind = match ending {
        "parquet" | "parq" | "pq" if compression == Compression::None => FileKind::Parquet,
        "csv" | "tsv" | "tab" => FileKind::Csv,
        "json" | "ndjson" | "jsonl" => FileKind::Json,
        _ => return None,
    };
    Some(NameKind {
        kind,
        compression,
        tabs: matches!(ending, "tsv" | "tab"),
    })
}

/// Options that are taken out one by one; what is left is unknown.
pub(super) struct Options {
    left: BTreeMap<String, String>,
    known: Vec<&'static str>,
}

impl Options {
    pub fn new(options: &BTreeMap<String, String>) -> Self {
        let folded = options.iter().map(|(key, value)| {
            let key = key.to_ascii_lowercase();
            // As DataFusion's users write them.
            let key = key.strip_prefix("format.").unwrap_or(&key);
            (key.to_owned(), value.clone())
        });
        Self {
            left: folded.collect(),
            known: Vec::new(),
        }
    }

    /// The value of an option under any of its names.
    pub fn text(&mut self, names: &[&'static str]) -> Option<String> {
        self.known.extend(names.first());
        names.iter().find_map(|name| self.left.remove(*name))
    }

    /// A value of `true` or `false`; an option without a value is true.
    pub fn flag(&mut self, names: &[&'static str]) -> Result<Option<bool>> {
        let Some(text) = self.text(names) else {
            return Ok(None);
        };
        match text.to_ascii_lowercase().as_str() {
            "" | "true" | "on" | "yes" | "1" | "match" => Ok(Some(true)),
            "false" | "off" | "no" | "0" => Ok(Some(false)),
            _ => Err(wrong(names, &text, "true or false")),
        }
    }

    /// One ASCII character.
    pub fn byte(&mut self, names: &[&'static str]) -> Result<Option<u8>> {
        let Some(text) = self.text(names) else {
            return Ok(None);
        };
        match (text.as_str(), text.as_bytes()) {
            ("\\t", _) => Ok(Some(b'\t')),
            (_, [byte]) if byte.is_ascii() => Ok(Some(*byte)),
            _ => Err(wrong(names, &text, "one ASCII character")),
        }
    }

    /// A whole number above zero.
    pub fn number(&mut self, names: &[&'static str]) -> Result<Option<usize>> {
        let Some(text) = self.text(names) else {
            return Ok(None);
        };
        let number = text.parse().ok().filter(|number| *number > 0);
        number
            .map(Some)
            .ok_or_else(|| wrong(names, &text, "a whole number above 0"))
    }

    /// How files of text are compressed.
    pub fn compression(&mut self) -> Result<Option<Compression>> {
        const NAMES: &[&str] = &["compression"];
        let Some(text) = self.text(NAMES) else {
            return Ok(None);
        };
        match text.to_ascii_lowercase().as_str() {
            "none" | "uncompressed" => Ok(Some(Compression::None)),
            "gzip" | "gz" => Ok(Some(Compression::Gzip)),
            "zstd" | "zst" => Ok(Some(Compression::Zstd)),
            "auto" => Ok(None),
            _ => Err(wrong(NAMES, &text, "none, gzip or zstd")),
        }
    }

    /// Refuses options that nobody asked for.
    pub fn finish(self, kind: FileKind) -> Result<()> {
        match self.left.keys().next() {
            None => Ok(()),
            Some(unknown) => {
                let mut known = self.known;
                known.sort_unstable();
                known.dedup();
                Err(Error::Refused(format!(
                    "{kind} files have no option {unknown}; there are {}",
                    known.join(", ")
                )))
            }
        }
    }
}

fn wrong(names: &[&str], value: &str, wanted: &str) -> Error {
    Error::Refused(format!(
        "option {} = {value:?}: it must be {wanted}",
        names.first().copied().unwrap_or_default()
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn endings_say_the_format() {
        let kind = |name| kind_of_name(name).map(|k| (k.kind, k.compression, k.tabs));
        let plain = Compression::None;
        assert_eq!(
            kind("a/b.c/x.PARQUET"),
            Some((FileKind::Parquet, plain, false))
        );
        assert_eq!(
            kind("x.gz.parquet"),
            Some((FileKind::Parquet, plain, false))
        );
        assert_eq!(
            kind("x.tsv.gz"),
            Some((FileKind::Csv, Compression::Gzip, true))
        );
        assert_eq!(
            kind("x.jsonl.zst"),
            Some((FileKind::Json, Compression::Zstd, false))
        );
        for name in ["x.parquet.gz", "x", "a.csv/x", "x.gz", "orders", "x.orc"] {
            assert_eq!(kind(name), None, "{name}");
        }
    }

    #[test]
    fn what_is_unknown_is_named_with_what_is_known() {
        let given = [("header", "yes"), ("DELIM", "\\t"), ("quota", "x")];
        let given = given.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let mut options = Options::new(&given);
        assert_eq!(options.flag(&["header", "has_header"]).unwrap(), Some(true));
        assert_eq!(options.byte(&["delimiter", "delim"]).unwrap(), Some(b'\t'));
        assert_eq!(options.byte(&["quote"]).unwrap(), None);
        let error = options.finish(FileKind::Csv).unwrap_err().to_string();
        assert_eq!(
            error,
            "csv files have no option quota; there are delimiter, header, quote"
        );
    }
}
