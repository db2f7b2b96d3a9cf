//! What other writers did meanwhile, against a statement that adds, replaces or removes rows.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use iceberg::spec::{
    DataContentType, DataFile, DataFileBuilder, DataFileFormat, NestedField, PrimitiveType, Schema,
    Struct, Type,
};
use iceberg::table::Table;
use iceberg::{TableCreation, TableUpdate};
use inshore_lake::catalog::{Catalogs, Change};
use inshore_lake::snapshot::{Append, Overwrite, Truncate};
use inshore_lake::{Error, TableName};

use crate::support::{open, sqlite};

const NAME: &str = "lake.made.t";

fn file(table: &Table, name: &str, rows: u64) -> DataFile {
    DataFileBuilder::default()
        .content(DataContentType::Data)
        .file_path(format!(
            "{}/data/{name}.parquet",
            table.metadata().location()
        ))
        .file_format(DataFileFormat::Parquet)
        .partition(Struct::empty())
        .record_count(rows)
        .file_size_in_bytes(100)
        .build()
        .unwrap()
}

async fn made(catalogs: &Catalogs, name: &TableName, properties: &[(&str, &str)]) -> Table {
    catalogs.create_namespace("lake", "made").await.unwrap();
    let id = NestedField::required(1, "id", Type::Primitive(PrimitiveType::Long));
    let schema = Schema::builder().with_fields([id.into()]).build().unwrap();
    let properties = properties.iter();
    let properties = properties.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let creation = TableCreation::builder()
        .name(name.table.clone())
        .schema(schema)
        .properties(properties.collect::<HashMap<_, _>>())
        .build();
    let made = catalogs.create_table(name, creation).await;
    made.unwrap().unwrap()
}

/// A change that another one comes before when it is tried first.
struct Late {
    change: Append,
    before: Mutex<Option<Append>>,
    catalogs: Arc<Catalogs>,
    table: TableName,
}

#[async_trait]
impl Change for Late {
    async fn updates(&self, table: &Table) -> Result<Vec<TableUpdate>, Error> {
        let updates = self.change.updates(table).await?;
        let before = self.before.lock().unwrap().take();
        if let Some(before) = before {
            self.catalogs.change_table(&self.table, &before).await?;
        }
        Ok(updates)
    }

    fn unused(&self, committed: bool) -> Vec<String> {
        self.change.unused(committed)
    }
}

/// The manifests of the newest snapshot, and the Avro files that there are.
async fn manifests(table: &Table, dir: &std::path::Path) -> (usize, usize) {
    let snapshot = table.metadata().current_snapshot().unwrap();
    let list = table.manifest_list_reader(snapshot).load().await.unwrap();
    let metadata = std::fs::read_dir(dir.join("warehouse/made/t/metadata")).unwrap();
    let avro = metadata
        .filter(|file| file.as_ref().unwrap().path().extension() == Some("avro".as_ref()))
        .count();
    (list.entries().len(), avro)
}

#[tokio::test]
async fn who_was_too_late_does_not_merge_manifests_again() {
    let dir = tempfile::tempdir().unwrap();
    let catalogs = open(sqlite(dir.path()), dir.path());
    let t = TableName::new("lake", "made", "t");
    let start = made(
        &catalogs,
        &t,
        &[("commit.manifest.min-count-to-merge", "2")],
    )
    .await;
    let append = |name: &str| Append::new(NAME, &start, vec![file(&start, name, 1)]);
    for name in ["a", "b"] {
        let done = catalogs.change_table(&t, &append(name)).await;
        assert_eq!(manifests(&done.unwrap().unwrap(), dir.path()).await.0, 1);
    }
    let late = Late {
        change: append("late"),
        before: Mutex::new(Some(append("before"))),
        catalogs: Arc::clone(&catalogs),
        table: t.clone(),
    };
    let done = catalogs.change_table(&t, &late).await.unwrap().unwrap();
    // Lists of four snapshots; manifests of "a", merged twice, and of "late". What it merged is gone.
    assert_eq!(manifests(&done, dir.path()).await, (2, 4 + 4));
    let done = catalogs.change_table(&t, &append("next")).await.unwrap();
    let done = done.unwrap();
    assert_eq!(manifests(&done, dir.path()).await, (1, 5 + 5));
    let summary = done.metadata().current_snapshot().unwrap().summary();
    assert_eq!(summary.additional_properties["total-records"], "5");
}

#[tokio::test]
async fn what_the_statement_has_not_seen_is_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let catalogs = open(sqlite(dir.path()), dir.path());
    let t = TableName::new("lake", "made", "t");
    let start = made(&catalogs, &t, &[]).await;

    let late = Overwrite::new(NAME, &start, vec![file(&start, "late", 1)]);
    let added = Append::new(NAME, &start, vec![file(&start, "added", 5)]);
    let seen = catalogs.change_table(&t, &added).await.unwrap().unwrap();
    let refused = catalogs.change_table(&t, &late).await;
    assert!(
        matches!(&refused, Err(Error::Conflict(why)) if why.contains(NAME)),
        "{refused:?}"
    );

    // Whoever has seen it replaces it; a table that was emptied meanwhile does not get rows back.
    let stale = Overwrite::new(NAME, &seen, vec![file(&start, "stale", 2)]);
    let truncate = Truncate::new(NAME, &start);
    catalogs.change_table(&t, &truncate).await.unwrap().unwrap();
    assert_eq!(truncate.rows(), Some(5));
    let refused = catalogs.change_table(&t, &stale).await;
    assert!(matches!(refused, Err(Error::Conflict(_))), "{refused:?}");

    let emptied = catalogs.load(&t).await.unwrap().unwrap();
    let fresh = Overwrite::new(NAME, &emptied, vec![file(&start, "fresh", 3)]);
    let done = catalogs.change_table(&t, &fresh).await.unwrap().unwrap();
    let summary = done.metadata().current_snapshot().unwrap().summary();
    assert_eq!(summary.additional_properties["total-records"], "3");
    // Two for the addition, two for the truncation, two for the replacement.
    assert_eq!(manifests(&done, dir.path()).await.1, 6);
}
