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
use arrow::compute::{concat, is_not_null, is_null, or};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, ScalarValue};
use datafusion::physical_expr::{PhysicalExpr, split_conjunction};
use datafusion::physical_optimizer::pruning::PruningPredicate;
use iceberg::spec::{Datum, PrimitiveLiteral, PrimitiveType, Schema, Transform};
use iceberg::transform::create_transform_function;
use uuid::Uuid;

use super::bounds::{bound_array, scalars_to_array, source_range};
use super::metrics::{column_type, entry_bounds};
use crate::manifest::bounds::{Side, bound_literal};
use crate::manifest::{
    ColumnMetrics, DecodedManifest, FieldSummary, ManifestFile, PartitionColumn, PartitionField,
    PartitionFields,
};
use crate::scan::schema::TableColumns;

/// Files looked at together: enough for the cost of starting to vanish, few enough for the memory
/// of their bounds to stay small.
const FILES_AT_ONCE: usize = 1 << 16;

/// A filter, made ready for pruning.
#[derive(Debug)]
pub struct Pruner<'a> {
    /// One for each condition that a row has to meet, so that one which cannot be evaluated over
    /// bounds does not take the others' effect away.
    predicates: Vec<PruningPredicate>,
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
        let arrow: &SchemaRef = &columns.arrow;
        let predicates: Vec<_> = split_conjunction(&filter)
            .into_iter()
            .filter_map(|part| PruningPredicate::try_new(Arc::clone(part), Arc::clone(arrow)).ok())
            .filter(|predicate| !predicate.always_true())
            .collect();
        (!predicates.is_empty()).then_some(Self {
            predicates,
            columns,
            schema,
        })
    }

    /// For each container, whether it may hold rows that meet all conditions.
    fn keep(&self, statistics: &impl PruningStatistics) -> Vec<bool> {
        let mut keep = vec![true; statistics.num_containers()];
        for predicate in &self.predicates {
            // What cannot be evaluated rules nothing out.
            let Ok(kept) = predicate.prune(statistics) else {
                continue;
            };
            for (keep, kept) in keep.iter_mut().zip(kept) {
                *keep &= kept;
            }
        }
        keep
    }

    /// For each file of the manifests, one after another, whether it has to be read.
    pub fn keep_files(&self, manifests: &[Arc<DecodedManifest>]) -> Vec<bool> {
        let mut keep = vec![];
        let mut rest = manifests;
        while !rest.is_empty() {
            let mut files = 0;
            let count = rest
                .iter()
                .take_while(|manifest| {
                    files += manifest.entries.len();
                    files <= FILES_AT_ONCE
                })
                .count();
            let (some, others) = rest.split_at(count.max(1));
            keep.extend(self.keep_some_files(some));
            rest = others;
        }
        keep
    }

    fn keep_some_files(&self, manifests: &[Arc<DecodedManifest>]) -> Vec<bool> {
        self.keep(&FileStatistics {
            pruner: self,
            manifests,
            files: manifests.iter().map(|m| m.entries.len()).sum(),
        })
    }

    /// For each manifest, whether it may hold files that have to be read.
    pub fn keep_manifests(
        &self,
        manifests: &[(&ManifestFile, &Arc<PartitionFields>)],
    ) -> Vec<bool> {
        let known: Vec<_> = manifests
            .iter()
            .map(|(manifest, spec)| {
                let summaries = manifest.partitions.as_deref().unwrap_or_default();
                let fields = spec.fields.as_slice();
                // Summaries of another spec say nothing.
                if summaries.len() == fields.len() {
                    (fields, summaries)
                } else {
                    Default::default()
                }
            })
            .collect();
        self.keep(&ManifestStatistics {
            pruner: self,
            manifests: &known,
        })
    }

    fn column(&self, column: &Column) -> Option<(i32, &DataType)> {
        let index = self.columns.arrow.index_of(&column.name).ok()?;
        let id = self.columns.fields.get(index)?.id;
        Some((id, self.columns.arrow.field(index).data_type()))
    }

    fn source_type(&self, id: i32) -> Option<&PrimitiveType> {
        column_type(self.schema, id)
    }
}

