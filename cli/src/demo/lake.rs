//! The demo lake: a folder with an Iceberg catalog on SQLite, a warehouse, and a marker that is
//! written last, so that an interrupted generation is told from a finished one.
//!
//! ```text
//! DIR/inshore-demo.toml        the marker: scale and version
//! DIR/inshore-demo.unfinished  there while tables are being generated
//! DIR/catalog.db               the catalog
//! DIR/warehouse/               the tables
//! ```

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use iceberg::spec::{
    NestedField, PrimitiveType, Schema, Transform, Type as IcebergType, UnboundPartitionSpec,
};
use iceberg::transaction::{ApplyTransactionAction, Transaction};
use iceberg::{Catalog, NamespaceIdent, TableCreation};
use indexmap::IndexMap;
use indicatif::{HumanCount, MultiProgress, ProgressBar, ProgressStyle};
use inshore_lake::catalog::Catalogs;
use inshore_lake::config::{CatalogConfig, CatalogKind, LakeConfig, Secret};
use inshore_lake::store::Stores;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use url::Url;

use super::tables::{MONEY, TABLES, Table, Type};
use super::writer::TableWriter;
use crate::failure::say;

/// Counts up when the tables' shape changes; a lake of another version is made anew.
const VERSION: u32 = 1;

/// The catalog's name, in its database and in SQL.
pub const CATALOG: &str = "demo";

/// The schema of the tables.
pub const NAMESPACE: &str = "tpch";

const MARKER: &str = "inshore-demo.toml";
const UNFINISHED: &str = "inshore-demo.unfinished";
const LOCK: &str = "inshore-demo.lock";

/// What the marker tells.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Marker {
    version: u32,
    scale: f64,
}

/// A finished demo lake.
#[derive(Clone, Debug)]
pub struct Lake {
    dir: PathBuf,
}

