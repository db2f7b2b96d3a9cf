//! What a manifest tells of a data file: counts, sizes and bounds of its columns.
//!
//! Everything comes from the Parquet footer, but for NaN values, which Parquet does not count. How
//! much is kept of each column is the table's choice (Iceberg documentation, "Metadata properties",
//! `write.metadata.metrics.*`).

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Float32Type, Float64Type, SchemaRef};
use iceberg::spec::{Datum, PrimitiveType, Schema, SortOrder, Type};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use parquet::file::statistics::Statistics;

use super::bounds::{Extreme, cut, encoded};

const DEFAULT_MODE: &str = "write.metadata.metrics.default";
const COLUMN_MODE: &str = "write.metadata.metrics.column.";
const COLUMNS_MAX: &str = "write.metadata.metrics.max-inferred-column-defaults";

/// Columns that have the default mode unless the table chose it.
const COLUMNS_MAX_DEFAULT: usize = 100;

/// Code points, or bytes, that bounds of texts have by default.
const TRUNCATED: usize = 16;

/// The metadata key that holds a field's id in Arrow schemas.
const FIELD_ID: &str = parquet::arrow::PARQUET_FIELD_ID_META_KEY;

/// What is kept of one column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricsMode {
    /// Nothing but its size.
    None,
    /// How many values, NULLs and NaNs there are.
    Counts,
    /// Bounds as well, those of texts cut to so many code points or bytes.
    Truncate(usize),
    /// Bounds as they are.
    Full,
}

impl MetricsMode {
    /// A bound as it is kept; none where there is none.
    pub(crate) fn bound(self, whole: &Datum, upper: bool) -> Option<Datum> {
        match self {
            Self::None | Self::Counts => None,
            Self::Truncate(length) => cut(whole, Some(length), upper),
            Self::Full => Some(whole.clone()),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        match text.as_str() {
            "none" => Some(Self::None),
            "counts" => Some(Self::Counts),
            "full" => Some(Self::Full),
            other => {
                let inner = other.strip_prefix("truncate(")?.strip_suffix(')')?;
                let length = inner.trim().parse().ok()?;
                (length > 0).then_some(Self::Truncate(length))
            }
        }
    }
}

/// What is kept of each column, by field id.
#[derive(Clone, Debug)]
pub struct MetricsModes {
    modes: HashMap<i32, MetricsMode>,
    /// Columns inside lists and maps, whose values belong to no one row: they have no bounds.
    repeated: HashMap<i32, bool>,
    types: HashMap<i32, PrimitiveType>,
}

impl MetricsModes {
    /// Reads the table's properties.
    ///
    /// # Errors
    /// The property that makes no sense.
    pub(crate) fn new(
        schema: &Schema,
        sort_order: &SortOrder,
        own: &HashMap<String, String>,
    ) -> Result<Self, String> {
        let parse = |key: &str, text: &str| {
            MetricsMode::parse(text).ok_or_else(|| {
                format!("has {key} = {text}; it may be none, counts, truncate(16) or full")
            })
        };
        let chosen = own.get(DEFAULT_MODE).map(|text| parse(DEFAULT_MODE, text));
        let chosen = chosen.transpose()?;
        let most = own.get(COLUMNS_MAX).and_then(|text| text.parse().ok());
        let most = most.unwrap_or(COLUMNS_MAX_DEFAULT);
        let mut found = Self {
            modes: HashMap::new(),
            repeated: HashMap::new(),
            types: HashMap::new(),
        };
        let mut leaves = vec![];
        for field in schema.as_struct().fields() {
            collect(field.id, &field.field_type, false, &mut leaves);
        }
        for (place, (id, ty, repeated)) in leaves.into_iter().enumerate() {
            let default = match chosen {
                Some(mode) => mode,
                None if place < most => MetricsMode::Truncate(TRUNCATED),
                None => MetricsMode::None,
            };
            found.modes.insert(id, default);
            found.repeated.insert(id, repeated);
            found.types.insert(id, ty);
        }
        // Files of a sorted table are told apart by the columns that sort them.
        for sorted in &sort_order.fields {
            if let Some(mode @ (MetricsMode::None | MetricsMode::Counts)) =
                found.modes.get_mut(&sorted.source_id)
            {
                *mode = MetricsMode::Truncate(TRUNCATED);
            }
        }
        for (key, text) in own {
            let Some(column) = key.strip_prefix(COLUMN_MODE) else {
                continue;
            };
            // A column of that name may be gone by now.
            if let Some(field) = schema.field_by_name(column) {
                found.modes.insert(field.id, parse(key, text)?);
            }
        }
        Ok(found)
    }

