//! What travels: a scan as protobuf messages.
//!
//! Written by hand rather than generated, because they are few and need no other language. Tags are
//! never reused; a change that old readers would misread raises [`super::VERSION`].

/// Rows of no columns.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RowCount {
    /// The table's full name.
    #[prost(string, tag = "1")]
    pub table: String,
    /// The snapshot that was counted.
    #[prost(int64, optional, tag = "2")]
    pub snapshot_id: Option<i64>,
    /// How many rows.
    #[prost(uint64, tag = "3")]
    pub rows: u64,
}

/// A whole scan.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Scan {
    /// [`super::VERSION`] of the writer.
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// Which object store, by DataFusion's registry key.
    #[prost(string, tag = "2")]
    pub object_store_url: String,
    /// The table's full name.
    #[prost(string, tag = "3")]
    pub table: String,
    /// The snapshot that is read.
    #[prost(int64, optional, tag = "4")]
    pub snapshot_id: Option<i64>,
    /// Arrow schema, as DataFusion's protobuf.
    #[prost(bytes = "vec", tag = "5")]
    pub schema: Vec<u8>,
    /// Field ids beside the schema.
    #[prost(message, repeated, tag = "6")]
    pub fields: Vec<Field>,
    /// Name mapping as JSON, when the table has one.
    #[prost(string, optional, tag = "7")]
    pub name_mapping: Option<String>,
    /// Otherwise the names of its schemas.
    #[prost(message, repeated, tag = "8")]
    pub name_history: Vec<NameId>,
    /// Pruning counts.
    #[prost(message, optional, tag = "9")]
    pub counts: Option<Counts>,
    /// Output columns.
    #[prost(message, repeated, tag = "10")]
    pub projection: Vec<Projected>,
    /// Predicate over the table schema, as DataFusion's protobuf.
    #[prost(bytes = "vec", optional, tag = "11")]
    pub predicate: Option<Vec<u8>>,
    /// Row limit of each partition.
    #[prost(uint64, optional, tag = "12")]
    pub limit: Option<u64>,
    /// Whether files must be read in their order.
    #[prost(bool, tag = "13")]
    pub preserve_order: bool,
    /// Declared orderings of the output.
    #[prost(message, repeated, tag = "14")]
    pub output_ordering: Vec<Ordering>,
    /// Order in which row groups should be tried.
    #[prost(message, optional, tag = "15")]
    pub sort_hint: Option<Ordering>,
    /// Options of the Parquet reader, as DataFusion's protobuf.
    #[prost(bytes = "vec", tag = "16")]
    pub parquet_options: Vec<u8>,
    /// Rows in a batch, when the scan fixes it.
    #[prost(uint64, optional, tag = "17")]
    pub batch_size: Option<u64>,
    /// Statistics of the scan, as DataFusion's protobuf.
    #[prost(bytes = "vec", tag = "18")]
    pub statistics: Vec<u8>,
    /// The files; pieces refer to them by place.
    #[prost(message, repeated, tag = "19")]
    pub files: Vec<File>,
    /// The pieces of each partition.
    #[prost(message, repeated, tag = "20")]
    pub groups: Vec<Group>,
    /// Delete files; data files and key groups refer to them by place.
    #[prost(message, repeated, tag = "21")]
    pub delete_files: Vec<DeleteFile>,
    /// Groups of equality delete files; data files refer to them by place.
    #[prost(message, repeated, tag = "22")]
    pub key_groups: Vec<KeyGroup>,
}

/// See [`crate::deletes::DeleteFile`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct DeleteFile {
    /// Location as the manifest spells it.
    #[prost(string, tag = "1")]
    pub location: String,
    /// Which object store, by DataFusion's registry key.
    #[prost(string, tag = "2")]
    pub store: String,
    /// Path in the object store.
    #[prost(string, tag = "3")]
    pub path: String,
    /// Format, by Iceberg's name.
    #[prost(string, tag = "4")]
    pub format: String,
    /// Size in bytes.
    #[prost(uint64, tag = "5")]
    pub size_bytes: u64,
    /// Rows it deletes.
    #[prost(uint64, tag = "6")]
    pub record_count: u64,
    /// Data sequence number.
    #[prost(int64, tag = "7")]
    pub sequence_number: i64,
    /// The one data file it speaks of.
    #[prost(string, optional, tag = "8")]
    pub data_file: Option<String>,
    /// Deletion vector: first byte of the blob.
    #[prost(uint64, optional, tag = "9")]
    pub offset: Option<u64>,
    /// Deletion vector: length of the blob in bytes.
    #[prost(uint64, optional, tag = "10")]
    pub length_bytes: Option<u64>,
    /// Whether it names keys rather than positions.
    #[prost(bool, tag = "11")]
    pub equality: bool,
}

/// See [`crate::deletes::EqualityGroup`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct KeyGroup {
    /// Field ids of the key columns.
    #[prost(int32, repeated, tag = "1")]
    pub ids: Vec<i32>,
    /// Places in [`Scan::delete_files`].
    #[prost(uint32, repeated, tag = "2")]
    pub files: Vec<u32>,
}

