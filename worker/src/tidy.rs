//! Plans of tasks that are over, and the memory they have reserved, are let go soon.
//!
//! datafusion-distributed keeps tasks in a cache that lets go of what was removed when it is used
//! for the next time. On a worker that gets nothing to do that is never: the hash table of a join
//! that was cancelled would count against the memory limit until then.

use std::sync::Arc;
use std::time::Duration;

use datafusion_distributed::{ExecuteTaskRequest, ProducerHeadSpec, TaskKey};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::server::Server;

/// How often it is looked for memory that may belong to nobody. The cache itself tidies up every
/// 0.3 s at most.
const INTERVAL: Duration = Duration::from_millis(200);

/// Longer than it takes to look a task up. What follows would be to wait for its plan.
const PATIENCE: Duration = Duration::from_millis(2);

/// Uses the cache of tasks now and then, until `stop`.
pub async fn tidy(server: Arc<Server>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
        if server.runtime.memory_pool.reserved() == 0 {
            continue;
        }
        // One that no query has.
        let nobody = ExecuteTaskRequest {
            task_key: TaskKey {
                query_id: Uuid::nil(),
                stage_id: 0,
                task_number: 0,
            },
            target_partition_start: 0,
            target_partition_end: 0,
            producer_head_spec: ProducerHeadSpec::None,
        };
        let _ = tokio::time::timeout(PATIENCE, server.executor.execute_task(nobody)).await;
    }
}
