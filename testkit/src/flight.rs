//! Flight SQL without a client library between: what the wire carries.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::{CommandStatementQuery, ProstMessageExt};
use arrow_flight::{Action, FlightData, FlightDescriptor, FlightInfo, Ticket};
use futures::TryStreamExt;
use prost::Message;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::Cluster;

/// A client of the bare protocol.
pub type Raw = FlightServiceClient<Channel>;

/// A client on a connection of its own.
///
/// # Errors
/// No connection.
pub async fn raw(cluster: &Cluster) -> Result<Raw> {
    let endpoint = Endpoint::from_shared(cluster.address())?;
    Ok(FlightServiceClient::new(endpoint.connect().await?))
}

/// A request with a bearer token.
///
/// # Panics
/// The token is none that fits in a header.
#[allow(clippy::expect_used)]
pub fn with_token<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    let header = format!("Bearer {token}").parse().expect("a strange token");
    request.metadata_mut().insert("authorization", header);
    request
}

/// The descriptor of a command.
pub fn descriptor(command: &impl ProstMessageExt) -> FlightDescriptor {
    FlightDescriptor::new_cmd(command.as_any().encode_to_vec())
}

/// The descriptor of a statement.
pub fn statement(sql: &str) -> FlightDescriptor {
    descriptor(&CommandStatementQuery {
        query: sql.to_owned(),
        transaction_id: None,
    })
}

/// What a client is told about a statement's result.
///
/// # Errors
/// The statement's.
pub async fn info(client: &mut Raw, sql: &str) -> Result<FlightInfo, Status> {
    let info = client.get_flight_info(statement(sql)).await?;
    Ok(info.into_inner())
}

/// The id of the statement, as in `system.queries`.
pub fn query_id(info: &FlightInfo) -> String {
    String::from_utf8_lossy(&info.app_metadata).into_owned()
}

/// The ticket of the only endpoint.
///
/// # Errors
/// There is none.
pub fn ticket(info: &FlightInfo) -> Result<Ticket> {
    let ticket = info.endpoint.first().and_then(|end| end.ticket.clone());
    ticket.context("an answer without a ticket")
}

/// All messages of a result.
///
/// # Errors
/// The statement's.
pub async fn fetch(client: &mut Raw, ticket: Ticket) -> Result<Vec<FlightData>, Status> {
    let stream = client.do_get(ticket).await?.into_inner();
    stream.try_collect().await
}

/// Runs a statement to its end.
///
/// # Errors
/// The statement's.
pub async fn run(client: &mut Raw, sql: &str) -> Result<Vec<FlightData>, Status> {
    let info = info(client, sql).await?;
    let ticket = ticket(&info).map_err(|error| Status::unknown(error.to_string()))?;
    fetch(client, ticket).await
}

/// The body of the first answer to an action.
///
/// # Errors
/// The action's.
pub async fn act(client: &mut Raw, kind: &str, body: Vec<u8>) -> Result<Vec<u8>, Status> {
    let results = client.do_action(Action::new(kind, body)).await?;
    let results: Vec<_> = results.into_inner().try_collect().await?;
    Ok(results
        .first()
        .map(|result| result.body.to_vec())
        .unwrap_or_default())
}

/// Waits until a statement gives exactly these rows.
///
/// # Errors
/// It does not within `patience`.
pub async fn becomes(
    cluster: &Cluster,
    sql: &str,
    rows: &[&str],
    patience: Duration,
) -> Result<Duration> {
    let began = Instant::now();
    loop {
        let found = cluster.rows(sql).await?;
        if found == rows {
            return Ok(began.elapsed());
        }
        ensure!(
            began.elapsed() < patience,
            "{sql} gives {found:?} after {patience:?}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
