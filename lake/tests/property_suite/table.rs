//! The table's metadata: schemas, specs, snapshots and manifests, and how they are written.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use iceberg::io::FileIO;
use iceberg::spec::{PartitionSpec, Schema as IcebergSchema};
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use crate::files::{Content, FileMeta};
use crate::manifests::{Entry, Manifest, write_list, write_manifest};
use crate::mapping::NameMapping;
use crate::model::leaf_of;
use crate::transforms::Transform;
use crate::types::{Prim, Schema};
use crate::values::Value;

/// One field of a partition spec.
#[derive(Clone, Debug, PartialEq)]
pub struct SpecField {
    pub id: i32,
    pub source: i32,
    pub name: String,
    pub transform: Transform,
}

/// A partition spec.
#[derive(Clone, Debug)]
pub struct Spec {
    pub id: i32,
    pub fields: Vec<SpecField>,
}

impl Spec {
    fn fields_json(&self) -> Json {
        let fields = self.fields.iter().map(|field| {
            json!({
                "name": field.name, "transform": field.transform.name(),
                "source-id": field.source, "field-id": field.id,
            })
        });
        fields.collect::<Vec<_>>().into()
    }

    fn json(&self) -> Json {
        json!({"spec-id": self.id, "fields": self.fields_json()})
    }

    pub fn iceberg(&self) -> PartitionSpec {
        serde_json::from_value(self.json()).unwrap()
    }

    /// Types of the partition values, the sources having the types of `schema`.
    pub fn types(&self, schema: &Schema) -> Vec<Prim> {
        let source = |field: &SpecField| schema.field(field.source).unwrap().prim().unwrap();
        self.fields
            .iter()
            .map(|field| field.transform.result(source(field)))
            .collect()
    }
}

/// What one commit changes.
#[derive(Debug)]
pub struct Commit {
    pub operation: &'static str,
    /// New files; with the data sequence number, where it is not that of the commit.
    pub added: Vec<(FileMeta, Option<i64>)>,
    pub removed: HashSet<FileKey>,
}

/// A path, and the offset of a deletion vector in it.
pub type FileKey = (String, Option<i64>);

/// The key of a file in a manifest.
pub fn key(meta: &FileMeta) -> FileKey {
    (meta.path.clone(), meta.blob.map(|(offset, _)| offset))
}

impl Commit {
    pub fn new(operation: &'static str) -> Self {
        Self {
            operation,
            added: vec![],
            removed: HashSet::new(),
        }
    }
}

/// A table on disk.
pub struct Table {
    pub directory: TempDir,
    pub file_io: FileIO,
    pub version: u8,
    pub schemas: Vec<Schema>,
    pub specs: Vec<Spec>,
    pub spec: i32,
    pub last_column: i32,
    pub last_partition: i32,
    pub sequence: i64,
    pub next_row_id: i64,
    /// Milliseconds since 1970; goes on with every commit.
    pub now: i64,
    pub mapping: Option<NameMapping>,
    /// Of the current snapshot.
    pub manifests: Vec<Manifest>,
    snapshots: Vec<Json>,
    current: Option<i64>,
    files: usize,
}

impl Table {
    pub fn new(version: u8, schema: Schema, last_column: i32, mapping: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for below in ["data", "metadata"] {
            std::fs::create_dir(directory.path().join(below)).unwrap();
        }
        Self {
            directory,
            file_io: FileIO::new_with_fs(),
            version,
            mapping: mapping.then(|| NameMapping::new(&schema.fields)),
            schemas: vec![schema],
            specs: vec![Spec {
                id: 0,
                fields: vec![],
            }],
            spec: 0,
            last_column,
            last_partition: 999,
            sequence: 0,
            next_row_id: 0,
            now: 1_600_000_000_000,
            manifests: vec![],
            snapshots: vec![],
            current: None,
            files: 0,
        }
    }

    /// The newest schema is always the current one.
    pub fn schema(&self) -> &Schema {
        self.schemas.last().unwrap()
    }

    pub fn default_spec(&self) -> &Spec {
        self.spec(self.spec)
    }

    pub fn spec(&self, id: i32) -> &Spec {
        self.specs.iter().find(|spec| spec.id == id).unwrap()
    }

