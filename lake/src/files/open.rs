//! From a request to a table: the files, their format, and their schema.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::json::JsonFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::PartitionedFile;
use futures::FutureExt;
use futures::stream::{self, StreamExt, TryStreamExt};
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use super::access::{FileAccess, Place};
use super::csv_schema::CsvShape;
use super::expand::{Found, expand};
use super::format::{FileKind, FileRequest, NameKind, Options, kind_of_name};
use super::hive;
use super::table::FilesTable;
use super::unpack::{Compression, Packing};
use crate::{Error, Result};

/// Footers that are read at once.
const CONCURRENT_FOOTERS: usize = 16;

/// Bytes of a JSON file that are looked at to see how its objects are laid out.
const PEEK_BYTES: usize = 1 << 20;

/// Rows that are looked at for the types of columns, unless an option says how many.
const SAMPLE_ROWS: usize = 1_000;
const SAMPLE: &[&str] = &["sample_size", "schema_infer_max_records"];

impl FilesTable {
    /// Opens files as a table.
    ///
    /// # Errors
    /// As [`FileAccess`] and the store; [`Error::NotFound`] without any file; [`Error::Refused`] for
    /// options that the format does not have, and files that do not go together.
    pub async fn open(
        access: &FileAccess,
        state: &dyn Session,
        request: &FileRequest,
    ) -> Result<Arc<Self>> {
        let (place, mut found) = find(access, request).await?;
        let named = format_of(&place, request, &mut found)?;
        let mut options = Options::new(&request.options);
        let hive_wanted = options.flag(&["hive_partitioning"])?.unwrap_or(true);
        let compression = match named.kind {
            FileKind::Parquet => Compression::None,
            _ => options.compression()?.unwrap_or(named.compression),
        };
        let mut packing = Packing {
            compression,
            values: false,
        };
        let objects: Vec<ObjectMeta> = found.iter().map(|file| file.object.clone()).collect();
        let mut csv_shape = None;
        let (format, lines_split) = match named.kind {
            FileKind::Parquet => (parquet(state), true),
            FileKind::Csv => {
                let shape = csv(&mut options, named.tabs)?;
                csv_shape = Some(shape);
                (
                    Arc::new(shape.format()) as Arc<dyn FileFormat>,
                    !shape.newlines,
                )
            }
            FileKind::Json => {
                packing.values = match options.text(&["format"]).as_deref() {
                    Some("array" | "values") => true,
                    Some("newline_delimited" | "nd") => false,
                    Some("auto") | None => has_values(&place, packing, objects.first()).await?,
                    Some(other) => {
                        return Err(Error::Refused(format!(
                            "option format = {other:?}: it must be auto, array or newline_delimited"
                        )));
                    }
                };
                json(&mut options)?
            }
        };
        options.finish(named.kind)?;
        let (store, url) = place.unpacked(packing)?;
        let file_schema = match csv_shape {
            Some(shape) => Arc::new(shape.schema(&place, &store, &objects).await?),
            None => schema_of(&place, state, &store, &format, named.kind, &objects).await?,
        };
        let (fields, values) = match hive_wanted {
            true => hive::partitions(&found, &file_schema),
            false => (vec![], vec![vec![]; found.len()]),
        };
        let files = objects.into_iter().zip(values).map(|(object, values)| {
            PartitionedFile::new_from_meta(object).with_partition_values(values)
        });
        Ok(Arc::new(Self::new(
            url,
            store,
            format,
            file_schema,
            fields,
            files.collect(),
            lines_split && packing.is_plain(),
            place.is_in_lake(),
        )))
    }
}

/// The files of all paths; they must lie in one store.
async fn find(access: &FileAccess, request: &FileRequest) -> Result<(Place, Vec<Found>)> {
    let mut all: Option<(Place, Vec<Found>)> = None;
    for path in &request.paths {
        let place = access.place(path)?;
        let found = expand(&place).await?;
        match &mut all {
            None => all = Some((place, found)),
            Some((first, files)) if first.url == place.url => files.extend(found),
            Some((first, _)) => {
                return Err(Error::Refused(format!(
                    "{} and {path} lie in different stores; read them by queries joined with \
                     UNION ALL",
                    first.text
                )));
            }
        }
    }
    all.ok_or_else(|| Error::Refused("no file is named".to_owned()))
}

/// The one format of the files; of a folder without a given format, files with other endings are
/// left out.
fn format_of(place: &Place, request: &FileRequest, found: &mut Vec<Found>) -> Result<NameKind> {
    let by_name = |file: &Found| kind_of_name(file.object.location.as_ref());
    if let Some(kind) = request.kind {
        let first = found.iter().find_map(by_name);
        let mixed = found.iter().find(|file| {
            let compression = |named: Option<NameKind>| named.map(|n| n.compression);
            compression(by_name(file)) != compression(first)
        });
        if let (Some(mixed), false) = (mixed, request.options.contains_key("compression")) {
            return Err(different(place, &mixed.object));
        }
        let plain = NameKind {
            kind,
            compression: Compression::None,
            tabs: false,
        };
        return Ok(NameKind {
            kind,
            ..first.unwrap_or(plain)
        });
    }
    found.retain(|file| by_name(file).is_some());
    let Some(first) = found.first().and_then(by_name) else {
        return Err(Error::Refused(format!(
            "the format of {} cannot be told by its name; say it: read_parquet('…'), read_csv('…') \
             or read_json('…')",
            place.text
        )));
    };
    match found.iter().find(|file| by_name(file) != Some(first)) {
        Some(other) => Err(different(place, &other.object)),
        None => Ok(first),
    }
}

