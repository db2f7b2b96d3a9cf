//! What Flight SQL clients ask about the server and its tables. What there is comes from
//! [`listing`](crate::listing), as it does for SQL's own statements; here it gets Flight SQL's form.
//!
//! - [`sql_info`]: what the server can do.
//! - [`tables`]: catalogs, schemas, tables and their columns.
//! - [`keys`]: primary keys; the foreign keys that there are not.
//! - [`types`]: the types that columns can have.

mod keys;
mod sql_info;
mod tables;
mod types;

use std::fmt::Display;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_flight::sql::{Any, Command};
use datafusion::error::DataFusionError;
use prost::Message;

use crate::node::Coordinator;
use crate::session::Session;
use crate::{Error, Result};

pub(super) use sql_info::ServerInfo;

/// A question about metadata.
pub(super) struct Asked(Command);

impl Asked {
    /// The question that a descriptor or a ticket holds; none where there is something else.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        let command = Command::try_from(Any::decode(bytes).ok()?).ok()?;
        let is_question = matches!(
            command,
            Command::CommandGetCatalogs(_)
                | Command::CommandGetDbSchemas(_)
                | Command::CommandGetTables(_)
                | Command::CommandGetTableTypes(_)
                | Command::CommandGetPrimaryKeys(_)
                | Command::CommandGetExportedKeys(_)
                | Command::CommandGetImportedKeys(_)
                | Command::CommandGetCrossReference(_)
                | Command::CommandGetXdbcTypeInfo(_)
                | Command::CommandGetSqlInfo(_)
        );
        is_question.then_some(Self(command))
    }

    /// The schema that the answer will have.
    ///
    /// # Errors
    /// A defect of ours.
    pub(super) fn schema(&self, server: &ServerInfo, node: &Coordinator) -> Result<SchemaRef> {
        Ok(match &self.0 {
            Command::CommandGetCatalogs(query) => query.into_builder().schema(),
            Command::CommandGetDbSchemas(query) => query.clone().into_builder().schema(),
            Command::CommandGetTables(query) => query.clone().into_builder().schema(),
            Command::CommandGetTableTypes(query) => query.into_builder().schema(),
            Command::CommandGetPrimaryKeys(_) => Arc::clone(&keys::PRIMARY),
            Command::CommandGetExportedKeys(_)
            | Command::CommandGetImportedKeys(_)
            | Command::CommandGetCrossReference(_) => Arc::clone(&keys::FOREIGN),
            Command::CommandGetXdbcTypeInfo(_) => types::schema()?,
            Command::CommandGetSqlInfo(_) => server.schema(node)?,
            other => return Err(no_question(other)),
        })
    }

    /// The answer for a session.
    ///
    /// # Errors
    /// A defect of ours.
    pub(super) async fn answer(
        self,
        server: &ServerInfo,
        session: &Session,
    ) -> Result<RecordBatch> {
        match self.0 {
            Command::CommandGetCatalogs(query) => tables::catalogs(session, query),
            Command::CommandGetDbSchemas(query) => tables::schemas(session, query).await,
            Command::CommandGetTables(query) => tables::tables(session, query).await,
            Command::CommandGetTableTypes(query) => tables::table_types(query),
            Command::CommandGetPrimaryKeys(query) => keys::primary(session, query).await,
            Command::CommandGetExportedKeys(_)
            | Command::CommandGetImportedKeys(_)
            | Command::CommandGetCrossReference(_) => Ok(keys::foreign()),
            Command::CommandGetXdbcTypeInfo(query) => types::type_info(query),
            Command::CommandGetSqlInfo(query) => server.answer(session.node(), query),
            other => Err(no_question(&other)),
        }
    }

    /// The ticket under which it is answered: the question itself.
    pub(super) fn into_ticket(self) -> Any {
        self.0.into_any()
    }
}

fn no_question(command: &Command) -> Error {
    let what = format!("{} is no question about metadata", command.type_url());
    Error::Execution(DataFusionError::Internal(what))
}

/// An answer that could not be put together: a defect of ours.
fn put_together<T, E: Display>(answer: std::result::Result<T, E>) -> Result<T> {
    answer.map_err(|error| {
        Error::Execution(DataFusionError::Internal(format!(
            "metadata answer: {error}"
        )))
    })
}
