//! Bodies of the actions between workers and their coordinator.

use std::time::Duration;

use arrow_flight::Action;
use bytes::Bytes;
use prost::Message;
use url::Url;
use uuid::Uuid;

use crate::error::WireError;
use crate::{decode, names, pb, wire};

/// Longest node identifier or site name accepted, in bytes.
const MAX_NAME_BYTES: usize = 256;

/// A worker that joins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The worker's protocol version.
    pub protocol_version: u32,
    /// The worker's build, for display.
    pub build_version: String,
    /// Chosen by the worker when its process starts.
    pub node_id: String,
    /// Where other nodes reach the worker.
    pub url: Url,
    /// Network location of the worker.
    pub site: Option<String>,
    /// Cores that its tasks may use.
    pub cores: u32,
    /// Bound of what its tasks may reserve, in bytes; 0 for none.
    pub memory_limit_bytes: u64,
}

/// What a worker carries right now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Tasks that exist on the worker.
    pub running_tasks: u32,
    /// Bytes that operators have reserved.
    pub memory_reserved_bytes: u64,
    /// Bytes sent to other nodes since the worker started.
    pub bytes_sent: u64,
}

/// What a worker says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// Its protocol version.
    pub protocol_version: u32,
    /// Its build.
    pub build_version: String,
    /// Its identifier.
    pub node_id: String,
    /// Where other nodes reach it.
    pub url: Url,
    /// Whether it takes no new tasks.
    pub draining: bool,
    /// What it carries.
    pub load: Load,
}

/// A request that the coordinator answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A worker joins.
    Register(Registration),
    /// A worker is alive.
    Heartbeat {
        /// Its identifier.
        node_id: String,
        /// What it carries.
        load: Load,
    },
    /// A worker wants no new tasks.
    Drain {
        /// Its identifier.
        node_id: String,
    },
    /// A worker goes.
    Leave {
        /// Its identifier.
        node_id: String,
    },
}

impl Request {
    /// The Flight action of this request.
    pub fn to_action(&self) -> Action {
        let (name, body) = match self {
            Self::Register(registration) => (
                names::REGISTER,
                pb::RegisterRequest::from(registration.clone()).encode_to_vec(),
            ),
            Self::Heartbeat { node_id, load } => (
                names::HEARTBEAT,
                pb::HeartbeatRequest {
                    node_id: node_id.clone(),
                    load: Some((*load).into()),
                }
                .encode_to_vec(),
            ),
            Self::Drain { node_id } => (names::DRAIN, node_request(node_id)),
            Self::Leave { node_id } => (names::LEAVE, node_request(node_id)),
        };
        Action {
            r#type: name.to_owned(),
            body: Bytes::from(body),
        }
    }

    /// The request in a Flight action; `None` if the action is another one.
    pub fn from_action(action: &Action) -> Option<Result<Self, WireError>> {
        let node = |what| {
            let request: pb::NodeRequest = decode(&action.body, what)?;
            node_id(request.node_id)
        };
        let request = match action.r#type.as_str() {
            names::REGISTER => decode::<pb::RegisterRequest>(&action.body, "RegisterRequest")
                .and_then(|request| Ok(Self::Register(request.try_into()?))),
            names::HEARTBEAT => decode::<pb::HeartbeatRequest>(&action.body, "HeartbeatRequest")
                .and_then(|request| {
                    Ok(Self::Heartbeat {
                        node_id: node_id(request.node_id)?,
                        load: request.load.map(Into::into).unwrap_or_default(),
                    })
                }),
            names::DRAIN => node("drain request").map(|node_id| Self::Drain { node_id }),
            names::LEAVE => node("leave request").map(|node_id| Self::Leave { node_id }),
            _ => return None,
        };
        Some(request)
    }
}

fn node_request(node_id: &str) -> Vec<u8> {
    pb::NodeRequest {
        node_id: node_id.to_owned(),
    }
    .encode_to_vec()
}

fn node_id(id: String) -> Result<String, WireError> {
    name(id, "node_id")
}

fn name(text: String, what: &str) -> Result<String, WireError> {
    if text.is_empty() || text.len() > MAX_NAME_BYTES {
        let why = format!(
            "{} bytes long; between 1 and {MAX_NAME_BYTES} allowed",
            text.len()
        );
        return Err(wire::malformed(what, &why));
    }
    Ok(text)
}

/// The coordinator's answer to a registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// The coordinator's build, for display.
    pub build_version: String,
    /// A worker that is silent for longer is out.
    pub heartbeat_timeout: Duration,
}

