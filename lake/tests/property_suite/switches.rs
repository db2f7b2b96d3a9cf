//! What the generator leaves out for now, each with the reason.

/// Delete files and deletion vectors: the reader refuses them so far.
pub const DELETES: bool = true;

/// Columns added with an initial default (format version 3).
pub const V3_DEFAULTS: bool = true;

/// Data files that leave out columns which their partition fixes.
pub const IDENTITY_COLUMNS_LEFT_OUT: bool = true;

/// Keys of equality deletes inside a struct column.
pub const NESTED_KEYS: bool = true;

/// Queries that name a child of a struct that is NULL in some row, where the child is or was
/// required, or has a default. DataFusion's `get_field` gives the child's value as it stands in
/// memory, without the struct's NULLs over it: 0 or the default instead of NULL.
pub const CHILDREN_OF_NULL_STRUCTS: bool = true;

/// Filters on children of structs under late materialisation. Two defects:
/// - DataFusion asks whether such a filter can be pushed into the scan by the table's schema. Where
///   a file lacks the child, the adapted filter needs the whole struct, no row filter is made of it,
///   and the scan gives all rows.
/// - Where a struct has a single child in a file, the Parquet reader takes it for a plain column,
///   caches it without definition levels, and panics ("child with nullable parents must have
///   definition level").
pub const LATE_CHILD_FILTERS: bool = true;

/// Bloom filters of decimals of more than 18 digits. DataFusion looks for their values as 16 bytes,
/// while files have as few as the precision needs, so every row group with a filter is left out.
pub const WIDE_DECIMAL_BLOOM_FILTERS: bool = true;

/// Partition values of type UUID: iceberg-rust's manifest writer fails on them ("Could not find
/// matching type in UnionSchema").
pub const UUID_PARTITIONS: bool = false;

/// `ORDER BY ... LIMIT` by a column whose name a nested column has in some file. DataFusion orders
/// row groups by the statistics of the file's column of that name, ids or not; in debug builds it
/// panics when they cannot be sorted ("RG reorder"), in release builds it goes on without.
pub const SORT_BY_NESTED_NAMES: bool = true;

/// Two decimals, or two values of a fixed length, in one partition: iceberg-rust's manifest writer
/// gives types of one length one name and then refuses to define it twice.
pub const TWO_NAMED_PARTITIONS: bool = false;
