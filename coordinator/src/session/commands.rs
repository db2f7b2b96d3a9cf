//! Commands that change the session: settings, defaults, and tables opened by their files.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::error::DataFusionError;
use datafusion::logical_expr::Statement as PlanStatement;
use datafusion::sql::parser::CreateExternalTable;
use inshore_engine::distribute::PlacementOptions;
use inshore_lake::catalog::open_location;
use inshore_lake::table::IcebergTable;

use super::{SESSION_TABLES_MAX, Session};
use crate::listing::information_schema;
use crate::names::Mention;
use crate::statement::describe;
use crate::{Error, Result, ddl, system};

/// How long a statement of the session may take, in seconds. It cannot outlast the coordinator's.
pub(super) const STATEMENT_TIMEOUT: &str = "inshore.statement_timeout_seconds";

impl Session {
    pub(super) fn apply(&self, command: PlanStatement) -> Result<()> {
        match command {
            PlanStatement::SetVariable(set) => self.set_option(&set.variable, &set.value),
            PlanStatement::ResetVariable(reset) => self.reset_option(&reset.variable),
            other => Err(Error::Unsupported(format!(
                "{} is not supported yet",
                other.name()
            ))),
        }
    }

    /// Changes a setting, as `SET` does.
    ///
    /// # Errors
    /// [`Error::Sql`] for one that a client may not change, [`Error::Execution`] for a value that
    /// does not fit.
    pub fn set_option(&self, name: &str, value: &str) -> Result<()> {
        let key = name.to_lowercase();
        check_setting(&key)?;
        let set = self.settings.lock().options_mut().set(&key, value);
        // Some settings only pass on what the standard library says about a number.
        set.map_err(|error| {
            let why = describe(&error);
            let message = format!("{value} is no value of {key}: {why}");
            Error::Execution(DataFusionError::Configuration(message))
        })
    }

    /// Gives a setting its first value again, as `RESET` does.
    ///
    /// # Errors
    /// [`Error::Sql`] for one that a client may not change, [`Error::NotFound`] for no setting.
    pub fn reset_option(&self, name: &str) -> Result<()> {
        let key = name.to_lowercase();
        check_setting(&key)?;
        if key == STATEMENT_TIMEOUT {
            return self.set_option(&key, "0");
        }
        let fresh = self.node.base_config().options().entries();
        let fresh = fresh.into_iter().find(|entry| entry.key == key);
        let fresh = fresh.ok_or_else(|| Error::NotFound(format!("there is no setting {key}")))?;
        let value = fresh.value.unwrap_or_default();
        Ok(self.settings.lock().options_mut().set(&key, &value)?)
    }

    /// The settings that were changed, with their values.
    pub fn changed_options(&self) -> Vec<(String, String)> {
        let fresh = self.node.base_config().options().entries();
        let fresh: HashMap<_, _> = fresh.into_iter().map(|e| (e.key, e.value)).collect();
        let own = self.settings.lock().options().entries();
        let changed = own.into_iter().filter(|entry| {
            let is_default = entry.key.starts_with("datafusion.catalog.");
            !is_default
                && check_setting(&entry.key).is_ok()
                && fresh.get(&entry.key) != Some(&entry.value)
        });
        let changed = changed.map(|entry| (entry.key, entry.value.unwrap_or_default()));
        // DataFusion lists the settings of others without their prefix.
        let timeout_s = PlacementOptions::of(self.settings.lock().options());
        let timeout_s = timeout_s.statement_timeout_seconds;
        let timeout =
            (timeout_s > 0).then(|| (STATEMENT_TIMEOUT.to_owned(), timeout_s.to_string()));
        changed.chain(timeout).collect()
    }

    /// Makes a catalog the default one; the default schema stays.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a catalog that is not configured.
    pub fn use_catalog(&self, catalog: &str) -> Result<()> {
        if !self.node.options.catalogs.contains(catalog) {
            return Err(Error::NotFound(format!("there is no catalog {catalog}")));
        }
        self.set_defaults(Some(catalog.to_owned()), None);
        Ok(())
    }

