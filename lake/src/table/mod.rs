//! An Iceberg table as DataFusion sees it.

mod scan;

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DFSchema, Statistics};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use iceberg::spec::{MAIN_BRANCH, NameMapping, SchemaRef as IcebergSchemaRef, SnapshotRef};
use iceberg::table::Table;

use self::scan::Scan;
use crate::catalog::COLUMN_TYPE_PROPERTY;
use crate::evolution::NAME_MAPPING;
use crate::plan::statistics::scan_statistics;
use crate::plan::{FilePlan, ManifestCache, plan_files};
use crate::scan::mapping::NameRules;
use crate::scan::metadata_columns::metadata_column;
use crate::scan::schema::{TableColumns, names_by_history};
use crate::scan::{RowCountExec, ScanOptions};
use crate::store::Stores;
use crate::version::TableVersion;
use crate::{Error, Result, TableName};

/// Property that is set on encrypted tables.
const ENCRYPTION_KEY: &str = "encryption.key-id";

/// One snapshot of an Iceberg table: the current one, or an older one from [`IcebergTable::at`].
#[derive(Clone, Debug)]
pub struct IcebergTable {
    name: TableName,
    table: Table,
    snapshot: Option<SnapshotRef>,
    /// What was asked for; the current state when absent.
    version: Option<TableVersion>,
    schema: IcebergSchemaRef,
    /// The columns of `schema`, then the metadata columns asked for.
    columns: Arc<TableColumns>,
    /// Columns that exist but cannot be read, by field id: the name of their type.
    unreadable: Arc<HashMap<i32, String>>,
    rules: NameRules,
    manifests: Arc<ManifestCache>,
    stores: Arc<Stores>,
}

impl IcebergTable {
    /// Makes a provider for the table as it stands in `table`'s metadata. Decoded manifests are
    /// kept in `manifests`; `stores` say where the files lie.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for encrypted tables and for types that cannot be read;
    /// [`Error::Corrupt`] for a name mapping that is not one.
    pub fn try_new(
        name: TableName,
        table: Table,
        manifests: Arc<ManifestCache>,
        stores: Arc<Stores>,
    ) -> Result<Arc<Self>> {
        let metadata = table.metadata();
        let full_name = name.to_string();
        if metadata.properties().contains_key(ENCRYPTION_KEY)
            || metadata.encryption_keys_iter().len() > 0
        {
            return Err(Error::Unsupported {
                table: full_name,
                what: "the data".to_string(),
                why: "the table is encrypted".to_string(),
            });
        }
        let snapshot = metadata.current_snapshot().cloned();
        let schema = metadata.current_schema().clone();
        let unreadable = metadata.properties().iter().filter_map(|(key, ty)| {
            let id = key.strip_prefix(COLUMN_TYPE_PROPERTY)?.parse().ok()?;
            Some((id, ty.clone()))
        });
        let unreadable = Arc::new(unreadable.collect());
        let rules = name_rules(&full_name, &table)?;
        let columns = Arc::new(columns_of(&full_name, &schema, &rules)?);
        Ok(Arc::new(Self {
            name,
            table,
            snapshot,
            version: None,
            schema,
            columns,
            unreadable,
            rules,
            manifests,
            stores,
        }))
    }

    /// The table as it was, or as a branch or tag has it.
    ///
    /// # Errors
    /// As [`TableVersion::resolve`] and [`IcebergTable::try_new`].
    pub fn at(&self, version: &TableVersion) -> Result<Arc<Self>> {
        let full_name = self.name.to_string();
        let is_main = matches!(version, TableVersion::Branch(name) if name == MAIN_BRANCH);
        if is_main && self.table.metadata().current_snapshot().is_none() {
            return Ok(Arc::new(self.clone()));
        }
        let (snapshot, schema) = version.resolve(&full_name, self.table.metadata())?;
        let columns = Arc::new(columns_of(&full_name, &schema, &self.rules)?);
        Ok(Arc::new(Self {
            snapshot: Some(snapshot),
            version: Some(version.clone()),
            schema,
            columns,
            ..self.clone()
        }))
    }

