//! What the names in a statement stand for: tables as they are now, and the logical plan over them.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::catalog::{CatalogProviderList, TableProvider};
use datafusion::common::TableReference;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionConfig;
use inshore_lake::catalog::{MakeProvider, Reference, StatementCatalogs};
use inshore_lake::metadata_tables;
use inshore_lake::name::TableName;
use inshore_lake::table::IcebergTable;
use inshore_lake::version::TableVersion;

use super::Session;
use crate::listing::information_schema;
use crate::metadata_columns::{self, Metadata};
use crate::names::Mention;
use crate::{Error, Result, as_of, describe, parameters, system};

/// A statement, or the query of a view, before it is planned.
pub(super) struct Unit {
    pub statement: datafusion::sql::parser::Statement,
    pub mentions: Vec<Mention>,
    /// With the defaults that hold for its names.
    pub config: SessionConfig,
    pub references: Vec<Reference>,
}

impl Unit {
    /// Whether it names metadata columns.
    pub fn names_metadata(&self) -> bool {
        let mut references = self.references.iter();
        references.any(|reference| !reference.metadata_columns.is_empty())
    }
}

impl Session {
    /// Plans a statement against the catalogs as they are now.
    pub(super) async fn logical_plan(
        &self,
        statement: datafusion::sql::parser::Statement,
        mentions: &[Mention],
        config: SessionConfig,
    ) -> Result<LogicalPlan> {
        let unit = self.unit(statement, mentions.to_vec(), config)?;
        self.planned(unit, None).await
    }

    /// Plans a statement and the views that it uses. `own` is the view that is made of it.
    pub(super) async fn planned(&self, unit: Unit, own: Option<&TableName>) -> Result<LogicalPlan> {
        let tables = self.tables_of(&unit);
        let catalogs = self.catalogs_for(&tables).await?;
        let hide = self.expand_views(&unit, &catalogs, own).await?;
        self.plan_unit(unit, &catalogs, hide).await
    }

    /// A statement with what its names stand for under these settings.
    pub(super) fn unit(
        &self,
        statement: datafusion::sql::parser::Statement,
        mentions: Vec<Mention>,
        config: SessionConfig,
    ) -> Result<Unit> {
        let state = self.node.local_state(config.clone());
        let mut references = self.references(&state, &statement, &mentions)?;
        for (parts, column) in metadata_columns::uses(&statement) {
            let name = self.resolved(&state, reference_of(&parts));
            for reference in references.iter_mut().filter(|r| r.name == name) {
                reference.metadata_columns.push(column.to_owned());
            }
        }
        Ok(Unit {
            statement,
            mentions,
            config,
            references,
        })
    }

    /// Plans one statement over tables and views that are there. With `hide`, tables may have
    /// metadata columns, which wildcards leave out.
    pub(super) async fn plan_unit(
        &self,
        unit: Unit,
        catalogs: &Arc<StatementCatalogs>,
        hide: bool,
    ) -> Result<LogicalPlan> {
        let Unit {
            mut statement,
            mentions,
            config,
            references,
        } = unit;
        let mut state = self.node.local_state(config);
        parameters::register(&mut state)?;
        self.open_files(&references, &mentions, &state, catalogs)
            .await?;
        self.check_names(&references, &mentions, &state, catalogs)
            .await?;
        if hide {
            let metadata = self.metadata_of(&mentions, &state, catalogs).await?;
            let of = |parts: &[String]| metadata.get(parts).cloned().unwrap_or_default();
            metadata_columns::hide(&mut statement, of)?;
        }
        self.fill_defaults(&mut statement, &state, catalogs).await?;
        let defaults = self.described_defaults(&statement, &state, catalogs);
        let defaults = defaults.await?;
        let catalogs: Arc<dyn CatalogProviderList> = Arc::<StatementCatalogs>::clone(catalogs);
        let state = SessionStateBuilder::new_from_existing(state)
            .with_catalog_list(catalogs)
            .build();
        match state.statement_to_plan(statement).await? {
            LogicalPlan::DescribeTable(table) => Ok(describe::columns(&table.schema, &defaults)?),
            plan => Ok(plan),
        }
    }

    /// Loads further tables for a statement: those that its views refer to.
    pub(super) async fn resolve_into(
        &self,
        resolved: &StatementCatalogs,
        references: &[Reference],
    ) -> Result<()> {
        let wanted: Vec<Reference> = references
            .iter()
            .filter(|reference| reference.base.namespace != system::SCHEMA)
            .cloned()
            .collect();
        let catalogs = &self.node.options.catalogs;
        catalogs.resolve_into(resolved, &wanted).await;
        Box::pin(self.register_own(resolved, references)).await
    }

