//! Runs `.slt` files (the sqllogictest format) against a server over Flight SQL.
//!
//! The corpus lies in `sql-tests/slt`, by subject. `tests/topologies.rs` runs every file on every
//! topology; they must agree.

mod format;

use std::path::Path;
use std::time::Duration;

use arrow_flight::sql::client::FlightSqlServiceClient;
use futures::TryStreamExt;
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType, Runner};
use tonic::transport::{Channel, Endpoint};

/// A statement that takes longer is taken for a hang.
const STATEMENT_DEADLINE: Duration = Duration::from_secs(120);

/// Why a statement of a file failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server's answer.
    #[error("{0}")]
    Statement(String),
    /// No connection.
    #[error("cannot connect to {address}: {why}")]
    Connect {
        /// The server's address.
        address: String,
        /// What went wrong.
        why: String,
    },
}

/// One connection, as sqllogictest wants it.
pub struct Connection {
    client: FlightSqlServiceClient<Channel>,
}

impl Connection {
    /// Connects to `http://host:port`.
    ///
    /// # Errors
    /// [`Error::Connect`] when nothing answers there.
    pub async fn open(address: &str) -> Result<Self, Error> {
        let connect = |why: tonic::transport::Error| Error::Connect {
            address: address.to_owned(),
            why: why.to_string(),
        };
        let channel = Endpoint::from_shared(address.to_owned())
            .map_err(connect)?
            .connect_timeout(Duration::from_secs(10))
            .connect()
            .await
            .map_err(connect)?;
        Ok(Self {
            client: FlightSqlServiceClient::new(channel),
        })
    }

    async fn fetch(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Error> {
        let info = self
            .client
            .execute(sql.to_owned(), None)
            .await
            .map_err(statement)?;
        let mut batches = Vec::new();
        for endpoint in info.endpoint {
            let Some(ticket) = endpoint.ticket else {
                return Err(Error::Statement("an endpoint has no ticket".to_owned()));
            };
            let stream = self.client.do_get(ticket).await.map_err(statement)?;
            let fetched: Vec<_> = stream.try_collect().await.map_err(statement)?;
            batches.extend(fetched);
        }
        format::output(&batches).map_err(statement)
    }
}

fn statement(error: impl std::fmt::Display) -> Error {
    Error::Statement(one_line(&error.to_string()))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[async_trait::async_trait]
impl AsyncDB for Connection {
    type Error = Error;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Error> {
        match tokio::time::timeout(STATEMENT_DEADLINE, self.fetch(sql)).await {
            Ok(output) => output,
            Err(_) => Err(Error::Statement(format!(
                "no answer within {} s",
                STATEMENT_DEADLINE.as_secs()
            ))),
        }
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &str {
        "inshore"
    }

    async fn sleep(duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// Runs one file against `http://host:port`, with `label` set for the file's own conditions.
///
/// # Errors
/// The first record that failed, with its place and the difference.
pub async fn run_file(address: &str, file: &Path, label: &str) -> Result<(), String> {
    let mut runner = Runner::new(|| Connection::open(address));
    runner.add_label(label);
    runner
        .run_file_async(file)
        .await
        .map_err(|failure| failure.to_string())
}
