//! Which manifests and files can hold rows that pass a filter.
//!
//! Every source of knowledge is turned into one form: for each file (or manifest) the smallest and
//! the largest value of a table column, its number of NULLs, and for bucketed columns the literals
//! it cannot hold. DataFusion's [`PruningPredicate`] then decides, vectorised over all files of a
//! manifest. It keeps what it does not understand, so unknown is always safe:
//!
//! - column bounds: from the manifest entry; dropped for floats that may hold NaN, because bounds
//!   leave NaN out and NaN compares above everything;
//! - partition values: identity, truncate and time transforms give a range of source values;
//! - bucket: the literals of `=` and `IN` are hashed and compared with the file's bucket.
//!
//! Columns are found by field id, so renames and several partition specs need no special care.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, UInt64Array, new_null_array};
use arrow::compute::kernels::cmp::{gt, lt};
use arrow::compute::kernels::zip::zip;
use arrow::compute::{is_not_null, is_null, or};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, ScalarValue};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::pruning::PruningPredicate;
use iceberg::spec::{
    Datum, FieldSummary, ManifestFile, PartitionSpec, PrimitiveLiteral, PrimitiveType, Schema,
    Transform, Type,
};
use iceberg::transform::create_transform_function;
use uuid::Uuid;

use super::bounds::{lower_bound, promotes, source_range, upper_bound};
use super::manifest::{ColumnMetrics, DecodedManifest, PartitionColumn, scalars_to_array};
use crate::scan::schema::TableColumns;

/// A filter, made ready for pruning.
#[derive(Debug)]
pub struct Pruner<'a> {
    predicate: PruningPredicate,
    columns: &'a TableColumns,
    schema: &'a Schema,
}

impl<'a> Pruner<'a> {
    /// Prepares a filter over the table's columns; `None` when it cannot prune anything.
    pub fn new(
        filter: Arc<dyn PhysicalExpr>,
        columns: &'a TableColumns,
        schema: &'a Schema,
    ) -> Option<Self> {
        let arrow: SchemaRef = Arc::clone(&columns.arrow);
        let predicate = PruningPredicate::try_new(filter, arrow).ok()?;
        (!predicate.always_true()).then_some(Self {
            predicate,
            columns,
            schema,
        })
    }

    /// For each file of a manifest, whether it has to be read.
    pub fn keep_files(&self, manifest: &DecodedManifest) -> Vec<bool> {
        let statistics = FileStatistics {
            pruner: self,
            manifest,
        };
        self.predicate
            .prune(&statistics)
            .unwrap_or_else(|_| vec![true; manifest.entries.len()])
    }

    /// Whether a manifest may hold files that have to be read.
    pub fn keep_manifest(&self, manifest: &ManifestFile, spec: &PartitionSpec) -> bool {
        let Some(summaries) = &manifest.partitions else {
            return true;
        };
        if summaries.len() != spec.fields().len() {
            return true;
        }
        let statistics = ManifestStatistics {
            pruner: self,
            summaries,
            spec,
        };
        self.predicate
            .prune(&statistics)
            .map_or(true, |keep| keep.iter().any(|keep| *keep))
    }

    fn column(&self, column: &Column) -> Option<(i32, &DataType)> {
        let index = self.columns.arrow.index_of(&column.name).ok()?;
        let id = self.columns.fields.get(index)?.id;
        Some((id, self.columns.arrow.field(index).data_type()))
    }

    fn source_type(&self, id: i32) -> Option<&PrimitiveType> {
        match self.schema.field_by_id(id)?.field_type.as_ref() {
            Type::Primitive(ty) => Some(ty),
            _ => None,
        }
    }
}

#[derive(Clone, Copy)]
enum Side {
    Lower,
    Upper,
}

/// The files of one manifest as containers.
struct FileStatistics<'a> {
    pruner: &'a Pruner<'a>,
    manifest: &'a DecodedManifest,
}

impl FileStatistics<'_> {
    /// The tightest bound that entry bounds and partition values give.
    fn bound(&self, column: &Column, side: Side) -> Option<ArrayRef> {
        let (id, data_type) = self.pruner.column(column)?;
        let mut best = self.entry_bound(id, data_type, side);
        for partition in self.partitions_of(id) {
            let array = match side {
                Side::Lower => &partition.lower,
                Side::Upper => &partition.upper,
            };
            let array = array
                .as_ref()
                .and_then(|array| promote(array, data_type, side));
            best = tighter(best, array, side);
        }
        best
    }

    fn entry_bound(&self, id: i32, data_type: &DataType, side: Side) -> Option<ArrayRef> {
        let metrics = self.metrics(id)?;
        let array = match side {
            Side::Lower => metrics.lower.as_ref()?,
            Side::Upper => metrics.upper.as_ref()?,
        };
        let array = promote(array, data_type, side)?;
        if data_type.is_floating() {
            return without_nan(&array, &metrics.nan_counts);
        }
        Some(array)
    }

    fn metrics(&self, id: i32) -> Option<&ColumnMetrics> {
        if self.pruner.columns.unmapped.contains(&id) {
            return None;
        }
        self.manifest.columns.get(&id)
    }

    fn partitions_of(&self, id: i32) -> impl Iterator<Item = &PartitionColumn> {
        self.manifest
            .partitions
            .iter()
            .filter(move |partition| partition.source_id == id)
    }
}