    /// The longest prefix of a text that is kept; none when all of it is.
    pub(super) fn longest(&self) -> Option<usize> {
        let lengths = self.modes.values().map(|mode| match mode {
            MetricsMode::None | MetricsMode::Counts => Some(0),
            MetricsMode::Truncate(length) => Some(*length),
            MetricsMode::Full => None,
        });
        lengths
            .collect::<Option<Vec<_>>>()?
            .into_iter()
            .max()
            .or(Some(0))
    }

    /// What is kept of a column.
    pub(crate) fn of(&self, id: i32) -> MetricsMode {
        self.modes.get(&id).copied().unwrap_or(MetricsMode::None)
    }
}

/// The leaves below a field, with whether they lie in a list or a map.
fn collect(id: i32, ty: &Type, repeated: bool, leaves: &mut Vec<(i32, PrimitiveType, bool)>) {
    match ty {
        Type::Primitive(primitive) => leaves.push((id, primitive.clone(), repeated)),
        Type::Struct(fields) => {
            for field in fields.fields() {
                collect(field.id, &field.field_type, repeated, leaves);
            }
        }
        Type::List(list) => {
            let element = &list.element_field;
            collect(element.id, &element.field_type, true, leaves);
        }
        Type::Map(map) => {
            for field in [&map.key_field, &map.value_field] {
                collect(field.id, &field.field_type, true, leaves);
            }
        }
    }
}

/// Metrics of one file, by field id. Bounds are binary single values (Iceberg specification,
/// appendix D).
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct FileMetrics {
    /// Compressed bytes.
    pub sizes: HashMap<i32, u64>,
    /// Values, NULL and NaN included.
    pub values: HashMap<i32, u64>,
    /// NULLs.
    pub nulls: HashMap<i32, u64>,
    /// NaNs.
    pub nans: HashMap<i32, u64>,
    /// No value is smaller.
    pub lower: HashMap<i32, Vec<u8>>,
    /// No value is larger.
    pub upper: HashMap<i32, Vec<u8>>,
}

impl FileMetrics {
    /// The metrics of a file with this footer. `nans` were counted while it was written.
    pub fn new(footer: &ParquetMetaData, modes: &MetricsModes, nans: &NanCounts) -> Self {
        let mut found = Self::default();
        let columns = footer.file_metadata().schema_descr().num_columns();
        for place in 0..columns {
            let chunks = footer.row_groups().iter().map(|group| group.column(place));
            let chunks: Vec<&ColumnChunkMetaData> = chunks.collect();
            found.add(&chunks, modes, nans);
        }
        found
    }

