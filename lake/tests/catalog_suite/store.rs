//! Object stores: roots, literal names, DataFusion's registry, iceberg-rust's storage.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::http::{Response, serve};
use crate::support::{append, count, create, open, sqlite, stores};
use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_plan::collect;
use datafusion::prelude::SessionContext;
use futures::{StreamExt, TryStreamExt};
use inshore_lake::catalog::{Catalogs, open_location};
use inshore_lake::config::{LakeConfig, Secret};
use inshore_lake::store::{LakeStorage, LakeStorageFactory, Stores};
use inshore_lake::table::IcebergTable;
use inshore_lake::{Error, TableName};
use object_store::ObjectStoreExt;
use object_store::path::Path;

fn lake(root: &str, properties: &[(&str, &str)]) -> LakeConfig {
    let properties = properties.iter();
    LakeConfig {
        properties: properties
            .map(|(key, value)| ((*key).to_owned(), Secret::new(*value)))
            .collect(),
        ..LakeConfig::new(root)
    }
}

#[test]
fn only_what_lies_below_a_root_resolves() {
    let stores = Stores::new(&BTreeMap::from([
        ("a".to_owned(), lake("file:///data/lake", &[])),
        ("b".to_owned(), lake("/data/other/", &[])),
        (
            "c".to_owned(),
            lake("s3://bucket/prefix", &[("aws_region", "eu-north-1")]),
        ),
    ]))
    .unwrap();
    for (location, path, url) in [
        ("/data/lake/x.parquet", "data/lake/x.parquet", "file:///"),
        ("file:///data/other/a/../b", "data/other/b", "file:///"),
        ("s3a://bucket/prefix/x%2Fy", "prefix/x%2Fy", "s3://bucket/"),
    ] {
        let (_, resolved, key) = stores.resolve(location).unwrap();
        assert_eq!((resolved.as_ref(), key.as_str()), (path, url));
    }
    for location in [
        "/data/lakes/x",
        "/data/lake/../secret",
        "file:///data/lake/../../etc/passwd",
        "/etc/passwd",
        "s3://bucket/prefixed/x",
        "s3://other/prefix/x",
        "gs://bucket/prefix/x",
        "hdfs://host/data/lake/x",
        "relative/x",
    ] {
        let error = stores.resolve(location).unwrap_err();
        assert!(
            matches!(error, Error::OutsideLakes { .. }),
            "{location}: {error}"
        );
        assert!(error.to_string().contains("s3://bucket/prefix"), "{error}");
    }
    // What climbs in an object's key is no key.
    let error = stores.resolve("s3://bucket/prefix/../x").unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
}

fn moved(root: &str, map: &[(&str, &str)], base: Option<&str>) -> LakeConfig {
    let map = map.iter();
    LakeConfig {
        map: map
            .map(|(prefix, target)| ((*prefix).to_owned(), (*target).to_owned()))
            .collect(),
        base: base.map(str::to_owned),
        ..LakeConfig::new(root)
    }
}

#[test]
fn a_moved_location_must_lie_below_a_root_too() {
    let map = [
        ("hdfs://old/wh", "file:///data/lake"),
        ("s3://gone/", "s3://bucket/prefix/"),
    ];
    let stores = Stores::new(&BTreeMap::from([
        (
            "a".to_owned(),
            moved("file:///data", &map, Some("file:///data/rel")),
        ),
        ("b".to_owned(), lake("s3://bucket/prefix", &[])),
    ]))
    .unwrap();
    for (location, path, url) in [
        ("hdfs://old/wh/t/x%2F", "data/lake/t/x%2F", "file:///"),
        ("s3://gone/t/x", "prefix/t/x", "s3://bucket/"),
        ("t/x", "data/rel/t/x", "file:///"),
        ("./t/x", "data/rel/t/x", "file:///"),
        ("/data/lake/x", "data/lake/x", "file:///"),
    ] {
        let (_, resolved, key) = stores.resolve(location).unwrap();
        assert_eq!((resolved.as_ref(), key.as_str()), (path, url));
    }
    for (location, place) in [
        (
            "hdfs://old/wh/../../etc/passwd",
            "file:///data/lake/../../etc/passwd",
        ),
        ("../../x", "file:///data/rel/../../x"),
    ] {
        let error = stores.resolve(location).unwrap_err();
        assert!(matches!(error, Error::OutsideLakes { .. }), "{error}");
        let said = error.to_string();
        assert!(
            said.starts_with(&format!("{location} (mapped to {place}) lies outside")),
            "{said}"
        );
    }
    let error = stores.resolve("s3://gone/t//x").unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    let said = error.to_string();
    assert!(
        said.contains("s3://gone/t//x (mapped to s3://bucket/prefix/t//x)"),
        "{said}"
    );
    // What no prefix matches stays what it is, and is named without a mapping.
    let said = stores.resolve("hdfs://old/wh2/t").unwrap_err().to_string();
    assert!(said.starts_with("hdfs://old/wh2/t lies outside"), "{said}");
}