/// Field id, default and children of a column.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Field {
    /// Iceberg field id.
    #[prost(int32, tag = "1")]
    pub id: i32,
    /// Initial default, as DataFusion's scalar.
    #[prost(bytes = "vec", optional, tag = "2")]
    pub initial_default: Option<Vec<u8>>,
    /// Children of a nested column.
    #[prost(message, repeated, tag = "3")]
    pub children: Vec<Field>,
}

/// A column name and the field id it stands for.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NameId {
    /// Name in the file.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Field id.
    #[prost(int32, tag = "2")]
    pub id: i32,
}

/// See [`crate::plan::PlanCounts`].
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Counts {
    /// All data manifests.
    #[prost(uint64, tag = "1")]
    pub manifests_total: u64,
    /// Those opened.
    #[prost(uint64, tag = "2")]
    pub manifests_read: u64,
    /// All data files.
    #[prost(uint64, tag = "3")]
    pub files_total: u64,
    /// Those to read.
    #[prost(uint64, tag = "4")]
    pub files_read: u64,
    /// Their bytes.
    #[prost(uint64, tag = "5")]
    pub bytes_read: u64,
    /// Delete files of the snapshot.
    #[prost(uint64, tag = "6")]
    pub delete_files: u64,
    /// Bytes of all data files in opened manifests.
    #[prost(uint64, tag = "7")]
    pub bytes_total: u64,
    /// Row groups to read.
    #[prost(uint64, tag = "8")]
    pub row_groups: u64,
}

/// An output column.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Projected {
    /// Expression over the table schema, as DataFusion's protobuf.
    #[prost(bytes = "vec", tag = "1")]
    pub expr: Vec<u8>,
    /// Name of the output column.
    #[prost(string, tag = "2")]
    pub alias: String,
}

/// A lexicographical order: DataFusion's sort expressions.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Ordering {
    /// Sort expressions, as DataFusion's protobuf.
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub exprs: Vec<Vec<u8>>,
}

/// A data file.
#[derive(Clone, PartialEq, prost::Message)]
pub struct File {
    /// Location as the manifest spells it.
    #[prost(string, tag = "1")]
    pub location: String,
    /// Path in the object store.
    #[prost(string, tag = "2")]
    pub path: String,
    /// Size in bytes.
    #[prost(uint64, tag = "3")]
    pub size_bytes: u64,
    /// Partition spec.
    #[prost(int32, tag = "4")]
    pub spec_id: i32,
    /// Data sequence number.
    #[prost(int64, tag = "5")]
    pub sequence_number: i64,
    /// Rows.
    #[prost(uint64, tag = "6")]
    pub record_count: u64,
    /// Estimated bytes of the projected columns.
    #[prost(uint64, tag = "7")]
    pub projected_bytes: u64,
    /// Partition values that stand in for missing columns.
    #[prost(message, repeated, tag = "8")]
    pub constants: Vec<Constant>,
    /// Statistics of the columns that have any.
    #[prost(message, repeated, tag = "9")]
    pub columns: Vec<ColumnStats>,
    /// Identity of the file's content for the footer cache, in nanoseconds.
    #[prost(int64, tag = "10")]
    pub stamp_nanos: i64,
    /// Whether the file has statistics at all.
    #[prost(bool, tag = "11")]
    pub has_statistics: bool,
    /// Floating-point columns without NaN, by field id.
    #[prost(int32, repeated, tag = "12")]
    pub without_nan: Vec<i32>,
    /// Format, by Iceberg's name.
    #[prost(string, tag = "13")]
    pub format: String,
    /// Row id of the first row.
    #[prost(int64, optional, tag = "14")]
    pub first_row_id: Option<i64>,
    /// Position deletes, by place in [`Scan::delete_files`].
    #[prost(uint32, repeated, tag = "15")]
    pub positions: Vec<u32>,
    /// Equality deletes, by place in [`Scan::key_groups`].
    #[prost(uint32, repeated, tag = "16")]
    pub keys: Vec<u32>,
}

/// The value of a column in every row of a file.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Constant {
    /// Field id.
    #[prost(int32, tag = "1")]
    pub id: i32,
    /// DataFusion's scalar.
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

/// Statistics of one column of one file.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ColumnStats {
    /// Place of the column in the table schema.
    #[prost(uint32, tag = "1")]
    pub index: u32,
    /// DataFusion's column statistics.
    #[prost(bytes = "vec", tag = "2")]
    pub stats: Vec<u8>,
}

/// The pieces of one partition.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Group {
    /// Pieces, in order.
    #[prost(message, repeated, tag = "1")]
    pub pieces: Vec<Piece>,
}

/// A file or a byte range of it.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Piece {
    /// Place in [`Scan::files`].
    #[prost(uint32, tag = "1")]
    pub file: u32,
    /// First byte; absent for a whole file.
    #[prost(int64, optional, tag = "2")]
    pub start: Option<i64>,
    /// Byte after the last; absent for a whole file.
    #[prost(int64, optional, tag = "3")]
    pub end: Option<i64>,
}
