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
    CommandPreparedStatementQuery, CommandPreparedStatementUpdate, CommandStatementIngest,
    CommandStatementQuery, CommandStatementSubstraitPlan, CommandStatementUpdate,
    DoPutPreparedStatementResult, ProstMessageExt, SqlInfo, TicketStatementQuery,
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
use crate::session::{Client, Effect, Planned, Preparation, Session};
use crate::{Error, Result};

use super::messages::{CloseSessionResult, CloseStatus, SetSessionOptionsRequest};
use super::metadata::{Asked, ServerInfo};
use super::polls::Polls;
use super::sessions::{COOKIE, Key, Sessions, client_of};
use super::statements::{Prepared, Promised, Statements};
use super::status::status;
use super::tickets::{Purpose, Signer};
use super::{options, put, refused};

/// Largest encoded batch towards a client, in bytes: clients cap messages at 4 to 16 MiB.
const CLIENT_MESSAGE_BYTES: usize = 2 << 20;

pub(super) type Rpc<T> = std::result::Result<T, Status>;
type FlightStream = <Door as FlightService>::DoGetStream;

/// The Flight SQL service of one coordinator.
pub(super) struct Door {
    node: Arc<Coordinator>,
    pub(super) sessions: Sessions,
    pub(super) statements: Statements,
    pub(super) polls: Polls,
    server: ServerInfo,
}

impl Door {
    pub(super) fn new(node: Arc<Coordinator>, signer: Signer) -> Self {
        Self {
            sessions: Sessions::new(Arc::clone(&node)),
            statements: Statements::new(signer),
            polls: Polls::default(),
            server: ServerInfo::default(),
            node,
        }
    }

    /// Forgets idle sessions and abandoned statements.
    pub(super) fn expire(&self) {
        self.sessions.expire();
        self.statements.expire();
        self.polls.expire();
    }

    /// Ends what runs without a request.
    pub(super) fn end(&self) {
        self.polls.end();
    }

    pub(super) fn session<T>(&self, request: &Request<T>) -> Result<Arc<Session>> {
        let (metadata, peer) = (request.metadata(), request.remote_addr());
        self.sessions
            .get(Key::of(metadata, peer), client_of(metadata, peer))
    }

    /// A prepared statement of the request's session.
    pub(super) fn prepared<T>(&self, request: &Request<T>, handle: &str) -> Result<Prepared> {
        let prepared = self.statements.prepared(handle)?;
        let key = Key::of(request.metadata(), request.remote_addr());
        self.sessions.check(&key, prepared.session.id)?;
        Ok(prepared)
    }

    /// Promises the result of a statement under a ticket. One that changes something is carried out
    /// at once, because clients do not always fetch its result.
    pub(super) async fn promise(
        &self,
        session: Arc<Session>,
        planned: Planned,
        descriptor: FlightDescriptor,
    ) -> Result<FlightInfo> {
        let (query_id, id) = (planned.query.id.clone(), session.id);
        if planned.effect() == Effect::Query {
            let schema = Arc::clone(planned.schema());
            let planned = Box::new(planned);
            let promised = Promised::Planned { session, planned };
            let ticket = self.statements.keep(id, promised)?;
            return info_of(&schema, Some(ticket), descriptor, &query_id);
        }
        if planned.effect() == Effect::Call {
            self.statements.check_room()?;
        }
        let ran = run_to_end(&session, planned).await?;
        self.promise_ran(id, &ran, descriptor, &query_id)
    }

    /// Promises what a statement gave that has run.
    pub(super) fn promise_ran(
        &self,
        session: Uuid,
        ran: &Ran,
        descriptor: FlightDescriptor,
        query_id: &str,
    ) -> Result<FlightInfo> {
        let schema = Arc::clone(&ran.schema);
        let ticket = match schema.fields().is_empty() {
            true => self.statements.nothing(session),
            false => {
                let batches = ran.batches.clone();
                let promised = Promised::Done { schema, batches };
                self.statements.keep(session, promised)?
            }
        };
        let info = info_of(&ran.schema, Some(ticket), descriptor, query_id)?;
        Ok(info.with_total_records(ran.rows))
    }

