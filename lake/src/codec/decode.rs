//! From bytes to a scan. Every reference is checked: the bytes come over a network.

use std::collections::{HashMap, HashSet};
use std::str::FromStr;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use chrono::DateTime;
use datafusion::common::config::TableParquetOptions;
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};
use datafusion::datasource::listing::{FileRange, PartitionedFile};
use datafusion::datasource::physical_plan::{
    FileGroup, FileScanConfigBuilder, FileSource, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::physical_expr::projection::{ProjectionExpr, ProjectionExprs};
use datafusion::physical_expr::{LexOrdering, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::physical_plan::from_proto::{parse_physical_expr, parse_physical_sort_expr};
use datafusion_proto::physical_plan::{
    DefaultPhysicalProtoConverter, PhysicalExtensionCodec, PhysicalPlanDecodeContext,
};
use datafusion_proto::protobuf::{PhysicalExprNode, PhysicalSortExprNode};
use datafusion_proto_common as common;
use iceberg::spec::{DataFileFormat, NameMapping};
use object_store::ObjectMeta;
use object_store::path::Path;
use prost::Message;

use super::VERSION;
use super::message as m;
use crate::deletes::{DeleteFile, DeleteKind, EqualityGroup, FileDeletes};
use crate::plan::PlanCounts;
use crate::scan::mapping::NameRules;
use crate::scan::schema::{TableColumns, TableField};
use crate::scan::{IcebergSource, RowCountExec, ScanEnv, ScanFile, ScanInfo};

fn invalid(what: impl std::fmt::Display) -> DataFusionError {
    DataFusionError::Plan(format!("invalid encoded Iceberg scan: {what}"))
}

fn message<M: Message + Default>(bytes: &[u8]) -> Result<M> {
    M::decode(bytes).map_err(invalid)
}

/// Decodes a row count.
pub fn row_count(bytes: &[u8]) -> Result<Arc<dyn ExecutionPlan>> {
    let count: m::RowCount = message(bytes)?;
    Ok(Arc::new(RowCountExec::new(
        count.table,
        count.snapshot_id,
        count.rows,
    )))
}

/// Decodes a scan; footers go to the cache of `ctx`.
pub fn scan(
    bytes: &[u8],
    codec: &dyn PhysicalExtensionCodec,
    ctx: &TaskContext,
) -> Result<Arc<dyn ExecutionPlan>> {
    let scan: m::Scan = message(bytes)?;
    if scan.version != VERSION {
        return Err(invalid(format!(
            "its version is {}, this program reads {VERSION}",
            scan.version
        )));
    }
    let schema: Schema = (&message::<common::Schema>(&scan.schema)?).try_into()?;
    let schema: SchemaRef = Arc::new(schema);
    let exprs = Exprs {
        schema: &schema,
        codec,
        ctx,
    };
    let source = source(&scan, &exprs)?;
    let deletes = Deletes::new(&scan)?;
    let files = scan
        .files
        .iter()
        .map(|file| decode_file(file, &schema, &deletes))
        .collect::<Result<Vec<_>>>()?;
    let groups = scan
        .groups
        .iter()
        .map(|group| {
            let pieces = group.pieces.iter().map(|piece| decode_piece(piece, &files));
            Ok(FileGroup::new(pieces.collect::<Result<_>>()?))
        })
        .collect::<Result<_>>()?;
    let statistics: Statistics = (&message::<common::Statistics>(&scan.statistics)?).try_into()?;
    let orderings = scan
        .output_ordering
        .iter()
        .map(|ordering| {
            LexOrdering::new(exprs.order(ordering)?).ok_or_else(|| invalid("an empty ordering"))
        })
        .collect::<Result<_>>()?;
    let url = ObjectStoreUrl::parse(&scan.object_store_url)?;
    let config = FileScanConfigBuilder::new(url, source)
        .with_file_groups(groups)
        .with_statistics(statistics)
        .with_limit(to_usize(scan.limit)?)
        .with_batch_size(to_usize(scan.batch_size)?)
        .with_output_ordering(orderings)
        .with_preserve_order(scan.preserve_order)
        .build();
    Ok(DataSourceExec::from_data_source(config))
}

fn to_usize(value: Option<u64>) -> Result<Option<usize>> {
    value.map(usize::try_from).transpose().map_err(invalid)
}

fn source(scan: &m::Scan, exprs: &Exprs<'_>) -> Result<Arc<dyn FileSource>> {
    let options: common::TableParquetOptions = message(&scan.parquet_options)?;
    if options.global.is_none() {
        // DataFusion's conversion takes it for granted.
        return Err(invalid("the Parquet options are incomplete"));
    }
    let options: TableParquetOptions = (&options).try_into()?;
    let fields = decode_fields(&scan.fields)?;
    if fields.len() != exprs.schema.fields().len() {
        return Err(invalid("columns and field ids differ in number"));
    }
    let rules = match &scan.name_mapping {
        Some(json) => {
            let mapping: NameMapping = serde_json::from_str(json).map_err(invalid)?;
            NameRules::Mapping(Arc::new(mapping))
        }
        None => NameRules::History(Arc::new(
            scan.name_history
                .iter()
                .map(|pair| (pair.name.clone(), pair.id))
                .collect(),
        )),
    };
    let counts = scan.counts.unwrap_or_default();
    let info = ScanInfo {
        table: scan.table.clone(),
        snapshot_id: scan.snapshot_id,
        columns: Arc::new(TableColumns {
            arrow: Arc::clone(exprs.schema),
            fields,
            // Planning is over.
            unmapped: HashSet::new(),
        }),
        rules,
        counts: PlanCounts {
            manifests_total: counts.manifests_total,
            manifests_read: counts.manifests_read,
            files_total: counts.files_total,
            files_read: counts.files_read,
            bytes_read: counts.bytes_read,
            delete_files: counts.delete_files,
            bytes_total: counts.bytes_total,
            row_groups: counts.row_groups,
        },
    };
    let mut parquet = ParquetSource::new(TableSchema::from_file_schema(Arc::clone(exprs.schema)))
        .with_table_parquet_options(options);
    if let Some(predicate) = &scan.predicate {
        parquet = parquet.with_predicate(exprs.expr(predicate)?);
    }
    let env = ScanEnv::of(exprs.ctx.session_config(), &exprs.ctx.runtime_env());
    let mut source = IcebergSource::new(parquet, Arc::new(info), env);
    if let Some(hint) = &scan.sort_hint {
        source = source.with_sort_hint(&exprs.order(hint)?)?;
    }
    let projection = scan
        .projection
        .iter()
        .map(|column| {
            Ok(ProjectionExpr::new(
                exprs.expr(&column.expr)?,
                column.alias.clone(),
            ))
        })
        .collect::<Result<Vec<_>>>()?;
    source
        .try_pushdown_projection(&ProjectionExprs::new(projection))?
        .ok_or_else(|| invalid("its projection was refused"))
}

/// Decodes expressions over the table schema.
struct Exprs<'a> {
    schema: &'a SchemaRef,
    codec: &'a dyn PhysicalExtensionCodec,
    ctx: &'a TaskContext,
}

impl Exprs<'_> {
    fn expr(&self, bytes: &[u8]) -> Result<Arc<dyn PhysicalExpr>> {
        let node: PhysicalExprNode = message(bytes)?;
        parse_physical_expr(&node, self.ctx, self.schema, self.codec)
    }

    fn order(&self, ordering: &m::Ordering) -> Result<Vec<PhysicalSortExpr>> {
        let ctx = PhysicalPlanDecodeContext::new(self.ctx, self.codec);
        ordering
            .exprs
            .iter()
            .map(|bytes| {
                let node: PhysicalSortExprNode = message(bytes)?;
                parse_physical_sort_expr(
                    &node,
                    &ctx,
                    self.schema,
                    &DefaultPhysicalProtoConverter {},
                )
            })
            .collect()
    }
}

