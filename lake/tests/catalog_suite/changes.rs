//! What changes a catalog does so in every kind of catalog.

use std::collections::HashMap;
use std::sync::Arc;

use iceberg::TableCreation;
use iceberg::spec::{NestedField, PrimitiveType, Schema, Type};
use inshore_lake::catalog::Catalogs;
use inshore_lake::config::CatalogKind;
use inshore_lake::evolution::{Alteration, Alterations};
use inshore_lake::write::Append;
use inshore_lake::{Error, TableName};

use crate::support::{catalog, open, sqlite};

pub fn name(namespace: &str, table: &str) -> TableName {
    TableName::new("lake", namespace, table)
}

pub fn creation(table: &str) -> TableCreation {
    let id = NestedField::required(1, "id", Type::Primitive(PrimitiveType::Long));
    let schema = Schema::builder().with_fields([id.into()]).build().unwrap();
    let retries = [
        ("commit.retry.num-retries", "80"),
        ("commit.retry.min-wait-ms", "2"),
        ("commit.retry.max-wait-ms", "100"),
    ];
    TableCreation::builder()
        .name(table.to_owned())
        .schema(schema)
        .properties(retries.map(|(key, value)| (key.to_owned(), value.to_owned())))
        .build()
}

pub fn property(key: &str, value: &str) -> Alterations {
    let properties = HashMap::from([(key.to_owned(), value.to_owned())]);
    Alterations(vec![Alteration::SetProperties(properties)])
}

