//! Lakes written by other systems.

use crate::support::{shared_lakes, stores};
use inshore_lake::TableName;
use inshore_lake::catalog::{Catalogs, embedded_config, open_location};
use inshore_lake::store::Stores;
use object_store::ObjectStoreExt;

#[tokio::test]
async fn every_table_of_a_pyiceberg_catalog_loads() {
    let Some(lakes) = shared_lakes() else { return };
    let (configs, lakes) = embedded_config(&lakes.join("pyiceberg")).await.unwrap();
    assert_eq!(configs.keys().collect::<Vec<_>>(), ["lakes"]);
    let catalogs = Catalogs::open(&configs, Stores::new(&lakes).unwrap()).unwrap();
    let all = catalogs.all_tables("lakes").await.unwrap();
    let namespaces: Vec<&str> = all.keys().map(String::as_str).collect();
    for namespace in [
        "Names",
        "a",
        "a.b",
        "a.b.c",
        "name space",
        "names",
        "part",
        "types",
    ] {
        assert!(
            namespaces.contains(&namespace),
            "{namespace} in {namespaces:?}"
        );
    }
    let mut loaded = 0;
    for (namespace, tables) in all {
        for table in tables {
            let name = TableName::new("lakes", &namespace, table);
            let table = catalogs.load(&name).await.unwrap().expect("a listed table");
            // The manifest list of every table can be reached through the resolved path.
            if let Some(snapshot) = table.metadata().current_snapshot() {
                let (store, path, _) = catalogs.stores().resolve(snapshot.manifest_list()).unwrap();
                store.head(&path).await.unwrap();
            }
            loaded += 1;
        }
    }
    assert_eq!(loaded, 107);
}

#[tokio::test]
async fn hadoop_tables_open_by_their_folder() {
    let Some(lakes) = shared_lakes() else { return };
    let stores = stores("/tmp/inshore-lakes");
    let called = TableName::new("lake", "tmp", "t");
    let mut opened = 0;
    for set in ["impala_v3", "duckdb/data/persistent/iceberg"] {
        let Ok(folders) = std::fs::read_dir(lakes.join(set)) else {
            continue;
        };
        for folder in folders {
            let folder = folder.unwrap().path();
            if folder.join("metadata").is_dir() {
                let location = folder.to_str().unwrap();
                open_location(&stores, location, &called).await.unwrap();
                opened += 1;
            }
        }
    }
    assert!(opened >= 6, "{opened}");
}