    /// Adds the tables that the coordinator makes up: those of `system` and `information_schema`.
    async fn register_own(
        &self,
        resolved: &StatementCatalogs,
        references: &[Reference],
    ) -> Result<()> {
        for Reference { name, .. } in references {
            let provider = match name.namespace.as_str() {
                system::SCHEMA => self.node.system_table(&name.table)?,
                information_schema::SCHEMA => information_schema::table(self, &name.table).await?,
                _ => None,
            };
            if let Some(provider) = provider {
                resolved.register(&name.catalog, &name.namespace, &name.table, provider);
            }
        }
        Ok(())
    }

    /// The references that a catalog has to be asked for: files stand for themselves.
    pub(super) fn tables_of(&self, unit: &Unit) -> Vec<Reference> {
        let state = self.node.local_state(unit.config.clone());
        let files = unit
            .mentions
            .iter()
            .filter(|mention| mention.file.is_some());
        let files = files.map(|mention| self.resolved(&state, reference_of(&mention.parts)));
        let files: Vec<TableName> = files.collect();
        let tables = unit.references.iter();
        let tables = tables.filter(|reference| !files.contains(&reference.name));
        tables.cloned().collect()
    }

    /// The tables a statement refers to, and in which state.
    fn references(
        &self,
        state: &SessionState,
        statement: &datafusion::sql::parser::Statement,
        mentions: &[Mention],
    ) -> Result<Vec<Reference>> {
        let evaluator = as_of::Evaluator::new(state);
        let mut versioned = BTreeMap::new();
        for mention in mentions {
            let Some(version) = &mention.version else {
                continue;
            };
            let name = self.resolved(state, reference_of(&mention.parts));
            let base = self.resolved(state, reference_of(&version.base));
            if [system::SCHEMA, information_schema::SCHEMA].contains(&base.namespace.as_str()) {
                return Err(Error::Unsupported(format!(
                    "{base} is no Iceberg table and has no versions, at {}",
                    version.position
                )));
            }
            versioned.insert(name, (base, evaluator.version(version)?));
        }
        let names = state.resolve_table_references(statement)?.into_iter();
        let references = names.map(|name| {
            let mut reference = Reference::from(self.resolved(state, name));
            reference.selected = selected(state, &reference.name);
            if let Some((base, version)) = versioned.get(&reference.name) {
                reference.base = base.clone();
                reference.version = Some(version.clone());
            }
            reference
        });
        Ok(references.collect())
    }

    /// The metadata columns of all mentioned tables, by the parts of their names: one table may be
    /// mentioned in several ways.
    async fn metadata_of(
        &self,
        mentions: &[Mention],
        state: &SessionState,
        catalogs: &StatementCatalogs,
    ) -> Result<BTreeMap<Vec<String>, Metadata>> {
        let mut found = BTreeMap::new();
        for Mention { parts, .. } in mentions {
            let name = self.resolved(state, reference_of(parts));
            let Some(table) = table_of(catalogs, &name).await? else {
                continue;
            };
            let Some(table) = table.downcast_ref::<IcebergTable>() else {
                continue;
            };
            let (schema, own) = (table.schema(), table.iceberg_schema().as_struct());
            let columns = schema.fields().iter().map(|field| field.name().clone());
            let (shown, hidden) = columns
                .filter(|column| metadata_columns::NAMES.contains(&column.as_str()))
                .partition(|column| own.field_by_name(column).is_some());
            found.insert(parts.clone(), Metadata { hidden, shown });
        }
        Ok(found)
    }

    /// `SHOW CREATE TABLE`.
    pub(super) async fn show_create(
        &self,
        parts: &[String],
        mentions: &[Mention],
        config: SessionConfig,
    ) -> Result<LogicalPlan> {
        let state = self.node.local_state(config);
        let name = self.resolved(&state, reference_of(parts));
        let references = [Reference::from(name.clone())];
        let catalogs = self.catalogs_for(&references).await?;
        self.check_names(&references, mentions, &state, &catalogs)
            .await?;
        let table = table_of(&catalogs, &name).await?;
        let iceberg = table
            .as_ref()
            .and_then(|t| t.downcast_ref::<IcebergTable>());
        match iceberg {
            Some(table) => Ok(describe::definition(&name, table.definition())?),
            None => Err(Error::Unsupported(format!(
                "{name} is no Iceberg table and has no definition"
            ))),
        }
    }

    pub(super) fn resolved(&self, state: &SessionState, reference: TableReference) -> TableName {
        let catalog = &state.config_options().catalog;
        let resolved = reference.resolve(&catalog.default_catalog, &catalog.default_schema);
        TableName {
            catalog: resolved.catalog.to_string(),
            namespace: resolved.schema.to_string(),
            table: resolved.table.to_string(),
        }
    }

