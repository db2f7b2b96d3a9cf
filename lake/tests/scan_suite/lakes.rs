//! The lakes written by other systems are the oracle: every query over a table that can be read
//! gives exactly the expected rows, pruned and unpruned.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::execution::SessionStateBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use iceberg::TableIdent;
use iceberg::table::StaticTable;
use inshore_lake::config::LakeConfig;
use inshore_lake::error::Code;
use inshore_lake::plan::ManifestCache;
use inshore_lake::scan::ScanOptions;
use inshore_lake::sql_types::IcebergTypes;
use inshore_lake::store::{LakeStorageFactory, Stores};
use inshore_lake::table::IcebergTable;
use inshore_lake::version::TableVersion;
use inshore_lake::{Error, TableName};
use serde_json::Value;

use crate::expected::{Case, Row, cases, difference, rows};

/// The lakes' directory.
fn lakes() -> Option<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/lakes");
    if !directory.join("expected/index.json").exists() {
        println!("skipped: {} is not there", directory.display());
        return None;
    }
    Some(directory.canonicalize().unwrap())
}

/// The lakes below `root`. Their tables name the places where they were written.
fn stores(root: &Path) -> Arc<Stores> {
    let here = |below: &str| format!("file://{}/{below}", root.display());
    let lake = LakeConfig {
        map: [
            ("file:///tmp/inshore-lakes/", here("")),
            ("hdfs://localhost:20500/test-warehouse", here("impala_v3")),
            ("file://data/persistent/", here("duckdb/data/persistent/")),
            // Relative to another folder than its siblings.
            (
                "lineitem_iceberg/",
                here("duckdb/data/persistent/iceberg/lineitem_iceberg/"),
            ),
        ]
        .map(|(prefix, target)| (prefix.to_string(), target))
        .into(),
        base: Some(here("duckdb")),
        ..LakeConfig::new(here(""))
    };
    Stores::new(&BTreeMap::from([("lakes".to_string(), lake)])).unwrap()
}

/// Why a query gives no rows here; each entry is the beginning of `table/case`.
const KNOWN: &[(&str, &str)] = &[
    (
        "types.primitives/zero",
        "DataFusion compares floats by IEEE 754 total order: -0.0 = 0 is false",
    ),
    (
        "types.nan_and_infinity/between",
        "DataFusion compares floats by IEEE 754 total order: -0.0 >= 0 is false",
    ),
    (
        "iceberg_v1_deprecated/",
        "iceberg-rust does not parse snapshots that list manifests themselves",
    ),
    (
        "equality_delete_cross_partition/",
        "iceberg-rust does not parse this metadata",
    ),
    (
        "equality_delete_extra_column/",
        "iceberg-rust does not parse this metadata",
    ),
    (
        "timestamptz_ns/",
        "iceberg-rust does not parse this metadata",
    ),
];

fn known(name: &str) -> Option<&'static str> {
    KNOWN
        .iter()
        .find(|(prefix, _)| name.starts_with(prefix))
        .map(|(_, why)| *why)
}

/// How the rows are found; the answer is always the same.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    /// Everything is read and filtered afterwards.
    Unpruned,
    /// As planned by default.
    Pruned,
    /// The Parquet reader applies the filter itself (late materialisation).
    Late,
}

/// Every mode, in the order of the enum.
const MODES: [Mode; 3] = [Mode::Unpruned, Mode::Pruned, Mode::Late];

fn session(mode: Mode) -> SessionContext {
    let mut config = SessionConfig::new().with_target_partitions(2);
    let mut options = ScanOptions::default();
    options.prune = mode != Mode::Unpruned;
    config.options_mut().extensions.insert(options);
    if mode == Mode::Late {
        config.options_mut().execution.parquet.pushdown_filters = true;
    }
    if mode == Mode::Unpruned {
        config.options_mut().execution.parquet.pruning = false;
        config.options_mut().execution.parquet.enable_page_index = false;
    }
    let state = SessionStateBuilder::new()
        .with_config(config)
        .with_default_features()
        .with_type_planner(Arc::new(IcebergTypes))
        .build();
    SessionContext::new_with_state(state)
}

struct Oracle {
    root: PathBuf,
    stores: Arc<Stores>,
    /// One for each [`Mode`], since making one takes longer than most queries.
    sessions: Vec<SessionContext>,
    manifests: Arc<ManifestCache>,
}

impl Oracle {
    async fn table(&self, entry: &Value) -> Result<Arc<IcebergTable>, Error> {
        let metadata = self.root.join(entry["metadata"].as_str().unwrap());
        let name = entry["table"].as_str().unwrap();
        let ident = TableIdent::from_strs(["lakes", name]).unwrap();
        let file_io = LakeStorageFactory::file_io(Arc::clone(&self.stores));
        let path = metadata.to_str().unwrap();
        let table = StaticTable::from_metadata_file(path, ident, file_io)
            .await
            .map_err(|error| Error::from_iceberg(path, &error))?
            .into_table();
        let name = TableName::new("lake", "lakes", name);
        IcebergTable::try_new(
            name,
            table,
            Arc::clone(&self.manifests),
            Arc::clone(&self.stores),
        )
    }

