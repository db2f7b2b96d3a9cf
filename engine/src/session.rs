//! DataFusion sessions of both roles.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::disk_manager::DiskManagerBuilder;
use datafusion::execution::memory_pool::{
    FairSpillPool, MemoryPool, TrackConsumersPool, UnboundedMemoryPool,
};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::SessionState;
use datafusion::optimizer::Optimizer;
use datafusion::prelude::SessionConfig;
use datafusion_distributed::{
    ChannelResolver, DistributedExt, SessionStateBuilderExt, WorkerQueryContext,
    WorkerSessionBuilder,
};
use inshore_lake::codec::IcebergCodec;
use inshore_lake::deletes::DeleteCache;
use inshore_lake::scan::ScanOptions;
use inshore_lake::sql_types::IcebergTypes;
use inshore_lake::store::Stores;
use inshore_lake::write::transform_function;

use crate::distribute::{PlacementOptions, QueryWorkers, SplitScans, TaskCounts};
use crate::floats::with_float_rules;
use crate::functions;
use crate::interrupt::YieldingJoins;
use crate::options::{EngineOptions, apply_headers, settings_to_headers};
use crate::planner::{ClusterPlanner, GuardedPlanner};
use crate::preimage::ColumnRanges;
use crate::rewrite::ConnectDynamicFilters;
use crate::transport::FlightChannelResolver;

/// How many of the largest reservations an out-of-memory error lists.
const MEMORY_CONSUMERS_SHOWN: usize = 5;

/// Memory, caches, spill space and object stores of one node, shared by all its queries.
pub fn runtime(options: &EngineOptions, stores: &Stores) -> Result<Arc<RuntimeEnv>> {
    let shown = std::num::NonZeroUsize::MIN.saturating_add(MEMORY_CONSUMERS_SHOWN - 1);
    let pool: Arc<dyn MemoryPool> = match usize::try_from(options.memory_limit_bytes) {
        Ok(0) => Arc::new(UnboundedMemoryPool::default()),
        Ok(limit) => Arc::new(TrackConsumersPool::new(FairSpillPool::new(limit), shown)),
        Err(_) => Arc::new(UnboundedMemoryPool::default()),
    };
    let footers = usize::try_from(options.footer_cache_bytes).unwrap_or(usize::MAX);
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(pool)
        .with_disk_manager_builder(DiskManagerBuilder::default())
        .with_metadata_cache_limit(footers)
        .build_arc()?;
    stores.register(&runtime);
    Ok(runtime)
}

/// The session settings that every new session begins with. Deletes are kept in the node's cache.
pub fn base_config(options: &EngineOptions, deletes: &Arc<DeleteCache>) -> SessionConfig {
    let mut config = SessionConfig::new()
        .with_extension(Arc::clone(deletes))
        .with_batch_size(options.batch_size)
        .with_target_partitions(options.partitions())
        .with_option_extension(PlacementOptions {
            bytes_per_task: options.bytes_per_task,
            ..PlacementOptions::default()
        });
    let settings = config.options_mut();
    settings.execution.collect_statistics = true;
    settings.execution.parquet.pushdown_filters = false;
    settings.execution.parquet.reorder_filters = false;
    // The files of an Iceberg scan are split by the scan itself, along row groups.
    settings.optimizer.repartition_file_scans = false;
    config
}

/// Largest build side that is broadcast to all workers, in estimated bytes, and in rows where the
/// bytes are not known.
const BROADCAST_BYTES_MAX: usize = 16 << 20;
const BROADCAST_ROWS_MAX: usize = 1_000_000;

/// Has joins with a small build side broadcast it. DataFusion's own bound (1 MiB) is that of one
/// process, where hashing both sides costs little; in a cluster it sends both sides over the
/// network, and the probe side's scan loses its dynamic filter. On TPC-H at scale 1 with two workers
/// the 22 queries take 0.86 times as long as with DataFusion's bound.
pub fn prefer_broadcasts(config: &mut SessionConfig) {
    let optimizer = &mut config.options_mut().optimizer;
    optimizer.hash_join_single_partition_threshold = BROADCAST_BYTES_MAX;
    optimizer.hash_join_single_partition_threshold_rows = BROADCAST_ROWS_MAX;
}

