//! `CALL catalog.system.procedure(…)`: maintenance of tables, with Spark's names where it has them.

mod add_files;
mod arguments;
mod remove_orphan_files;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::session_state::SessionState;
use datafusion::sql::sqlparser::ast::Function;
use inshore_lake::catalog::Catalogs;
use inshore_lake::store::Stores;

use self::add_files::AddFiles;
use self::arguments::Arguments;
use self::remove_orphan_files::RemoveOrphanFiles;
use crate::ddl;
use crate::{Error, Result, system};

/// The procedures, as calls of them are written.
const SIGNATURES: [&str; 2] = [add_files::SIGNATURE, remove_orphan_files::SIGNATURE];

/// What procedures work on.
#[derive(Clone)]
pub struct Context {
    /// The catalogs.
    pub catalogs: Arc<Catalogs>,
    /// Where files are.
    pub stores: Arc<Stores>,
}

/// A call that is ready to run.
#[derive(Debug)]
pub enum Procedure {
    /// Takes files over into a table.
    AddFiles(AddFiles),
    /// Deletes files that a table does not refer to.
    RemoveOrphanFiles(RemoveOrphanFiles),
}

impl Procedure {
    /// Takes a call apart. `defaults` are the session's catalog and schema.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a procedure that there is none of; [`Error::Sql`] for arguments that
    /// it does not take.
    pub fn of(
        call: &Function,
        catalogs: &Catalogs,
        defaults: &(String, String),
        state: &SessionState,
    ) -> Result<Self> {
        let parts = ddl::folded(&call.name)?;
        let (catalog, name) = match parts.as_slice() {
            [catalog, schema, name] if schema == system::SCHEMA => (catalog.clone(), name),
            [schema, name] if schema == system::SCHEMA => (defaults.0.clone(), name),
            _ => return Err(unknown(&call.name)),
        };
        if !catalogs.contains(&catalog) {
            return Err(Error::NotFound(format!("catalog {catalog} not found")));
        }
        let home = (catalog, defaults.1.clone());
        let bind = |signature| Arguments::bind(call, signature, catalogs, &home, state);
        match name.as_str() {
            "add_files" => Ok(Self::AddFiles(AddFiles::of(bind(add_files::SIGNATURE)?)?)),
            "remove_orphan_files" => {
                let arguments = bind(remove_orphan_files::SIGNATURE)?;
                Ok(Self::RemoveOrphanFiles(RemoveOrphanFiles::of(arguments)?))
            }
            _ => Err(unknown(&call.name)),
        }
    }

    /// The columns of its result.
    pub fn schema(&self) -> SchemaRef {
        match self {
            Self::AddFiles(_) => add_files::schema(),
            Self::RemoveOrphanFiles(_) => remove_orphan_files::schema(),
        }
    }

    /// Does the work as the stream is read.
    pub fn run(self, context: Context) -> SendableRecordBatchStream {
        match self {
            Self::AddFiles(call) => call.run(context),
            Self::RemoveOrphanFiles(call) => call.run(context),
        }
    }
}

fn unknown(name: &dyn std::fmt::Display) -> Error {
    Error::NotFound(format!(
        "procedure {name} not found; there are {}, in the schema system of each catalog",
        SIGNATURES.join(" and ")
    ))
}
