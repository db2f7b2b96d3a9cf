//! Rows into a file, or into a folder of files.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{cast, take_record_batch};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::ObjectStore;
use object_store::path::Path;
use uuid::Uuid;

use super::access::{FileAccess, Place};
use super::encode::{Encoder, Encoding};
use super::format::{FileKind, Options, kind_of_name};
use super::hive;
use super::unpack::Compression;
use super::upload::Upload;
use crate::{Error, Result};

/// Files that are open at once; one more ends the one that was opened first.
const OPEN_FILES_MAX: usize = 100;

/// What a statement says about the files it writes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExportOptions {
    /// The format; by the name when absent.
    pub kind: Option<FileKind>,
    /// Columns that become folders.
    pub partition_by: Vec<String>,
    /// Options by name.
    pub options: BTreeMap<String, String>,
}

/// Files that are being written. What was written is removed when this is dropped before it is
/// finished; a file that was there before stays as it was until then.
pub struct Export {
    place: Place,
    schema: SchemaRef,
    /// Places of the columns that become folders, and of those that stay.
    folders: Vec<usize>,
    kept: Vec<usize>,
    encoding: Encoding,
    /// Whether the place is a folder.
    is_folder: bool,
    id: Uuid,
    /// By folder, each with the number of its opening.
    open: HashMap<String, (u64, OpenFile)>,
    opened: u64,
    rows: u64,
    written: Written,
}

struct OpenFile {
    encoder: Encoder,
    upload: Upload,
    path: Path,
}

/// Files that are complete and belong to nobody yet.
struct Written {
    store: Arc<dyn ObjectStore>,
    paths: Vec<Path>,
}

impl Export {
    /// Begins to write rows of this schema to `target`: a folder when its name ends with `/` or
    /// there are columns that become folders, else a file.
    ///
    /// # Errors
    /// As [`FileAccess`]; [`Error::Refused`] for what the format cannot hold, options it does not
    /// have, a folder that is not empty, and a place inside an Iceberg table.
    pub async fn begin(
        access: &FileAccess,
        target: &str,
        schema: &SchemaRef,
        options: &ExportOptions,
    ) -> Result<Self> {
        let place = access.place(target)?;
        let is_folder = target.ends_with('/') || !options.partition_by.is_empty();
        let by_name = kind_of_name(target).filter(|_| !is_folder);
        let kind = options.kind.or(by_name.map(|named| named.kind));
        let Some(kind) = kind else {
            return Err(Error::Refused(format!(
                "the format of {target} cannot be told by its name; say it with STORED AS parquet, \
                 csv or json"
            )));
        };
        let named = by_name.map_or((Compression::None, false), |n| (n.compression, n.tabs));
        let mut given = Options::new(&options.options);
        let encoding = Encoding::new(kind, &mut given, named)?;
        given.finish(kind)?;
        let (folders, kept) = columns(schema, &options.partition_by)?;
        let schema = Arc::new(schema.project(&kept).map_err(internal)?);
        encoding.check(&schema)?;
        place.check_links(vec![place.path.clone()]).await?;
        refuse_tables(&place).await?;
        if is_folder {
            refuse_filled(&place).await?;
        }
        Ok(Self {
            written: Written {
                store: Arc::clone(&place.store),
                paths: Vec::new(),
            },
            place,
            schema,
            folders,
            kept,
            encoding,
            is_folder,
            id: Uuid::now_v7(),
            open: HashMap::new(),
            opened: 0,
            rows: 0,
        })
    }