impl PruningStatistics for FileStatistics<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bound(column, Side::Lower)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bound(column, Side::Upper)
    }

    fn num_containers(&self) -> usize {
        self.manifest.entries.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let (id, _) = self.pruner.column(column)?;
        let counts = self.metrics(id).map(|m| &m.null_counts);
        // Every transform but void turns NULL into NULL and a value into a value.
        let partition = self
            .partitions_of(id)
            .find(|p| !matches!(p.transform, Transform::Void | Transform::Unknown));
        let array: UInt64Array = (0..self.num_containers())
            .map(|file| {
                let known = counts.filter(|c| c.is_valid(file)).map(|c| c.value(file));
                known.or_else(|| match partition?.values.get(file)? {
                    None => self.manifest.entries.get(file).map(|e| e.record_count),
                    Some(_) => Some(0),
                })
            })
            .collect();
        Some(Arc::new(array))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        let counts = self.manifest.entries.iter().map(|e| e.record_count);
        Some(Arc::new(UInt64Array::from_iter_values(counts)))
    }

    fn contained(&self, column: &Column, values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        let (id, _) = self.pruner.column(column)?;
        let mut result: Option<Vec<Option<bool>>> = None;
        for partition in self.partitions_of(id) {
            let Transform::Bucket(_) = partition.transform else {
                continue;
            };
            let Some(buckets) = buckets(self.pruner.source_type(id)?, partition.transform, values)
            else {
                continue;
            };
            let found = result.get_or_insert_with(|| vec![None; partition.values.len()]);
            for (slot, value) in found.iter_mut().zip(&partition.values) {
                if let Some(PrimitiveLiteral::Int(bucket)) = value
                    && !buckets.contains(bucket)
                {
                    *slot = Some(false);
                }
            }
        }
        result.map(BooleanArray::from)
    }
}

/// One manifest as a container, by the summaries in the manifest list.
struct ManifestStatistics<'a> {
    pruner: &'a Pruner<'a>,
    summaries: &'a [FieldSummary],
    spec: &'a PartitionSpec,
}

impl ManifestStatistics<'_> {
    fn bound(&self, column: &Column, side: Side) -> Option<ArrayRef> {
        let (id, data_type) = self.pruner.column(column)?;
        let source = self.pruner.source_type(id)?;
        let mut best = None;
        for (field, summary) in self.spec.fields().iter().zip(self.summaries) {
            if field.source_id != id {
                continue;
            }
            // NaN is above every bound; writers that do not say whether it occurs may have some.
            if data_type.is_floating() && summary.contains_nan != Some(false) {
                continue;
            }
            let bytes = match side {
                Side::Lower => &summary.lower_bound,
                Side::Upper => &summary.upper_bound,
            };
            let Some(value) = bytes
                .as_ref()
                .and_then(|bytes| partition_literal(bytes, field.transform, source))
            else {
                continue;
            };
            let (literal, ty) = value;
            let (low, high) = source_range(field.transform, &literal, &ty, data_type);
            let bound = match side {
                Side::Lower => low,
                Side::Upper => high,
            };
            let array = scalars_to_array(std::iter::once(bound), data_type);
            best = tighter(best, array, side);
        }
        best
    }
}

impl PruningStatistics for ManifestStatistics<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bound(column, Side::Lower)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bound(column, Side::Upper)
    }

    fn num_containers(&self) -> usize {
        1
    }

    /// As if the manifest had one row: one NULL when there is nothing else, none when it has none.
    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let (id, _) = self.pruner.column(column)?;
        let (_, summary) = self
            .spec
            .fields()
            .iter()
            .zip(self.summaries)
            .find(|(f, _)| {
                f.source_id == id && !matches!(f.transform, Transform::Void | Transform::Unknown)
            })?;
        if !summary.contains_null {
            return Some(Arc::new(UInt64Array::from(vec![0])));
        }
        let no_value = summary.lower_bound.is_none()
            && summary.upper_bound.is_none()
            && summary.contains_nan == Some(false);
        no_value.then(|| Arc::new(UInt64Array::from(vec![1])) as ArrayRef)
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::new(UInt64Array::from(vec![1])))
    }

    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