#[test]
fn a_map_that_leads_nowhere_is_refused_at_the_start() {
    let root = "file:///data";
    for (wrong, part) in [
        (
            moved(root, &[("old/", "data/x")], None),
            "lakes.x.map.\"old/\" = \"data/x\": it must begin with file:///",
        ),
        (
            moved(root, &[("old/", "file:///datum/x")], None),
            "lakes.x.map.\"old/\" = \"file:///datum/x\": it lies outside the configured lakes \
             (file:///data)",
        ),
        (
            moved(root, &[("old/", "file:///data/../x")], None),
            "lakes.x.map.\"old/\"",
        ),
        (
            moved(root, &[("", "file:///data")], None),
            "lakes.x.map.\"\"",
        ),
        (
            moved(root, &[], Some("s3://b")),
            "lakes.x.base = \"s3://b\"",
        ),
        (moved(root, &[], Some("hdfs://b")), "lakes.x.base"),
    ] {
        let error = Stores::new(&BTreeMap::from([("x".to_owned(), wrong)])).unwrap_err();
        let said = error.to_string();
        assert!(matches!(error, Error::Config(_)), "{said}");
        assert!(said.contains(part), "{said}");
    }
    // A target may lie in another lake; two lakes cannot both have the base.
    let first = || moved("file:///a", &[("old/", "file:///b/")], Some("file:///b"));
    let with = |second| BTreeMap::from([("a".to_owned(), first()), ("b".to_owned(), second)]);
    Stores::new(&with(LakeConfig::new("file:///b"))).unwrap();
    let two = with(moved("file:///b", &[], Some("file:///b")));
    let said = Stores::new(&two).unwrap_err().to_string();
    assert!(
        said.contains("lakes.a.base") && said.contains("lakes.b.base"),
        "{said}"
    );
}

#[tokio::test]
async fn a_table_is_read_where_it_was_moved_to() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| format!("file://{}/{name}", dir.path().display());
    let writer = open(sqlite(dir.path()), dir.path()).writer("lake").await;
    let writer = writer.unwrap();
    create(&writer, "n", "t", &[]).await;
    append(&writer, "n", "t", 100).await;
    std::fs::rename(dir.path().join("warehouse"), dir.path().join("new")).unwrap();

    // A second move on top: what its metadata says is no address at all.
    let map = [
        (&*at("warehouse"), &*at("new")),
        ("hdfs://never/", &*at("new/")),
    ];
    let lake = moved(&at("new"), &map, Some(&at("new")));
    let stores = Stores::new(&BTreeMap::from([("main".to_owned(), lake)])).unwrap();
    let name = TableName::new("lake", "n", "t");
    let configs = indexmap::IndexMap::from([("lake".to_owned(), sqlite(dir.path()))]);
    let catalogs = Catalogs::open(&configs, Arc::clone(&stores)).unwrap();
    let mut tables = vec![catalogs.load(&name).await.unwrap().unwrap()];
    for location in [
        &*at("warehouse/n/t"),
        "hdfs://never/n/t",
        "n/t",
        "n/t/metadata/",
    ] {
        let table = open_location(&stores, location, &name).await;
        tables.push(table.unwrap_or_else(|error| panic!("{location}: {error}")));
    }
    for table in tables {
        assert_eq!(count(&table).await, 100);
        let provider =
            IcebergTable::try_new(name.clone(), table, Arc::default(), Arc::clone(&stores));
        let context = SessionContext::new();
        stores.register(&context.runtime_env());
        context.register_table("t", provider.unwrap()).unwrap();
        let rows = context.sql("SELECT * FROM t WHERE id >= 40").await.unwrap();
        assert_eq!(rows.count().await.unwrap(), 60);
    }

    // A file that is away is named as it was written, with the place where it was looked for.
    let said = stores.read("hdfs://never/n/x").await.unwrap_err();
    assert_eq!(said.code().to_string(), "not_found");
    let said = said.to_string();
    assert!(
        said.contains("hdfs://never/n/x") && said.contains("/new/n/x"),
        "{said}"
    );
}