    /// Writes a batch.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the store does not take it, [`Error::Refused`] for values that the
    /// format cannot hold.
    pub async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.rows += batch.num_rows() as u64;
        if self.folders.is_empty() {
            return self.write_to(String::new(), batch).await;
        }
        for (folder, part) in self.parts(batch)? {
            self.write_to(folder, &part).await?;
        }
        Ok(())
    }

    /// The rows by their folders.
    fn parts(&self, batch: &RecordBatch) -> Result<Vec<(String, RecordBatch)>> {
        let named = self.folders.iter().map(|at| {
            let text = cast(batch.column(*at), &DataType::Utf8).map_err(internal)?;
            Ok((batch.schema_ref().field(*at).name().clone(), text))
        });
        let named: Vec<(String, ArrayRef)> = named.collect::<Result<_>>()?;
        let mut rows: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for row in 0..batch.num_rows() {
            let folder = named.iter().map(|(name, values)| {
                let values = values.as_string::<i32>();
                hive::folder(name, values.is_valid(row).then(|| values.value(row)))
            });
            let folder = folder.collect::<Vec<_>>().join("/");
            rows.entry(folder).or_default().push(row as u32);
        }
        let rest = batch.project(&self.kept).map_err(internal)?;
        let parts = rows.into_iter().map(|(folder, rows)| {
            let part = take_record_batch(&rest, &UInt32Array::from(rows)).map_err(internal)?;
            Ok((folder, part))
        });
        parts.collect()
    }

    async fn write_to(&mut self, folder: String, batch: &RecordBatch) -> Result<()> {
        if !self.open.contains_key(&folder) {
            self.make_room().await?;
            let file = self.new_file(&folder)?;
            self.open.insert(folder.clone(), (self.opened, file));
        }
        let Some((_, file)) = self.open.get_mut(&folder) else {
            return Ok(());
        };
        // What was planned and what comes differ in names and nullability.
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let schema = Arc::clone(&self.schema);
        let columns = batch.columns().to_vec();
        let batch = RecordBatch::try_new_with_options(schema, columns, &options);
        let bytes = file.encoder.write(&batch.map_err(internal)?)?;
        match bytes.is_empty() {
            true => Ok(()),
            false => file.upload.write(bytes).await,
        }
    }

    fn new_file(&mut self, folder: &str) -> Result<OpenFile> {
        self.opened += 1;
        let path = match self.is_folder {
            false => self.place.path.clone(),
            true => {
                let name = format!("part-{}-{}", self.id, self.opened);
                let segments = [self.place.path.as_ref(), folder, &name];
                let segments = segments.into_iter().filter(|segment| !segment.is_empty());
                let joined = segments.collect::<Vec<_>>().join("/");
                let path = Path::parse(format!("{joined}.{}", self.encoding.ending()));
                path.map_err(|error| Error::Refused(error.to_string()))?
            }
        };
        Ok(OpenFile {
            encoder: Encoder::new(&self.encoding, &self.schema)?,
            upload: Upload::new(&self.place, path.clone()),
            path,
        })
    }

    async fn make_room(&mut self) -> Result<()> {
        if self.open.len() < OPEN_FILES_MAX {
            return Ok(());
        }
        let oldest = self.open.iter().min_by_key(|(_, (opened, _))| *opened);
        let oldest = oldest.map(|(folder, _)| folder.clone());
        match oldest.and_then(|folder| self.open.remove(&folder)) {
            Some((_, file)) => self.end(file).await,
            None => Ok(()),
        }
    }

    async fn end(&mut self, mut file: OpenFile) -> Result<()> {
        let bytes = file.encoder.finish()?;
        file.upload.write(bytes).await?;
        if self.is_folder {
            // Known before it may be there.
            self.written.paths.push(file.path);
        }
        file.upload.finish().await
    }

    /// Has the files appear; gives the number of rows. A file without rows appears too.
    ///
    /// # Errors
    /// As [`Export::write`]; then nothing has appeared that stays.
    pub async fn finish(mut self) -> Result<u64> {
        if self.opened == 0 && self.folders.is_empty() {
            let file = self.new_file("")?;
            self.open.insert(String::new(), (self.opened, file));
        }
        for (_, (_, file)) in std::mem::take(&mut self.open) {
            self.end(file).await?;
        }
        self.written.paths.clear();
        Ok(self.rows)
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        let paths = std::mem::take(&mut self.paths);
        if paths.is_empty() {
            return;
        }
        let store = Arc::clone(&self.store);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let paths = stream::iter(paths.into_iter().map(Ok)).boxed();
                let mut removed = store.delete_stream(paths);
                while let Some(done) = removed.next().await {
                    match done {
                        Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                        Err(error) => {
                            tracing::warn!(%error, "a file that is not needed could not be removed");
                        }
                    }
                }
            });
        }
    }
}

/// The places of the columns that become folders, and of the others.
fn columns(schema: &Schema, partition_by: &[String]) -> Result<(Vec<usize>, Vec<usize>)> {
    let mut folders = Vec::new();
    for name in partition_by {
        let at = schema.index_of(name).map_err(|_| {
            Error::NotFound(format!("PARTITIONED BY {name}: there is no such column"))
        })?;
        if schema.field(at).data_type().is_nested() || folders.contains(&at) {
            return Err(Error::Refused(format!(
                "PARTITIONED BY {name}: a folder is named by a plain column, and once"
            )));
        }
        folders.push(at);
    }
    let kept: Vec<usize> = (0..schema.fields().len())
        .filter(|at| !folders.contains(at))
        .collect();
    match kept.is_empty() {
        true => Err(Error::Refused(
            "a file needs a column that is not in PARTITIONED BY".to_owned(),
        )),
        false => Ok((folders, kept)),
    }
}

/// Files of Iceberg tables belong to their catalogs.
async fn refuse_tables(place: &Place) -> Result<()> {
    let parts: Vec<_> = place.path.parts().collect();
    for length in (1..parts.len()).rev() {
        let folder: Path = parts.iter().take(length).cloned().collect();
        let metadata = folder.clone().join("metadata");
        // A folder above the lake's root cannot be listed, and needs not.
        let Ok(listed) = place.store.list_with_delimiter(Some(&metadata)).await else {
            continue;
        };
        let mut names = listed.objects.iter().filter_map(|o| o.location.filename());
        if names.any(|name| name.ends_with(".metadata.json")) {
            return Err(Error::Refused(format!(
                "{} lies inside the Iceberg table at {folder}; choose a place outside",
                place.text
            )));
        }
    }
    Ok(())
}

async fn refuse_filled(place: &Place) -> Result<()> {
    let mut listing = place.store.list(Some(&place.path));
    match listing
        .try_next()
        .await
        .map_err(|error| place.failed(error))?
    {
        None => Ok(()),
        Some(object) => Err(Error::Refused(format!(
            "folder {} is not empty: it holds {}; choose another",
            place.text, object.location
        ))),
    }
}

fn internal(error: arrow::error::ArrowError) -> Error {
    Error::Internal(error.to_string())
}