    fn add(&mut self, chunks: &[&ColumnChunkMetaData], modes: &MetricsModes, nans: &NanCounts) {
        let Some(info) = chunks
            .first()
            .map(|c| c.column_descr().self_type().get_basic_info())
        else {
            return;
        };
        if !info.has_id() {
            return;
        }
        let id = info.id();
        let total = |of: fn(&ColumnChunkMetaData) -> i64| {
            let parts = chunks
                .iter()
                .map(|chunk| u64::try_from(of(chunk)).unwrap_or(0));
            parts.sum::<u64>()
        };
        self.sizes
            .insert(id, total(ColumnChunkMetaData::compressed_size));
        let mode = modes.of(id);
        if mode == MetricsMode::None {
            return;
        }
        self.values
            .insert(id, total(ColumnChunkMetaData::num_values));
        let nulls = chunks
            .iter()
            .map(|c| c.statistics().and_then(Statistics::null_count_opt));
        if let Some(nulls) = nulls.sum::<Option<u64>>() {
            self.nulls.insert(id, nulls);
        }
        let repeated = modes.repeated.get(&id).copied().unwrap_or(true);
        let Some(ty) = modes.types.get(&id).filter(|_| !repeated) else {
            return;
        };
        if matches!(ty, PrimitiveType::Float | PrimitiveType::Double) {
            self.nans.insert(id, nans.of(id));
        }
        let length = match mode {
            MetricsMode::None | MetricsMode::Counts => return,
            MetricsMode::Truncate(length) => Some(length),
            MetricsMode::Full => None,
        };
        if let Some((lower, upper)) = extremes(chunks, ty) {
            self.lower
                .extend(encoded(lower, ty, length, false).map(|bytes| (id, bytes)));
            self.upper
                .extend(encoded(upper, ty, length, true).map(|bytes| (id, bytes)));
        }
    }
}

/// The smallest and the largest value of a column; none when a part of the file does not tell.
fn extremes(chunks: &[&ColumnChunkMetaData], ty: &PrimitiveType) -> Option<(Extreme, Extreme)> {
    let mut found: Option<(Extreme, Extreme)> = None;
    for chunk in chunks {
        let statistics = chunk.statistics()?;
        let Some((lower, upper)) = Extreme::of(statistics, ty) else {
            let values = u64::try_from(chunk.num_values()).ok()?;
            let is_float = matches!(ty, PrimitiveType::Float | PrimitiveType::Double);
            // Only NULLs, or only NaNs: nothing to bound.
            if is_float || statistics.null_count_opt() == Some(values) {
                continue;
            }
            return None;
        };
        found = Some(match found {
            None => (lower, upper),
            Some((low, high)) => (low.min(lower), high.max(upper)),
        });
    }
    found
}

/// Counts the NaNs of the columns that no list or map holds.
#[derive(Clone, Debug, Default)]
pub struct NanCounts(HashMap<i32, u64>);

impl NanCounts {
    fn of(&self, id: i32) -> u64 {
        self.0.get(&id).copied().unwrap_or(0)
    }

    /// Counts those of a batch of columns with field ids.
    pub fn add(&mut self, schema: &SchemaRef, columns: &[ArrayRef]) {
        for (field, column) in schema.fields().iter().zip(columns) {
            self.visit(field, column, None);
        }
    }

    /// `above` says which of the structs around the values are not NULL.
    fn visit(
        &mut self,
        field: &arrow::datatypes::Field,
        column: &ArrayRef,
        above: Option<&NullBuffer>,
    ) {
        let valid = || NullBuffer::union(above, column.nulls());
        let count = match field.data_type() {
            DataType::Float32 => {
                let values = column.as_primitive::<Float32Type>().values();
                nans(values.iter().map(|v| v.is_nan()), valid().as_ref())
            }
            DataType::Float64 => {
                let values = column.as_primitive::<Float64Type>().values();
                nans(values.iter().map(|v| v.is_nan()), valid().as_ref())
            }
            DataType::Struct(fields) => {
                let valid = valid();
                for (child, column) in fields.iter().zip(column.as_struct().columns()) {
                    self.visit(child, column, valid.as_ref());
                }
                return;
            }
            _ => return,
        };
        let id = field
            .metadata()
            .get(FIELD_ID)
            .and_then(|id| id.parse().ok());
        if let Some(id) = id {
            *self.0.entry(id).or_default() += count;
        }
    }
}

fn nans(is_nan: impl Iterator<Item = bool>, valid: Option<&NullBuffer>) -> u64 {
    match valid {
        None => is_nan.map(u64::from).sum(),
        Some(valid) => is_nan
            .zip(valid.iter())
            .map(|(is_nan, valid)| u64::from(is_nan && valid))
            .sum(),
    }
}