impl Lake {
    /// Opens the lake in a folder, or generates it.
    ///
    /// # Errors
    /// When the folder holds something else, or cannot be written.
    pub async fn open_or_generate(dir: &Path, scale: f64) -> anyhow::Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let lake = Self {
            dir: dir.canonicalize()?,
        };
        let _lock = lake.lock()?;
        match lake.marker()? {
            Some(found)
                if found
                    == (Marker {
                        version: VERSION,
                        scale,
                    }) =>
            {
                say(&format!("using the lake in {}", lake.dir.display()));
                return Ok(lake);
            }
            Some(found) if found.version == VERSION => bail!(
                "{} holds a demo lake of scale {}, not {scale}; choose another --dir",
                lake.dir.display(),
                found.scale
            ),
            Some(_) => say("the lake is of an older version; making it anew"),
            None if lake.path(UNFINISHED).exists() => {
                say("the lake was not finished; making it anew");
            }
            None if !lake.is_empty()? => bail!(
                "{} is not empty and no demo lake; choose another --dir",
                lake.dir.display()
            ),
            None => {}
        }
        lake.clean()?;
        lake.generate(scale).await?;
        Ok(lake)
    }

    /// The lake's folder, absolute.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The folder as a URL.
    ///
    /// # Errors
    /// When its path cannot be written as one.
    pub fn root(&self) -> anyhow::Result<String> {
        file_url(&self.dir)
    }

    /// The warehouse as a URL.
    ///
    /// # Errors
    /// When its path cannot be written as one.
    pub fn warehouse(&self) -> anyhow::Result<String> {
        file_url(&self.path("warehouse"))
    }

    /// The catalog database as a URI.
    pub fn catalog_uri(&self) -> String {
        format!("sqlite://{}", self.path("catalog.db").display())
    }

    /// Opens the catalog, through the same stores as the engine.
    ///
    /// # Errors
    /// When the database cannot be opened.
    pub async fn catalog(&self) -> anyhow::Result<Arc<dyn Catalog>> {
        let config = CatalogConfig {
            kind: CatalogKind::Sql,
            uri: Some(Secret::new(self.catalog_uri())),
            warehouse: Some(self.warehouse()?),
            name: Some(CATALOG.to_owned()),
            token: None,
            credential: None,
            oauth2_server_uri: None,
            scope: None,
            properties: BTreeMap::new(),
        };
        let root = LakeConfig::new(self.root()?);
        let stores = Stores::new(&BTreeMap::from([(CATALOG.to_owned(), root)]))?;
        let configs = IndexMap::from([(CATALOG.to_owned(), config)]);
        Ok(Catalogs::open(&configs, stores)?.writer(CATALOG).await?)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Holds off a second `inshore demo` on the same folder.
    fn lock(&self) -> anyhow::Result<File> {
        let file = File::create(self.path(LOCK))
            .with_context(|| format!("cannot write into {}", self.dir.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(fs::TryLockError::WouldBlock) => {
                bail!(
                    "another `inshore demo` is generating the lake in {}",
                    self.dir.display()
                )
            }
            Err(fs::TryLockError::Error(error)) => Err(error).context("cannot lock the lake"),
        }
    }

    fn marker(&self) -> anyhow::Result<Option<Marker>> {
        match fs::read_to_string(self.path(MARKER)) {
            Ok(text) => toml::from_str(&text)
                .map(Some)
                .with_context(|| format!("{} cannot be read", self.path(MARKER).display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn is_empty(&self) -> anyhow::Result<bool> {
        for entry in fs::read_dir(&self.dir)? {
            if entry?.file_name() != LOCK {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Removes what an earlier generation left. Only called on folders that are ours.
    fn clean(&self) -> anyhow::Result<()> {
        fs::write(self.path(UNFINISHED), "")?;
        for name in [
            MARKER,
            "catalog.db",
            "catalog.db-journal",
            "catalog.db-wal",
            "catalog.db-shm",
        ] {
            match fs::remove_file(self.path(name)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error.into());
                }
                _ => {}
            }
        }
        match fs::remove_dir_all(self.path("warehouse")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Generates all tables and marks the lake as finished.
    async fn generate(&self, scale: f64) -> anyhow::Result<()> {
        let began = std::time::Instant::now();
        say(&format!(
            "generating TPC-H at scale {scale} into {}",
            self.dir.display()
        ));
        fs::create_dir_all(self.path("warehouse"))?;
        let catalog = self.catalog().await?;
        let namespace = NamespaceIdent::new(NAMESPACE.to_owned());
        catalog.create_namespace(&namespace, HashMap::new()).await?;
        let progress = MultiProgress::new();
        let mut tasks = JoinSet::new();
        let mut rest = Vec::new();
        for table in TABLES {
            let created = catalog.create_table(&namespace, creation(table)?).await?;
            let bar = progress.add(bar(table, scale)?);
            // The largest table is generated beside all the others, one after the other.
            if table.name == "lineitem" {
                tasks.spawn(fill_all(vec![(*table, created, bar)], scale));
            } else {
                rest.push((*table, created, bar));
            }
        }
        tasks.spawn(fill_all(rest, scale));
        let mut rows = 0;
        while let Some(filled) = tasks.join_next().await {
            for (table, files) in filled?? {
                rows += files.iter().map(|file| file.record_count()).sum::<u64>();
                let transaction = Transaction::new(&table);
                let append = transaction.fast_append().add_data_files(files);
                append.apply(transaction)?.commit(catalog.as_ref()).await?;
            }
        }
        let marker = toml::to_string(&Marker {
            version: VERSION,
            scale,
        })?;
        fs::write(self.path(MARKER), marker)?;
        fs::remove_file(self.path(UNFINISHED))?;
        say(&format!(
            "generated {} rows in {:.1} s",
            HumanCount(rows),
            began.elapsed().as_secs_f64()
        ));
        Ok(())
    }
}

type Filled = Vec<(iceberg::table::Table, Vec<iceberg::spec::DataFile>)>;

/// Writes the data files of some tables, one table after the other.
async fn fill_all(
    tables: Vec<(Table, iceberg::table::Table, ProgressBar)>,
    scale: f64,
) -> anyhow::Result<Filled> {
    let mut filled = Vec::new();
    for (table, created, bar) in tables {
        let mut writer = TableWriter::new(&created)?;
        for chunk in table.chunks(scale) {
            let rows = writer.write(chunk?).await?;
            bar.inc(rows);
            // Generating never waits for anything: give cancellation a chance.
            tokio::task::yield_now().await;
        }
        let files = writer.close().await?;
        bar.finish();
        filled.push((created, files));
    }
    Ok(filled)
}

/// How the catalog is told to create a table.
pub fn creation(table: &Table) -> anyhow::Result<TableCreation> {
    let fields = table.columns.iter().zip(1..).map(|((name, kind), id)| {
        let primitive = match kind {
            Type::Long => PrimitiveType::Long,
            Type::Int => PrimitiveType::Int,
            Type::Date => PrimitiveType::Date,
            Type::Text => PrimitiveType::String,
            Type::Money => PrimitiveType::Decimal {
                precision: u32::from(MONEY.0),
                scale: u32::from(MONEY.1.unsigned_abs()),
            },
        };
        Arc::new(NestedField::required(
            id,
            *name,
            IcebergType::Primitive(primitive),
        ))
    });
    let schema = Schema::builder().with_fields(fields).build()?;
    let mut spec = UnboundPartitionSpec::builder();
    if let Some(column) = table.month_of {
        let source = schema
            .field_id_by_name(column)
            .context("the partition column is missing")?;
        spec = spec.add_partition_field(source, format!("{column}_month"), Transform::Month)?;
    }
    Ok(TableCreation::builder()
        .name(table.name.to_owned())
        .schema(schema)
        .partition_spec(spec.build())
        .build())
}

fn bar(table: &Table, scale: f64) -> anyhow::Result<ProgressBar> {
    let style =
        ProgressStyle::with_template("{prefix:9} [{bar:32}] {human_pos:>11} rows {elapsed:>4}")?;
    let bar = ProgressBar::new(table.expected_rows(scale)).with_style(style);
    Ok(bar.with_prefix(table.name))
}

fn file_url(path: &Path) -> anyhow::Result<String> {
    match Url::from_file_path(path) {
        // The Iceberg crates take the path behind `file://` as it is, without decoding it.
        Ok(url) if url.path() == path.to_string_lossy() => Ok(url.to_string()),
        _ => bail!(
            "the path {} has characters a lake's path cannot have; choose another --dir",
            path.display()
        ),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use futures::TryStreamExt;
    use iceberg::TableIdent;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_tiny_lake_reads_back_and_is_reused() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("demo");
        let lake = Lake::open_or_generate(&dir, 0.001).await.unwrap();
        let catalog = lake.catalog().await.unwrap();
        for table in TABLES {
            let ident = TableIdent::from_strs([NAMESPACE, table.name]).unwrap();
            let loaded = catalog.load_table(&ident).await.unwrap();
            let scan = loaded.scan().build().unwrap();
            let files: Vec<_> = scan
                .plan_files()
                .await
                .unwrap()
                .try_collect()
                .await
                .unwrap();
            let rows: usize = scan
                .to_arrow()
                .await
                .unwrap()
                .try_fold(0, |rows, batch| async move { Ok(rows + batch.num_rows()) })
                .await
                .unwrap();
            let expected = table.expected_rows(0.001);
            if table.name == "lineitem" {
                assert_eq!(rows, 6005);
            } else {
                assert_eq!(rows as u64, expected, "{}", table.name);
            }
            let counted: u64 = files.iter().filter_map(|file| file.record_count).sum();
            assert_eq!(counted, rows as u64, "{}", table.name);
            match table.month_of {
                Some(_) => assert!((70..=84).contains(&files.len()), "{}", files.len()),
                None => assert_eq!(files.len(), 1),
            }
        }
        let made = fs::metadata(dir.join(MARKER)).unwrap().modified().unwrap();
        Lake::open_or_generate(&dir, 0.001).await.unwrap();
        assert_eq!(
            fs::metadata(dir.join(MARKER)).unwrap().modified().unwrap(),
            made
        );
        let other = Lake::open_or_generate(&dir, 0.002).await.unwrap_err();
        assert!(other.to_string().contains("scale 0.001"), "{other}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_unfinished_lake_is_made_anew_and_other_folders_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        fs::create_dir_all(dir.join("warehouse/tpch")).unwrap();
        fs::write(dir.join("warehouse/tpch/rest"), "x").unwrap();
        let refused = Lake::open_or_generate(dir, 0.001).await.unwrap_err();
        assert!(refused.to_string().contains("not empty"), "{refused}");
        fs::write(dir.join(UNFINISHED), "").unwrap();
        Lake::open_or_generate(dir, 0.001).await.unwrap();
        assert!(!dir.join("warehouse/tpch/rest").exists());
        assert!(!dir.join(UNFINISHED).exists());
    }
}