/// The functions and optimizations of sessions that plan statements. A worker needs neither.
fn sql_builder() -> SessionStateBuilder {
    let mut rules = Optimizer::new().rules;
    // First, so that filters are pushed into scans as ranges; see `preimage`.
    rules.insert(0, Arc::new(ColumnRanges));
    let mut builder = SessionStateBuilder::new()
        .with_default_features()
        .with_optimizer_rules(rules)
        .with_physical_optimizer_rule(Arc::new(YieldingJoins));
    let scalar = builder.scalar_functions().get_or_insert_default();
    scalar.extend(functions::all());
    let analyzer = builder.analyzer().get_or_insert_default();
    analyzer.add_function_rewrite(Arc::new(functions::Unfold));
    analyzer.rules = with_float_rules(std::mem::take(&mut analyzer.rules));
    builder
}

/// A session's state where coordinator and workers are one process: nothing is distributed. Also
/// what every statement is parsed and planned with at first.
pub fn embedded_state(config: SessionConfig, runtime: Arc<RuntimeEnv>) -> SessionState {
    sql_builder()
        .with_type_planner(Arc::new(IcebergTypes))
        .with_config(config)
        .with_runtime_env(runtime)
        .build()
}

/// A session's state on the coordinator of a cluster, for one statement that may use `workers`.
pub fn coordinator_state(
    config: SessionConfig,
    runtime: Arc<RuntimeEnv>,
    workers: QueryWorkers,
    channels: impl ChannelResolver + Send + Sync + 'static,
) -> Result<SessionState> {
    let headers = settings_to_headers(&config)?;
    let mut config = config;
    let mut scans = ScanOptions::of(config.options());
    scans.min_partitions = 2;
    config.options_mut().extensions.insert(scans);
    // For whoever wants to know where the tasks went.
    config.set_extension(Arc::new(workers.clone()));
    // Two tasks even on a single worker: a plan in one task would stay on the coordinator.
    let tasks = workers.len().max(2);
    let state = sql_builder()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_query_planner(Arc::new(GuardedPlanner))
        .with_distributed_planner()
        .with_distributed_user_codec(IcebergCodec)
        .with_distributed_worker_resolver(workers.clone())
        .with_distributed_route_tasks_handler(workers)
        .with_distributed_channel_resolver(channels)
        .with_distributed_desired_task_count_handler(TaskCounts)
        .with_distributed_scale_up_leaf_node_handler(SplitScans)
        .with_distributed_max_tasks_per_stage(tasks)?
        .with_distributed_passthrough_headers(headers)?
        .build();
    let planner = ClusterPlanner::new(Arc::clone(state.query_planner()));
    Ok(SessionStateBuilder::new_from_existing(state)
        .with_query_planner(Arc::new(planner))
        .build())
}

/// Makes the sessions of a worker's fragments. They share one set of connections to other workers.
pub fn worker_sessions(
    options: EngineOptions,
) -> impl WorkerSessionBuilder + Clone + Send + Sync + 'static {
    let channels = FlightChannelResolver::new(|_| {});
    let deletes = Arc::new(DeleteCache::new(options.delete_cache_bytes));
    move |mut context: WorkerQueryContext| {
        let config = context.builder.config().get_or_insert_default();
        config.set_extension(Arc::clone(&deletes));
        std::future::ready(worker_state(context, &options, channels.clone()))
    }
}

/// A session's state on a worker, for one fragment.
fn worker_state(
    context: WorkerQueryContext,
    options: &EngineOptions,
    channels: FlightChannelResolver,
) -> Result<SessionState> {
    let WorkerQueryContext {
        mut builder,
        headers,
    } = context;
    let config = builder.config().get_or_insert_default();
    config.options_mut().execution.target_partitions = options.partitions();
    apply_headers(config, &headers)?;
    let scalar = builder.scalar_functions().get_or_insert_default();
    scalar.push(transform_function());
    Ok(builder
        .with_distributed_user_codec(IcebergCodec)
        .with_distributed_channel_resolver(channels)
        .with_distributed_worker_plan_rewrite_handler(ConnectDynamicFilters)
        .with_distributed_passthrough_headers(headers_of_query(&headers))?
        .build())
}

/// What a worker hands on when it calls another worker: everything but the transport's own.
fn headers_of_query(headers: &http::HeaderMap) -> http::HeaderMap {
    headers
        .iter()
        .filter(|(name, _)| name.as_str().starts_with("x-inshore-"))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}
