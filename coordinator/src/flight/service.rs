//! The requests of the door. Each finds its session, calls it, and turns the answer into Flight;
//! there is no policy here.

use std::pin::Pin;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, Schema, SchemaRef};
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::server::{FlightSqlService, PeekableFlightDataStream};
use arrow_flight::sql::{
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest,
    ActionCreatePreparedStatementResult, Any, CommandGetCatalogs, CommandGetDbSchemas,
    CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables, CommandPreparedStatementQuery,
    CommandPreparedStatementUpdate, CommandStatementQuery, CommandStatementUpdate, ProstMessageExt,
    SqlInfo, TicketStatementQuery,
};
use arrow_flight::{
    Action, FlightDescriptor, FlightEndpoint, FlightInfo, HandshakeRequest, HandshakeResponse,
    IpcMessage, SchemaAsIpc, Ticket,
};
use bytes::Bytes;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use futures::{Stream, StreamExt, TryStreamExt};
use prost::Message;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

use crate::node::Coordinator;
use crate::query::Execution;
use crate::session::Session;
use crate::{Error, Result};

use super::metadata;
use super::sessions::{Key, Sessions};
use super::statements::Statements;

/// Largest encoded batch towards a client, in bytes: clients cap messages at 4 to 16 MiB.
const CLIENT_MESSAGE_BYTES: usize = 2 << 20;

type Rpc<T> = std::result::Result<T, Status>;
type FlightStream = <Door as FlightService>::DoGetStream;

/// The Flight SQL service of one coordinator.
pub(super) struct Door {
    node: Arc<Coordinator>,
    sessions: Sessions,
    statements: Statements,
}

impl Door {
    pub(super) fn new(node: Arc<Coordinator>) -> Self {
        Self {
            sessions: Sessions::new(Arc::clone(&node)),
            statements: Statements::default(),
            node,
        }
    }

    /// Forgets idle sessions and abandoned statements.
    pub(super) fn expire(&self) {
        self.sessions.expire();
        self.statements.expire();
    }

    fn session<T>(&self, request: &Request<T>) -> Result<Arc<Session>> {
        self.sessions
            .get(Key::of(request.metadata(), request.remote_addr()))
    }

    /// Plans a statement and promises its result under a ticket.
    async fn promise(
        &self,
        session: Arc<Session>,
        sql: &str,
        descriptor: FlightDescriptor,
    ) -> Result<FlightInfo> {
        let planned = session.plan(sql).await?;
        let schema = Arc::clone(planned.schema());
        let query_id = planned.query.id.clone();
        let handle = self.statements.keep(session, planned)?;
        let ticket = TicketStatementQuery {
            statement_handle: Bytes::from(handle),
        };
        let info = flight_info(&schema, ticket.as_any(), descriptor)?;
        Ok(info.with_app_metadata(query_id))
    }

    async fn fetch(&self, handle: &[u8]) -> Result<Execution> {
        let handle = text(handle)?;
        let (session, planned) = self.statements.take(handle)?;
        session.run(planned).await
    }
}

/// Runs a statement; how many rows it changed. -1 for a query, which changes none and whose rows
/// nobody asked for (Flight SQL, `DoPutUpdateResult`).
async fn changed(session: Arc<Session>, sql: &str) -> Result<i64> {
    let planned = session.plan(sql).await?;
    let changes_rows = planned.changes_rows();
    let execution = session.run(planned).await?;
    let has_rows = !execution.schema.fields().is_empty();
    let batches: Vec<RecordBatch> = match has_rows && !changes_rows {
        // Not a row of it is sent, so none is computed.
        true => return Ok(-1),
        false => execution.stream.try_collect().await?,
    };
    let counts = batches.iter().flat_map(|batch| batch.columns().first());
    let counts = counts.filter_map(|column| column.as_primitive_opt::<Int64Type>());
    Ok(counts.flat_map(|counts| counts.iter().flatten()).sum())
}

fn text(handle: &[u8]) -> Result<&str> {
    std::str::from_utf8(handle).map_err(|_| Error::NotFound("the handle is malformed".to_owned()))
}

fn status(error: Error) -> Status {
    error.to_wire().into()
}

fn flight_info(schema: &Schema, command: Any, descriptor: FlightDescriptor) -> Result<FlightInfo> {
    let endpoint = FlightEndpoint::new().with_ticket(Ticket::new(command.encode_to_vec()));
    FlightInfo::new()
        .try_with_schema(schema)
        .map(|info| {
            info.with_endpoint(endpoint)
                .with_descriptor(descriptor)
                .with_ordered(true)
        })
        .map_err(|error| Error::Execution(error.into()))
}

/// Metadata is answered under the command itself as its ticket.
fn metadata_info(
    command: &impl ProstMessageExt,
    schema: &Schema,
    request: Request<FlightDescriptor>,
) -> Rpc<Response<FlightInfo>> {
    flight_info(schema, command.as_any(), request.into_inner())
        .map(Response::new)
        .map_err(status)
}

