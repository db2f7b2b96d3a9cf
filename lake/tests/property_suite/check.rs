//! Asks the reader what the model knows, in every mode of scanning.

use std::path::Path;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;
use datafusion::execution::SessionStateBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use iceberg::TableIdent;
use iceberg::table::StaticTable;
use inshore_lake::TableName;
use inshore_lake::plan::ManifestCache;
use inshore_lake::scan::ScanOptions;
use inshore_lake::sql_types::IcebergTypes;
use inshore_lake::store::{LakeStorageFactory, Stores};
use inshore_lake::table::IcebergTable;
use inshore_lake::version::TableVersion;

use crate::arrays::value;
use crate::model::Model;
use crate::query::{Answer, Query};
use crate::switches;
use crate::types::{Leaf, Schema, Ty, quoted};
use crate::values::Value;
use crate::world::World;

/// How the rows are found; the answer is always the same.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    /// Everything is read and filtered afterwards.
    Unpruned,
    /// As planned by default.
    Pruned,
    /// The Parquet reader applies the filter itself, and files are cut into small pieces.
    Late,
}

fn session(mode: Mode) -> SessionContext {
    let mut config = SessionConfig::new().with_target_partitions(2);
    let mut options = ScanOptions::default();
    options.prune = mode != Mode::Unpruned;
    let parquet = &mut config.options_mut().execution.parquet;
    match mode {
        Mode::Unpruned => {
            parquet.pruning = false;
            parquet.enable_page_index = false;
        }
        Mode::Pruned => {}
        Mode::Late => {
            parquet.pushdown_filters = true;
            options.target_piece_bytes = 700;
            options.least_piece_bytes = 300;
        }
    }
    config.options_mut().extensions.insert(options);
    let state = SessionStateBuilder::new()
        .with_config(config)
        .with_default_features()
        .with_type_planner(Arc::new(IcebergTypes))
        .build();
    SessionContext::new_with_state(state)
}

/// The reader under test.
pub struct Reader {
    stores: Arc<Stores>,
    /// Made once, since that takes longer than most queries.
    sessions: Vec<(Mode, SessionContext)>,
    manifests: Arc<ManifestCache>,
}

impl Reader {
    pub fn new() -> Self {
        let stores = Stores::for_local_files().unwrap();
        let modes = [Mode::Unpruned, Mode::Pruned, Mode::Late];
        let sessions: Vec<_> = modes.map(|mode| (mode, session(mode))).into();
        for (_, session) in &sessions {
            stores.register(&session.runtime_env());
        }
        Self {
            stores,
            sessions,
            manifests: Arc::default(),
        }
    }

    async fn open(&self, metadata: &Path) -> Result<Arc<IcebergTable>, String> {
        let ident = TableIdent::from_strs(["made", "t"]).unwrap();
        let file_io = LakeStorageFactory::file_io(Arc::clone(&self.stores));
        let table = StaticTable::from_metadata_file(metadata.to_str().unwrap(), ident, file_io)
            .await
            .map_err(|error| format!("{error:?}"))?;
        let name = TableName::new("lake", "made", "t");
        let (manifests, stores) = (Arc::clone(&self.manifests), Arc::clone(&self.stores));
        IcebergTable::try_new(name, table.into_table(), manifests, stores)
            .map_err(|error| error.to_string())
    }

    /// Compares everything, and the answers to a number of random queries: of the table as it is,
    /// and of an older state of it.
    pub async fn check(
        &self,
        world: &mut World,
        rng: &mut fastrand::Rng,
        queries: usize,
    ) -> Result<(), String> {
        let metadata = world.table.write_metadata();
        let table = self.open(&metadata).await?;
        let fail = |why: String| format!("{}\n  {why}", metadata.display());
        let leaves = world.asked_leaves(&world.model);
        let asked = random_queries(world, &world.model, &leaves, rng, queries);
        self.ask(&table, &world.model, &asked).await.map_err(fail)?;
        let older = world.model.states.len().saturating_sub(1);
        if older == 0 {
            return Ok(());
        }
        let state = &world.model.states[rng.usize(0..older)];
        let then = state.model();
        let leaves = world.asked_leaves(&then);
        let asked = random_queries(world, &then, &leaves, rng, queries / 4);
        for version in [
            TableVersion::Snapshot(state.snapshot_id),
            TableVersion::TimestampMs(state.timestamp_ms),
        ] {
            let fail = |why: String| fail(format!("{version:?}, {why}"));
            let table = table
                .at(&version)
                .map_err(|error| fail(error.to_string()))?;
            self.ask(&table, &then, &asked).await.map_err(fail)?;
        }
        Ok(())
    }

