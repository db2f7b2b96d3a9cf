//! A Flight SQL server that does nothing but stream rows it already holds: what the library can do on
//! a machine, for `bench/fetch.py` to compare the coordinator with.
//!
//! `bare_flight ROWS` prints its address and serves any statement's result as the same `ROWS` rows,
//! until its standard input is closed.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::{
    ArrayRef, Date32Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::sql::metadata::SqlInfoDataBuilder;
use arrow_flight::sql::server::FlightSqlService;
use arrow_flight::sql::{
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest,
    ActionCreatePreparedStatementResult, CommandGetSqlInfo, CommandPreparedStatementQuery,
    CommandStatementQuery, ProstMessageExt, SqlInfo, TicketStatementQuery,
};
use arrow_flight::{
    Action, FlightDescriptor, FlightEndpoint, FlightInfo, IpcMessage, SchemaAsIpc, Ticket,
};
use futures::{StreamExt, TryStreamExt};
use prost::Message;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// Rows of a batch: many enough that what a batch costs does not show.
const BATCH_ROWS: i64 = 32_768;

/// As the coordinator has it.
const MESSAGE_BYTES: usize = 2 << 20;

type Rpc<T> = Result<Response<T>, Status>;
type Stream = <Bare as FlightService>::DoGetStream;

#[derive(Clone)]
struct Bare {
    batches: Arc<[RecordBatch]>,
}

/// The rows from `start`: the same values as those of the table in `bench/fetch.py`.
fn batch(start: i64, rows: i64) -> Result<RecordBatch> {
    let range = || start..start + rows;
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from_iter_values(range()))),
        (
            "part",
            Arc::new(Int32Array::from_iter_values(
                range().map(|i| (i * 7919 % 200_000) as i32),
            )),
        ),
        (
            "price",
            Arc::new(Float64Array::from_iter_values(
                range().map(|i| i as f64 * 0.01),
            )),
        ),
        (
            "share",
            Arc::new(Float64Array::from_iter_values(
                range().map(|i| (i % 1000) as f64 / 1000.0),
            )),
        ),
        (
            "day",
            Arc::new(Date32Array::from_iter_values(
                range().map(|i| (i % 2500) as i32 + 8000),
            )),
        ),
        (
            "at",
            Arc::new(TimestampMicrosecondArray::from_iter_values(
                range().map(|i| i * 1_000_000),
            )),
        ),
        (
            "flag",
            Arc::new(StringArray::from_iter_values(
                range().map(|i| ["A", "N", "R"][(i % 3) as usize]),
            )),
        ),
        (
            "name",
            Arc::new(StringArray::from_iter_values(
                range().map(|i| format!("item {}", i % 100_000)),
            )),
        ),
    ];
    Ok(RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, array)| (name, array, true)),
    )?)
}

impl Bare {
    fn info(&self, descriptor: FlightDescriptor) -> Rpc<FlightInfo> {
        let ticket = TicketStatementQuery {
            statement_handle: "rows".into(),
        };
        let ticket = Ticket::new(ticket.as_any().encode_to_vec());
        let info = FlightInfo::new()
            .try_with_schema(self.batches[0].schema().as_ref())
            .map_err(|error| Status::internal(error.to_string()))?
            .with_endpoint(FlightEndpoint::new().with_ticket(ticket))
            .with_descriptor(descriptor);
        Ok(Response::new(info))
    }

    fn stream(&self, batches: Arc<[RecordBatch]>) -> Rpc<Stream> {
        let schema = batches[0].schema();
        let batches = (0..batches.len()).map(move |i| Ok(batches[i].clone()));
        let stream = FlightDataEncoderBuilder::new()
            .with_schema(schema)
            .with_max_flight_data_size(MESSAGE_BYTES)
            .build(futures::stream::iter(batches))
            .map_err(Status::from);
        Ok(Response::new(stream.boxed()))
    }
}

#[tonic::async_trait]
impl FlightSqlService for Bare {
    type FlightService = Self;

    async fn get_flight_info_statement(
        &self,
        _: CommandStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Rpc<FlightInfo> {
        self.info(request.into_inner())
    }

    async fn get_flight_info_prepared_statement(
        &self,
        _: CommandPreparedStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Rpc<FlightInfo> {
        self.info(request.into_inner())
    }

    async fn do_get_statement(&self, _: TicketStatementQuery, _: Request<Ticket>) -> Rpc<Stream> {
        self.stream(Arc::clone(&self.batches))
    }

    async fn do_action_create_prepared_statement(
        &self,
        _: ActionCreatePreparedStatementRequest,
        _: Request<Action>,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        let IpcMessage(dataset_schema) =
            SchemaAsIpc::new(self.batches[0].schema().as_ref(), &Default::default())
                .try_into()
                .map_err(|error: arrow::error::ArrowError| Status::internal(error.to_string()))?;
        Ok(ActionCreatePreparedStatementResult {
            prepared_statement_handle: "rows".into(),
            dataset_schema,
            parameter_schema: Default::default(),
        })
    }

    async fn do_action_close_prepared_statement(
        &self,
        _: ActionClosePreparedStatementRequest,
        _: Request<Action>,
    ) -> Result<(), Status> {
        Ok(())
    }

    async fn get_flight_info_sql_info(
        &self,
        query: CommandGetSqlInfo,
        request: Request<FlightDescriptor>,
    ) -> Rpc<FlightInfo> {
        let ticket = Ticket::new(query.as_any().encode_to_vec());
        let info = FlightInfo::new()
            .with_endpoint(FlightEndpoint::new().with_ticket(ticket))
            .with_descriptor(request.into_inner());
        Ok(Response::new(info))
    }

    async fn do_get_sql_info(&self, query: CommandGetSqlInfo, _: Request<Ticket>) -> Rpc<Stream> {
        let mut data = SqlInfoDataBuilder::new();
        data.append(SqlInfo::FlightSqlServerName, "bare");
        let answer = data
            .build()
            .and_then(|data| query.into_builder(&data).build());
        let answer = answer.map_err(|error| Status::internal(error.to_string()))?;
        self.stream(Arc::new([answer]))
    }

    async fn register_sql_info(&self, _: i32, _: &SqlInfo) {}
}

#[tokio::main]
async fn main() -> Result<()> {
    let rows = std::env::args().nth(1).context("usage: bare_flight ROWS")?;
    let rows: i64 = rows.parse().context("ROWS is no number")?;
    let starts = (0..rows.max(1)).step_by(BATCH_ROWS as usize);
    let batches: Result<Vec<_>> = starts
        .map(|start| batch(start, BATCH_ROWS.min(rows - start)))
        .collect();
    let bare = Bare {
        batches: batches?.into(),
    };
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    println!("{}", listener.local_addr()?);
    let service = FlightServiceServer::new(bare);
    Server::builder()
        .add_service(service)
        .serve_with_incoming_shutdown(
            TcpIncoming::from(listener).with_nodelay(Some(true)),
            async {
                // Whoever started it holds the other end.
                let _ = tokio::io::stdin().read(&mut [0]).await;
            },
        )
        .await?;
    Ok(())
}
