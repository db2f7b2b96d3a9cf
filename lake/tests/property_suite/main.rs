//! Random tables against a model: histories of schema changes, partitioning, appends and deletes
//! are written as files by hand, and every query has to give what a list of rows gives.
//!
//! A failure prints its seed, the shortest history found and the table's directory, which stays.
//! `PROPERTY_SEED=17` runs one history again; `PROPERTY_RUNS=1000` runs more of them, and
//! `PROPERTY_FROM=5000` begins elsewhere.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod arrays;
mod check;
mod data_steps;
mod delete_steps;
mod files;
mod history;
mod manifests;
mod mapping;
mod metrics;
mod model;
mod query;
mod schema_steps;
mod switches;
mod table;
mod transforms;
mod types;
mod values;
mod world;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use check::Reader;
use history::{Failure, History, QUERIES};

/// Histories in a usual run.
const RUNS: u64 = 40;

/// Histories at the same time.
const THREADS: usize = 2;

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("a number"))
}

#[test]
fn random_tables_read_as_the_model_says() {
    let seeds = match setting("PROPERTY_SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let first = setting("PROPERTY_FROM").unwrap_or(0);
            first..first + setting("PROPERTY_RUNS").unwrap_or(RUNS)
        }
    };
    let next = AtomicU64::new(seeds.start);
    let failed = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                let reader = Reader::new();
                while !failed.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let history = History::new(seed);
                    let Err(failure) = runtime.block_on(history.run(&reader, QUERIES)) else {
                        continue;
                    };
                    failed.store(true, Ordering::Relaxed);
                    report(&runtime.block_on(history.shrink(&reader, failure)));
                }
            });
        }
    });
    assert!(!failed.load(Ordering::Relaxed), "see the history above");
}

fn report(failure: &Failure) {
    println!(
        "seed {}, steps {:?} of it:\n{}\n\n{}\n(PROPERTY_SEED={} runs it again; files in {})",
        failure.history.seed,
        failure.history.steps,
        failure.log.join("\n"),
        failure.why,
        failure.history.seed,
        failure.kept.display()
    );
}