    /// The table with metadata columns (`_file`, `_pos`, ...) after its own ones. A name that the
    /// table has itself stands for its own column.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a name that is none of
    /// [`METADATA_COLUMNS`](crate::scan::metadata_columns::METADATA_COLUMNS).
    pub fn with_metadata_columns(self: &Arc<Self>, names: &[String]) -> Result<Arc<Self>> {
        let mut columns = self.columns.as_ref().clone();
        for name in names {
            if columns.arrow.index_of(name).is_ok() {
                continue;
            }
            let (arrow, field) = metadata_column(name, self.table.metadata())
                .ok_or_else(|| Error::NotFound(format!("there is no metadata column {name}")))?;
            columns.push(arrow, field);
        }
        Ok(Arc::new(Self {
            columns: Arc::new(columns),
            ..self.as_ref().clone()
        }))
    }

    /// The table's full name.
    pub fn name(&self) -> &TableName {
        &self.name
    }

    /// The table underneath.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The schema the table is read with.
    pub fn iceberg_schema(&self) -> &IcebergSchemaRef {
        &self.schema
    }

    /// The snapshot that is read; none when the table has none.
    pub fn snapshot(&self) -> Option<&SnapshotRef> {
        self.snapshot.as_ref()
    }

    /// Which state of the table was asked for; the current one when absent.
    pub fn version(&self) -> Option<&TableVersion> {
        self.version.as_ref()
    }

    /// The `CREATE TABLE` statement that would make the table anew.
    pub fn definition(&self) -> String {
        crate::definition::create_table(&self.name, self.table.metadata(), &self.schema)
    }

    /// The columns with their field ids.
    pub fn columns(&self) -> &Arc<TableColumns> {
        &self.columns
    }

    /// Decoded manifests of all tables.
    pub(crate) fn manifests(&self) -> &ManifestCache {
        &self.manifests
    }

    /// Statistics of the whole snapshot, from the manifests.
    ///
    /// # Errors
    /// As a scan: see [`plan_files`].
    pub async fn snapshot_statistics(&self) -> Result<Statistics> {
        let plan = self.plan(None).await?;
        let all: Vec<usize> = (0..self.columns.fields.len()).collect();
        let statistics = scan_statistics(&plan.files, &self.columns, &self.schema, &all);
        Ok(match plan.deletes.is_empty() {
            true => statistics,
            false => statistics.to_inexact(),
        })
    }

    async fn plan(&self, filter: Option<Arc<dyn PhysicalExpr>>) -> Result<FilePlan> {
        let Some(snapshot) = &self.snapshot else {
            return Ok(FilePlan::default());
        };
        plan_files(
            &self.name.to_string(),
            &self.table,
            snapshot,
            &self.schema,
            &self.columns,
            filter,
            &self.manifests,
        )
        .await
    }

    /// The filters as one physical expression over the table's columns. A filter that has no
    /// physical form is left out: it prunes nothing, and is applied above the scan anyway.
    fn physical_filter(
        &self,
        state: &dyn Session,
        filters: &[Expr],
    ) -> Option<Arc<dyn PhysicalExpr>> {
        let schema = DFSchema::try_from(Arc::clone(&self.columns.arrow)).ok()?;
        let usable: Vec<Expr> = filters
            .iter()
            .filter(|filter| {
                state
                    .create_physical_expr((*filter).clone(), &schema)
                    .is_ok()
            })
            .cloned()
            .collect();
        state
            .create_physical_expr(conjunction(usable)?, &schema)
            .ok()
    }

