//! Damaged files fail their query with the file's name, and nothing else happens.

use std::path::{Path, PathBuf};

use datafusion::error::DataFusionError;
use datafusion::prelude::SessionConfig;
use futures::StreamExt;
use inshore_lake::Error;
use inshore_lake::error::Code;

use crate::tables::Sales;

/// Reads everything with a fresh session, so that no footer is cached.
async fn read(sales: &Sales) -> Result<usize, DataFusionError> {
    let ctx = sales.session(SessionConfig::new().with_target_partitions(2));
    let sql = "SELECT * FROM sales WHERE id >= 0";
    let batches = ctx.sql(sql).await?.collect().await?;
    Ok(batches.iter().map(|batch| batch.num_rows()).sum())
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_string()
}

async fn must_name(sales: &Sales, path: &Path, what: &str) {
    let error = read(sales).await.expect_err(what);
    let text = error.to_string();
    assert!(text.contains(&name(path)), "{what}: {text}");
    assert!(
        Error::in_chain(&error).is_some(),
        "{what} has no code: {error:?}"
    );
}

/// What is said of a file that somebody removed.
async fn must_be_gone(sales: &Sales, path: &Path) {
    let error = read(sales).await.expect_err("a missing file");
    let ours = Error::in_chain(&error).unwrap();
    assert_eq!(ours.code(), Code::NotFound, "{error}");
    let snapshot = sales.table.metadata().current_snapshot().unwrap();
    let text = ours.to_string();
    for part in [
        &*name(path),
        "of table lake.shop.sales no longer exists",
        &format!("of snapshot {}", snapshot.snapshot_id()),
        "expired",
        "run the statement again",
    ] {
        assert!(text.contains(part), "{part} not in {text}");
    }
}

#[tokio::test]
async fn files_that_vanish_under_a_running_query_are_said_to_be_gone() {
    let mut sales = Sales::new().await;
    let current = sales.table.metadata().current_snapshot().unwrap();
    let list = current.manifest_list().to_owned();
    let is_old_list = |path: &Path| name(path).starts_with("snap-") && !list.ends_with(&name(path));
    for victim in sales.files(".avro") {
        if is_old_list(&victim) {
            continue;
        }
        sales.manifests = std::sync::Arc::default();
        let good = std::fs::read(&victim).unwrap();
        std::fs::remove_file(&victim).unwrap();
        must_be_gone(&sales, &victim).await;
        std::fs::write(&victim, &good).unwrap();
    }

    // Planned, its first rows read, and only then the files of later months go.
    sales.manifests = std::sync::Arc::default();
    let ctx = sales.session(SessionConfig::new().with_target_partitions(1));
    let frame = ctx.sql("SELECT * FROM sales").await.unwrap();
    let mut rows = frame.execute_stream().await.unwrap();
    rows.next().await.unwrap().unwrap();
    for victim in sales.files(".parquet") {
        std::fs::remove_file(&victim).unwrap();
    }
    let error = loop {
        match rows.next().await.expect("rows of removed files") {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    let ours = Error::in_chain(&error).unwrap();
    assert!(
        matches!(&ours, Error::Gone { path, .. } if path.ends_with(".parquet")),
        "{ours}"
    );
    must_be_gone(&sales, Path::new(".parquet")).await;
}

/// Fifteen places spread over a range, without a random generator.
fn places(from: usize, to: usize) -> impl Iterator<Item = usize> {
    (0..15).map(move |n| from + (to - from) * n / 15)
}

#[tokio::test]
async fn damaged_data_files_are_named() {
    let sales = Sales::new().await;
    assert_eq!(read(&sales).await.unwrap(), 4800);
    let files = sales.files(".parquet");
    let victim: PathBuf = files[5].clone();
    let good = std::fs::read(&victim).unwrap();

    std::fs::remove_file(&victim).unwrap();
    must_name(&sales, &victim, "a missing file").await;
    for length in [0, 3, 8, good.len() / 2, good.len() - 1] {
        std::fs::write(&victim, &good[..length]).unwrap();
        must_name(&sales, &victim, "a truncated file").await;
    }
    std::fs::write(&victim, vec![b'x'; good.len()]).unwrap();
    must_name(&sales, &victim, "a file of another format").await;

    // A flipped byte may go unnoticed (in a statistic, say); but it must never panic or hang, and
    // an error must name the file.
    let footer = u32::from_le_bytes(good[good.len() - 8..good.len() - 4].try_into().unwrap());
    let footer = good.len() - 8 - footer as usize;
    for place in places(footer, good.len()).chain(places(4, footer)) {
        for mask in [0x01, 0x80, 0xff] {
            let mut bad = good.clone();
            bad[place] ^= mask;
            std::fs::write(&victim, bad).unwrap();
            if let Err(error) = read(&sales).await {
                let text = error.to_string();
                assert!(text.contains(&name(&victim)), "byte {place}: {text}");
            }
        }
    }
    std::fs::write(&victim, &good).unwrap();
    assert_eq!(read(&sales).await.unwrap(), 4800);
}

#[tokio::test]
async fn damaged_manifests_are_named() {
    let mut sales = Sales::new().await;
    for victim in sales.files(".avro") {
        let good = std::fs::read(&victim).unwrap();
        let is_list = name(&victim).starts_with("snap-");
        let current = sales.table.metadata().current_snapshot().unwrap();
        if is_list && !current.manifest_list().ends_with(&name(&victim)) {
            continue;
        }
        sales.manifests = std::sync::Arc::default();
        std::fs::remove_file(&victim).unwrap();
        must_name(&sales, &victim, "a missing manifest").await;
        for length in [0, 3, good.len() / 2, good.len() - 5] {
            sales.manifests = std::sync::Arc::default();
            std::fs::write(&victim, &good[..length]).unwrap();
            must_name(&sales, &victim, "a manifest cut short").await;
        }
        for place in places(0, good.len()) {
            sales.manifests = std::sync::Arc::default();
            let mut bad = good.clone();
            bad[place] ^= 0xff;
            std::fs::write(&victim, bad).unwrap();
            if let Err(error) = read(&sales).await {
                assert!(!error.to_string().contains("panic"), "{error}");
            }
        }
        std::fs::write(&victim, &good).unwrap();
        sales.manifests = std::sync::Arc::default();
        assert_eq!(read(&sales).await.unwrap(), 4800);
    }
}