fn encoded(
    schema: SchemaRef,
    batches: impl Stream<Item = std::result::Result<RecordBatch, FlightError>> + Send + 'static,
) -> Response<FlightStream> {
    let stream = FlightDataEncoderBuilder::new()
        .with_schema(schema)
        .with_options(IpcWriteOptions::default())
        .with_max_flight_data_size(CLIENT_MESSAGE_BYTES)
        .build(batches)
        .map_err(Status::from);
    Response::new(Box::pin(stream))
}

fn streamed(schema: SchemaRef, stream: SendableRecordBatchStream) -> Response<FlightStream> {
    let batches =
        stream.map_err(|error| FlightError::Tonic(Box::new(status(Error::Execution(error)))));
    encoded(schema, batches)
}

/// An answer about metadata that could not be put together: a defect of ours.
fn broken_answer(error: FlightError) -> Error {
    Error::Execution(DataFusionError::Internal(error.to_string()))
}

fn single(batch: Result<RecordBatch>) -> Rpc<Response<FlightStream>> {
    let batch = batch.map_err(status)?;
    let schema = batch.schema();
    Ok(encoded(schema, futures::stream::once(async { Ok(batch) })))
}

#[tonic::async_trait]
impl FlightSqlService for Door {
    type FlightService = Door;

    /// Anonymous: whoever asks gets a token that names a session of its own.
    async fn do_handshake(
        &self,
        _request: Request<Streaming<HandshakeRequest>>,
    ) -> Rpc<Response<Pin<Box<dyn Stream<Item = Rpc<HandshakeResponse>> + Send>>>> {
        let token = Uuid::new_v4().to_string();
        let answer = HandshakeResponse {
            protocol_version: 0,
            payload: Bytes::from(token.clone()),
        };
        let mut response: Response<Pin<Box<dyn Stream<Item = Rpc<HandshakeResponse>> + Send>>> =
            Response::new(Box::pin(futures::stream::once(async { Ok(answer) })));
        let bearer = MetadataValue::try_from(format!("Bearer {token}"))
            .map_err(|_| Status::internal("the token is malformed"))?;
        response.metadata_mut().insert("authorization", bearer);
        Ok(response)
    }

    async fn get_flight_info_statement(
        &self,
        query: CommandStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Rpc<Response<FlightInfo>> {
        let session = self.session(&request).map_err(status)?;
        let descriptor = request.into_inner();
        self.promise(session, &query.query, descriptor)
            .await
            .map(Response::new)
            .map_err(status)
    }

    async fn get_flight_info_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Rpc<Response<FlightInfo>> {
        let descriptor = request.into_inner();
        let info = async {
            let handle = text(&query.prepared_statement_handle)?;
            let prepared = self.statements.prepared(handle)?;
            self.promise(prepared.session, &prepared.sql, descriptor)
                .await
        };
        info.await.map(Response::new).map_err(status)
    }

    async fn get_flight_info_catalogs(
        &self,
        query: CommandGetCatalogs,
        request: Request<FlightDescriptor>,
    ) -> Rpc<Response<FlightInfo>> {
        metadata_info(&query, &query.into_builder().schema(), request)
    }

    async fn get_flight_info_schemas(
        &self,
        query: CommandGetDbSchemas,
        request: Request<FlightDescriptor>,
    ) -> Rpc<Response<FlightInfo>> {
        metadata_info(&query, &query.clone().into_builder().schema(), request)
    }

    async fn get_flight_info_tables(
        &self,
        query: CommandGetTables,
        request: Request<FlightDescriptor>,
    ) -> Rpc<Response<FlightInfo>> {
        metadata_info(&query, &query.clone().into_builder().schema(), request)
    }

    async fn get_flight_info_table_types(
        &self,
        query: CommandGetTableTypes,
        request: Request<FlightDescriptor>,
    ) -> Rpc<Response<FlightInfo>> {
        metadata_info(&query, &query.into_builder().schema(), request)
    }

    async fn get_flight_info_sql_info(
        &self,
        query: CommandGetSqlInfo,
        request: Request<FlightDescriptor>,
    ) -> Rpc<Response<FlightInfo>> {
        let info = metadata::sql_info().map_err(|error| Status::internal(error.to_string()))?;
        metadata_info(&query, &query.clone().into_builder(info).schema(), request)
    }

    async fn do_get_statement(
        &self,
        ticket: TicketStatementQuery,
        _request: Request<Ticket>,
    ) -> Rpc<Response<FlightStream>> {
        let execution = self.fetch(&ticket.statement_handle).await.map_err(status)?;
        Ok(streamed(execution.schema, execution.stream))
    }

    /// A client may fetch a prepared statement without asking where its result is.
    async fn do_get_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        _request: Request<Ticket>,
    ) -> Rpc<Response<FlightStream>> {
        let execution = async {
            let handle = text(&query.prepared_statement_handle)?;
            let prepared = self.statements.prepared(handle)?;
            prepared.session.execute(&prepared.sql).await
        };
        let execution = execution.await.map_err(status)?;
        Ok(streamed(execution.schema, execution.stream))
    }

