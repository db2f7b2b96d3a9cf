//! One way to run a statement, wherever the engine is: in this process or behind Flight SQL.

mod embedded;
mod remote;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use futures::stream::BoxStream;

pub use self::embedded::{Embedded, coordinator, stores};
pub use self::remote::Remote;

/// A running statement. Dropping it cancels the statement.
pub struct Execution {
    /// The coordinator's name for it.
    pub query_id: Option<String>,
    /// The result's columns; none for a statement without a result.
    pub schema: SchemaRef,
    /// The result's rows.
    pub stream: BoxStream<'static, anyhow::Result<RecordBatch>>,
}

/// Where statements run.
pub enum Client {
    /// Coordinator and workers in this process.
    Embedded(Embedded),
    /// A coordinator behind Flight SQL.
    Remote(Remote),
}

impl Client {
    /// Runs one statement. Dropping the future or the execution cancels it.
    ///
    /// # Errors
    /// When the statement is wrong or cannot be run now.
    pub async fn execute(&self, sql: &str) -> anyhow::Result<Execution> {
        match self {
            Self::Embedded(embedded) => embedded.execute(sql).await,
            Self::Remote(remote) => remote.execute(sql).await,
        }
    }

    /// Where this is, for people.
    pub fn description(&self) -> &str {
        match self {
            Self::Embedded(embedded) => embedded.description(),
            Self::Remote(remote) => remote.description(),
        }
    }
}