    /// The newest schema that has every source of a spec.
    pub fn schema_of_spec(&self, spec: &Spec) -> &Schema {
        let has_all = |schema: &&Schema| {
            let mut sources = spec.fields.iter().map(|field| field.source);
            sources.all(|source| schema.field(source).is_some())
        };
        self.schemas.iter().rev().find(has_all).unwrap()
    }

    /// A path that no file has yet.
    pub fn new_path(&mut self, kind: &str, ending: &str) -> PathBuf {
        self.files += 1;
        let name = format!("{kind}-{}.{ending}", self.files);
        self.directory.path().join("data").join(name)
    }

    /// Live entries of the current snapshot.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.manifests
            .iter()
            .flat_map(|manifest| manifest.entries.iter())
    }

    /// Writes a snapshot; gives its id.
    pub async fn commit(&mut self, rng: &mut fastrand::Rng, commit: Commit) -> i64 {
        self.now += rng.i64(1..5000);
        let id = rng.i64(1..i64::MAX);
        if self.version > 1 {
            self.sequence += 1;
        }
        let old = std::mem::take(&mut self.manifests);
        for manifest in old {
            let gone = |entry: &Entry| commit.removed.contains(&key(&entry.meta));
            if manifest.entries.iter().any(gone) {
                let (removed, kept): (Vec<Entry>, Vec<Entry>) =
                    manifest.entries.iter().cloned().partition(gone);
                let rewritten = self.manifest(id, manifest.file.partition_spec_id, vec![], kept);
                self.manifests
                    .push(write_manifest(self, rewritten, removed).await);
            } else if !manifest.entries.is_empty() {
                self.manifests.push(manifest);
            }
        }
        self.add_manifests(rng, id, commit.added).await;
        self.write_snapshot(rng, id, commit.operation).await;
        id
    }

    /// Writes all live files of one spec and one content into one manifest.
    pub async fn merge_manifests(&mut self, rng: &mut fastrand::Rng, spec: i32, data: bool) -> i64 {
        self.now += rng.i64(1..5000);
        let id = rng.i64(1..i64::MAX);
        if self.version > 1 {
            self.sequence += 1;
        }
        let old = std::mem::take(&mut self.manifests);
        let (merged, kept): (Vec<Manifest>, Vec<Manifest>) = old
            .into_iter()
            .partition(|m| m.file.partition_spec_id == spec && m.is_data() == data);
        self.manifests = kept;
        self.manifests.retain(|m| !m.entries.is_empty());
        let entries: Vec<Entry> = merged.into_iter().flat_map(|m| m.entries).collect();
        if !entries.is_empty() {
            let draft = self.manifest(id, spec, vec![], entries);
            self.manifests
                .push(write_manifest(self, draft, vec![]).await);
        }
        self.write_snapshot(rng, id, "replace").await;
        id
    }

    fn manifest(&self, snapshot: i64, spec: i32, added: Vec<Entry>, existing: Vec<Entry>) -> Draft {
        Draft {
            path: self.metadata_path(&format!("m-{snapshot}-{}", self.manifests.len()), "avro"),
            snapshot,
            spec,
            added,
            existing,
        }
    }

    async fn add_manifests(
        &mut self,
        rng: &mut fastrand::Rng,
        snapshot: i64,
        added: Vec<(FileMeta, Option<i64>)>,
    ) {
        let mut groups: Vec<Vec<Entry>> = vec![];
        for (meta, sequence) in added {
            let entry = Entry {
                snapshot,
                sequence: sequence.unwrap_or(self.sequence),
                file_sequence: self.sequence,
                explicit: sequence.is_some(),
                meta,
            };
            let fits = |group: &&mut Vec<Entry>| {
                group[0].meta.spec == entry.meta.spec
                    && (group[0].meta.content == Content::Data)
                        == (entry.meta.content == Content::Data)
            };
            match groups.iter_mut().find(fits).filter(|_| rng.u8(0..4) > 0) {
                Some(group) => group.push(entry),
                None => groups.push(vec![entry]),
            }
        }
        for group in groups {
            let draft = self.manifest(snapshot, group[0].meta.spec, group, vec![]);
            self.manifests
                .push(write_manifest(self, draft, vec![]).await);
        }
    }

    async fn write_snapshot(&mut self, rng: &mut fastrand::Rng, id: i64, operation: &str) {
        if rng.u8(0..3) == 0 {
            let mut manifests = std::mem::take(&mut self.manifests);
            rng.shuffle(&mut manifests);
            self.manifests = manifests;
        }
        let path = self.metadata_path(&format!("snap-{id}"), "avro");
        let first_row_id = self.next_row_id;
        write_list(self, &path, id, self.current).await;
        let mut snapshot = json!({
            "snapshot-id": id, "timestamp-ms": self.now,
            "manifest-list": format!("file://{}", path.display()),
            "summary": {"operation": operation}, "schema-id": self.schema().id,
        });
        if let Some(parent) = self.current {
            snapshot["parent-snapshot-id"] = json!(parent);
        }
        if self.version > 1 {
            snapshot["sequence-number"] = json!(self.sequence);
        }
        if self.version > 2 {
            snapshot["first-row-id"] = json!(first_row_id);
            snapshot["added-rows"] = json!(self.next_row_id - first_row_id);
        }
        self.snapshots.push(snapshot);
        self.current = Some(id);
    }

    /// Moves to a newer format version.
    pub fn upgrade(&mut self, version: u8) {
        self.version = version;
        for snapshot in &mut self.snapshots {
            if snapshot.get("sequence-number").is_none() {
                snapshot["sequence-number"] = json!(0);
            }
        }
    }

    fn metadata_path(&self, name: &str, ending: &str) -> PathBuf {
        let below = self.directory.path().join("metadata");
        below.join(format!("{name}.{ending}"))
    }

    /// Writes the table's metadata file; gives its path.
    pub fn write_metadata(&mut self) -> PathBuf {
        self.files += 1;
        let path = self.metadata_path(&format!("{}", self.files), "metadata.json");
        std::fs::write(&path, self.metadata().to_string()).unwrap();
        path
    }

    fn metadata(&self) -> Json {
        let log: Vec<Json> = self
            .snapshots
            .iter()
            .map(|s| json!({"snapshot-id": s["snapshot-id"], "timestamp-ms": s["timestamp-ms"]}))
            .collect();
        let schemas: Vec<Json> = self.schemas.iter().map(Schema::json).collect();
        let specs: Vec<Json> = self.specs.iter().map(Spec::json).collect();
        let mut metadata = json!({
            "format-version": self.version,
            "table-uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1",
            "location": format!("file://{}", self.directory.path().display()),
            "last-updated-ms": self.now,
            "last-column-id": self.last_column,
            "schemas": schemas, "current-schema-id": self.schema().id,
            "partition-specs": specs, "default-spec-id": self.spec,
            "last-partition-id": self.last_partition,
            "sort-orders": [{"order-id": 0, "fields": []}], "default-sort-order-id": 0,
            "properties": {},
            "snapshots": self.snapshots, "snapshot-log": log,
        });
        if let Some(mapping) = &self.mapping {
            metadata["properties"] =
                json!({"schema.name-mapping.default": mapping.json().to_string()});
        }
        if let Some(current) = self.current {
            metadata["current-snapshot-id"] = json!(current);
            metadata["refs"] = json!({"main": {"snapshot-id": current, "type": "branch"}});
        }
        match self.version {
            1 => {
                metadata["schema"] = self.schema().json();
                metadata["partition-spec"] = self.default_spec().fields_json();
            }
            _ => metadata["last-sequence-number"] = json!(self.sequence),
        }
        if self.version > 2 {
            metadata["next-row-id"] = json!(self.next_row_id);
        }
        metadata
    }

    /// The partition of a row under a spec.
    pub fn partition(&self, spec: &Spec, row: &BTreeMap<i32, Value>) -> Vec<Value> {
        let value = |field: &SpecField| {
            let leaf = self.schema().leaf(field.source).unwrap();
            leaf_of(row, leaf.column, leaf.child)
        };
        spec.fields
            .iter()
            .map(|field| field.transform.apply(&value(field)))
            .collect()
    }
}

/// A manifest to be written.
pub struct Draft {
    pub path: PathBuf,
    pub snapshot: i64,
    pub spec: i32,
    pub added: Vec<Entry>,
    pub existing: Vec<Entry>,
}

/// A schema in the form that iceberg-rust's writers take.
pub fn iceberg_schema(schema: &Schema) -> Arc<IcebergSchema> {
    Arc::new(serde_json::from_value(schema.json()).unwrap())
}

/// The name that locations use.
pub fn location(path: &Path) -> String {
    format!("file://{}", path.display())
}