/// A partition value in a summary. Its type follows from the transform and the source type; bytes
/// that do not fit (the source was promoted later) are refused rather than guessed.
fn partition_literal(
    bytes: &[u8],
    transform: Transform,
    source: &PrimitiveType,
) -> Option<(PrimitiveLiteral, PrimitiveType)> {
    let result = transform
        .result_type(&Type::Primitive(source.clone()))
        .ok()?;
    let ty = result.as_primitive_type()?.clone();
    let datum = Datum::try_from_bytes(bytes, ty.clone()).ok()?;
    Some((datum.literal().clone(), ty))
}

/// The buckets that literals fall into; `None` when one of them cannot be hashed.
fn buckets(
    source: &PrimitiveType,
    transform: Transform,
    values: &HashSet<ScalarValue>,
) -> Option<HashSet<i32>> {
    let function = create_transform_function(&transform).ok()?;
    let mut buckets = HashSet::new();
    for value in values {
        let datum = scalar_to_datum(value, source)?;
        let bucket = function.transform_literal(&datum).ok()??;
        match bucket.literal() {
            PrimitiveLiteral::Int(bucket) => buckets.insert(*bucket),
            _ => return None,
        };
    }
    Some(buckets)
}

/// An SQL literal as a value of the column's Iceberg type; `None` unless it is exactly that type.
/// Goes through the binary form, which is the one public way to make a value of a given type.
fn scalar_to_datum(value: &ScalarValue, ty: &PrimitiveType) -> Option<Datum> {
    use PrimitiveType as T;
    use ScalarValue as S;
    let bytes = match (ty, value) {
        (T::Int, S::Int32(Some(v))) | (T::Date, S::Date32(Some(v))) => v.to_le_bytes().to_vec(),
        (T::Long, S::Int64(Some(v)))
        | (T::Time, S::Time64Microsecond(Some(v)))
        | (T::Timestamp | T::Timestamptz, S::TimestampMicrosecond(Some(v), _))
        | (T::TimestampNs | T::TimestamptzNs, S::TimestampNanosecond(Some(v), _)) => {
            v.to_le_bytes().to_vec()
        }
        (T::Decimal { scale, .. }, S::Decimal128(Some(v), _, s))
            if i64::from(*scale) == i64::from(*s) =>
        {
            v.to_be_bytes().to_vec()
        }
        (T::String, S::Utf8(Some(v)) | S::Utf8View(Some(v)) | S::LargeUtf8(Some(v))) => {
            v.clone().into_bytes()
        }
        (T::Uuid, S::Utf8(Some(v)) | S::Utf8View(Some(v)) | S::LargeUtf8(Some(v))) => {
            Uuid::parse_str(v).ok()?.as_bytes().to_vec()
        }
        (
            T::Binary | T::Fixed(_),
            S::Binary(Some(v))
            | S::BinaryView(Some(v))
            | S::LargeBinary(Some(v))
            | S::FixedSizeBinary(_, Some(v)),
        ) => v.clone(),
        _ => return None,
    };
    Datum::try_from_bytes(&bytes, ty.clone()).ok()
}

/// Bounds in the column's type of today.
fn promote(array: &ArrayRef, data_type: &DataType, side: Side) -> Option<ArrayRef> {
    let from = array.data_type();
    if from == data_type && !data_type.is_floating() {
        return Some(Arc::clone(array));
    }
    if !promotes(from, data_type) {
        return None;
    }
    let values = (0..array.len()).map(|row| {
        let value = ScalarValue::try_from_array(array, row).ok()?;
        if value.is_null() {
            return None;
        }
        match side {
            Side::Lower => lower_bound(&value, data_type),
            Side::Upper => upper_bound(&value, data_type),
        }
    });
    scalars_to_array(values, data_type)
}

/// Bounds of files that are known to hold no NaN; NULL for the others.
fn without_nan(array: &ArrayRef, nan_counts: &UInt64Array) -> Option<ArrayRef> {
    let sure: BooleanArray = nan_counts
        .iter()
        .map(|count| Some(count == Some(0)))
        .collect();
    let null = new_null_array(array.data_type(), array.len());
    zip(&sure, array, &null).ok()
}

/// Of two bounds the tighter one; where one is unknown, the other.
fn tighter(a: Option<ArrayRef>, b: Option<ArrayRef>, side: Side) -> Option<ArrayRef> {
    let (a, b) = match (a, b) {
        (Some(a), Some(b)) => (a, b),
        (a, b) => return a.or(b),
    };
    let better = match side {
        Side::Lower => gt(&a, &b).ok()?,
        Side::Upper => lt(&a, &b).ok()?,
    };
    // NULL in the comparison means one side is unknown: take `a` unless it is the unknown one.
    let b_unknown = is_null(&b).ok()?;
    let a_known = is_not_null(&a).ok()?;
    let better: BooleanArray = better.iter().map(|v| Some(v.unwrap_or(false))).collect();
    let take_a = or(&better, &arrow::compute::and(&b_unknown, &a_known).ok()?).ok()?;
    zip(&take_a, &a, &b).ok()
}