fn decode_fields(fields: &[m::Field]) -> Result<Vec<TableField>> {
    fields
        .iter()
        .map(|field| {
            Ok(TableField {
                id: field.id,
                initial_default: field.initial_default.as_deref().map(scalar).transpose()?,
                children: decode_fields(&field.children)?,
            })
        })
        .collect()
}

fn scalar(bytes: &[u8]) -> Result<ScalarValue> {
    Ok((&message::<common::ScalarValue>(bytes)?).try_into()?)
}

fn decode_file(file: &m::File, schema: &SchemaRef, deletes: &Deletes) -> Result<PartitionedFile> {
    let constants: Result<HashMap<i32, ScalarValue>> = file
        .constants
        .iter()
        .map(|constant| Ok((constant.id, scalar(&constant.value)?)))
        .collect();
    let meta = ObjectMeta {
        location: Path::parse(&file.path).map_err(invalid)?,
        last_modified: DateTime::from_timestamp_nanos(file.stamp_nanos),
        size: file.size_bytes,
        e_tag: None,
        version: None,
    };
    let scan_file = ScanFile {
        location: Arc::from(file.location.as_str()),
        spec_id: file.spec_id,
        sequence_number: file.sequence_number,
        record_count: file.record_count,
        projected_bytes: file.projected_bytes,
        constants: constants?,
        without_nan: Box::from(file.without_nan.as_slice()),
        format: file_format(&file.format)?,
        first_row_id: file.first_row_id,
        deletes: FileDeletes {
            positions: pick(&deletes.files, &file.positions)?.into(),
            equality: pick(&deletes.groups, &file.keys)?.into(),
        },
    };
    let mut piece = PartitionedFile::new_from_meta(meta).with_extension(Arc::new(scan_file));
    if file.has_statistics {
        let mut statistics = Statistics::new_unknown(schema);
        statistics.num_rows =
            usize::try_from(file.record_count).map_or(Precision::Absent, Precision::Exact);
        for column in &file.columns {
            let slot = statistics
                .column_statistics
                .get_mut(column.index as usize)
                .ok_or_else(|| invalid("statistics of a column that does not exist"))?;
            *slot = column_statistics(&column.stats)?;
        }
        piece.statistics = Some(Arc::new(statistics));
    }
    Ok(piece)
}