    /// As [`Self::promise`], of a statement that was prepared.
    async fn promise_prepared(
        &self,
        prepared: Prepared,
        descriptor: FlightDescriptor,
    ) -> Result<FlightInfo> {
        if let Some(bound) = &prepared.bound
            && put::is_run_for_each(&prepared, &bound.values)
        {
            let ran = Ran::nothing(put::for_each(&prepared, &bound.values).await?);
            // Each of the runs has an id of its own.
            return self.promise_ran(prepared.session.id, &ran, descriptor, "");
        }
        let planned = put::planned(&prepared).await?;
        self.promise(prepared.session, planned, descriptor).await
    }

    async fn fetch(
        &self,
        request: &Request<Ticket>,
        handle: &[u8],
    ) -> Result<(SchemaRef, SendableRecordBatchStream)> {
        let (purpose, name) = self.statements.signer.read_ticket(handle)?;
        let key = Key::of(request.metadata(), request.remote_addr());
        self.sessions.check(&key, name.session)?;
        let (schema, batches) = match purpose {
            Purpose::Nothing => {
                self.statements.take_nothing(&name)?;
                (Arc::new(Schema::empty()), vec![])
            }
            _ => match self.statements.take(&name)? {
                Promised::Planned { session, planned } => {
                    let execution = session.run(*planned).await?;
                    return Ok((execution.schema, execution.stream));
                }
                Promised::Done { schema, batches } => (schema, batches),
            },
        };
        let batches = futures::stream::iter(batches.into_iter().map(Ok));
        let stream = RecordBatchStreamAdapter::new(Arc::clone(&schema), batches);
        Ok((schema, Box::pin(stream)))
    }

    /// What a descriptor's command gives, and where. Metadata is answered under the command itself
    /// as its ticket.
    pub(super) async fn info(
        &self,
        request: Request<FlightDescriptor>,
    ) -> Rpc<Response<FlightInfo>> {
        let Some(asked) = Asked::of(&request.get_ref().cmd) else {
            return FlightService::get_flight_info(self, request).await;
        };
        let schema = asked.schema(&self.server, &self.node).map_err(status)?;
        let info = flight_info(&schema, asked.into_ticket(), request.into_inner());
        info.map(Response::new).map_err(status)
    }