#[test]
fn wrong_lakes_are_named_without_their_secrets() {
    for (wrong, part) in [
        (lake("data", &[]), "lakes.x.root"),
        (lake("ftp://host/x", &[]), "lakes.x.root"),
        (lake("file:///x", &[("aws_region", "r")]), "aws_region"),
        (lake("s3://b", &[("aws_regoin", "hush")]), "aws_regoin"),
        (lake("abfss://container/x", &[]), "<container>@<account>"),
        (
            lake("gs://b", &[("google_service_account_key", "hush")]),
            "lakes.x",
        ),
    ] {
        let error = Stores::new(&BTreeMap::from([("x".to_owned(), wrong)])).unwrap_err();
        let said = error.to_string();
        assert!(matches!(error, Error::Config(_)), "{said}");
        assert!(said.contains(part) && !said.contains("hush"), "{said}");
    }
    let secret = lake(
        "s3://b",
        &[
            ("aws_access_key_id", "id"),
            ("aws_secret_access_key", "hush"),
        ],
    );
    let stores = Stores::new(&BTreeMap::from([("x".to_owned(), secret)])).unwrap();
    let (store, _, _) = stores.resolve("s3://b/x").unwrap();
    assert!(!format!("{stores:?} {store:?} {store}").contains("hush"));
}

#[tokio::test]
async fn the_store_itself_refuses_what_lies_outside() {
    let dir = tempfile::tempdir().unwrap();
    let inside = dir.path().join("in");
    std::fs::create_dir(&inside).unwrap();
    std::fs::write(dir.path().join("secret"), "x").unwrap();
    std::fs::write(inside.join("file"), "hello").unwrap();
    let root = inside.to_str().unwrap();
    let (store, path, _) = stores(root).resolve(&format!("{root}/file")).unwrap();
    assert_eq!(
        store.get(&path).await.unwrap().bytes().await.unwrap(),
        "hello"
    );
    assert_eq!(
        store.get_ranges(&path, &[1..3, 4..5]).await.unwrap(),
        ["el", "o"]
    );

    let outside = Path::from_absolute_path(dir.path().join("secret")).unwrap();
    let refused = |error: object_store::Error| {
        let inner = Error::in_chain(&error);
        assert!(matches!(inner, Some(Error::OutsideLakes { .. })), "{error}");
        assert_eq!(Error::store("x", error).code().to_string(), "forbidden");
    };
    refused(store.get(&outside).await.unwrap_err());
    refused(store.head(&outside).await.unwrap_err());
    refused(store.put(&outside, "x".into()).await.unwrap_err());
    refused(store.delete(&outside).await.unwrap_err());
    refused(store.copy(&path, &outside).await.unwrap_err());
    refused(store.rename(&outside, &path).await.unwrap_err());
    refused(store.list(None).try_next().await.unwrap_err());
    refused(store.list_with_delimiter(None).await.unwrap_err());
    assert!(dir.path().join("secret").exists());
    let prefix = Path::from_absolute_path(&inside).unwrap();
    assert_eq!(store.list(Some(&prefix)).count().await, 1);
}