    /// Columns whose statistics may be asked for: those projected or filtered.
    fn wanted_columns(&self, projection: Option<&Vec<usize>>, filters: &[Expr]) -> Vec<usize> {
        let count = self.columns.fields.len();
        let mut wanted: Vec<usize> = match projection {
            Some(indices) => indices.clone(),
            None => (0..count).collect(),
        };
        for column in filters.iter().flat_map(|filter| filter.column_refs()) {
            wanted.extend(self.columns.arrow.index_of(column.name()).ok());
        }
        wanted.sort_unstable();
        wanted.dedup();
        wanted.retain(|index| *index < count);
        wanted
    }

    /// A scan of no columns, of a plan without deletes.
    fn row_count(&self, plan: &FilePlan, limit: Option<usize>) -> Arc<dyn ExecutionPlan> {
        let files = plan.files.iter();
        let rows = files.map(|(manifest, index)| manifest.entries[*index].record_count);
        let snapshot_id = self.snapshot().map(|snapshot| snapshot.snapshot_id());
        let rows = rows.fold(0, u64::saturating_add);
        let rows = limit.map_or(rows, |limit| rows.min(limit as u64));
        Arc::new(RowCountExec::new(self.name.to_string(), snapshot_id, rows))
    }

    /// Refuses columns whose type cannot be read.
    fn check_readable(&self, wanted: &[usize]) -> Result<()> {
        for place in wanted {
            let field = self.columns.fields.get(*place);
            let Some(ty) = field.and_then(|field| self.unreadable.get(&field.id)) else {
                continue;
            };
            return Err(Error::Unsupported {
                table: self.name.to_string(),
                what: format!("column {}", self.columns.arrow.field(*place).name()),
                why: format!("its type {ty} is not supported yet; leave it out of the query"),
            });
        }
        Ok(())
    }
}

fn columns_of(table: &str, schema: &IcebergSchemaRef, rules: &NameRules) -> Result<TableColumns> {
    let columns = TableColumns::try_new(table, schema)?;
    Ok(match rules {
        NameRules::Mapping(mapping) => columns.with_name_mapping(mapping),
        NameRules::History(_) => columns,
    })
}

fn name_rules(full_name: &str, table: &Table) -> Result<NameRules> {
    let metadata = table.metadata();
    match metadata.properties().get(NAME_MAPPING) {
        Some(json) => serde_json::from_str::<NameMapping>(json)
            .map(|mapping| NameRules::Mapping(Arc::new(mapping)))
            .map_err(|error| Error::Corrupt {
                path: table.metadata_location().unwrap_or(full_name).to_string(),
                why: format!("property {NAME_MAPPING}: {error}"),
            }),
        None => {
            let mut schemas: Vec<_> = metadata.schemas_iter().collect();
            schemas.sort_by_key(|schema| schema.schema_id());
            let names = names_by_history(schemas.into_iter().map(AsRef::as_ref));
            Ok(NameRules::History(Arc::new(names)))
        }
    }
}

#[async_trait]
impl TableProvider for IcebergTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.columns.arrow)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// All filters prune, none is applied completely: bounds and partitions rule files out, and
    /// what is left has to be filtered row by row.
    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> DfResult<Vec<TableProviderFilterPushDown>> {
        Ok(filters
            .iter()
            .map(|filter| {
                if filter.is_volatile() {
                    TableProviderFilterPushDown::Unsupported
                } else {
                    TableProviderFilterPushDown::Inexact
                }
            })
            .collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let options = ScanOptions::of(state.config_options());
        let wanted = self.wanted_columns(projection, filters);
        self.check_readable(&wanted)?;
        let filter = options
            .prune
            .then(|| self.physical_filter(state, filters))
            .flatten();
        let plan = self.plan(filter).await?;
        if wanted.is_empty() && filters.is_empty() && plan.deletes.is_empty() {
            return Ok(self.row_count(&plan, limit));
        }
        // Filters apply after the limit would, so a limit counts only without them.
        let limit = limit.filter(|_| filters.is_empty());
        Scan::new(self, state, options, projection, wanted, limit, plan)?.build()
    }
}