    /// Makes a schema the default one: `schema` or `catalog.schema`.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a schema that does not exist.
    pub async fn use_schema(&self, parts: &[String]) -> Result<()> {
        let catalogs = &self.node.options.catalogs;
        let known = catalogs.names();
        let (catalog, namespace) = match parts {
            [catalog] if known.contains(catalog) => (catalog.clone(), None),
            [catalog, rest @ ..] if !rest.is_empty() && known.contains(catalog) => {
                (catalog.clone(), Some(rest.join(".")))
            }
            parts => (self.defaults().0, Some(parts.join("."))),
        };
        if let Some(namespace) = &namespace {
            let existing = catalogs.namespaces(&catalog).await?;
            let of_ours =
                [system::SCHEMA, information_schema::SCHEMA].contains(&namespace.as_str());
            if !of_ours && !existing.contains(namespace) {
                let hint = inshore_lake::catalog::hint(namespace, &existing);
                return Err(Error::NotFound(format!(
                    "schema {namespace} not found in catalog {catalog}{hint}"
                )));
            }
        }
        self.set_defaults(Some(catalog), namespace);
        Ok(())
    }

    pub(super) async fn create_external_table(
        &self,
        create: &CreateExternalTable,
        mentions: &[Mention],
    ) -> Result<()> {
        if !create.file_type.eq_ignore_ascii_case("iceberg") {
            return Err(Error::Unsupported(format!(
                "STORED AS {} is not supported; STORED AS ICEBERG is",
                create.file_type
            )));
        }
        if !create.columns.is_empty() {
            return Err(Error::Sql(
                "an Iceberg table brings its own columns; leave the column list out".to_owned(),
            ));
        }
        let parts = mentions
            .first()
            .map(|mention| mention.parts.clone())
            .unwrap_or_default();
        let name = self.own_name(&parts);
        let exists = self.tables.lock().contains_key(&name);
        if exists && create.if_not_exists {
            return Ok(());
        }
        if exists && !create.or_replace {
            return Err(Error::Sql(format!(
                "table {name} exists in this session already"
            )));
        }
        let stores = &self.node.options.stores;
        let table = open_location(stores, &create.location, &name).await?;
        let manifests = Arc::clone(&self.node.manifests);
        let provider = IcebergTable::try_new(name.clone(), table, manifests, Arc::clone(stores))?;
        let mut tables = self.tables.lock();
        if tables.len() >= SESSION_TABLES_MAX {
            return Err(Error::ResourceExhausted(format!(
                "a session may open {SESSION_TABLES_MAX} tables by their files; drop some"
            )));
        }
        tables.insert(name, provider);
        Ok(())
    }

    /// Tables of this session hide those of the catalogs.
    pub(super) async fn drop_tables(&self, names: &[Vec<String>], if_exists: bool) -> Result<()> {
        for parts in names {
            let name = self.own_name(parts);
            if self.tables.lock().remove(&name).is_none() {
                ddl::drop_table(&self.node.options.catalogs, &name, if_exists).await?;
            }
        }
        Ok(())
    }

    /// `DROP TABLE ... PURGE`: of tables of the catalogs.
    pub(super) async fn purge_tables(&self, names: &[Vec<String>], if_exists: bool) -> Result<()> {
        let catalogs = &self.node.options.catalogs;
        let names: Vec<_> = names.iter().map(|parts| self.own_name(parts)).collect();
        for name in &names {
            if self.tables.lock().contains_key(name) {
                return Err(Error::Unsupported(format!(
                    "{name} was opened by its files, which belong to somebody else's table; drop \
                     it without PURGE"
                )));
            }
            if self.is_view(name).await? {
                return Err(Error::Sql(format!(
                    "{name} is a view, which has no files; DROP VIEW removes it"
                )));
            }
        }
        for name in names {
            ddl::purge_table(catalogs, name, if_exists).await?;
        }
        Ok(())
    }
}

/// Settings that a client may change: those of the query engine. Everything else belongs to the
/// owner of the cluster.
fn check_setting(key: &str) -> Result<()> {
    const OPEN: [&str; 4] = [
        "datafusion.execution.",
        "datafusion.optimizer.",
        "datafusion.explain.",
        "datafusion.catalog.default_",
    ];
    match OPEN.iter().any(|prefix| key.starts_with(prefix))
        || ["datafusion.sql_parser.dialect", STATEMENT_TIMEOUT].contains(&key)
    {
        true => Ok(()),
        false => Err(Error::Sql(format!(
            "setting {key} cannot be changed in a session"
        ))),
    }
}