/// The files of some manifests as containers, one after another.
struct FileStatistics<'a> {
    pruner: &'a Pruner<'a>,
    manifests: &'a [Arc<DecodedManifest>],
    files: usize,
}

impl FileStatistics<'_> {
    /// The tightest bounds that entry bounds and partition values give.
    fn bounds(&self, column: &Column, side: Side) -> Option<ArrayRef> {
        let (id, data_type) = self.pruner.column(column)?;
        let of_manifests: Vec<Option<ArrayRef>> = self
            .manifests
            .iter()
            .map(|manifest| self.manifest_bounds(manifest, id, data_type, side))
            .collect();
        if of_manifests.iter().all(Option::is_none) {
            return None;
        }
        let arrays: Vec<ArrayRef> = of_manifests
            .into_iter()
            .zip(self.manifests)
            .map(|(array, manifest)| {
                array.unwrap_or_else(|| new_null_array(data_type, manifest.entries.len()))
            })
            .collect();
        let arrays: Vec<&dyn Array> = arrays.iter().map(AsRef::as_ref).collect();
        concat(&arrays).ok()
    }

    fn manifest_bounds(
        &self,
        manifest: &DecodedManifest,
        id: i32,
        data_type: &DataType,
        side: Side,
    ) -> Option<ArrayRef> {
        let mut best = self.metrics(manifest, id).and_then(|metrics| {
            let ty = self.pruner.source_type(id)?;
            entry_bounds(metrics, ty, data_type, side)
        });
        for partition in partitions_of(manifest, id) {
            let array = match side {
                Side::Lower => &partition.lower,
                Side::Upper => &partition.upper,
            };
            let array = array
                .as_ref()
                .and_then(|array| bound_array(array, data_type, side));
            best = tighter(best, array, side);
        }
        best
    }

    fn metrics<'m>(&self, manifest: &'m DecodedManifest, id: i32) -> Option<&'m ColumnMetrics> {
        if self.pruner.columns.unmapped.contains(&id) {
            return None;
        }
        manifest.columns.get(&id)
    }
}

fn partitions_of(manifest: &DecodedManifest, id: i32) -> impl Iterator<Item = &PartitionColumn> {
    let partitions = manifest.partitions.iter();
    partitions.filter(move |partition| partition.source_id == id)
}

impl PruningStatistics for FileStatistics<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, Side::Lower)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, Side::Upper)
    }

    fn num_containers(&self) -> usize {
        self.files
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let (id, _) = self.pruner.column(column)?;
        let mut nulls = UInt64Array::builder(self.files);
        for manifest in self.manifests {
            let counts = self.metrics(manifest, id).map(|m| &m.null_counts);
            // Every transform but void turns NULL into NULL and a value into a value.
            let partition = partitions_of(manifest, id)
                .find(|p| !matches!(p.transform, Transform::Void | Transform::Unknown));
            for (file, entry) in manifest.entries.iter().enumerate() {
                let known = counts.filter(|c| c.is_valid(file)).map(|c| c.value(file));
                nulls.append_option(known.or_else(|| match partition?.values.get(file)? {
                    None => Some(entry.record_count),
                    Some(_) => Some(0),
                }));
            }
        }
        Some(Arc::new(nulls.finish()))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        let entries = self.manifests.iter().flat_map(|m| &m.entries);
        let counts = entries.map(|e| e.record_count);
        Some(Arc::new(UInt64Array::from_iter_values(counts)))
    }

    fn contained(&self, column: &Column, values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        let (id, _) = self.pruner.column(column)?;
        let mut hashed: Vec<(Transform, Option<HashSet<i32>>)> = vec![];
        let mut found: Vec<Option<bool>> = vec![None; self.files];
        let mut known = false;
        let mut start = 0;
        for manifest in self.manifests {
            let slots = found.get_mut(start..start + manifest.entries.len())?;
            start += manifest.entries.len();
            for partition in partitions_of(manifest, id) {
                let Transform::Bucket(_) = partition.transform else {
                    continue;
                };
                if !hashed
                    .iter()
                    .any(|(transform, _)| *transform == partition.transform)
                {
                    let source = self.pruner.source_type(id)?;
                    hashed.push((
                        partition.transform,
                        buckets(source, partition.transform, values),
                    ));
                }
                let buckets = hashed
                    .iter()
                    .find(|(transform, _)| *transform == partition.transform)
                    .and_then(|(_, buckets)| buckets.as_ref());
                let Some(buckets) = buckets else {
                    continue;
                };
                known = true;
                for (slot, value) in slots.iter_mut().zip(&partition.values) {
                    if let Some(PrimitiveLiteral::Int(bucket)) = value
                        && !buckets.contains(bucket)
                    {
                        *slot = Some(false);
                    }
                }
            }
        }
        known.then(|| BooleanArray::from(found))
    }
}

