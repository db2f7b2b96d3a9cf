//! What changes a SQL catalog: each change is one statement, so it happens as a whole or not at all.
//!
//! Namespaces are entered as PyIceberg enters them: by a property `exists`. iceberg-catalog-sql is
//! not used for it, since it ignores errors of its transactions' commits.

use std::collections::HashMap;

use super::{IS_TABLE, SqlBackend};
use crate::catalog::backend::{Backend, LOCATION};
use crate::catalog::files;
use crate::{Error, Result, TableName};

/// Whether nothing is in a namespace (`$2`) or below it.
const IS_EMPTY: &str = "NOT EXISTS (SELECT 1 FROM iceberg_tables t WHERE t.catalog_name = $1 \
        AND (t.table_namespace = $2 OR substr(t.table_namespace, 1, length($2) + 1) = $2 || '.')) \
    AND NOT EXISTS (SELECT 1 FROM iceberg_namespace_properties p WHERE p.catalog_name = $1 \
        AND substr(p.namespace, 1, length($2) + 1) = $2 || '.')";

impl SqlBackend {
    /// The number of rows that a statement changed; none when a row of that key exists already.
    async fn change(&self, statement: &str, arguments: &[&str]) -> Result<Option<u64>> {
        self.prepare().await?;
        let mut query = sqlx::query(statement);
        for argument in arguments {
            query = query.bind((*argument).to_owned());
        }
        match query.execute(&self.pool).await {
            Ok(done) => Ok(Some(done.rows_affected())),
            Err(error) => match error.as_database_error() {
                Some(database) if database.is_unique_violation() => Ok(None),
                _ => Err(self.failed(&error)),
            },
        }
    }

    async fn has_namespace(&self, namespace: &str) -> Result<bool> {
        Ok(self.namespaces().await?.iter().any(|n| n == namespace))
    }

    pub(super) async fn insert_namespace(
        &self,
        namespace: &str,
        properties: &HashMap<String, String>,
    ) -> Result<bool> {
        if self.has_namespace(namespace).await? {
            return Ok(false);
        }
        let mut statement = "INSERT INTO iceberg_namespace_properties \
                             (catalog_name, namespace, property_key, property_value) \
                             VALUES ($1, $2, 'exists', 'true')"
            .to_owned();
        let mut arguments = vec![self.name.as_str(), namespace];
        for (key, value) in properties.iter().filter(|(key, _)| *key != "exists") {
            let place = arguments.len() + 1;
            statement.push_str(&format!(", ($1, $2, ${place}, ${})", place + 1));
            arguments.extend([key.as_str(), value.as_str()]);
        }
        Ok(self.change(&statement, &arguments).await?.is_some())
    }

    pub(super) async fn delete_namespace(&self, namespace: &str) -> Result<bool> {
        if !self.has_namespace(namespace).await? {
            return Ok(false);
        }
        let statement = format!(
            "DELETE FROM iceberg_namespace_properties \
             WHERE catalog_name = $1 AND namespace = $2 AND {IS_EMPTY}"
        );
        match self.change(&statement, &[&self.name, namespace]).await? {
            Some(rows) if rows > 0 => Ok(true),
            _ => Err(files::not_empty(namespace)),
        }
    }

    pub(super) async fn default_location(&self, name: &TableName) -> Result<String> {
        let query = "SELECT property_value FROM iceberg_namespace_properties \
                     WHERE catalog_name = $1 AND namespace = $2 AND property_key = $3";
        let arguments = [self.name.as_str(), &name.namespace, LOCATION];
        let found = self.rows(query, &arguments).await?;
        if let Some(location) = found.into_iter().flatten().flatten().next() {
            return Ok(format!("{}/{}", location.trim_end_matches('/'), name.table));
        }
        let warehouse = self.warehouse.as_deref().ok_or_else(|| {
            self.service.misconfigured(
                "it has no warehouse for new tables: configure one, or name a LOCATION",
            )
        })?;
        let namespace = name.namespace.replace('.', "/");
        Ok(format!("{warehouse}/{namespace}/{}", name.table))
    }

    pub(super) async fn insert_table(&self, name: &TableName, metadata: &str) -> Result<bool> {
        let statement = "INSERT INTO iceberg_tables (catalog_name, table_namespace, table_name, \
                         metadata_location, previous_metadata_location, iceberg_type) \
                         VALUES ($1, $2, $3, $4, NULL, 'TABLE')";
        let arguments = [&*self.name, &*name.namespace, &*name.table, metadata];
        Ok(self.change(statement, &arguments).await?.is_some())
    }

    pub(super) async fn delete_table(&self, name: &TableName) -> Result<bool> {
        let statement = format!(
            "DELETE FROM iceberg_tables \
             WHERE catalog_name = $1 AND table_namespace = $2 AND table_name = $3 AND {IS_TABLE}"
        );
        let arguments = [&*self.name, &*name.namespace, &*name.table];
        let rows = self.change(&statement, &arguments).await?;
        Ok(rows.is_some_and(|rows| rows > 0))
    }

    pub(super) async fn move_table(&self, from: &TableName, to: &TableName) -> Result<bool> {
        let statement = format!(
            "UPDATE iceberg_tables SET table_namespace = $4, table_name = $5 \
             WHERE catalog_name = $1 AND table_namespace = $2 AND table_name = $3 AND {IS_TABLE}"
        );
        let arguments = [
            &*self.name,
            &*from.namespace,
            &*from.table,
            &*to.namespace,
            &*to.table,
        ];
        match self.change(&statement, &arguments).await? {
            Some(rows) => Ok(rows > 0),
            None => Err(Error::Exists(format!("table {to} exists already"))),
        }
    }

    pub(super) async fn swap_pointer(
        &self,
        name: &TableName,
        from: &str,
        to: &str,
    ) -> Result<bool> {
        let statement = format!(
            "UPDATE iceberg_tables SET metadata_location = $5, previous_metadata_location = $4 \
             WHERE catalog_name = $1 AND table_namespace = $2 AND table_name = $3 \
             AND metadata_location = $4 AND {IS_TABLE}"
        );
        let arguments = [&*self.name, &*name.namespace, &*name.table, from, to];
        let rows = self.change(&statement, &arguments).await?;
        Ok(rows.is_some_and(|rows| rows > 0))
    }
}