#[tokio::test]
async fn datafusion_scans_literal_paths_through_the_registry() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("p%3D1+ü").join("a b#?");
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("x%2Fy.parquet");
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]));
    let ids = Arc::new(Int64Array::from_iter_values(0..1000));
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![ids]).unwrap();
    let output = std::fs::File::create(&file).unwrap();
    let mut writer =
        parquet::arrow::ArrowWriter::try_new(output, Arc::clone(&schema), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();

    let context = SessionContext::new();
    let stores = stores(dir.path().to_str().unwrap());
    stores.register(&context.runtime_env());
    let (store, path, url) = stores.resolve(file.to_str().unwrap()).unwrap();
    let meta = store.head(&path).await.unwrap();
    let source = Arc::new(ParquetSource::new(schema));
    let scan = FileScanConfigBuilder::new(url, source)
        .with_file(PartitionedFile::from(meta))
        .build();
    let batches = collect(DataSourceExec::from_data_source(scan), context.task_ctx()).await;
    assert_eq!(
        batches
            .unwrap()
            .iter()
            .map(RecordBatch::num_rows)
            .sum::<usize>(),
        1000
    );

    // Without a lake of files the local file system is closed.
    let context = SessionContext::new();
    Stores::new(&BTreeMap::new())
        .unwrap()
        .register(&context.runtime_env());
    let local = url::Url::parse("file:///").unwrap();
    assert!(
        context
            .runtime_env()
            .object_store_registry
            .get_store(&local)
            .is_err()
    );
}

#[tokio::test]
async fn iceberg_rust_reads_writes_and_deletes_through_the_stores() {
    let dir = tempfile::tempdir().unwrap();
    let root = format!("file://{}", dir.path().display());
    let io = LakeStorageFactory::file_io(stores(&root));
    let place = format!("{root}/new folder/a%3Ab.txt");
    assert!(!io.exists(&place).await.unwrap());
    io.new_output(&place)
        .unwrap()
        .write("first".into())
        .await
        .unwrap();
    io.new_output(&place)
        .unwrap()
        .write("hello".into())
        .await
        .unwrap();
    assert!(dir.path().join("new folder/a%3Ab.txt").is_file());
    let input = io.new_input(&place).unwrap();
    assert_eq!(input.read().await.unwrap(), "hello");
    assert_eq!(input.metadata().await.unwrap().size, 5);
    assert_eq!(
        input.reader().await.unwrap().read(1..4).await.unwrap(),
        "ell"
    );

    // A file appears when it is closed, however large.
    let large = format!("{root}/large.bin");
    let mut writer = io.new_output(&large).unwrap().writer().await.unwrap();
    for _ in 0..3 {
        writer.write(vec![7; 6 << 20].into()).await.unwrap();
    }
    assert!(!io.exists(&large).await.unwrap());
    writer.close().await.unwrap();
    assert_eq!(
        io.new_input(&large).unwrap().metadata().await.unwrap().size,
        18 << 20
    );

    io.delete(&large).await.unwrap();
    io.delete(&large).await.unwrap();
    assert!(!io.exists(&large).await.unwrap());
    io.delete_prefix(format!("{root}/new folder"))
        .await
        .unwrap();
    assert!(!io.exists(&place).await.unwrap());

    let error = io
        .new_input("/etc/passwd")
        .unwrap()
        .read()
        .await
        .unwrap_err();
    let error = Error::from_iceberg("/etc/passwd", &error);
    assert!(matches!(error, Error::OutsideLakes { .. }), "{error}");
    let error = io.new_input(&place).unwrap().read().await.unwrap_err();
    assert_eq!(
        Error::from_iceberg(&place, &error).code().to_string(),
        "not_found"
    );
}

