//! From a scan to bytes.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::{ScalarValue, internal_err, not_impl_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileScanConfig, FileSource};
use datafusion::error::{DataFusionError, Result};
use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_expr::{PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_expr_common::physical_expr::snapshot_physical_expr;
use datafusion_proto::physical_plan::to_proto::{
    serialize_physical_expr, serialize_physical_sort_expr,
};
use datafusion_proto::physical_plan::{DefaultPhysicalProtoConverter, PhysicalExtensionCodec};
use datafusion_proto_common as common;
use prost::Message;

use super::VERSION;
use super::message as m;
use crate::deletes::{DeleteFile, DeleteKind, EqualityGroup};
use crate::plan::PlanCounts;
use crate::scan::mapping::NameRules;
use crate::scan::schema::TableField;
use crate::scan::{IcebergSource, RowCountExec, ScanFile};

/// Appends the encoded row count to `buf`.
pub fn row_count(count: &RowCountExec, buf: &mut Vec<u8>) -> Result<()> {
    let message = m::RowCount {
        table: count.table().to_string(),
        snapshot_id: count.snapshot_id(),
        rows: count.rows(),
    };
    message
        .encode(buf)
        .map_err(|error| DataFusionError::External(Box::new(error)))
}

/// Appends the encoded scan to `buf`.
pub fn scan(
    config: &FileScanConfig,
    source: &IcebergSource,
    codec: &dyn PhysicalExtensionCodec,
    buf: &mut Vec<u8>,
) -> Result<()> {
    if config.partitioned_by_file_group {
        return not_impl_err!("a scan grouped by partition values");
    }
    let info = source.info();
    let (name_mapping, name_history) = match &info.rules {
        NameRules::Mapping(mapping) => {
            let json = serde_json::to_string(mapping.as_ref())
                .map_err(|error| DataFusionError::External(Box::new(error)))?;
            (Some(json), vec![])
        }
        NameRules::History(names) => (None, history(names)),
    };
    let mut files = Files::default();
    let groups = config
        .file_groups
        .iter()
        .map(|group| {
            let pieces: Result<Vec<m::Piece>> =
                group.iter().map(|piece| files.piece(piece)).collect();
            Ok(m::Group { pieces: pieces? })
        })
        .collect::<Result<Vec<_>>>()?;
    let schema: common::Schema = info.columns.arrow.as_ref().try_into()?;
    let options: common::TableParquetOptions =
        source.parquet().table_parquet_options().try_into()?;
    let statistics = common::Statistics::from(&config.statistics());
    let message = m::Scan {
        version: VERSION,
        object_store_url: config.object_store_url.as_str().to_string(),
        table: info.table.clone(),
        snapshot_id: info.snapshot_id,
        schema: schema.encode_to_vec(),
        fields: fields(&info.columns.fields)?,
        name_mapping,
        name_history,
        counts: Some(counts(&info.counts)),
        projection: projection(source, codec)?,
        predicate: predicate(source.filter(), codec)?,
        limit: config.limit.map(|limit| limit as u64),
        preserve_order: config.preserve_order,
        output_ordering: config
            .output_ordering
            .iter()
            .map(|ordering| order(&ordering.iter().cloned().collect::<Vec<_>>(), codec))
            .collect::<Result<_>>()?,
        sort_hint: match source.sort_hint() {
            [] => None,
            hint => Some(order(hint, codec)?),
        },
        parquet_options: options.encode_to_vec(),
        batch_size: config.batch_size.map(|size| size as u64),
        statistics: statistics.encode_to_vec(),
        files: files.encoded,
        groups,
        delete_files: files.deletes.files,
        key_groups: files.deletes.groups,
    };
    message
        .encode(buf)
        .map_err(|error| DataFusionError::External(Box::new(error)))
}

fn history(names: &HashMap<String, i32>) -> Vec<m::NameId> {
    let mut pairs: Vec<m::NameId> = names
        .iter()
        .map(|(name, id)| m::NameId {
            name: name.clone(),
            id: *id,
        })
        .collect();
    pairs.sort_by(|a, b| a.name.cmp(&b.name));
    pairs
}

fn fields(fields: &[TableField]) -> Result<Vec<m::Field>> {
    fields
        .iter()
        .map(|field| {
            Ok(m::Field {
                id: field.id,
                initial_default: field.initial_default.as_ref().map(scalar).transpose()?,
                children: self::fields(&field.children)?,
            })
        })
        .collect()
}

fn counts(counts: &PlanCounts) -> m::Counts {
    m::Counts {
        manifests_total: counts.manifests_total,
        manifests_read: counts.manifests_read,
        files_total: counts.files_total,
        files_read: counts.files_read,
        bytes_read: counts.bytes_read,
        delete_files: counts.delete_files,
        bytes_total: counts.bytes_total,
        row_groups: counts.row_groups,
    }
}

fn scalar(value: &ScalarValue) -> Result<Vec<u8>> {
    let value: common::ScalarValue = value.try_into()?;
    Ok(value.encode_to_vec())
}

fn projection(
    source: &IcebergSource,
    codec: &dyn PhysicalExtensionCodec,
) -> Result<Vec<m::Projected>> {
    let Some(projection) = source.projection() else {
        return internal_err!("an Iceberg scan has no projection");
    };
    projection
        .iter()
        .map(|column| {
            Ok(m::Projected {
                expr: serialize_physical_expr(&column.expr, codec)?.encode_to_vec(),
                alias: column.alias.clone(),
            })
        })
        .collect()
}

/// The predicate without anything shared: what dynamic filters know now.
fn predicate(
    filter: Option<Arc<dyn PhysicalExpr>>,
    codec: &dyn PhysicalExtensionCodec,
) -> Result<Option<Vec<u8>>> {
    let Some(filter) = filter else {
        return Ok(None);
    };
    let filter = snapshot_physical_expr(filter)?;
    let always_true = filter
        .downcast_ref::<Literal>()
        .is_some_and(|literal| literal.value() == &ScalarValue::Boolean(Some(true)));
    if always_true {
        return Ok(None);
    }
    Ok(Some(
        serialize_physical_expr(&filter, codec)?.encode_to_vec(),
    ))
}

fn order(exprs: &[PhysicalSortExpr], codec: &dyn PhysicalExtensionCodec) -> Result<m::Ordering> {
    let exprs = exprs
        .iter()
        .map(|expr| {
            let node = serialize_physical_sort_expr(
                expr.clone(),
                codec,
                &DefaultPhysicalProtoConverter {},
            )?;
            Ok(node.encode_to_vec())
        })
        .collect::<Result<_>>()?;
    Ok(m::Ordering { exprs })
}

/// The files met so far; pieces of one file share its entry.
#[derive(Default)]
struct Files {
    encoded: Vec<m::File>,
    places: HashMap<Arc<str>, u32>,
    deletes: Deletes,
}

impl Files {
    fn piece(&mut self, piece: &PartitionedFile) -> Result<m::Piece> {
        let Some(file) = piece.extension::<Arc<ScanFile>>() else {
            return internal_err!("a piece of an Iceberg scan does not say of which file it is");
        };
        let place = match self.places.get(&file.location) {
            Some(place) => *place,
            None => {
                let place = u32::try_from(self.encoded.len()).unwrap_or(u32::MAX);
                self.encoded
                    .push(encode_file(piece, file, &mut self.deletes)?);
                self.places.insert(Arc::clone(&file.location), place);
                place
            }
        };
        Ok(m::Piece {
            file: place,
            start: piece.range.as_ref().map(|range| range.start),
            end: piece.range.as_ref().map(|range| range.end),
        })
    }
}

fn encode_file(piece: &PartitionedFile, file: &ScanFile, deletes: &mut Deletes) -> Result<m::File> {
    let mut constants: Vec<m::Constant> = file
        .constants
        .iter()
        .map(|(id, value)| {
            Ok(m::Constant {
                id: *id,
                value: scalar(value)?,
            })
        })
        .collect::<Result<_>>()?;
    constants.sort_by_key(|constant| constant.id);
    let mut columns = vec![];
    for (index, column) in piece
        .statistics
        .iter()
        .flat_map(|statistics| statistics.column_statistics.iter().enumerate())
    {
        let known = column.min_value.get_value().is_some()
            || column.max_value.get_value().is_some()
            || column.null_count.get_value().is_some();
        if known {
            columns.push(m::ColumnStats {
                index: u32::try_from(index).unwrap_or(u32::MAX),
                stats: common::ColumnStats::from(column).encode_to_vec(),
            });
        }
    }
    Ok(m::File {
        location: file.location.to_string(),
        path: piece.object_meta.location.to_string(),
        size_bytes: piece.object_meta.size,
        spec_id: file.spec_id,
        sequence_number: file.sequence_number,
        record_count: file.record_count,
        projected_bytes: file.projected_bytes,
        constants,
        columns,
        stamp_nanos: piece
            .object_meta
            .last_modified
            .timestamp_nanos_opt()
            .unwrap_or(0),
        has_statistics: piece.statistics.is_some(),
        without_nan: file.without_nan.to_vec(),
        format: file.format.to_string(),
        first_row_id: file.first_row_id,
        positions: file
            .deletes
            .positions
            .iter()
            .map(|delete| deletes.file(delete))
            .collect(),
        keys: file
            .deletes
            .equality
            .iter()
            .map(|group| deletes.group(group))
            .collect(),
    })
}

/// The delete files met so far. Data files share them, so each travels once.
#[derive(Default)]
struct Deletes {
    files: Vec<m::DeleteFile>,
    places: HashMap<*const DeleteFile, u32>,
    groups: Vec<m::KeyGroup>,
    group_places: HashMap<*const EqualityGroup, u32>,
}

impl Deletes {
    /// Planning makes one object of each delete file, so its address stands for it.
    fn file(&mut self, file: &Arc<DeleteFile>) -> u32 {
        if let Some(place) = self.places.get(&Arc::as_ptr(file)) {
            return *place;
        }
        let (data_file, blob) = match &file.kind {
            DeleteKind::Positions { only } => (only.clone(), None),
            DeleteKind::Vector {
                offset,
                length_bytes,
                data_file,
            } => (Some(Arc::clone(data_file)), Some((*offset, *length_bytes))),
            DeleteKind::Equality => (None, None),
        };
        let place = u32::try_from(self.files.len()).unwrap_or(u32::MAX);
        self.files.push(m::DeleteFile {
            location: file.location.to_string(),
            store: file.store.as_str().to_owned(),
            path: file.path.to_string(),
            format: file.format.to_string(),
            size_bytes: file.size_bytes,
            record_count: file.record_count,
            sequence_number: file.sequence_number,
            data_file: data_file.map(|path| path.to_string()),
            offset: blob.map(|(offset, _)| offset),
            length_bytes: blob.map(|(_, length)| length),
            equality: file.kind == DeleteKind::Equality,
        });
        self.places.insert(Arc::as_ptr(file), place);
        place
    }

    fn group(&mut self, group: &Arc<EqualityGroup>) -> u32 {
        if let Some(place) = self.group_places.get(&Arc::as_ptr(group)) {
            return *place;
        }
        let files = group.files.iter().map(|file| self.file(file)).collect();
        let place = u32::try_from(self.groups.len()).unwrap_or(u32::MAX);
        self.groups.push(m::KeyGroup {
            ids: group.ids.to_vec(),
            files,
        });
        self.group_places.insert(Arc::as_ptr(group), place);
        place
    }
}
