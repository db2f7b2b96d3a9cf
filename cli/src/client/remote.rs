//! Statements over Flight SQL: `GetFlightInfo`, then `DoGet` for each endpoint in turn.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::{CommandStatementQuery, ProstMessageExt};
use arrow_flight::{FlightDescriptor, FlightEndpoint};
use futures::{StreamExt, TryStreamExt, stream};
use prost::Message;
use tonic::transport::{Channel, Endpoint};
use url::Url;

use super::Execution;
use crate::config::check_endpoint;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Bound of one message from the server; batches of very wide rows come near 16 MiB.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// An endpoint that says: ask me over the connection you have.
const REUSE_CONNECTION: &str = "arrow-flight-reuse-connection";

/// A connection to a coordinator.
pub struct Remote {
    flight: FlightServiceClient<Channel>,
    uri: String,
}

impl Remote {
    /// Connects, within ten seconds.
    ///
    /// # Errors
    /// When the URI is wrong or nobody answers there.
    pub async fn connect(uri: &str) -> anyhow::Result<Self> {
        let url = check_endpoint(uri).map_err(|why| anyhow!(why))?;
        let flight = connect(&url)
            .await
            .with_context(|| format!("cannot connect to {uri}"))?;
        Ok(Self {
            flight,
            uri: uri.to_owned(),
        })
    }

    /// The URI connected to.
    pub fn description(&self) -> &str {
        &self.uri
    }

    /// Runs one statement.
    ///
    /// # Errors
    /// What the coordinator says, or that it cannot be reached.
    pub async fn execute(&self, sql: &str) -> anyhow::Result<Execution> {
        let command = CommandStatementQuery {
            query: sql.to_owned(),
            transaction_id: None,
        };
        let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
        let mut flight = self.flight.clone();
        let info = flight
            .get_flight_info(descriptor)
            .await
            .map_err(of_status)?
            .into_inner();
        let query_id = String::from_utf8(info.app_metadata.to_vec())
            .ok()
            .filter(|id| !id.is_empty());
        let (endpoints, changed) = (info.endpoint.clone(), info.total_records);
        let schema = info
            .try_decode_schema()
            .context("the coordinator sent a schema that cannot be read")?;
        if schema.fields().is_empty() && changed >= 0 {
            return counted(query_id, changed);
        }
        let flight = self.flight.clone();
        let stream = stream::iter(endpoints)
            .then(move |endpoint| read(flight.clone(), endpoint))
            .try_flatten();
        Ok(Execution {
            query_id,
            schema: schema.into(),
            stream: stream.boxed(),
        })
    }
}

/// The result of a statement that changed rows, as an embedded coordinator gives it.
fn counted(query_id: Option<String>, rows: i64) -> anyhow::Result<Execution> {
    let count: ArrayRef = Arc::new(Int64Array::from(vec![rows]));
    let batch = RecordBatch::try_from_iter([("count", count)])?;
    Ok(Execution {
        query_id,
        schema: batch.schema(),
        stream: stream::once(async { Ok(batch) }).boxed(),
    })
}

/// The rows of one endpoint.
async fn read(
    mut flight: FlightServiceClient<Channel>,
    endpoint: FlightEndpoint,
) -> anyhow::Result<impl futures::Stream<Item = anyhow::Result<RecordBatch>>> {
    let ticket = endpoint
        .ticket
        .context("the coordinator sent an endpoint without a ticket")?;
    let here = endpoint.location.is_empty()
        || endpoint
            .location
            .iter()
            .any(|at| at.uri.starts_with(REUSE_CONNECTION));
    if !here {
        let location = endpoint.location.first().map_or("", |at| at.uri.as_str());
        let url =
            check_endpoint(location).map_err(|why| anyhow!("the coordinator points to {why}"))?;
        flight = connect(&url)
            .await
            .with_context(|| format!("cannot connect to {location}"))?;
    }
    let messages = flight.do_get(ticket).await.map_err(of_status)?.into_inner();
    let messages = messages.map_err(|status| FlightError::Tonic(Box::new(status)));
    Ok(FlightRecordBatchStream::new_from_flight_data(messages).map_err(of_flight))
}

async fn connect(url: &Url) -> anyhow::Result<FlightServiceClient<Channel>> {
    if url.scheme() == "grpc+tls" {
        bail!("TLS is not supported by this version; use grpc:// on loopback or through a tunnel");
    }
    let host = url.host_str().unwrap_or("localhost");
    let port = url.port().unwrap_or(32010);
    let endpoint = Endpoint::from_shared(format!("http://{host}:{port}"))?
        .user_agent(concat!("inshore/", env!("CARGO_PKG_VERSION")))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    let channel = tokio::time::timeout(CONNECT_TIMEOUT, endpoint.connect())
        .await
        .map_err(|_| anyhow!("no answer within {} s", CONNECT_TIMEOUT.as_secs()))??;
    Ok(FlightServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX))
}

/// The message a person should see: the coordinator's own where there is one.
fn of_status(status: tonic::Status) -> anyhow::Error {
    match status.source() {
        // The transport's: the coordinator said nothing.
        Some(cause) => anyhow!("no connection to the coordinator: {}", innermost(cause)),
        None if status.message().is_empty() => {
            anyhow!("the coordinator failed: {}", status.code())
        }
        None => anyhow!("{}", status.message()),
    }
}

fn innermost<'a>(mut error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    while let Some(cause) = error.source() {
        error = cause;
    }
    error
}

fn of_flight(error: FlightError) -> anyhow::Error {
    match error {
        FlightError::Tonic(status) => of_status(*status),
        other => anyhow::Error::new(other),
    }
}