/// The delete files of a scan, by place.
struct Deletes {
    files: Vec<Arc<DeleteFile>>,
    groups: Vec<Arc<EqualityGroup>>,
}

impl Deletes {
    fn new(scan: &m::Scan) -> Result<Self> {
        let files = scan
            .delete_files
            .iter()
            .map(|file| delete_file(file).map(Arc::new))
            .collect::<Result<Vec<_>>>()?;
        let groups = scan
            .key_groups
            .iter()
            .map(|group| {
                Ok(Arc::new(EqualityGroup {
                    ids: group.ids.clone().into(),
                    files: pick(&files, &group.files)?.into(),
                }))
            })
            .collect::<Result<_>>()?;
        Ok(Self { files, groups })
    }
}

fn pick<T>(all: &[Arc<T>], places: &[u32]) -> Result<Vec<Arc<T>>> {
    places
        .iter()
        .map(|place| all.get(*place as usize).map(Arc::clone))
        .collect::<Option<_>>()
        .ok_or_else(|| invalid("a delete file that does not exist"))
}

fn file_format(name: &str) -> Result<DataFileFormat> {
    DataFileFormat::from_str(name).map_err(invalid)
}

fn delete_file(file: &m::DeleteFile) -> Result<DeleteFile> {
    let data_file = file.data_file.as_deref().map(Arc::from);
    let kind = match (file.equality, file.offset, file.length_bytes, data_file) {
        (true, None, None, None) => DeleteKind::Equality,
        (false, None, None, only) => DeleteKind::Positions { only },
        (false, Some(offset), Some(length_bytes), Some(data_file)) => DeleteKind::Vector {
            offset,
            length_bytes,
            data_file,
        },
        _ => return Err(invalid("a delete file of no kind")),
    };
    Ok(DeleteFile {
        location: Arc::from(file.location.as_str()),
        store: ObjectStoreUrl::parse(&file.store)?,
        path: Path::parse(&file.path).map_err(invalid)?,
        format: file_format(&file.format)?,
        size_bytes: file.size_bytes,
        record_count: file.record_count,
        sequence_number: file.sequence_number,
        kind,
    })
}

fn column_statistics(bytes: &[u8]) -> Result<ColumnStatistics> {
    let stats: common::ColumnStats = message(bytes)?;
    Ok((&stats).into())
}

fn decode_piece(piece: &m::Piece, files: &[PartitionedFile]) -> Result<PartitionedFile> {
    let mut decoded = files
        .get(piece.file as usize)
        .ok_or_else(|| invalid("a piece of a file that does not exist"))?
        .clone();
    decoded.range = match (piece.start, piece.end) {
        (Some(start), Some(end)) if 0 <= start && start <= end => Some(FileRange { start, end }),
        (None, None) => None,
        _ => return Err(invalid("a piece with an impossible range")),
    };
    Ok(decoded)
}
