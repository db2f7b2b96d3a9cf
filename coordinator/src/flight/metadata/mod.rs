//! What Flight SQL clients ask about the server and its tables. What there is comes from
//! [`listing`](crate::listing), as it does for SQL's own statements; here it gets Flight SQL's form.
//!
//! - [`sql_info`]: what the server can do.
//! - [`tables`]: catalogs, schemas, tables and their columns.
//! - [`keys`]: primary keys; the foreign keys that there are not.
//! - [`types`]: the types that columns can have.

pub(super) mod keys;
pub(super) mod sql_info;
pub(super) mod tables;
pub(super) mod types;

use std::fmt::Display;

use datafusion::error::DataFusionError;

use crate::{Error, Result};

/// An answer that could not be put together: a defect of ours.
fn put_together<T, E: Display>(answer: std::result::Result<T, E>) -> Result<T> {
    answer.map_err(|error| {
        Error::Execution(DataFusionError::Internal(format!(
            "metadata answer: {error}"
        )))
    })
}
