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
    ActionCancelQueryRequest, ActionCancelQueryResult, ActionClosePreparedStatementRequest,
    ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult, Any,
    CommandGetCatalogs, CommandGetCrossReference, CommandGetDbSchemas, CommandGetExportedKeys,
    CommandGetImportedKeys, CommandGetPrimaryKeys, CommandGetSqlInfo, CommandGetTableTypes,
    CommandGetTables, CommandGetXdbcTypeInfo, CommandPreparedStatementQuery,
    CommandPreparedStatementUpdate, CommandStatementQuery, CommandStatementUpdate, ProstMessageExt,
    SqlInfo, TicketStatementQuery,
};
use arrow_flight::{
    Action, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightDescriptor,
    FlightEndpoint, FlightInfo, HandshakeRequest, HandshakeResponse, IpcMessage, SchemaAsIpc,
    SchemaResult, Ticket,
};
use bytes::Bytes;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{Stream, StreamExt, TryStreamExt};
use prost::Message;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

use crate::node::Coordinator;
use crate::session::{Effect, Planned, Session};
use crate::{Error, Result};

use super::messages::{CloseSessionResult, CloseStatus, SetSessionOptionsRequest};
use super::metadata::{keys, sql_info::ServerInfo, tables, types};
use super::options;
use super::sessions::{COOKIE, Key, Sessions};
use super::statements::{Promised, Statements};

/// Largest encoded batch towards a client, in bytes: clients cap messages at 4 to 16 MiB.
const CLIENT_MESSAGE_BYTES: usize = 2 << 20;

type Rpc<T> = std::result::Result<T, Status>;
type FlightStream = <Door as FlightService>::DoGetStream;

/// The Flight SQL service of one coordinator.
pub(super) struct Door {
    node: Arc<Coordinator>,
    sessions: Sessions,
    statements: Statements,
    info: ServerInfo,
}

