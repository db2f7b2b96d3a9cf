//! The summary of a snapshot (Iceberg specification, appendix "Snapshot Summary").

use std::collections::{BTreeMap, HashMap, HashSet};

use iceberg::spec::{DataContentType, DataFile, Operation, SnapshotRef, Struct, Summary};

/// Counts of files added or removed.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub data_files: u64,
    records: u64,
    bytes: u64,
    pub delete_files: u64,
    position_files: u64,
    vectors: u64,
    equality_files: u64,
    position_deletes: u64,
    equality_deletes: u64,
    partitions: HashSet<(i32, Struct)>,
}

impl Counts {
    /// Counts a file.
    pub fn add(&mut self, spec_id: i32, file: &DataFile) {
        self.bytes += file.file_size_in_bytes();
        self.partitions.insert((spec_id, file.partition().clone()));
        let rows = file.record_count();
        match file.content_type() {
            DataContentType::Data => {
                self.data_files += 1;
                self.records += rows;
            }
            DataContentType::PositionDeletes => {
                self.delete_files += 1;
                self.position_deletes += rows;
                match file.content_offset() {
                    Some(_) => self.vectors += 1,
                    None => self.position_files += 1,
                }
            }
            DataContentType::EqualityDeletes => {
                self.delete_files += 1;
                self.equality_files += 1;
                self.equality_deletes += rows;
            }
        }
    }

    /// Whether no file was counted.
    pub fn is_empty(&self) -> bool {
        self.data_files == 0 && self.delete_files == 0
    }
}

/// The summary of a snapshot on top of `parent`.
pub(super) fn summary(
    parent: Option<&SnapshotRef>,
    operation: Operation,
    added: &Counts,
    removed: &Counts,
    everything: bool,
) -> Summary {
    let partitions = added.partitions.union(&removed.partitions).count() as u64;
    let mut numbers = BTreeMap::from([("changed-partition-count", partitions)]);
    let parts = [
        ("added-data-files", added.data_files),
        ("added-records", added.records),
        ("added-files-size", added.bytes),
        ("deleted-data-files", removed.data_files),
        ("deleted-records", removed.records),
        ("removed-files-size", removed.bytes),
        ("removed-delete-files", removed.delete_files),
        ("removed-position-delete-files", removed.position_files),
        ("removed-dvs", removed.vectors),
        ("removed-equality-delete-files", removed.equality_files),
        ("removed-position-deletes", removed.position_deletes),
        ("removed-equality-deletes", removed.equality_deletes),
    ];
    numbers.extend(parts.into_iter().filter(|(_, number)| *number > 0));
    let totals = [
        ("total-data-files", added.data_files, removed.data_files),
        ("total-records", added.records, removed.records),
        ("total-files-size", added.bytes, removed.bytes),
        ("total-delete-files", 0, removed.delete_files),
        ("total-position-deletes", 0, removed.position_deletes),
        ("total-equality-deletes", 0, removed.equality_deletes),
    ];
    for (key, plus, minus) in totals {
        // A total that was not kept so far stays unknown, unless nothing of it is left.
        let known = match everything {
            true => Some(plus),
            false => total(parent, key).map(|n| n.saturating_add(plus).saturating_sub(minus)),
        };
        numbers.extend(known.map(|known| (key, known)));
    }
    let mut properties: HashMap<String, String> = numbers
        .into_iter()
        .map(|(key, number)| (key.to_owned(), number.to_string()))
        .collect();
    for (key, value) in [
        ("engine-name", "inshore"),
        ("engine-version", env!("CARGO_PKG_VERSION")),
    ] {
        properties.insert(key.to_owned(), value.to_owned());
    }
    Summary {
        operation,
        additional_properties: properties,
    }
}

/// How many rows a snapshot has, where its summary and the absence of deletes tell.
pub(super) fn live_rows(snapshot: Option<&SnapshotRef>) -> Option<u64> {
    match total(snapshot, "total-delete-files")? {
        0 => total(snapshot, "total-records"),
        _ => None,
    }
}

fn total(snapshot: Option<&SnapshotRef>, key: &str) -> Option<u64> {
    match snapshot {
        None => Some(0),
        Some(snapshot) => {
            let value = snapshot.summary().additional_properties.get(key);
            value.and_then(|text| text.parse().ok())
        }
    }
}
