//! Branches and tags: names of snapshots, and how long those are kept (Iceberg specification,
//! "Snapshot References").

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use iceberg::TableUpdate;
use iceberg::spec::{
    FormatVersion, MAIN_BRANCH, SnapshotReference, SnapshotRetention, TableMetadata,
};
use iceberg::table::Table;

use super::producer::Producer;
use crate::catalog::{Change, hint};
use crate::version::{TableVersion, refs};
use crate::{Error, Result};

/// What a name of a snapshot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefKind {
    /// Goes on to each snapshot that is written to it.
    Branch,
    /// Stays where it is.
    Tag,
}

impl RefKind {
    /// `branch` or `tag`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Branch => "branch",
            Self::Tag => "tag",
        }
    }

    fn of(reference: &SnapshotReference) -> Self {
        match reference.is_branch() {
            true => Self::Branch,
            false => Self::Tag,
        }
    }
}

/// How long a branch or tag and its snapshots are kept; what is absent is as the table says
/// (`history.expire.*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// How many snapshots of a branch are kept at least.
    pub min_snapshots: Option<i32>,
    /// How long snapshots of a branch are kept.
    pub max_snapshot_age_ms: Option<i64>,
    /// How long the branch or tag itself is kept.
    pub max_ref_age_ms: Option<i64>,
}

/// When a branch or tag is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// When there is none of the name.
    Create,
    /// As before; nothing happens when there is one.
    CreateIfNotExists,
    /// Whether there is one or not.
    CreateOrReplace,
    /// When there is one.
    Replace,
}

/// What becomes of a branch or tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefAction {
    /// It is made, or made to name another snapshot. What is not given of the retention of one that
    /// is there stays.
    Put {
        /// When.
        mode: Mode,
        /// The snapshot; the table's current one when absent.
        snapshot: Option<i64>,
        /// How long it is kept.
        retention: Retention,
    },
    /// It is removed; its snapshots stay until they are expired.
    Drop {
        /// Whether it may be missing.
        if_exists: bool,
    },
}

/// A change of one branch or tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefChange {
    /// Branch or tag.
    pub kind: RefKind,
    /// Its name, exactly.
    pub name: String,
    /// What becomes of it.
    pub action: RefAction,
}

/// The change of a table that changes a branch or tag of it.
#[derive(Debug)]
pub struct ChangeRef {
    table: String,
    change: RefChange,
    /// Makes the empty snapshot of a branch of a table that has none.
    empty: OnceLock<Producer>,
    /// Whether the last attempt has such a snapshot.
    made_empty: AtomicBool,
}

impl ChangeRef {
    /// The change of the table with this full name.
    pub fn new(table: &str, change: RefChange) -> Self {
        Self {
            table: table.to_owned(),
            change,
            empty: OnceLock::new(),
            made_empty: AtomicBool::new(false),
        }
    }

    fn conflict(&self, why: &str) -> Error {
        let (kind, name) = (self.change.kind.word(), &self.change.name);
        Error::Conflict(format!("{kind} {name} of table {}: {why}", self.table))
    }

    /// # Errors
    /// [`Error::Conflict`] for a name that is the other kind's.
    fn check_kind(&self, found: &SnapshotReference) -> Result<()> {
        let RefChange { kind, name, .. } = &self.change;
        match RefKind::of(found) {
            other if other == *kind => Ok(()),
            other => Err(Error::Conflict(format!(
                "{name} is a {} of table {}, not a {}",
                other.word(),
                self.table,
                kind.word()
            ))),
        }
    }

    fn missing(&self, known: impl Iterator<Item = (String, SnapshotReference)>) -> Error {
        let RefChange { kind, name, .. } = &self.change;
        let mut names: Vec<String> = known
            .filter(|(_, found)| RefKind::of(found) == *kind)
            .map(|(name, _)| name)
            .collect();
        names.sort();
        let (word, hint) = (kind.word(), hint(name, &names));
        Error::NotFound(format!(
            "{word} {name} of table {} not found{hint}",
            self.table
        ))
    }

    /// The main branch is the table's state: it goes on by commits, and never expires.
    fn check_main(&self, exists: bool) -> Result<()> {
        if self.change.name != MAIN_BRANCH {
            return Ok(());
        }
        let why = match (self.change.kind, &self.change.action) {
            (RefKind::Tag, _) => "this name is that of the main branch; take another one",
            (_, RefAction::Drop { .. }) => {
                "the main branch is the table's state and cannot be dropped"
            }
            (
                _,
                RefAction::Put {
                    mode: Mode::Replace | Mode::CreateOrReplace,
                    ..
                },
            ) => "the main branch cannot be replaced: it goes on by commits only",
            _ if exists => return Ok(()),
            _ => "the main branch is made by the table's first rows",
        };
        Err(self.conflict(why))
    }