/// Goes through all changes in `lake`, a catalog without a namespace called `made`.
pub async fn check_changes(catalogs: &Arc<Catalogs>) {
    assert!(catalogs.create_namespace("lake", "made").await.unwrap());
    assert!(!catalogs.create_namespace("lake", "made").await.unwrap());
    assert!(
        catalogs
            .create_namespace("lake", "made.inner")
            .await
            .unwrap()
    );
    let full = catalogs.drop_namespace("lake", "made").await;
    assert!(matches!(full, Err(Error::Conflict(_))), "{full:?}");
    assert!(catalogs.drop_namespace("lake", "made.inner").await.unwrap());
    assert!(!catalogs.drop_namespace("lake", "made.inner").await.unwrap());

    let t = name("made", "t");
    let made = catalogs.create_table(&t, creation("t")).await.unwrap();
    let location = made.unwrap().metadata().location().to_owned();
    assert!(location.ends_with("/made/t"), "{location}");
    let again = catalogs.create_table(&t, creation("t")).await.unwrap();
    assert!(again.is_none());
    let nowhere = name("missing", "t");
    let nowhere = catalogs.create_table(&nowhere, creation("t")).await;
    assert!(matches!(nowhere, Err(Error::NotFound(_))), "{nowhere:?}");
    let full = catalogs.drop_namespace("lake", "made").await;
    assert!(matches!(full, Err(Error::Conflict(_))), "{full:?}");

    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..6 {
        let (catalogs, t) = (Arc::clone(catalogs), t.clone());
        writers.spawn(async move {
            for turn in 0..4 {
                let change = property(&format!("p{writer}.{turn}"), "x");
                catalogs.change_table(&t, &change).await.unwrap().unwrap();
            }
        });
    }
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
    let table = catalogs.load(&t).await.unwrap().unwrap();
    let own = table.metadata().properties().keys();
    assert_eq!(own.filter(|key| key.starts_with('p')).count(), 24);
    assert_eq!(table.metadata().metadata_log().len(), 24);

    // What changes nothing writes nothing.
    let pointer = table.metadata_location().unwrap().to_owned();
    let change = property("p0.0", "x");
    let table = catalogs.change_table(&t, &change).await.unwrap().unwrap();
    assert_eq!(table.metadata_location().unwrap(), pointer);
    let missing = catalogs.change_table(&name("made", "x"), &change).await;
    assert!(missing.unwrap().is_none());

    let moved = name("made", "moved");
    assert!(catalogs.rename_table(&t, &moved).await.unwrap());
    assert!(!catalogs.rename_table(&t, &moved).await.unwrap());
    catalogs
        .create_table(&t, creation("t"))
        .await
        .unwrap()
        .unwrap();
    let taken = catalogs.rename_table(&t, &moved).await;
    assert!(matches!(taken, Err(Error::Exists(_))), "{taken:?}");
    // Rows written for a table do not go into another one that took its name.
    let old = catalogs.load(&moved).await.unwrap().unwrap();
    let append = Append::new("lake.made.t", &old, vec![]);
    let replaced = catalogs.change_table(&t, &append).await;
    let replaced = replaced.unwrap_err().to_string();
    assert!(replaced.contains("was replaced"), "{replaced}");
    catalogs
        .change_table(&moved, &append)
        .await
        .unwrap()
        .unwrap();
    for table in [&t, &moved] {
        assert!(catalogs.drop_table(table).await.unwrap());
        assert!(!catalogs.drop_table(table).await.unwrap());
    }
    assert!(catalogs.drop_namespace("lake", "made").await.unwrap());
    assert!(!catalogs.drop_namespace("lake", "made").await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sqlite_catalog_changes() {
    let dir = tempfile::tempdir().unwrap();
    check_changes(&open(sqlite(dir.path()), dir.path())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memory_catalog_changes() {
    let dir = tempfile::tempdir().unwrap();
    let warehouse = format!("file://{}", dir.path().display());
    let config = catalog(CatalogKind::Memory, None, Some(&warehouse));
    check_changes(&open(config, dir.path())).await;
}

#[tokio::test]
async fn old_metadata_files_are_removed_where_the_table_wants_it() {
    let dir = tempfile::tempdir().unwrap();
    let catalogs = open(sqlite(dir.path()), dir.path());
    catalogs.create_namespace("lake", "made").await.unwrap();
    let t = name("made", "t");
    let mut creation = creation("t");
    creation.properties.extend(
        [
            ("write.metadata.delete-after-commit.enabled", "true"),
            ("write.metadata.previous-versions-max", "3"),
            ("write.metadata.compression-codec", "gzip"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned())),
    );
    catalogs.create_table(&t, creation).await.unwrap().unwrap();
    for turn in 0..8 {
        let change = property("turn", &turn.to_string());
        catalogs.change_table(&t, &change).await.unwrap().unwrap();
    }
    let files = std::fs::read_dir(dir.path().join("warehouse/made/t/metadata")).unwrap();
    let mut files: Vec<String> = files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    let numbers: Vec<&str> = files.iter().map(|file| &file[..5]).collect();
    assert_eq!(numbers, ["00005", "00006", "00007", "00008"]);
    assert!(files.iter().all(|file| file.ends_with(".gz.metadata.json")));
    let table = catalogs.load(&t).await.unwrap().unwrap();
    assert_eq!(table.metadata().properties()["turn"], "7");
}

#[tokio::test]
async fn a_table_whose_branches_would_be_lost_is_not_changed() {
    let dir = tempfile::tempdir().unwrap();
    let catalogs = open(sqlite(dir.path()), dir.path());
    catalogs.create_namespace("lake", "made").await.unwrap();
    let t = name("made", "t");
    let mut creation = creation("t");
    creation.format_version = iceberg::spec::FormatVersion::V1;
    let table = catalogs.create_table(&t, creation).await.unwrap().unwrap();
    let snapshot = serde_json::json!({
        "snapshot-id": 1, "timestamp-ms": 1, "manifest-list": "file:///list.avro", "schema-id": 0,
        "summary": {"operation": "append"},
    });
    let path = table.metadata_location().unwrap();
    let path = path.strip_prefix("file://").unwrap();
    let write = |refs: serde_json::Value| {
        let text = std::fs::read(path).unwrap();
        let mut metadata: serde_json::Value = serde_json::from_slice(&text).unwrap();
        metadata["snapshots"] = serde_json::json!([snapshot]);
        metadata["current-snapshot-id"] = 1.into();
        metadata["refs"] = refs;
        std::fs::write(path, metadata.to_string()).unwrap();
    };
    let main = serde_json::json!({"snapshot-id": 1, "type": "branch", "max-ref-age-ms": null});
    for refs in [
        serde_json::json!({"main": main, "v1": {"snapshot-id": 1, "type": "tag"}}),
        serde_json::json!({
            "main": {"snapshot-id": 1, "type": "branch", "min-snapshots-to-keep": 3}
        }),
    ] {
        write(refs);
        let change = property("p", "x");
        let refused = catalogs.change_table(&t, &change).await.unwrap_err();
        assert!(matches!(refused, Error::Refused(_)), "{refused}");
        assert!(
            refused.to_string().contains("branches and tags"),
            "{refused}"
        );
    }
    write(serde_json::json!({"main": main}));
    let change = property("p", "x");
    assert!(catalogs.change_table(&t, &change).await.unwrap().is_some());
}