    /// The rows that a ticket stands for.
    pub(super) async fn rows(&self, request: Request<Ticket>) -> Rpc<Response<FlightStream>> {
        let Some(asked) = Asked::of(&request.get_ref().ticket) else {
            return FlightService::do_get(self, request).await;
        };
        let session = self.session(&request).map_err(status)?;
        let answer = asked.answer(&self.server, &session).await.map_err(status)?;
        let schema = answer.schema();
        Ok(encoded(schema, futures::stream::once(async { Ok(answer) })))
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
            let prepared = self.prepared(&request, handle).map_err(status)?;
            put::described(&prepared).await.map_err(status)?
        } else {
            // Asking for metadata changes nothing.
            let info = self.info(request).await?;
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
    async fn session_action(
        &self,
        key: Key,
        client: Client,
        action: &Action,
    ) -> Rpc<Option<Answer>> {
        let malformed = |error: prost::DecodeError| {
            Status::invalid_argument(format!("{}: {error}", action.r#type))
        };
        let mut cookie = None;
        let body = match action.r#type.as_str() {
            "SetSessionOptions" => {
                let request = SetSessionOptionsRequest::decode(&*action.body).map_err(malformed)?;
                let session = self.sessions.get(key.clone(), client).map_err(status)?;
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
                if let Some(closed) = self.sessions.close(&key) {
                    self.statements.forget(closed.id);
                    self.polls.forget(closed.id);
                }
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

/// What a statement gave that has run.
#[derive(Clone)]
pub(super) struct Ran {
    pub(super) schema: SchemaRef,
    pub(super) batches: Vec<RecordBatch>,
    /// How many rows it changed; -1 where nobody knows.
    pub(super) rows: i64,
}

impl Ran {
    /// No rows; so many were changed.
    fn nothing(rows: i64) -> Self {
        Self {
            schema: Arc::new(Schema::empty()),
            batches: vec![],
            rows,
        }
    }
}

/// Runs a statement that changes something to its end. How many rows it changed is no result: one
/// has a result that is more than that.
pub(super) async fn run_to_end(session: &Session, planned: Planned) -> Result<Ran> {
    match planned.effect() {
        Effect::Changes => {
            let rows = carry_out(session, planned).await?;
            Ok(Ran::nothing(rows.unwrap_or(-1)))
        }
        Effect::Query | Effect::Call => {
            let schema = Arc::clone(planned.schema());
            let batches = session.run(planned).await?.stream.try_collect().await?;
            let rows = -1;
            Ok(Ran {
                schema,
                batches,
                rows,
            })
        }
    }
}

/// Runs a statement that changes something to its end; how many rows it changed if it is one that
/// changes rows, -1 where nobody knows.
pub(super) async fn carry_out(session: &Session, planned: Planned) -> Result<Option<i64>> {
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
pub(super) async fn changed(session: &Session, planned: Planned) -> Result<i64> {
    match planned.effect() {
        // Not a row of it is sent, so none is computed.
        Effect::Query => Ok(-1),
        Effect::Changes => Ok(carry_out(session, planned).await?.unwrap_or(0)),
        Effect::Call => {
            let mut rows = session.run(planned).await?.stream;
            while rows.try_next().await?.is_some() {}
            Ok(-1)
        }
    }
}

pub(super) fn text(handle: &[u8]) -> Result<&str> {
    std::str::from_utf8(handle).map_err(|_| Error::NotFound("the handle is malformed".to_owned()))
}

fn flight_info(schema: &Schema, command: Any, descriptor: FlightDescriptor) -> Result<FlightInfo> {
    let endpoint = FlightEndpoint::new().with_ticket(Ticket::new(command.encode_to_vec()));
    Ok(bare_info(schema, descriptor)?.with_endpoint(endpoint))
}

fn bare_info(schema: &Schema, descriptor: FlightDescriptor) -> Result<FlightInfo> {
    FlightInfo::new()
        .try_with_schema(schema)
        .map(|info| info.with_descriptor(descriptor).with_ordered(true))
        .map_err(|error| Error::Execution(error.into()))
}

/// The answer about a statement, whose result is fetched with `ticket`. It has no time of expiry:
/// that would tell clients that they may fetch it more than once.
pub(super) fn info_of(
    schema: &Schema,
    ticket: Option<Bytes>,
    descriptor: FlightDescriptor,
    query_id: &str,
) -> Result<FlightInfo> {
    let info = match ticket {
        Some(statement_handle) => {
            let ticket = TicketStatementQuery { statement_handle };
            flight_info(schema, ticket.as_any(), descriptor)?
        }
        None => bare_info(schema, descriptor)?,
    };
    Ok(info.with_app_metadata(query_id.to_owned()))
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

#[tonic::async_trait]
impl FlightSqlService for Door {
    type FlightService = Door;

    /// Anonymous: whoever asks gets a token that names a session of its own.
    async fn do_handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Rpc<Response<Pin<Box<dyn Stream<Item = Rpc<HandshakeResponse>> + Send>>>> {
        let token = Uuid::new_v4().to_string();
        // Here alone a client says who its user is.
        let client = client_of(request.metadata(), request.remote_addr());
        let session = self.sessions.get(Key::Token(token.clone()), client);
        session.map_err(status)?;
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
        refused::transaction(query.transaction_id.as_ref())?;
        let session = self.session(&request).map_err(status)?;
        let descriptor = request.into_inner();
        let info = async {
            let planned = session.plan(&query.query).await?;
            self.promise(session, planned, descriptor).await
        };
        info.await.map(Response::new).map_err(status)
    }

    async fn get_flight_info_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Rpc<Response<FlightInfo>> {
        let info = async {
            let handle = text(&query.prepared_statement_handle)?;
            let prepared = self.prepared(&request, handle)?;
            let descriptor = request.into_inner();
            self.promise_prepared(prepared, descriptor).await
        };
        info.await.map(Response::new).map_err(status)
    }

    async fn do_get_statement(
        &self,
        ticket: TicketStatementQuery,
        request: Request<Ticket>,
    ) -> Rpc<Response<FlightStream>> {
        let fetched = self.fetch(&request, &ticket.statement_handle).await;
        let (schema, rows) = fetched.map_err(status)?;
        Ok(streamed(schema, rows))
    }

    /// A client may fetch a prepared statement without asking where its result is.
    async fn do_get_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<Ticket>,
    ) -> Rpc<Response<FlightStream>> {
        let execution = async {
            let handle = text(&query.prepared_statement_handle)?;
            let prepared = self.prepared(&request, handle)?;
            let planned = put::planned(&prepared).await?;
            prepared.session.run(planned).await
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
        refused::transaction(update.transaction_id.as_ref())?;
        let changed = async {
            let session = self.session(&request)?;
            changed(&session, session.plan(&update.query).await?).await
        };
        changed.await.map_err(status)
    }

    /// As [`Self::do_put_statement_update`], of a statement that was prepared.
    async fn do_put_prepared_statement_update(
        &self,
        update: CommandPreparedStatementUpdate,
        request: Request<PeekableFlightDataStream>,
    ) -> Rpc<i64> {
        let changed = async {
            let handle = text(&update.prepared_statement_handle)?;
            let prepared = self.prepared(&request, handle)?;
            put::update(&prepared, request.into_inner()).await
        };
        changed.await.map_err(status)
    }

    /// Takes the values of a prepared statement's parameters. The handle stays the same, so that it
    /// does not matter whether a client goes on with the one in the answer.
    async fn do_put_prepared_statement_query(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<PeekableFlightDataStream>,
    ) -> Rpc<DoPutPreparedStatementResult> {
        let bound = async {
            let handle = text(&query.prepared_statement_handle)?;
            let prepared = self.prepared(&request, handle)?;
            let values = put::values(&prepared, request.into_inner()).await?;
            self.statements.bind(handle, values)
        };
        bound.await.map_err(status)?;
        Ok(DoPutPreparedStatementResult {
            prepared_statement_handle: Some(query.prepared_statement_handle),
        })
    }

    async fn do_put_statement_ingest(
        &self,
        command: CommandStatementIngest,
        request: Request<PeekableFlightDataStream>,
    ) -> Rpc<i64> {
        refused::transaction(command.transaction_id.as_ref())?;
        let session = self.session(&request).map_err(status)?;
        let rows = put::ingest(&session, command, request.into_inner()).await;
        rows.map_err(status)
    }

    async fn do_put_substrait_plan(
        &self,
        _command: CommandStatementSubstraitPlan,
        _request: Request<PeekableFlightDataStream>,
    ) -> Rpc<i64> {
        Err(Status::unimplemented(refused::SUBSTRAIT))
    }

    async fn do_action_create_prepared_statement(
        &self,
        query: ActionCreatePreparedStatementRequest,
        request: Request<Action>,
    ) -> Rpc<ActionCreatePreparedStatementResult> {
        refused::transaction(query.transaction_id.as_ref())?;
        let created = async {
            let session = self.session(&request)?;
            let Preparation { schema, parameters } = session.prepare(&query.query).await?;
            let fields = Arc::clone(&parameters.schema);
            let handle = self.statements.prepare(session, &query.query, parameters)?;
            Ok::<_, Error>((handle, schema, fields))
        };
        let (handle, schema, parameters) = created.await.map_err(status)?;
        Ok(ActionCreatePreparedStatementResult {
            prepared_statement_handle: Bytes::from(handle),
            dataset_schema: ipc_schema(&schema)?,
            parameter_schema: ipc_schema(&parameters)?,
        })
    }

    async fn do_action_close_prepared_statement(
        &self,
        query: ActionClosePreparedStatementRequest,
        request: Request<Action>,
    ) -> Rpc<()> {
        let handle = text(&query.prepared_statement_handle).map_err(status)?;
        match self.prepared(&request, handle) {
            Err(error @ Error::Forbidden(_)) => return Err(status(error)),
            // One that does not exist is closed already.
            Ok(_) | Err(_) => self.statements.close(handle),
        }
        Ok(())
    }

    /// Actions that Flight SQL does not name: those of workers, and the end of a session.
    async fn do_action_fallback(
        &self,
        request: Request<Action>,
    ) -> Rpc<Response<<Self as FlightService>::DoActionStream>> {
        let key = Key::of(request.metadata(), request.remote_addr());
        let client = client_of(request.metadata(), request.remote_addr());
        let action = request.into_inner();
        let mut cookie = None;
        let results = if let Some(results) = self.node.membership().handle_action(&action) {
            results.map_err(Status::from)?
        } else if let Some(answer) = self.session_action(key, client, &action).await? {
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