    async fn put(
        &self,
        table: &Table,
        mode: Mode,
        snapshot: Option<i64>,
        wanted: Retention,
    ) -> Result<Vec<TableUpdate>> {
        let RefChange { kind, name, .. } = &self.change;
        let metadata = table.metadata();
        let mut known = refs(&self.table, metadata)?;
        let found = known.remove(name);
        match (&found, mode) {
            (Some(found), Mode::CreateIfNotExists) => {
                return self.check_kind(found).map(|()| vec![]);
            }
            (Some(found), Mode::Create) => {
                return Err(Error::Exists(format!(
                    "{} {name} of table {} exists already",
                    RefKind::of(found).word(),
                    self.table
                )));
            }
            (Some(found), _) => self.check_kind(found)?,
            (None, Mode::Replace) => return Err(self.missing(known.into_iter())),
            (None, _) => {}
        }
        let retention = retention(*kind, wanted, found.as_ref());
        let Some(snapshot_id) = self.snapshot(metadata, snapshot)? else {
            return self.of_empty_table(table, retention).await;
        };
        let reference = SnapshotReference::new(snapshot_id, retention);
        if found.as_ref() == Some(&reference) {
            return Ok(vec![]);
        }
        Ok(vec![TableUpdate::SetSnapshotRef {
            ref_name: name.clone(),
            reference,
        }])
    }

    /// The snapshot that is named; none for the current one of a table that has none.
    fn snapshot(&self, metadata: &TableMetadata, given: Option<i64>) -> Result<Option<i64>> {
        match given {
            None => Ok(metadata.current_snapshot_id()),
            Some(id) => {
                TableVersion::Snapshot(id).resolve(&self.table, metadata)?;
                Ok(Some(id))
            }
        }
    }

    /// A branch may begin before the table has rows, with an empty snapshot, as Spark makes it. A
    /// tag has to name something.
    async fn of_empty_table(
        &self,
        table: &Table,
        retention: SnapshotRetention,
    ) -> Result<Vec<TableUpdate>> {
        let RefAction::Put { mode, .. } = self.change.action else {
            return Ok(vec![]);
        };
        if self.change.kind == RefKind::Tag || mode == Mode::Replace {
            return Err(self.conflict(
                "the table has no current snapshot; add rows first, or say AS OF VERSION and a \
                 snapshot id",
            ));
        }
        let producer = self.empty.get_or_init(|| {
            Producer::new(&self.table, table, vec![]).for_new_branch(&self.change.name, retention)
        });
        let updates = producer.empty(table).await?;
        self.made_empty.store(true, Ordering::Release);
        Ok(updates)
    }

    fn drop(&self, metadata: &TableMetadata, if_exists: bool) -> Result<Vec<TableUpdate>> {
        let mut known = refs(&self.table, metadata)?;
        match known.remove(&self.change.name) {
            None if if_exists => Ok(vec![]),
            None => Err(self.missing(known.into_iter())),
            Some(found) => {
                self.check_kind(&found)?;
                Ok(vec![TableUpdate::RemoveSnapshotRef {
                    ref_name: self.change.name.clone(),
                }])
            }
        }
    }
}

#[async_trait]
impl Change for ChangeRef {
    /// # Errors
    /// [`Error::NotFound`] and [`Error::Exists`] name the branch, the tag or the snapshot;
    /// [`Error::Conflict`] says why the table cannot be changed so.
    async fn updates(&self, table: &Table) -> Result<Vec<TableUpdate>> {
        self.made_empty.store(false, Ordering::Release);
        let metadata = table.metadata();
        if metadata.format_version() == FormatVersion::V1 {
            // iceberg-rust leaves them out of metadata of version 1.
            return Err(self.conflict(
                "tables of format version 1 get no branches and tags here; raise it with ALTER \
                 TABLE ... SET TBLPROPERTIES ('format-version' = '2')",
            ));
        }
        self.check_main(metadata.snapshot_for_ref(MAIN_BRANCH).is_some())?;
        match self.change.action {
            RefAction::Put {
                mode,
                snapshot,
                retention,
            } => self.put(table, mode, snapshot, retention).await,
            RefAction::Drop { if_exists } => self.drop(metadata, if_exists),
        }
    }

    fn unused(&self, committed: bool) -> Vec<String> {
        let committed = committed && self.made_empty.load(Ordering::Acquire);
        self.empty
            .get()
            .map_or_else(Vec::new, |p| p.unused(committed))
    }
}

/// What is wanted, and for the rest what was set before.
fn retention(
    kind: RefKind,
    wanted: Retention,
    found: Option<&SnapshotReference>,
) -> SnapshotRetention {
    let before = match found.map(|found| &found.retention) {
        None => Retention::default(),
        Some(SnapshotRetention::Branch {
            min_snapshots_to_keep,
            max_snapshot_age_ms,
            max_ref_age_ms,
        }) => Retention {
            min_snapshots: *min_snapshots_to_keep,
            max_snapshot_age_ms: *max_snapshot_age_ms,
            max_ref_age_ms: *max_ref_age_ms,
        },
        Some(SnapshotRetention::Tag { max_ref_age_ms }) => Retention {
            max_ref_age_ms: *max_ref_age_ms,
            ..Retention::default()
        },
    };
    let max_ref_age_ms = wanted.max_ref_age_ms.or(before.max_ref_age_ms);
    match kind {
        RefKind::Tag => SnapshotRetention::Tag { max_ref_age_ms },
        RefKind::Branch => SnapshotRetention::Branch {
            min_snapshots_to_keep: wanted.min_snapshots.or(before.min_snapshots),
            max_snapshot_age_ms: wanted.max_snapshot_age_ms.or(before.max_snapshot_age_ms),
            max_ref_age_ms,
        },
    }
}