    /// Runs a statement to its end; the answer is how many rows it changed.
    async fn do_put_statement_update(
        &self,
        update: CommandStatementUpdate,
        request: Request<PeekableFlightDataStream>,
    ) -> Rpc<i64> {
        let changed = async { changed(self.session(&request)?, &update.query).await };
        changed.await.map_err(status)
    }

    /// As [`Self::do_put_statement_update`], of a statement that was prepared.
    async fn do_put_prepared_statement_update(
        &self,
        update: CommandPreparedStatementUpdate,
        _request: Request<PeekableFlightDataStream>,
    ) -> Rpc<i64> {
        let changed = async {
            let handle = text(&update.prepared_statement_handle)?;
            let prepared = self.statements.prepared(handle)?;
            changed(prepared.session, &prepared.sql).await
        };
        changed.await.map_err(status)
    }

    async fn do_get_catalogs(
        &self,
        query: CommandGetCatalogs,
        _request: Request<Ticket>,
    ) -> Rpc<Response<FlightStream>> {
        single(metadata::catalogs(&self.node, query))
    }

    async fn do_get_schemas(
        &self,
        query: CommandGetDbSchemas,
        _request: Request<Ticket>,
    ) -> Rpc<Response<FlightStream>> {
        single(metadata::schemas(&self.node, query).await)
    }

    async fn do_get_tables(
        &self,
        query: CommandGetTables,
        _request: Request<Ticket>,
    ) -> Rpc<Response<FlightStream>> {
        single(metadata::tables(&self.node, query).await)
    }

    async fn do_get_table_types(
        &self,
        query: CommandGetTableTypes,
        _request: Request<Ticket>,
    ) -> Rpc<Response<FlightStream>> {
        let mut builder = query.into_builder();
        builder.append(metadata::TABLE_TYPE);
        single(builder.build().map_err(broken_answer))
    }

    async fn do_get_sql_info(
        &self,
        query: CommandGetSqlInfo,
        _request: Request<Ticket>,
    ) -> Rpc<Response<FlightStream>> {
        let info = metadata::sql_info().map_err(|error| Status::internal(error.to_string()))?;
        let batch = query.into_builder(info).build();
        single(batch.map_err(broken_answer))
    }

    async fn do_action_create_prepared_statement(
        &self,
        query: ActionCreatePreparedStatementRequest,
        request: Request<Action>,
    ) -> Rpc<ActionCreatePreparedStatementResult> {
        let created = async {
            let session = self.session(&request)?;
            let schema = session.describe(&query.query).await?;
            let handle = self.statements.prepare(session, &query.query)?;
            Ok::<_, Error>((handle, schema))
        };
        let (handle, schema) = created.await.map_err(status)?;
        Ok(ActionCreatePreparedStatementResult {
            prepared_statement_handle: Bytes::from(handle),
            dataset_schema: ipc_schema(&schema)?,
            parameter_schema: ipc_schema(&Schema::empty())?,
        })
    }

    async fn do_action_close_prepared_statement(
        &self,
        query: ActionClosePreparedStatementRequest,
        _request: Request<Action>,
    ) -> Rpc<()> {
        let handle = text(&query.prepared_statement_handle).map_err(status)?;
        self.statements.close(handle);
        Ok(())
    }

    /// Actions that Flight SQL does not name: those of workers, and the end of a session.
    async fn do_action_fallback(
        &self,
        request: Request<Action>,
    ) -> Rpc<Response<<Self as FlightService>::DoActionStream>> {
        let key = Key::of(request.metadata(), request.remote_addr());
        let action = request.into_inner();
        let results = if let Some(results) = self.node.membership().handle_action(&action) {
            results.map_err(Status::from)?
        } else if action.r#type == "CloseSession" {
            self.sessions.close(&key);
            // CloseSessionResult { status: CLOSED }
            vec![arrow_flight::Result {
                body: Bytes::from_static(&[0x08, 0x01]),
            }]
        } else {
            return Err(Status::unimplemented(format!(
                "action {} is not supported",
                action.r#type
            )));
        };
        let stream = futures::stream::iter(results.into_iter().map(Ok));
        Ok(Response::new(stream.boxed()))
    }

    async fn register_sql_info(&self, _id: i32, _result: &SqlInfo) {}
}

/// A schema as Flight SQL's prepared statements carry it; none for a statement without a result.
fn ipc_schema(schema: &Schema) -> Rpc<Bytes> {
    if schema.fields().is_empty() {
        return Ok(Bytes::new());
    }
    let options = IpcWriteOptions::default();
    let message: IpcMessage = SchemaAsIpc::new(schema, &options)
        .try_into()
        .map_err(|error: arrow::error::ArrowError| Status::internal(error.to_string()))?;
    Ok(message.0)
}
