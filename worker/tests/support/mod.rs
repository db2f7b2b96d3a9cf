//! A small cluster in this process: real workers behind real sockets, and a session that plans for
//! them.
#![allow(dead_code)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use datafusion_distributed::{
    DistributedExt, SessionStateBuilderExt, WorkerQueryContext, WorkerResolver,
};
use inshore_engine::transport::FlightChannelResolver;
use inshore_proto::error::WireError;
use inshore_worker::{Config, Worker};
use url::Url;

/// Rows per file of the test table.
pub const ROWS_PER_FILE: i64 = 1000;
/// Files of the test table.
pub const FILES: i64 = 4;

/// A table `t(k bigint, v bigint, s text)` of several files.
pub fn write_table(dir: &Path) {
    for file in 0..FILES {
        let base = file * ROWS_PER_FILE;
        let keys = Int64Array::from_iter_values((0..ROWS_PER_FILE).map(|row| (base + row) % 17));
        let values = Int64Array::from_iter_values((0..ROWS_PER_FILE).map(|row| base + row));
        let texts = StringArray::from_iter_values(
            (0..ROWS_PER_FILE)
                .map(|row| format!("a text that is too long to be inlined {}", base + row)),
        );
        let batch = RecordBatch::try_from_iter([
            ("k", Arc::new(keys) as ArrayRef),
            ("v", Arc::new(values)),
            ("s", Arc::new(texts)),
        ])
        .unwrap();
        let out = std::fs::File::create(dir.join(format!("{file}.parquet"))).unwrap();
        let mut writer = ArrowWriter::try_new(out, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    }
}

/// A function of one integer column that returns it, after something else.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Effect {
    name: &'static str,
    signature: Signature,
}

impl Effect {
    fn udf(name: &'static str) -> ScalarUDF {
        ScalarUDF::from(Self {
            name,
            signature: Signature::exact(vec![DataType::Int64], Volatility::Volatile),
        })
    }
}

impl ScalarUDFImpl for Effect {
    fn name(&self) -> &str {
        self.name
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let argument = args.args[0].to_array(args.number_rows)?;
        match self.name {
            "boom" => panic!("boom went off"),
            _ => std::thread::sleep(Duration::from_millis(50)),
        }
        Ok(ColumnarValue::Array(argument))
    }
}

/// `boom(x)` panics, `slow(x)` takes 50 ms per batch.
pub fn functions() -> Vec<ScalarUDF> {
    vec![Effect::udf("boom"), Effect::udf("slow")]
}

/// The session of a task.
pub async fn task_session(context: WorkerQueryContext) -> Result<SessionState> {
    let channels = FlightChannelResolver::default();
    let mut builder = context.builder.with_distributed_channel_resolver(channels);
    builder
        .scalar_functions()
        .get_or_insert_default()
        .extend(functions().into_iter().map(Arc::new));
    Ok(builder.build())
}

/// Starts a worker without a coordinator.
pub async fn start_worker(config: Config) -> Worker {
    let listener = config.bind().await.unwrap();
    Worker::start(
        config,
        listener,
        task_session,
        Arc::new(RuntimeEnv::default()),
    )
    .unwrap()
}

/// The workers of a query.
pub struct Urls(pub Vec<Url>);

impl WorkerResolver for Urls {
    fn get_urls(&self) -> Result<Vec<Url>, DataFusionError> {
        Ok(self.0.clone())
    }
}

/// A session that plans for `urls`, with as many rows per batch.
pub fn session_state(urls: Vec<Url>, batch_size: usize) -> SessionStateBuilder {
    let config = SessionConfig::new()
        .with_target_partitions(3)
        .with_batch_size(batch_size);
    SessionStateBuilder::new()
        .with_default_features()
        .with_config(config)
        .with_distributed_planner()
        .with_distributed_worker_resolver(Urls(urls))
        .with_distributed_channel_resolver(FlightChannelResolver::default())
        .with_distributed_file_scan_config_bytes_per_partition(1)
        .unwrap()
        // On the workers too.
        .with_distributed_shuffle_batch_size(batch_size)
        .unwrap()
}

/// Sets the compression of exchanges; the setter of datafusion-distributed is in its `grpc` feature.
pub fn set_compression(state: &mut SessionStateBuilder, name: &str) {
    let config = state.config().get_or_insert_default();
    config
        .options_mut()
        .set("distributed.compression", name)
        .unwrap();
}

/// A context over [`session_state`] with the test table.
pub async fn context(state: SessionStateBuilder, dir: &Path) -> SessionContext {
    let context = SessionContext::new_with_state(state.build());
    for function in functions() {
        context.register_udf(function);
    }
    context
        .register_parquet("t", dir.to_str().unwrap(), ParquetReadOptions::default())
        .await
        .unwrap();
    context
}

/// A context that plans for `urls`.
pub async fn cluster(urls: Vec<Url>, dir: &Path) -> SessionContext {
    context(session_state(urls, 8192), dir).await
}

/// Runs a statement.
pub async fn run(context: &SessionContext, sql: &str) -> Result<Vec<RecordBatch>> {
    context.sql(sql).await?.collect().await
}

/// Runs a statement, and prints its rows.
pub async fn text(context: &SessionContext, sql: &str) -> String {
    let batches = run(context, sql).await.unwrap();
    pretty_format_batches(&batches).unwrap().to_string()
}

/// What a statement's failure is on the wire.
pub async fn failure(context: &SessionContext, sql: &str) -> WireError {
    let error = run(context, sql).await.unwrap_err();
    inshore_engine::transport::error::wire_error(&error)
}

/// Waits until `condition` holds, at most for `timeout`; how long it took.
pub async fn until(timeout: Duration, what: &str, mut condition: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < timeout, "not within {timeout:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    start.elapsed()
}