    /// The catalogs one statement sees: its tables, loaded now, the session's own, and `system`.
    async fn catalogs_for(&self, references: &[Reference]) -> Result<Arc<StatementCatalogs>> {
        let own = self.tables.lock().clone();
        let wanted: Vec<Reference> = references
            .iter()
            .filter(|reference| reference.base.namespace != system::SCHEMA)
            .cloned()
            .collect();
        let manifests = Arc::clone(&self.node.manifests);
        let catalogs = &self.node.options.catalogs;
        let stores = Arc::clone(&self.node.options.stores);
        let make: MakeProvider = Arc::new(move |name, table| {
            let (manifests, stores) = (Arc::clone(&manifests), Arc::clone(&stores));
            IcebergTable::try_new(name, table, manifests, stores)
        });
        let resolved = catalogs.resolve(&wanted, own, make).await;
        Box::pin(self.register_own(&resolved, references)).await?;
        Ok(resolved)
    }

    /// Refuses names that stand for nothing, with near ones and the place in the text.
    async fn check_names(
        &self,
        references: &[Reference],
        mentions: &[Mention],
        state: &SessionState,
        catalogs: &StatementCatalogs,
    ) -> Result<()> {
        for Reference {
            name,
            base,
            selected,
            ..
        } in references
        {
            // A table function stands where a table does, without a schema.
            let is_function = state.table_functions().contains_key(&name.table);
            if name.namespace == information_schema::SCHEMA || is_function || exists(catalogs, name)
            {
                continue;
            }
            let position = mentions
                .iter()
                .find(|mention| self.resolved(state, reference_of(&mention.parts)) == *name)
                .and_then(|mention| mention.position);
            let mut base = base.clone();
            if let Some((table, _)) = selected {
                // Where there is no such schema, a branch or tag was meant.
                let schemas = self.node.options.catalogs.namespaces(&base.catalog).await;
                if schemas.is_ok_and(|schemas| !schemas.contains(&base.namespace)) {
                    base = table.clone();
                }
            }
            if let Some((table, _)) = metadata_tables::split(&base.table) {
                base.table = table.to_owned();
            }
            let mut message = self
                .node
                .options
                .catalogs
                .not_found(&base)
                .await
                .to_string();
            if let Some(at) = position {
                message.push_str(&format!(" at {at}"));
            }
            return Err(Error::NotFound(message));
        }
        Ok(())
    }

    pub(super) fn own_name(&self, parts: &[String]) -> TableName {
        let (catalog, schema) = self.defaults();
        let resolved = reference_of(parts).resolve(&catalog, &schema);
        TableName {
            catalog: resolved.catalog.to_string(),
            namespace: resolved.schema.to_string(),
            table: resolved.table.to_string(),
        }
    }
}

pub(super) fn exists(catalogs: &StatementCatalogs, name: &TableName) -> bool {
    catalogs
        .catalog(&name.catalog)
        .and_then(|catalog| catalog.schema(&name.namespace))
        .is_some_and(|schema| schema.table_exist(&name.table))
}

/// The provider of a table of this statement.
pub(super) async fn table_of(
    catalogs: &StatementCatalogs,
    name: &TableName,
) -> Result<Option<Arc<dyn TableProvider>>> {
    let schema = catalogs
        .catalog(&name.catalog)
        .and_then(|catalog| catalog.schema(&name.namespace));
    match schema {
        Some(schema) => Ok(schema.table(&name.table).await?),
        None => Ok(None),
    }
}

/// The branch or tag that Spark means by `t.branch_x` and `t.tag_x`: schema `t` is a table's name.
fn selected(state: &SessionState, name: &TableName) -> Option<(TableName, TableVersion)> {
    let version = match name.table.split_once('_')? {
        (_, "") => return None,
        ("branch", branch) => TableVersion::Branch(branch.to_owned()),
        ("tag", tag) => TableVersion::Tag(tag.to_owned()),
        _ => return None,
    };
    let defaults = &state.config_options().catalog;
    let (schema, table) = match name.namespace.rsplit_once('.') {
        Some(parts) => parts,
        None if name.catalog == defaults.default_catalog => {
            (defaults.default_schema.as_str(), name.namespace.as_str())
        }
        None => return None,
    };
    Some((TableName::new(&name.catalog, schema, table), version))
}

pub(super) fn reference_of(parts: &[String]) -> TableReference {
    match parts {
        [catalog, schema, table] => {
            TableReference::full(catalog.as_str(), schema.as_str(), table.as_str())
        }
        [schema, table] => TableReference::partial(schema.as_str(), table.as_str()),
        [table] => TableReference::bare(table.as_str()),
        _ => TableReference::bare(""),
    }
}