impl Registered {
    /// The body of the answer.
    pub fn encode(&self) -> Bytes {
        let timeout = self.heartbeat_timeout.as_millis();
        let response = pb::RegisterResponse {
            build_version: self.build_version.clone(),
            heartbeat_timeout_ms: u64::try_from(timeout).unwrap_or(u64::MAX),
        };
        Bytes::from(response.encode_to_vec())
    }

    /// Reads the body of an answer.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        let response: pb::RegisterResponse = decode(body, "RegisterResponse")?;
        Ok(Self {
            build_version: response.build_version,
            heartbeat_timeout: Duration::from_millis(response.heartbeat_timeout_ms),
        })
    }
}

/// The coordinator's answer to a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeartbeatAnswer {
    /// False: the node has to register again.
    pub known: bool,
}

impl HeartbeatAnswer {
    /// The body of the answer.
    pub fn encode(self) -> Bytes {
        Bytes::from(pb::HeartbeatResponse { known: self.known }.encode_to_vec())
    }

    /// Reads the body of an answer.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        let response: pb::HeartbeatResponse = decode(body, "HeartbeatResponse")?;
        Ok(Self {
            known: response.known,
        })
    }
}

/// The action that ends all tasks of a query on a worker.
pub fn cancel_query_action(query_id: Uuid) -> Action {
    let request = pb::CancelQueryRequest {
        query_id: Bytes::copy_from_slice(query_id.as_bytes()),
    };
    Action {
        r#type: names::CANCEL_QUERY.to_owned(),
        body: Bytes::from(request.encode_to_vec()),
    }
}

/// Reads the body of [`cancel_query_action`].
pub fn decode_cancel_query(body: &[u8]) -> Result<Uuid, WireError> {
    let request: pb::CancelQueryRequest = decode(body, "CancelQueryRequest")?;
    wire::uuid(&request.query_id, "CancelQueryRequest.query_id")
}

/// The action that asks a worker about itself.
pub fn info_action() -> Action {
    Action {
        r#type: names::INFO.to_owned(),
        body: Bytes::new(),
    }
}

impl Info {
    /// The body of the answer to [`info_action`].
    pub fn encode(&self) -> Bytes {
        let response = pb::InfoResponse {
            protocol_version: self.protocol_version,
            build_version: self.build_version.clone(),
            node_id: self.node_id.clone(),
            url: self.url.to_string(),
            draining: self.draining,
            load: Some(self.load.into()),
        };
        Bytes::from(response.encode_to_vec())
    }

    /// Reads the body of an answer.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        let response: pb::InfoResponse = decode(body, "InfoResponse")?;
        Ok(Self {
            protocol_version: response.protocol_version,
            build_version: response.build_version,
            node_id: node_id(response.node_id)?,
            url: wire::url(&response.url, "InfoResponse.url")?,
            draining: response.draining,
            load: response.load.map(Into::into).unwrap_or_default(),
        })
    }
}

impl From<Registration> for pb::RegisterRequest {
    fn from(registration: Registration) -> Self {
        Self {
            protocol_version: registration.protocol_version,
            build_version: registration.build_version,
            node_id: registration.node_id,
            url: registration.url.into(),
            site: registration.site,
            cores: registration.cores,
            memory_limit_bytes: registration.memory_limit_bytes,
        }
    }
}

impl TryFrom<pb::RegisterRequest> for Registration {
    type Error = WireError;

    fn try_from(request: pb::RegisterRequest) -> Result<Self, WireError> {
        Ok(Self {
            protocol_version: request.protocol_version,
            build_version: name(request.build_version, "RegisterRequest.build_version")?,
            node_id: node_id(request.node_id)?,
            url: wire::url(&request.url, "RegisterRequest.url")?,
            site: request
                .site
                .map(|site| name(site, "RegisterRequest.site"))
                .transpose()?,
            cores: request.cores.max(1),
            memory_limit_bytes: request.memory_limit_bytes,
        })
    }
}

impl From<Load> for pb::Load {
    fn from(load: Load) -> Self {
        Self {
            running_tasks: load.running_tasks,
            memory_reserved_bytes: load.memory_reserved_bytes,
            bytes_sent: load.bytes_sent,
        }
    }
}

impl From<pb::Load> for Load {
    fn from(load: pb::Load) -> Self {
        Self {
            running_tasks: load.running_tasks,
            memory_reserved_bytes: load.memory_reserved_bytes,
            bytes_sent: load.bytes_sent,
        }
    }
}
