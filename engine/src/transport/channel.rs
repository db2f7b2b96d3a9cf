//! Connections to other nodes: one per node, shared by all calls, found dead by keepalive.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use arrow_flight::flight_service_client::FlightServiceClient;
use inshore_proto::MAX_MESSAGE_BYTES;
use inshore_proto::error::{Code, RetryVerdict, WireError};
use parking_lot::Mutex;
use tonic::transport::{Channel, Endpoint};
use url::Url;

/// A node that cannot be connected to within this time is unavailable.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection on which nothing arrives for this long is probed. Together with
/// [`KEEPALIVE_TIMEOUT`] it bounds the time until a vanished or frozen node is noticed: 9 s.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(4);

/// A probe that is not answered within this time ends the connection.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// What a sender may have under way per stream before the receiver reads, in bytes.
pub const STREAM_WINDOW_BYTES: u32 = 2 << 20;

/// The same over all streams of a connection: HTTP/2's largest. A bound here would let streams
/// whose readers wait starve those that the readers wait for.
pub const CONNECTION_WINDOW_BYTES: u32 = (1 << 31) - 1;

/// Largest HTTP/2 frame accepted, in bytes. Batches come in fewer of them than by default (16 KiB).
pub const MAX_FRAME_BYTES: u32 = 256 << 10;

/// Calls under way on one connection. Each running task of a node holds one, so a small bound
/// would let queries wait for each other.
pub const MAX_CONCURRENT_CALLS: u32 = 16 * 1024;

/// Headers of one call, session settings included, in bytes.
pub const MAX_HEADER_BYTES: u32 = 256 << 10;

/// Calls that may be cancelled before the server has looked at them. Cancelling a query cancels
/// all its calls at once, and HTTP/2 servers take many such cancellations for an attack.
pub const MAX_PENDING_CANCELLATIONS: usize = 8 * 1024;

/// Connections kept; the one unused for longest makes room.
const MAX_CONNECTIONS: usize = 1024;

/// Called with the URL of a node that turned out to be gone.
pub type OnUnreachable = dyn Fn(&Url) + Send + Sync;

/// The connections of one node to others.
#[derive(Default)]
pub struct Channels {
    pool: Mutex<Pool>,
    on_unreachable: Option<Box<OnUnreachable>>,
}

#[derive(Default)]
struct Pool {
    open: HashMap<Url, Open>,
    /// Counts how often a connection was asked for.
    uses: u64,
}

struct Open {
    channel: Channel,
    /// The count when this one was last asked for.
    last_use: u64,
}

impl fmt::Debug for Channels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channels")
            .field("open", &self.pool.lock().open.len())
            .finish_non_exhaustive()
    }
}

impl Channels {
    /// No connections yet; `on_unreachable` hears of each node that turns out to be gone.
    pub fn new(on_unreachable: impl Fn(&Url) + Send + Sync + 'static) -> Self {
        Self {
            on_unreachable: Some(Box::new(on_unreachable)),
            ..Self::default()
        }
    }

    /// A Flight client for a node. The connection is made by the first call, and again by the next
    /// call after it broke.
    pub fn client(&self, url: &Url) -> Result<FlightServiceClient<Channel>, WireError> {
        Ok(FlightServiceClient::new(self.channel(url)?)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES))
    }

    /// The connection to a node.
    pub fn channel(&self, url: &Url) -> Result<Channel, WireError> {
        let mut pool = self.pool.lock();
        pool.uses += 1;
        let now = pool.uses;
        if let Some(entry) = pool.open.get_mut(url) {
            entry.last_use = now;
            return Ok(entry.channel.clone());
        }
        let channel = endpoint(url)?.connect_lazy();
        if pool.open.len() >= MAX_CONNECTIONS {
            let oldest = pool.open.iter().min_by_key(|(_, entry)| entry.last_use);
            if let Some(url) = oldest.map(|(url, _)| url.clone()) {
                pool.open.remove(&url);
            }
        }
        let entry = Open {
            channel: channel.clone(),
            last_use: now,
        };
        pool.open.insert(url.clone(), entry);
        Ok(channel)
    }

    /// Forgets the connection to a node that turned out to be gone.
    pub fn unreachable(&self, url: &Url) {
        self.pool.lock().open.remove(url);
        if let Some(listener) = &self.on_unreachable {
            listener(url);
        }
    }
}

fn endpoint(url: &Url) -> Result<Endpoint, WireError> {
    let invalid = |why: &str| {
        WireError::new(
            Code::InvalidArgument,
            RetryVerdict::Never,
            format!("{url} is no address of a node: {why}; it has the form grpc://HOST:PORT"),
        )
    };
    if url.scheme() != "grpc" {
        return Err(invalid("the scheme is not grpc"));
    }
    let host = url.host_str().ok_or_else(|| invalid("it names no host"))?;
    let port = url.port().ok_or_else(|| invalid("it names no port"))?;
    let endpoint = Endpoint::from_shared(format!("http://{host}:{port}"))
        .map_err(|error| invalid(&error.to_string()))?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(MAX_FRAME_BYTES)
        .http2_max_header_list_size(MAX_HEADER_BYTES))
}
