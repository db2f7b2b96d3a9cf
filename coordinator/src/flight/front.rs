//! The service that clients meet: what arrow-flight's Flight SQL server leaves out is answered here,
//! all the rest is handed on to [`Door`].
//!
//! Left out there are schemas without running a statement, polling, and a list of actions that tells
//! the truth.

use std::sync::Arc;

use arrow_flight::flight_service_server::FlightService;
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo,
    HandshakeRequest, PollInfo, SchemaResult, Ticket,
};
use futures::StreamExt;
use tonic::{Request, Response, Status, Streaming};

use super::refused;
use super::service::Door;

type Rpc<T> = Result<Response<T>, Status>;

/// The actions that work, each with the messages it takes and gives.
const ACTIONS: [(&str, &str); 7] = [
    (
        "CreatePreparedStatement",
        "Prepares a statement: ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult",
    ),
    (
        "ClosePreparedStatement",
        "Closes a prepared statement: ActionClosePreparedStatementRequest",
    ),
    (
        "SetSessionOptions",
        "Changes options of the session: SetSessionOptionsRequest, SetSessionOptionsResult",
    ),
    (
        "GetSessionOptions",
        "Tells the options of the session: GetSessionOptionsRequest, GetSessionOptionsResult",
    ),
    (
        "CloseSession",
        "Ends the session: CloseSessionRequest, CloseSessionResult",
    ),
    (
        "CancelFlightInfo",
        "Cancels a statement: CancelFlightInfoRequest, CancelFlightInfoResult",
    ),
    (
        "CancelQuery",
        "Cancels a statement: ActionCancelQueryRequest, ActionCancelQueryResult",
    ),
];

/// The Flight service of one coordinator.
pub(super) struct Front {
    door: Arc<Door>,
}

impl Front {
    pub(super) fn new(door: Arc<Door>) -> Self {
        Self { door }
    }
}

/// # Errors
/// A descriptor without a command.
fn check(descriptor: &FlightDescriptor) -> Result<(), Status> {
    match descriptor.cmd.is_empty() {
        true => Err(Status::invalid_argument(
            "a descriptor has to hold a command of Flight SQL; there are no paths here",
        )),
        false => refused::command(&descriptor.cmd),
    }
}

#[tonic::async_trait]
impl FlightService for Front {
    type HandshakeStream = <Door as FlightService>::HandshakeStream;
    type ListFlightsStream = <Door as FlightService>::ListFlightsStream;
    type DoGetStream = <Door as FlightService>::DoGetStream;
    type DoPutStream = <Door as FlightService>::DoPutStream;
    type DoActionStream = <Door as FlightService>::DoActionStream;
    type ListActionsStream = <Door as FlightService>::ListActionsStream;
    type DoExchangeStream = <Door as FlightService>::DoExchangeStream;

    async fn handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Rpc<Self::HandshakeStream> {
        FlightService::handshake(self.door.as_ref(), request).await
    }

    /// There is nothing to list: results are made when they are asked for.
    async fn list_flights(&self, _: Request<Criteria>) -> Rpc<Self::ListFlightsStream> {
        Ok(Response::new(futures::stream::empty().boxed()))
    }

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Rpc<FlightInfo> {
        check(request.get_ref())?;
        self.door.info(request).await
    }

    async fn poll_flight_info(&self, request: Request<FlightDescriptor>) -> Rpc<PollInfo> {
        check(request.get_ref())?;
        self.door.poll(request).await.map(Response::new)
    }

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Rpc<SchemaResult> {
        check(request.get_ref())?;
        self.door.result_schema(request).await.map(Response::new)
    }

    async fn do_get(&self, request: Request<Ticket>) -> Rpc<Self::DoGetStream> {
        self.door.rows(request).await
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Rpc<Self::DoPutStream> {
        FlightService::do_put(self.door.as_ref(), request).await
    }

    async fn do_exchange(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> Rpc<Self::DoExchangeStream> {
        FlightService::do_exchange(self.door.as_ref(), request).await
    }

    async fn do_action(&self, request: Request<Action>) -> Rpc<Self::DoActionStream> {
        refused::action(&request.get_ref().r#type)?;
        FlightService::do_action(self.door.as_ref(), request).await
    }

    async fn list_actions(&self, _: Request<Empty>) -> Rpc<Self::ListActionsStream> {
        let actions = ACTIONS.map(|(name, description)| {
            Ok(ActionType {
                r#type: name.to_owned(),
                description: description.to_owned(),
            })
        });
        Ok(Response::new(futures::stream::iter(actions).boxed()))
    }
}
