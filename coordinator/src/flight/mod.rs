//! The Flight SQL door: clients and workers arrive on one port.
//!
//! - [`front`]: the Flight service; what Flight SQL does not say is answered there.
//! - [`service`]: the requests of Flight SQL, each turned into calls on a session.
//! - [`metadata`]: catalogs, schemas, tables, keys, types and what the server can do, as Flight SQL
//!   wants them.
//! - [`statements`]: planned and prepared statements between two requests of a client.
//! - [`polls`]: statements that run while their clients ask after them.
//! - [`tickets`]: the signed names of both; [`status`]: errors as clients see them.
//! - [`sessions`]: which request belongs to which session.
//! - [`put`]: values of parameters and rows of tables that clients send; [`whole`]: whether all came.
//! - [`refused`]: what of Flight SQL there is not.
//! - [`options`]: the options of a session; [`messages`]: Flight's messages about them.

mod front;
mod messages;
mod metadata;
mod options;
mod polls;
mod put;
mod refused;
mod service;
mod sessions;
mod statements;
mod status;
mod tickets;
mod whole;

use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use inshore_proto::MAX_MESSAGE_BYTES;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tracing::{info, warn};

use crate::node::Coordinator;
use crate::{Error, Result};

use front::Front;
use service::Door;
use tickets::Signer;
use whole::Whole;

/// How long running requests may go on after shutdown began.
const DRAIN: Duration = Duration::from_secs(10);

/// Idle connections are probed this often, and given up after the same time without an answer.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// How often expired sessions and statements are looked for.
const SWEEP: Duration = Duration::from_secs(1);

/// Serves until `shutdown`, then for at most [`DRAIN`].
pub(crate) async fn serve(
    node: Arc<Coordinator>,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<()> {
    let address = Coordinator::address_of(&listener)?;
    let door = Arc::new(Door::new(node, Signer::new()?));
    let sweeper = tokio::spawn(sweep(Arc::clone(&door), shutdown.clone()));
    let service = FlightServiceServer::new(Front::new(Arc::clone(&door)))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let stop = shutdown.clone();
    // Small frames must not wait for an acknowledgement: that costs 40 ms a time.
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .add_service(Whole(service))
        .serve_with_incoming_shutdown(incoming, async move {
            stop.cancelled().await;
        });
    info!(%address, "serving");
    let drained = async {
        shutdown.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    let served = tokio::select! {
        served = server => served,
        () = drained => {
            warn!("requests were still running {} s after shutdown began", DRAIN.as_secs());
            Ok(())
        }
    };
    sweeper.abort();
    door.end();
    served.map_err(|error| Error::Serve {
        address: address.to_string(),
        why: error.to_string(),
    })
}

/// Forgets what has expired, until shutdown.
async fn sweep(door: Arc<Door>, shutdown: CancellationToken) {
    let mut ticks = tokio::time::interval(SWEEP);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        door.expire();
    }
}
