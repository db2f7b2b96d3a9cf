//! Garbled metadata files: an error or a table, never a panic and never a hang.

use std::time::Duration;

use inshore_lake::TableName;
use inshore_lake::catalog::open_location;
use inshore_lake::table::IcebergTable;

use crate::support::{append, create, open, sqlite, stores};

/// Garbled variants of each file.
const VARIANTS: usize = 600;

/// Longer than any file takes, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// Changes a text somewhere: a byte, a number, a piece left out or doubled.
fn garble(text: &[u8], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut text = text.to_vec();
    for _ in 0..random.usize(1..4) {
        let at = random.usize(..text.len());
        let end = (at + random.usize(1..40)).min(text.len());
        match random.u8(..5) {
            0 => text[at] = random.u8(..),
            1 => drop(text.drain(at..end)),
            2 => {
                let piece = text[at..end].to_vec();
                text.splice(at..at, piece);
            }
            3 => {
                let digits = text
                    .iter()
                    .enumerate()
                    .filter(|(_, byte)| byte.is_ascii_digit());
                let places: Vec<usize> = digits.map(|(place, _)| place).collect();
                if let Some(place) = random.choice(places) {
                    let numbers = ["-1", "9223372036854775807", "1e400", "99999999999999999999"];
                    let number = numbers[random.usize(..numbers.len())];
                    text.splice(place..=place, number.bytes());
                }
            }
            _ => text.truncate(at.max(1)),
        }
    }
    text
}

#[tokio::test]
async fn garbled_metadata_files_give_errors_or_tables() {
    let dir = tempfile::tempdir().unwrap();
    let catalogs = open(sqlite(dir.path()), dir.path());
    let writer = catalogs.writer("lake").await.unwrap();
    create(&writer, "n", "t", &[]).await;
    let table = append(&writer, "n", "t", 5).await;
    let location = table.metadata_location().unwrap();
    let text = std::fs::read(location.strip_prefix("file://").unwrap()).unwrap();

    let stores = stores(&format!("file://{}", dir.path().display()));
    let garbled = dir.path().join("garbled.metadata.json");
    let location = format!("file://{}", garbled.display());
    let mut random = fastrand::Rng::with_seed(11);
    let mut tables = 0;
    for _ in 0..VARIANTS {
        std::fs::write(&garbled, garble(&text, &mut random)).unwrap();
        let name = TableName::new("lake", "n", "t");
        let opened = open_location(&stores, &location, &name);
        let opened = tokio::time::timeout(PATIENCE, opened).await.unwrap();
        if let Ok(table) = opened {
            let stores = std::sync::Arc::clone(&stores);
            if let Ok(provider) = IcebergTable::try_new(name, table, Default::default(), stores) {
                // Statistics read the manifests that the file names now.
                let read = provider.snapshot_statistics();
                let _ = tokio::time::timeout(PATIENCE, read).await.unwrap();
                let _ = provider.definition();
                tables += 1;
            }
        }
    }
    assert!(
        tables > 0,
        "nothing was readable: the test garbles too much"
    );
}