    async fn ask(
        &self,
        table: &Arc<IcebergTable>,
        model: &Model,
        queries: &[Query],
    ) -> Result<(), String> {
        for (mode, session) in &self.sessions {
            let fail = |error: datafusion::error::DataFusionError| error.to_string();
            session.deregister_table("t").map_err(fail)?;
            session
                .register_table("t", Arc::clone(table) as _)
                .map_err(fail)?;
            // What is read without pruning hardly depends on the query.
            let count = match mode {
                Mode::Unpruned => queries.len().div_ceil(3),
                _ => queries.len(),
            };
            for query in &queries[..count] {
                let problem = |why: String| format!("{mode:?}, {}\n  {why}", query.sql());
                let late = *mode == Mode::Late;
                if late && !switches::LATE_CHILD_FILTERS && query.filters_children() {
                    continue;
                }
                let answer = query.answer(model);
                let found = match session.sql(&query.sql()).await {
                    Ok(frame) => frame.collect().await,
                    Err(error) => Err(error),
                };
                let found = found.map_err(|error| problem(error.to_string()))?;
                compare(&answer, &found, &model.schema, query).map_err(problem)?;
            }
        }
        Ok(())
    }
}

/// Everything, and random queries on `model`, a state of the world.
fn random_queries(
    world: &World,
    model: &Model,
    leaves: &[Leaf],
    rng: &mut fastrand::Rng,
    count: usize,
) -> Vec<Query> {
    let random = (0..count)
        .filter_map(|_| Query::random(rng, model, leaves))
        .filter(|query| switches::SORT_BY_NESTED_NAMES || !sorts_by_nested_name(world, query));
    std::iter::once(Query::Everything).chain(random).collect()
}

/// Whether a nested column once had the name of the column that decides the order.
fn sorts_by_nested_name(world: &World, query: &Query) -> bool {
    let Query::Top(leaf, ..) = query else {
        return false;
    };
    let mut fields = world.table.schemas.iter().flat_map(|schema| &schema.fields);
    fields.any(|f| f.prim().is_none() && quoted(&f.name, '"') == leaf.sql)
}

fn compare(
    answer: &Answer,
    found: &[RecordBatch],
    schema: &Schema,
    query: &Query,
) -> Result<(), String> {
    let rows = |types: &[Ty]| -> Vec<Vec<Value>> { values(types, found) };
    match answer {
        Answer::Rows(types, expected) => {
            if let (Query::Everything, Some(batch)) = (query, found.first()) {
                let columns = batch.schema();
                let names: Vec<&String> = columns.fields().iter().map(|f| f.name()).collect();
                let wanted: Vec<&String> = schema.fields.iter().map(|f| &f.name).collect();
                if names != wanted {
                    return Err(format!("columns {names:?} instead of {wanted:?}"));
                }
            }
            let (mut expected, mut found) = (expected.clone(), rows(types));
            expected.sort();
            found.sort();
            same(&expected, &found)
        }
        Answer::Ordered(types, expected) => same(expected, &rows(types)),
        Answer::Count(expected) => {
            let count: usize = found.iter().map(RecordBatch::num_rows).sum();
            if count == *expected {
                return Ok(());
            }
            Err(format!("{count} rows instead of {expected}"))
        }
        Answer::Aggregates(leaf, counts, edges) => {
            let batch = found.iter().find(|b| b.num_rows() > 0).unwrap();
            let count = |at: usize| batch.column(at).as_primitive::<Int64Type>().value(0);
            let edge = |at: usize| value(&Ty::Prim(leaf.prim), batch.column(at), 0);
            let found = ([count(0), count(1)], [edge(2), edge(3)].map(plain_zero));
            let expected = (*counts, edges.clone().map(plain_zero));
            if found == expected {
                return Ok(());
            }
            Err(format!("{found:?} instead of {expected:?}"))
        }
    }
}

/// Which zero is the smaller one is DataFusion's own.
fn plain_zero(value: Value) -> Value {
    match value {
        Value::Float(v) => Value::Float(v + 0.0),
        Value::Double(v) => Value::Double(v + 0.0),
        other => other,
    }
}

fn values(types: &[Ty], batches: &[RecordBatch]) -> Vec<Vec<Value>> {
    let mut rows = vec![];
    for batch in batches {
        assert_eq!(batch.num_columns(), types.len());
        for row in 0..batch.num_rows() {
            let columns = types.iter().zip(batch.columns());
            rows.push(columns.map(|(ty, column)| value(ty, column, row)).collect());
        }
    }
    rows
}

/// What differs, if anything does.
fn same(expected: &[Vec<Value>], found: &[Vec<Value>]) -> Result<(), String> {
    if expected == found {
        return Ok(());
    }
    let show = |rows: &[Vec<Value>], others: &[Vec<Value>]| {
        let only: Vec<String> = rows
            .iter()
            .filter(|row| {
                let count = |rows: &[Vec<Value>]| rows.iter().filter(|r| r == row).count();
                count(rows) != count(others)
            })
            .take(4)
            .map(|row| format!("{row:?}"))
            .collect();
        only.join("\n      ")
    };
    Err(format!(
        "{} rows instead of {}; expected\n      {}\n    found\n      {}",
        found.len(),
        expected.len(),
        show(expected, found),
        show(found, expected)
    ))
}
