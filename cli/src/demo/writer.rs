//! Writes generated chunks into the data files of an Iceberg table.
//!
//! A partitioned table keeps one file per partition open from the first chunk to the last, so that
//! each partition ends as one file and not as one per chunk. What that holds in memory is bounded
//! by the size of a row group times the number of partitions.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context;
use arrow::array::{Array, AsArray, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{Int32Type, SchemaRef};
use iceberg::arrow::schema_to_arrow_schema;
use iceberg::spec::{DataFile, DataFileFormat, Literal, PartitionKey, Struct};
use iceberg::table::Table;
use iceberg::transform::create_transform_function;
use iceberg::writer::base_writer::data_file_writer::DataFileWriterBuilder;
use iceberg::writer::file_writer::ParquetWriterBuilder;
use iceberg::writer::file_writer::location_generator::{
    DefaultFileNameGenerator, DefaultLocationGenerator,
};
use iceberg::writer::file_writer::rolling_writer::RollingFileWriterBuilder;
use iceberg::writer::partitioning::PartitioningWriter;
use iceberg::writer::partitioning::fanout_writer::FanoutWriter;
use iceberg::writer::partitioning::unpartitioned_writer::UnpartitionedWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;

use crate::demo::tables::Chunk;

/// Rows of a row group.
const ROW_GROUP_ROWS_MAX: usize = 1_000_000;

/// Encoded bytes of a row group: what an open file of an unpartitioned table holds in memory.
const ROW_GROUP_BYTES_MAX: usize = 128 << 20;

/// The same for each of the about 84 files that a table partitioned by month has open.
const PARTITION_ROW_GROUP_BYTES_MAX: usize = 16 << 20;

/// Columns with as many values as rows, or nearly: a dictionary only costs time and memory.
const WITHOUT_DICTIONARY: &[&str] = &[
    "l_orderkey",
    "l_extendedprice",
    "l_comment",
    "o_orderkey",
    "o_custkey",
    "o_totalprice",
    "o_comment",
    "ps_comment",
    "ps_supplycost",
    "p_partkey",
    "p_name",
    "p_comment",
    "c_custkey",
    "c_name",
    "c_address",
    "c_phone",
    "c_acctbal",
    "c_comment",
    "s_suppkey",
    "s_name",
    "s_address",
    "s_phone",
    "s_acctbal",
    "s_comment",
];

type Files =
    DataFileWriterBuilder<ParquetWriterBuilder, DefaultLocationGenerator, DefaultFileNameGenerator>;

/// Writes one table.
pub struct TableWriter {
    schema: SchemaRef,
    files: Open,
}

enum Open {
    Plain(Box<UnpartitionedWriter<Files>>),
    Partitioned(Box<Partitioned>),
}

struct Partitioned {
    files: FanoutWriter<Files>,
    /// The column that the partition field is computed from.
    column: usize,
    /// A key with the table's spec; its value is replaced for each partition.
    key: PartitionKey,
}

impl TableWriter {
    /// A writer for a table that is unpartitioned, or partitioned by one field with an integer
    /// result such as a month.
    ///
    /// # Errors
    /// When the table's schema has no Arrow form.
    pub fn new(table: &Table) -> anyhow::Result<Self> {
        let metadata = table.metadata();
        let iceberg_schema = metadata.current_schema();
        let schema = Arc::new(schema_to_arrow_schema(iceberg_schema)?);
        let spec = metadata.default_partition_spec();
        let partitioned = !spec.is_unpartitioned();
        let parquet =
            ParquetWriterBuilder::new(properties(partitioned), Arc::clone(iceberg_schema));
        let files =
            DataFileWriterBuilder::new(RollingFileWriterBuilder::new_with_default_file_size(
                parquet,
                table.file_io().clone(),
                DefaultLocationGenerator::new(metadata)?,
                DefaultFileNameGenerator::new("part".to_owned(), None, DataFileFormat::Parquet),
            ));
        let files = match spec.fields().first() {
            None => Open::Plain(Box::new(UnpartitionedWriter::new(files))),
            Some(field) => {
                let name = iceberg_schema
                    .name_by_field_id(field.source_id)
                    .context("the partition column is missing")?;
                let column = schema.index_of(name)?;
                let empty = Struct::empty();
                let key =
                    PartitionKey::new(spec.as_ref().clone(), Arc::clone(iceberg_schema), empty);
                Open::Partitioned(Box::new(Partitioned {
                    files: FanoutWriter::new(files),
                    column,
                    key,
                }))
            }
        };
        Ok(Self { schema, files })
    }

    /// Writes a chunk; gives its number of rows.
    ///
    /// # Errors
    /// When the chunk does not fit the table or a file cannot be written.
    pub async fn write(&mut self, chunk: Chunk) -> anyhow::Result<u64> {
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), chunk)?;
        match &mut self.files {
            Open::Plain(files) => files.write(batch.clone()).await?,
            Open::Partitioned(open) => {
                for (value, rows) in rows_by_partition(&batch, open.column, &open.key)? {
                    let data = Struct::from_iter([Some(Literal::int(value))]);
                    let part = take_record_batch(&batch, &UInt32Array::from(rows))?;
                    open.files
                        .write(open.key.copy_with_data(data), part)
                        .await?;
                }
            }
        }
        Ok(batch.num_rows() as u64)
    }

    /// Ends all files.
    ///
    /// # Errors
    /// When one cannot be written.
    pub async fn close(self) -> anyhow::Result<Vec<DataFile>> {
        Ok(match self.files {
            Open::Plain(files) => files.close().await?,
            Open::Partitioned(open) => open.files.close().await?,
        })
    }
}

/// The rows of each partition, by the transform of the table's one partition field.
fn rows_by_partition(
    batch: &RecordBatch,
    column: usize,
    key: &PartitionKey,
) -> anyhow::Result<BTreeMap<i32, Vec<u32>>> {
    let field = key
        .spec()
        .fields()
        .first()
        .context("the table is not partitioned")?;
    let transform = create_transform_function(&field.transform)?;
    let values = transform.transform(Arc::clone(batch.column(column)))?;
    let values = values
        .as_primitive_opt::<Int32Type>()
        .filter(|values| values.null_count() == 0)
        .context("the partition field is not an integer")?;
    let mut rows: BTreeMap<i32, Vec<u32>> = BTreeMap::new();
    for (row, value) in (0_u32..).zip(values.values()) {
        rows.entry(*value).or_default().push(row);
    }
    Ok(rows)
}

fn properties(partitioned: bool) -> WriterProperties {
    let bytes = if partitioned {
        PARTITION_ROW_GROUP_BYTES_MAX
    } else {
        ROW_GROUP_BYTES_MAX
    };
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS_MAX))
        .set_max_row_group_bytes(Some(bytes));
    for column in WITHOUT_DICTIONARY {
        properties = properties.set_column_dictionary_enabled(ColumnPath::from(*column), false);
    }
    properties.build()
}