fn different(place: &Place, object: &ObjectMeta) -> Error {
    Error::Refused(format!(
        "the files of {} have different formats ({}); choose those of one with a pattern",
        place.text, object.location
    ))
}

fn parquet(state: &dyn Session) -> Arc<dyn FileFormat> {
    let options = state.default_table_options().parquet;
    Arc::new(ParquetFormat::default().with_options(options))
}

/// How the values are written. A file is read as a whole unless it is said that its values hold no
/// ends of lines: where a row begins cannot be told from the middle.
fn csv(options: &mut Options, tabs: bool) -> Result<CsvShape> {
    let tab = if tabs { b'\t' } else { b',' };
    Ok(CsvShape {
        header: options.flag(&["header", "has_header"])?.unwrap_or(true),
        delimiter: options.byte(&["delimiter", "delim", "sep"])?.unwrap_or(tab),
        quote: options.byte(&["quote"])?.unwrap_or(b'"'),
        escape: options.byte(&["escape"])?.filter(|escape| *escape != b'"'),
        comment: options.byte(&["comment"])?,
        newlines: options
            .flag(&["newlines_in_values", "multiline"])?
            .unwrap_or(true),
        sample_rows: options.number(SAMPLE)?.unwrap_or(SAMPLE_ROWS),
    })
}

fn json(options: &mut Options) -> Result<(Arc<dyn FileFormat>, bool)> {
    let mut format = JsonFormat::default();
    if let Some(rows) = options.number(SAMPLE)? {
        format = format.with_schema_infer_max_rec(rows);
    }
    Ok((Arc::new(format), true))
}

/// Whether the objects of a JSON file do not stand on lines of their own.
async fn has_values(place: &Place, packing: Packing, object: Option<&ObjectMeta>) -> Result<bool> {
    let Some(object) = object else {
        return Ok(false);
    };
    let (store, _) = place.unpacked(packing)?;
    let failed = |error| Error::store(place.name_of(&object.location), error);
    let mut stream = store
        .get(&object.location)
        .await
        .map_err(failed)?
        .into_stream();
    let mut begin = Vec::new();
    while begin.len() < PEEK_BYTES && !begin.contains(&b'\n') {
        match stream.try_next().await.map_err(failed)? {
            Some(bytes) => begin.extend_from_slice(&bytes),
            None => break,
        }
    }
    let text = begin.trim_ascii_start();
    if text.first() == Some(&b'[') {
        return Ok(true);
    }
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or(text);
    let whole = line.len() < text.len();
    Ok(whole && serde_json::from_slice::<serde::de::IgnoredAny>(line).is_err())
}

async fn schema_of(
    place: &Place,
    state: &dyn Session,
    store: &Arc<dyn ObjectStore>,
    format: &Arc<dyn FileFormat>,
    kind: FileKind,
    objects: &[ObjectMeta],
) -> Result<SchemaRef> {
    let refused = |path: &object_store::path::Path, why: String| Error::Corrupt {
        path: place.name_of(path),
        why,
    };
    if kind != FileKind::Parquet {
        let schema = format.infer_schema(state, store, objects).await;
        return schema.map_err(|error| {
            Error::in_chain(&error).unwrap_or_else(|| Error::Corrupt {
                path: place.text.clone(),
                why: error.strip_backtrace(),
            })
        });
    }
    let schemas = objects.iter().cloned().map(|object| async move {
        let one = std::slice::from_ref(&object);
        let schema = AssertUnwindSafe(format.infer_schema(state, store, one));
        // The reader of footers believes what a broken one says of its length.
        match schema.catch_unwind().await {
            Ok(Ok(schema)) => Ok(schema),
            Ok(Err(error)) => Err(Error::in_chain(&error)
                .unwrap_or_else(|| refused(&object.location, error.strip_backtrace()))),
            Err(_) => Err(refused(&object.location, "its footer is broken".to_owned())),
        }
    });
    let schemas: Vec<SchemaRef> = stream::iter(schemas)
        .buffered(CONCURRENT_FOOTERS)
        .try_collect()
        .await?;
    let mut merged = Schema::empty();
    for (schema, object) in schemas.iter().zip(objects) {
        let plain = schema.as_ref().clone().with_metadata(Default::default());
        merged = Schema::try_merge([merged, plain]).map_err(|error| {
            Error::Refused(format!(
                "file {} does not go with those before it: {error}",
                place.name_of(&object.location)
            ))
        })?;
    }
    Ok(Arc::new(merged))
}