#[tokio::test]
async fn a_storage_out_of_serialised_data_refuses_cleanly() {
    let storage: LakeStorage = serde_json::from_str("{}").unwrap();
    let error = iceberg::io::Storage::read(&storage, "/x")
        .await
        .unwrap_err();
    assert!(error.to_string().contains("no stores"), "{error}");
    let text = serde_json::to_string(&LakeStorageFactory::new(stores("/"))).unwrap();
    assert_eq!(text, "{}");
}

#[tokio::test]
async fn s3_keys_are_literal_on_the_wire_and_each_lake_has_its_credentials() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let server = serve(move |request| {
        let key = request.headers["authorization"].clone();
        log.lock().unwrap().push((request.path, key));
        Response {
            status: 200,
            body: b"content".to_vec(),
        }
    })
    .await;
    let with = |key: &'static str| {
        [
            ("aws_endpoint", server.uri.clone()),
            ("AWS_ACCESS_KEY_ID", key.to_owned()),
            ("aws_secret_access_key", "hush".to_owned()),
            ("aws_region", "eu-north-1".to_owned()),
        ]
    };
    let lake_with = |root: &str, key: &'static str| {
        let properties = with(key);
        let properties: Vec<_> = properties.iter().map(|(k, v)| (*k, v.as_str())).collect();
        lake(root, &properties)
    };
    let stores = Stores::new(&BTreeMap::from([
        ("one".to_owned(), lake_with("s3://bucket/one", "KEYONE")),
        ("two".to_owned(), lake_with("s3://bucket/one/two", "KEYTWO")),
    ]))
    .unwrap();
    let odd = "a%3Ab+c d/ü";
    for prefix in ["one", "one/two"] {
        let content = stores.read(&format!("s3://bucket/{prefix}/{odd}")).await;
        assert_eq!(content.unwrap(), "content");
    }
    let seen = seen.lock().unwrap();
    let encoded = "a%253Ab%2Bc%20d/%C3%BC";
    assert_eq!(seen[0].0, format!("/bucket/one/{encoded}"));
    assert_eq!(seen[1].0, format!("/bucket/one/two/{encoded}"));
    assert!(
        seen[0].1.contains("KEYONE") && seen[1].1.contains("KEYTWO"),
        "{seen:?}"
    );
}

#[tokio::test]
async fn a_table_without_files_needs_no_local_file_system() {
    use iceberg::spec::{
        FormatVersion, NestedField, PartitionSpec, PrimitiveType, Schema, SortOrder,
        TableMetadataBuilder, Type,
    };
    let lakes = [(
        "one".to_owned(),
        lake("s3://bucket", &[("aws_region", "r")]),
    )];
    let stores = Stores::new(&BTreeMap::from(lakes)).unwrap();
    let id = NestedField::optional(1, "id", Type::Primitive(PrimitiveType::Long));
    let metadata = TableMetadataBuilder::new(
        Schema::builder().with_fields([id.into()]).build().unwrap(),
        PartitionSpec::unpartition_spec().into_unbound(),
        SortOrder::unsorted_order(),
        "s3://bucket/t".to_owned(),
        FormatVersion::V2,
        std::collections::HashMap::new(),
    );
    let metadata = metadata.unwrap().build().unwrap().metadata;
    let name = TableName::new("lake", "n", "t");
    let table = iceberg::table::Table::builder()
        .identifier(name.to_ident().unwrap())
        .metadata(metadata)
        .file_io(LakeStorageFactory::file_io(Arc::clone(&stores)))
        .disable_cache()
        .runtime(iceberg::Runtime::try_current().unwrap())
        .build()
        .unwrap();
    let session = SessionContext::new();
    stores.register(&session.runtime_env());
    let provider = IcebergTable::try_new(name, table, Arc::default(), stores).unwrap();
    session.register_table("t", provider).unwrap();
    let rows = session.sql("SELECT * FROM t").await.unwrap();
    assert_eq!(rows.count().await.unwrap(), 0);
    let rows = session.sql("SELECT id FROM t WHERE id > 1").await.unwrap();
    assert!(rows.collect().await.unwrap().is_empty());
}
