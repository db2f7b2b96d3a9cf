//! What other writers did meanwhile, against a statement that replaces or removes rows.

use iceberg::TableCreation;
use iceberg::spec::{
    DataContentType, DataFile, DataFileBuilder, DataFileFormat, NestedField, PrimitiveType, Schema,
    Struct, Type,
};
use iceberg::table::Table;
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

#[tokio::test]
async fn what_the_statement_has_not_seen_is_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let catalogs = open(sqlite(dir.path()), dir.path());
    catalogs.create_namespace("lake", "made").await.unwrap();
    let t = TableName::new("lake", "made", "t");
    let id = NestedField::required(1, "id", Type::Primitive(PrimitiveType::Long));
    let schema = Schema::builder().with_fields([id.into()]).build().unwrap();
    let creation = TableCreation::builder().name("t".to_owned()).schema(schema);
    let creation = creation.build();
    let start = catalogs.create_table(&t, creation).await.unwrap().unwrap();

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
    let metadata = std::fs::read_dir(dir.path().join("warehouse/made/t/metadata")).unwrap();
    let avro = metadata
        .filter(|file| file.as_ref().unwrap().path().extension() == Some("avro".as_ref()))
        .count();
    assert_eq!(avro, 6);
}
