//! Writing the data files of one statement.

use std::sync::Arc;

use arrow::array::RecordBatch;
use iceberg::arrow::RecordBatchPartitionSplitter;
use iceberg::io::FileIO;
use iceberg::spec::{DataFile, DataFileFormat, PartitionKey, TableMetadata};
use iceberg::table::Table;
use iceberg::writer::base_writer::data_file_writer::{DataFileWriter, DataFileWriterBuilder};
use iceberg::writer::file_writer::ParquetWriterBuilder;
use iceberg::writer::file_writer::location_generator::{
    DefaultFileNameGenerator, LocationGenerator,
};
use iceberg::writer::file_writer::rolling_writer::RollingFileWriterBuilder;
use iceberg::writer::partitioning::PartitioningWriter;
use iceberg::writer::partitioning::fanout_writer::FanoutWriter;
use iceberg::writer::{IcebergWriter, IcebergWriterBuilder};
use parking_lot::Mutex;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use uuid::Uuid;

use super::rows::RowShape;
use crate::{Error, Result};

/// Properties of a table about its data files, and their defaults (Iceberg, "Write properties").
const TARGET_BYTES: (&str, usize) = ("write.target-file-size-bytes", 512 << 20);
const CODEC: &str = "write.parquet.compression-codec";
const FORMAT: &str = "write.format.default";
const DATA_PATH: &str = "write.data.path";

/// Smaller files than this are not asked for in earnest.
const TARGET_BYTES_MIN: usize = 1 << 16;

type FilesBuilder = DataFileWriterBuilder<ParquetWriterBuilder, Place, DefaultFileNameGenerator>;
type FilesWriter = DataFileWriter<ParquetWriterBuilder, Place, DefaultFileNameGenerator>;

enum Files {
    Plain(Box<FilesWriter>),
    ByPartition(
        Box<FanoutWriter<FilesBuilder>>,
        Box<RecordBatchPartitionSplitter>,
    ),
}

/// Writes rows into new data files of a table.
pub struct TableWriter {
    shape: RowShape,
    files: Files,
    rows: u64,
    written: WrittenFiles,
    name: String,
}

impl TableWriter {
    /// Begins to write rows of all columns of the table's schema.
    ///
    /// # Errors
    /// [`Error::Refused`] for tables whose files are to have another format or an unknown
    /// compression, or whose types are not written.
    pub async fn new(name: &str, table: &Table) -> Result<Self> {
        let metadata = table.metadata();
        let schema = metadata.current_schema();
        let written = WrittenFiles::new(table.file_io().clone());
        let place = Place {
            folder: data_folder(metadata),
            written: Arc::clone(&written.locations),
        };
        let names = DefaultFileNameGenerator::new(
            Uuid::new_v4().to_string(),
            None,
            DataFileFormat::Parquet,
        );
        let parquet = ParquetWriterBuilder::new(properties(name, metadata)?, Arc::clone(schema));
        let rolling = RollingFileWriterBuilder::new(
            parquet,
            target_bytes(metadata),
            table.file_io().clone(),
            place,
            names,
        );
        let builder = DataFileWriterBuilder::new(rolling);
        let failed = |error: iceberg::Error| failed(name, &error);
        let spec = metadata.default_partition_spec();
        let files = match spec.is_unpartitioned() {
            true => {
                let key = PartitionKey::new(
                    spec.as_ref().clone(),
                    Arc::clone(schema),
                    iceberg::spec::Struct::empty(),
                );
                Files::Plain(Box::new(builder.build(Some(key)).await.map_err(failed)?))
            }
            false => {
                let splitter = RecordBatchPartitionSplitter::try_new_with_computed_values(
                    Arc::clone(schema),
                    Arc::clone(spec),
                );
                let splitter = Box::new(splitter.map_err(failed)?);
                Files::ByPartition(Box::new(FanoutWriter::new(builder)), splitter)
            }
        };
        Ok(Self {
            shape: RowShape::new(name, schema)?,
            files,
            rows: 0,
            written,
            name: name.to_owned(),
        })
    }