    async fn run(
        &self,
        table: &Arc<IcebergTable>,
        case: &Case,
        mode: Mode,
    ) -> datafusion::error::Result<Vec<Row>> {
        let table = match version(case) {
            Some(version) => &table.at(&version)?,
            None => table,
        };
        let ctx = &self.sessions[mode as usize];
        ctx.deregister_table("t")?;
        ctx.register_table("t", Arc::clone(table) as _)?;
        let sql = case.sql.replace("{table}", "t");
        let batches = ctx.sql(&sql).await?.collect().await?;
        Ok(rows(&batches))
    }
}

/// The state of the table that a case reads.
fn version(case: &Case) -> Option<TableVersion> {
    let number = |key| case.key(key).map(|text| text.parse().unwrap());
    let name = case
        .key("ref")
        .map(|name| TableVersion::Ref(name.to_owned()));
    number("snapshot_id")
        .map(TableVersion::Snapshot)
        .or(number("as_of_ms").map(TableVersion::TimestampMs))
        .or(name)
}

fn unsupported(error: &datafusion::error::DataFusionError) -> bool {
    Error::in_chain(error).is_some_and(|error| error.code() == Code::Unsupported)
}

/// What is wrong with a result, if anything.
fn compare(case: &Case, found: Vec<Row>) -> Option<String> {
    match case.key("expect") {
        Some("error") => Some("should have failed".to_string()),
        _ => difference(case, found),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_of_other_writers_give_the_expected_rows() {
    let Some(root) = lakes() else {
        return;
    };
    let index = std::fs::read_to_string(root.join("expected/index.json")).unwrap();
    let index: Vec<Value> = serde_json::from_str(&index).unwrap();
    let stores = stores(&root);
    let sessions: Vec<SessionContext> = MODES.iter().map(|mode| session(*mode)).collect();
    for session in &sessions {
        stores.register(&session.runtime_env());
    }
    let oracle = Oracle {
        root: root.clone(),
        stores,
        sessions,
        manifests: Arc::new(ManifestCache::default()),
    };
    let only = std::env::var("LAKE_TABLE").ok();
    let (mut ok, mut refused, mut listed) = (0, 0, 0);
    let mut wrong: Vec<String> = vec![];
    for entry in &index {
        let name = entry["table"].as_str().unwrap();
        if only.as_ref().is_some_and(|only| !name.contains(only)) {
            continue;
        }
        let sql = std::fs::read_to_string(root.join("expected").join(trim(&entry["sql"]))).unwrap();
        let csv = std::fs::read_to_string(root.join("expected").join(trim(&entry["csv"]))).unwrap();
        let table = oracle.table(entry).await;
        for case in cases(&sql, &csv) {
            let id = format!("{name}/{}", case.name);
            if case.key("expect") == Some("optional") {
                continue;
            }
            let table = match &table {
                Ok(table) => table,
                Err(error) if error.code() == Code::Unsupported => {
                    refused += 1;
                    continue;
                }
                Err(_) if known(&id).is_some() => {
                    listed += 1;
                    continue;
                }
                Err(error) => {
                    wrong.push(format!("{id}: {error}"));
                    continue;
                }
            };
            for mode in MODES {
                // Without a filter the modes do not differ.
                if mode != Mode::Pruned && !case.sql.contains("WHERE") {
                    continue;
                }
                // Its data files do not exist: only pruning answers.
                if name == "generated_bounds" && mode == Mode::Unpruned {
                    continue;
                }
                let problem = match oracle.run(table, &case, mode).await {
                    Ok(found) => compare(&case, found),
                    Err(_) if case.key("expect").is_some() => None,
                    Err(error) if unsupported(&error) => {
                        refused += 1;
                        continue;
                    }
                    Err(error) => Some(error.to_string()),
                };
                match (problem, known(&id)) {
                    (None, None) => ok += 1,
                    (None, Some(why)) => {
                        wrong.push(format!("{id}: right, but listed as known: {why}"));
                    }
                    (Some(_), Some(_)) => listed += 1,
                    (Some(problem), None) => {
                        wrong.push(format!("{id} ({mode:?}): {}\n  {problem}", case.sql));
                    }
                }
            }
        }
    }
    println!(
        "runs ok {ok}, refused {refused}, listed {listed}, wrong {}",
        wrong.len()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    if only.is_none() {
        assert!(ok > 1800, "only {ok} runs: did the set change?");
    }
}

fn trim(path: &Value) -> &str {
    path.as_str().unwrap().trim_start_matches("expected/")
}
