//! Names of descriptors, actions and headers.

/// Command of the descriptor in the first message of a coordinator channel (`DoExchange`).
pub const FRAGMENT_COMMAND: &str = "inshore.fragment.v1";

/// Action of a worker that joins. Body: [`crate::pb::RegisterRequest`].
pub const REGISTER: &str = "inshore.register";
/// Action of a worker that is alive. Body: [`crate::pb::HeartbeatRequest`].
pub const HEARTBEAT: &str = "inshore.heartbeat";
/// Action of a worker that wants no new tasks. Body: [`crate::pb::NodeRequest`].
pub const DRAIN: &str = "inshore.drain";
/// Action of a worker that goes. Body: [`crate::pb::NodeRequest`].
pub const LEAVE: &str = "inshore.leave";
/// Action that asks a worker about itself. No body; answer: [`crate::pb::InfoResponse`].
pub const INFO: &str = "inshore.info";
/// Action that ends all tasks of a query on a worker. Body: [`crate::pb::CancelQueryRequest`].
pub const CANCEL_QUERY: &str = "inshore.cancel-query";

/// Header of every call between nodes: the caller's protocol version.
pub const VERSION_HEADER: &str = "x-inshore-protocol-version";