/// Manifests as containers, by the summaries in the manifest list.
struct ManifestStatistics<'a> {
    pruner: &'a Pruner<'a>,
    /// For each manifest its partition fields and as many summaries; none where nothing is known.
    manifests: &'a [(&'a [PartitionField], &'a [FieldSummary])],
}

impl ManifestStatistics<'_> {
    fn bounds(&self, column: &Column, side: Side) -> Option<ArrayRef> {
        let (id, data_type) = self.pruner.column(column)?;
        let source = self.pruner.source_type(id)?;
        // A column may be the source of several fields: each gives an array, the tightest counts.
        let fields_max = self
            .manifests
            .iter()
            .map(|(fields, _)| fields.len())
            .max()?;
        let mut best = None;
        for place in 0..fields_max {
            let bounds = self.manifests.iter().map(|(fields, summaries)| {
                let (field, summary) = (fields.get(place)?, summaries.get(place)?);
                if field.source_id != id {
                    return None;
                }
                summary_bound(summary, field.transform, source, data_type, side)
            });
            best = tighter(best, scalars_to_array(bounds, data_type), side);
        }
        best
    }
}

impl PruningStatistics for ManifestStatistics<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, Side::Lower)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, Side::Upper)
    }

    fn num_containers(&self) -> usize {
        self.manifests.len()
    }

    /// As if a manifest had one row: one NULL when there is nothing else, none when it has none.
    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let (id, _) = self.pruner.column(column)?;
        let counts = self.manifests.iter().map(|(fields, summaries)| {
            let mut pairs = fields.iter().zip(*summaries);
            let (_, summary) = pairs.find(|(f, _)| {
                f.source_id == id && !matches!(f.transform, Transform::Void | Transform::Unknown)
            })?;
            if !summary.contains_null {
                return Some(0);
            }
            let no_value = summary.lower_bound.is_none()
                && summary.upper_bound.is_none()
                && summary.contains_nan == Some(false);
            no_value.then_some(1)
        });
        Some(Arc::new(counts.collect::<UInt64Array>()))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        let ones = std::iter::repeat_n(1, self.manifests.len());
        Some(Arc::new(UInt64Array::from_iter_values(ones)))
    }

    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

/// A bound of a column that a summary gives. Its type follows from the transform and the column's
/// type; bytes that do not fit are left out rather than guessed.
fn summary_bound(
    summary: &FieldSummary,
    transform: Transform,
    source: &PrimitiveType,
    data_type: &DataType,
    side: Side,
) -> Option<ScalarValue> {
    // NaN is above every bound; writers that do not say whether it occurs may have some.
    if data_type.is_floating() && summary.contains_nan != Some(false) {
        return None;
    }
    let bytes = match side {
        Side::Lower => summary.lower_bound.as_deref()?,
        Side::Upper => summary.upper_bound.as_deref()?,
    };
    let ty = transform
        .result_type(&source.clone().into())
        .ok()?
        .as_primitive_type()?
        .clone();
    let literal = bound_literal(bytes, &ty)?;
    let (low, high) = source_range(transform, &literal, &ty, data_type);
    match side {
        Side::Lower => low,
        Side::Upper => high,
    }
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