    /// Writes a batch.
    ///
    /// # Errors
    /// [`Error::Conflict`] for values that do not fit; [`Error::Store`] and [`Error::Unavailable`]
    /// when the store does not take them.
    pub async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let batch = self.shape.apply(batch)?;
        self.rows += batch.num_rows() as u64;
        let failed = |error: iceberg::Error| failed(&self.name, &error);
        match &mut self.files {
            Files::Plain(writer) => writer.write(batch).await.map_err(failed),
            Files::ByPartition(writer, splitter) => {
                for (key, part) in splitter.split(&batch).map_err(failed)? {
                    writer.write(key, part).await.map_err(failed)?;
                }
                Ok(())
            }
        }
    }

    /// Ends the files. They are removed when what is returned is dropped, unless it is told that
    /// they were committed.
    ///
    /// # Errors
    /// As [`TableWriter::write`].
    pub async fn finish(self) -> Result<(Vec<DataFile>, u64, WrittenFiles)> {
        let failed = |error: iceberg::Error| failed(&self.name, &error);
        let files = match self.files {
            Files::Plain(_) if self.rows == 0 => vec![],
            Files::Plain(mut writer) => writer.close().await.map_err(failed)?,
            Files::ByPartition(writer, _) => writer.close().await.map_err(failed)?,
        };
        Ok((files, self.rows, self.written))
    }
}

fn failed(name: &str, error: &iceberg::Error) -> Error {
    Error::in_chain(error).unwrap_or_else(|| Error::Unavailable {
        service: format!("writing table {name}"),
        why: error.to_string(),
    })
}

fn data_folder(metadata: &TableMetadata) -> String {
    let own = || format!("{}/data", metadata.location().trim_end_matches('/'));
    let given = metadata.properties().get(DATA_PATH);
    given.map_or_else(own, |path| path.trim_end_matches('/').to_owned())
}

fn target_bytes(metadata: &TableMetadata) -> usize {
    let given = metadata.properties().get(TARGET_BYTES.0);
    let bytes = given.and_then(|text| text.parse().ok());
    bytes.unwrap_or(TARGET_BYTES.1).max(TARGET_BYTES_MIN)
}

fn properties(name: &str, metadata: &TableMetadata) -> Result<WriterProperties> {
    let own = metadata.properties();
    if let Some(format) = own
        .get(FORMAT)
        .filter(|f| !f.eq_ignore_ascii_case("parquet"))
    {
        return Err(Error::Refused(format!(
            "table {name} wants its files as {format} ({FORMAT}); only parquet is written"
        )));
    }
    let codec = own.get(CODEC).map_or("zstd", String::as_str);
    let compression = match codec.to_ascii_lowercase().as_str() {
        "zstd" => Compression::ZSTD(ZstdLevel::default()),
        "snappy" => Compression::SNAPPY,
        "lz4" | "lz4_raw" => Compression::LZ4_RAW,
        "none" | "uncompressed" => Compression::UNCOMPRESSED,
        other => {
            return Err(Error::Refused(format!(
                "table {name} wants its files compressed by {other} ({CODEC}); zstd, snappy, lz4 \
                 and uncompressed are written"
            )));
        }
    };
    Ok(WriterProperties::builder()
        .set_compression(compression)
        .build())
}

/// Where files go, which notes them. Partitions are in the metadata; their values, which may be any
/// text, are no part of the path.
#[derive(Clone, Debug)]
struct Place {
    folder: String,
    written: Arc<Mutex<Vec<String>>>,
}

impl LocationGenerator for Place {
    fn generate_location(&self, _: Option<&PartitionKey>, file_name: &str) -> String {
        let location = format!("{}/{file_name}", self.folder);
        self.written.lock().push(location.clone());
        location
    }
}

/// Files that belong to nobody yet.
#[derive(Debug)]
pub struct WrittenFiles {
    file_io: FileIO,
    locations: Arc<Mutex<Vec<String>>>,
    owned: bool,
}

impl WrittenFiles {
    fn new(file_io: FileIO) -> Self {
        Self {
            file_io,
            locations: Arc::default(),
            owned: true,
        }
    }

    /// The files belong to the table now, or may do so.
    pub fn keep(mut self) {
        self.owned = false;
    }

    /// Removes the files.
    pub async fn remove(mut self) {
        self.owned = false;
        let locations = std::mem::take(&mut *self.locations.lock());
        remove_all(&self.file_io, locations).await;
    }
}

impl Drop for WrittenFiles {
    /// A statement that was cancelled: the task ends once the files are gone.
    fn drop(&mut self) {
        let locations = std::mem::take(&mut *self.locations.lock());
        if !self.owned || locations.is_empty() {
            return;
        }
        let file_io = self.file_io.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { remove_all(&file_io, locations).await });
        }
    }
}

async fn remove_all(file_io: &FileIO, locations: Vec<String>) {
    for location in locations {
        let gone = match file_io.exists(&location).await {
            Ok(false) => Ok(()),
            _ => file_io.delete(&location).await,
        };
        if let Err(error) = gone {
            tracing::warn!(location, %error, "a file that is not needed could not be removed");
        }
    }
}