impl Door {
    pub(super) fn new(node: Arc<Coordinator>) -> Self {
        Self {
            sessions: Sessions::new(Arc::clone(&node)),
            statements: Statements::default(),
            info: ServerInfo::default(),
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

    /// Plans a statement and promises its result under a ticket. One that changes something is
    /// carried out at once, because clients do not always fetch its result.
    async fn promise(
        &self,
        session: Arc<Session>,
        sql: &str,
        descriptor: FlightDescriptor,
    ) -> Result<FlightInfo> {
        let planned = session.plan(sql).await?;
        let query_id = planned.query.id.clone();
        let (schema, rows, promised) = match planned.effect() {
            Effect::Query => {
                let schema = Arc::clone(planned.schema());
                let planned = Box::new(planned);
                (schema, -1, Promised::Planned { session, planned })
            }
            Effect::Changes => {
                let rows = carry_out(&session, planned).await?.unwrap_or(-1);
                (
                    Arc::new(Schema::empty()),
                    rows,
                    done(Arc::new(Schema::empty()), vec![]),
                )
            }
            Effect::Call => {
                let schema = Arc::clone(planned.schema());
                let batches = session.run(planned).await?.stream.try_collect().await?;
                (Arc::clone(&schema), -1, done(schema, batches))
            }
        };
        let handle = self.statements.keep(promised)?;
        let ticket = TicketStatementQuery {
            statement_handle: Bytes::from(handle),
        };
        let info = flight_info(&schema, ticket.as_any(), descriptor)?;
        Ok(info.with_total_records(rows).with_app_metadata(query_id))
    }

    async fn fetch(&self, handle: &[u8]) -> Result<(SchemaRef, SendableRecordBatchStream)> {
        Ok(match self.statements.take(text(handle)?)? {
            Promised::Planned { session, planned } => {
                let execution = session.run(*planned).await?;
                (execution.schema, execution.stream)
            }
            Promised::Done { schema, batches } => {
                let batches = futures::stream::iter(batches.into_iter().map(Ok));
                let stream = RecordBatchStreamAdapter::new(Arc::clone(&schema), batches);
                (schema, Box::pin(stream))
            }
        })
    }

    /// The schema of what a descriptor's command gives. Nothing is carried out.
    pub(super) async fn result_schema(
        &self,
        request: Request<FlightDescriptor>,
    ) -> Rpc<SchemaResult> {
        let command = Any::decode(&*request.get_ref().cmd);
        let command = command.map_err(|error| {
            Status::invalid_argument(format!("the descriptor holds no command: {error}"))
        })?;
        let unpacked =
            |error: arrow::error::ArrowError| Status::invalid_argument(error.to_string());
        let schema = if let Some(query) = command
            .unpack::<CommandStatementQuery>()
            .map_err(unpacked)?
        {
            let session = self.session(&request).map_err(status)?;
            session.describe(&query.query).await.map_err(status)?
        } else if let Some(query) = command
            .unpack::<CommandPreparedStatementQuery>()
            .map_err(unpacked)?
        {
            let handle = text(&query.prepared_statement_handle).map_err(status)?;
            let prepared = self.statements.prepared(handle).map_err(status)?;
            let described = prepared.session.describe(&prepared.sql).await;
            described.map_err(status)?
        } else {
            // Asking for metadata changes nothing.
            let info = FlightService::get_flight_info(self, request).await?;
            let schema = info.into_inner().schema;
            return Ok(SchemaResult { schema });
        };
        let options = IpcWriteOptions::default();
        let result: std::result::Result<SchemaResult, _> =
            SchemaAsIpc::new(&schema, &options).try_into();
        result.map_err(|error: arrow::error::ArrowError| Status::internal(error.to_string()))
    }

    /// Cancels the statement whose result was promised.
    fn cancel(&self, info: Option<FlightInfo>) -> Result<CancelStatus> {
        let id = info.map(|info| info.app_metadata).unwrap_or_default();
        Ok(match self.node.queries.cancel(text(&id)?)? {
            true => CancelStatus::Cancelled,
            false => CancelStatus::NotCancellable,
        })
    }

    /// Options of the session, and its end; the end of a statement.
    async fn session_action(&self, key: Key, action: &Action) -> Rpc<Option<Answer>> {
        let malformed = |error: prost::DecodeError| {
            Status::invalid_argument(format!("{}: {error}", action.r#type))
        };
        let mut cookie = None;
        let body = match action.r#type.as_str() {
            "SetSessionOptions" => {
                let request = SetSessionOptionsRequest::decode(&*action.body).map_err(malformed)?;
                let session = self.sessions.get(key.clone()).map_err(status)?;
                if matches!(key, Key::Connection(_) | Key::Single) {
                    cookie = Some(self.sessions.name(&session).map_err(status)?);
                }
                options::set(&session, request).await.encode_to_vec()
            }
            "GetSessionOptions" => match self.sessions.find(&key) {
                Some(session) => options::get(&session).encode_to_vec(),
                // Asking does not begin a session: these are what one would have.
                None => options::get(&self.node.session()).encode_to_vec(),
            },
            "CancelFlightInfo" => {
                let request = CancelFlightInfoRequest::decode(&*action.body).map_err(malformed)?;
                let status = self.cancel(request.info).map_err(status)? as i32;
                CancelFlightInfoResult { status }.encode_to_vec()
            }
            "CloseSession" => {
                self.sessions.close(&key);
                let status = CloseStatus::Closed as i32;
                CloseSessionResult { status }.encode_to_vec()
            }
            _ => return Ok(None),
        };
        let body = Bytes::from(body);
        Ok(Some(Answer { body, cookie }))
    }
}

/// The answer to an action of a session.
struct Answer {
    body: Bytes,
    /// The session's new name.
    cookie: Option<String>,
}

fn done(schema: SchemaRef, batches: Vec<RecordBatch>) -> Promised {
    Promised::Done { schema, batches }
}

/// Runs a statement that changes something to its end; how many rows it changed if it is one that
/// changes rows, -1 where nobody knows.
async fn carry_out(session: &Session, planned: Planned) -> Result<Option<i64>> {
    let execution = session.run(planned).await?;
    let batches: Vec<RecordBatch> = execution.stream.try_collect().await?;
    let counts = batches.iter().flat_map(|batch| batch.columns().first());
    let counts = counts.filter_map(|column| column.as_primitive_opt::<Int64Type>());
    let counts: Vec<Option<i64>> = counts.flat_map(|counts| counts.iter()).collect();
    let known: Option<i64> = counts.iter().copied().sum();
    Ok((!counts.is_empty()).then(|| known.unwrap_or(-1)))
}

/// Runs a statement; how many rows it changed. -1 for a query, which changes none and whose rows
/// nobody asked for (Flight SQL, `DoPutUpdateResult`).
async fn changed(session: Arc<Session>, sql: &str) -> Result<i64> {
    let planned = session.plan(sql).await?;
    match planned.effect() {
        // Not a row of it is sent, so none is computed.
        Effect::Query => Ok(-1),
        Effect::Changes => Ok(carry_out(&session, planned).await?.unwrap_or(0)),
        Effect::Call => {
            let mut rows = session.run(planned).await?.stream;
            while rows.try_next().await?.is_some() {}
            Ok(-1)
        }
    }
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
        let schema = self.info.schema(&self.node).map_err(status)?;
        metadata_info(&query, &schema, request)
    }

    async fn get_flight_info_primary_keys(
        &self,
        query: CommandGetPrimaryKeys,
        request: Request<FlightDescriptor>,
    ) -> Rpc<Response<FlightInfo>> {
        metadata_info(&query, &keys::PRIMARY, request)
    }

    async fn get_flight_info_exported_keys(
        &self,
        query: CommandGetExportedKeys,
        request: Request<FlightDescriptor>,
    ) -> Rpc<Response<FlightInfo>> {
        metadata_info(&query, &keys::FOREIGN, request)
    }

    async fn get_flight_info_imported_keys(
        &self,
        query: CommandGetImportedKeys,
        request: Request<FlightDescriptor>,
    ) -> Rpc<Response<FlightInfo>> {
        metadata_info(&query, &keys::FOREIGN, request)
    }

    async fn get_flight_info_cross_reference(
        &self,
        query: CommandGetCrossReference,
        request: Request<FlightDescriptor>,
    ) -> Rpc<Response<FlightInfo>> {
        metadata_info(&query, &keys::FOREIGN, request)
    }

    async fn get_flight_info_xdbc_type_info(
        &self,
        query: CommandGetXdbcTypeInfo,
        request: Request<FlightDescriptor>,
    ) -> Rpc<Response<FlightInfo>> {
        let schema = types::schema().map_err(status)?;
        metadata_info(&query, &schema, request)
    }

    async fn do_get_statement(
        &self,
        ticket: TicketStatementQuery,
        _request: Request<Ticket>,
    ) -> Rpc<Response<FlightStream>> {
        let (schema, rows) = self.fetch(&ticket.statement_handle).await.map_err(status)?;
        Ok(streamed(schema, rows))
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
        request: Request<Ticket>,
    ) -> Rpc<Response<FlightStream>> {
        let session = self.session(&request).map_err(status)?;
        single(tables::catalogs(&session, query))
    }

    async fn do_get_schemas(
        &self,
        query: CommandGetDbSchemas,
        request: Request<Ticket>,
    ) -> Rpc<Response<FlightStream>> {
        let session = self.session(&request).map_err(status)?;
        single(tables::schemas(&session, query).await)
    }

    async fn do_get_tables(
        &self,
        query: CommandGetTables,
        request: Request<Ticket>,
    ) -> Rpc<Response<FlightStream>> {
        let session = self.session(&request).map_err(status)?;
        single(tables::tables(&session, query).await)
    }

    async fn do_get_table_types(
        &self,
        query: CommandGetTableTypes,
        _request: Request<Ticket>,
    ) -> Rpc<Response<FlightStream>> {
        single(tables::table_types(query))
    }

    async fn do_get_sql_info(
        &self,
        query: CommandGetSqlInfo,
        _request: Request<Ticket>,
    ) -> Rpc<Response<FlightStream>> {
        single(self.info.answer(&self.node, query))
    }

    async fn do_get_primary_keys(
        &self,
        query: CommandGetPrimaryKeys,
        request: Request<Ticket>,
    ) -> Rpc<Response<FlightStream>> {
        let session = self.session(&request).map_err(status)?;
        single(keys::primary(&session, query).await)
    }

    async fn do_get_exported_keys(
        &self,
        _query: CommandGetExportedKeys,
        _request: Request<Ticket>,
    ) -> Rpc<Response<FlightStream>> {
        single(Ok(keys::foreign()))
    }

    async fn do_get_imported_keys(
        &self,
        _query: CommandGetImportedKeys,
        _request: Request<Ticket>,
    ) -> Rpc<Response<FlightStream>> {
        single(Ok(keys::foreign()))
    }

    async fn do_get_cross_reference(
        &self,
        _query: CommandGetCrossReference,
        _request: Request<Ticket>,
    ) -> Rpc<Response<FlightStream>> {
        single(Ok(keys::foreign()))
    }

    async fn do_get_xdbc_type_info(
        &self,
        query: CommandGetXdbcTypeInfo,
        _request: Request<Ticket>,
    ) -> Rpc<Response<FlightStream>> {
        single(types::type_info(query))
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
        let mut cookie = None;
        let results = if let Some(results) = self.node.membership().handle_action(&action) {
            results.map_err(Status::from)?
        } else if let Some(answer) = self.session_action(key, &action).await? {
            cookie = answer.cookie;
            vec![arrow_flight::Result { body: answer.body }]
        } else {
            return Err(Status::unimplemented(format!(
                "action {} is not supported",
                action.r#type
            )));
        };
        let stream = futures::stream::iter(results.into_iter().map(Ok));
        let mut response: Response<<Self as FlightService>::DoActionStream> =
            Response::new(stream.boxed());
        if let Some(cookie) = cookie
            && let Ok(cookie) = MetadataValue::try_from(format!("{COOKIE}={cookie}; HttpOnly"))
        {
            response.metadata_mut().insert("set-cookie", cookie);
        }
        Ok(response)
    }

    /// As `CancelFlightInfo`, for older clients.
    async fn do_action_cancel_query(
        &self,
        query: ActionCancelQueryRequest,
        _request: Request<Action>,
    ) -> Rpc<ActionCancelQueryResult> {
        let info = FlightInfo::decode(query.info)
            .map_err(|error| Status::invalid_argument(format!("CancelQuery: {error}")))?;
        // The values of both are the same.
        let result = self.cancel(Some(info)).map_err(status)? as i32;
        Ok(ActionCancelQueryResult { result })
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
