//! Catalogs that know where the metadata of each table lies: a change is a new metadata file and a
//! swap of the pointer, if nobody moved it meanwhile.

use std::sync::Arc;

use async_trait::async_trait;
use iceberg::spec::TableMetadataBuilder;
use iceberg::table::Table;
use iceberg::{TableCreation, TableUpdate};

use super::backend::{Commits, Shared};
use super::commit::{Built, built};
use super::{files, metadata};
use crate::{Error, Result, TableName};

/// Property that lets commits remove metadata files that fell out of the metadata log.
const DELETE_AFTER_COMMIT: &str = "write.metadata.delete-after-commit.enabled";

/// A catalog that holds a pointer for each table.
#[async_trait]
pub(super) trait Pointers: Send + Sync {
    /// What the catalogs of this process share.
    fn shared(&self) -> &Shared;

    /// Where the files of a new table go, if the statement does not say.
    async fn new_location(&self, name: &TableName) -> Result<String>;

    /// Enters a table whose metadata we wrote; false when there is one of that name. After an error
    /// it may have happened.
    async fn insert(&self, name: &TableName, metadata: &str) -> Result<bool>;

    /// Where the metadata of a table lies; none when there is no such table.
    async fn pointer(&self, name: &TableName) -> Result<Option<String>>;

    /// Points a table at other metadata, unless it points at something else than `from` by now:
    /// then false. After an error it may have happened.
    async fn swap(&self, name: &TableName, from: &str, to: &str) -> Result<bool>;
}

#[async_trait]
impl<T: Pointers> Commits for T {
    async fn newest(&self, name: &TableName) -> Result<Option<Table>> {
        let Some(location) = self.pointer(name).await? else {
            return Ok(None);
        };
        let shared = self.shared();
        let found = metadata::read_exactly(&shared.stores, &location).await?;
        metadata::table(name.to_ident()?, found, Some(&location), &shared.file_io).map(Some)
    }

    async fn commit(
        &self,
        name: &TableName,
        base: &Table,
        updates: Vec<TableUpdate>,
    ) -> Result<Option<Table>> {
        let shared = self.shared();
        let from = base.metadata_location().ok_or_else(|| {
            Error::Internal(format!(
                "table {name} is to be changed and is not there yet"
            ))
        })?;
        let built = built(name, base.metadata(), Some(from), updates)?;
        let number = files::number_of(from) + 1;
        let to = files::write(&shared.file_io, &built.metadata, number).await?;
        let swapped = match self.swap(name, from, &to).await {
            Ok(swapped) => swapped,
            Err(error) => look(self, name, (from, &to), error).await?,
        };
        if !swapped {
            files::remove(&shared.file_io, &to).await;
            return Ok(None);
        }
        remove_expired(shared, &built).await;
        let (ident, metadata) = (name.to_ident()?, built.metadata.into());
        metadata::table(ident, metadata, Some(&to), &shared.file_io).map(Some)
    }

    async fn stage(&self, name: &TableName, mut creation: TableCreation) -> Result<Option<Table>> {
        if self.pointer(name).await?.is_some() {
            return Ok(None);
        }
        if creation.location.is_none() {
            creation.location = Some(self.new_location(name).await?);
        }
        let invalid = |error: iceberg::Error| Error::Conflict(error.message().to_owned());
        let metadata = TableMetadataBuilder::from_table_creation(creation)
            .and_then(TableMetadataBuilder::build)
            .map_err(invalid)?
            .metadata;
        let file_io = &self.shared().file_io;
        metadata::table(name.to_ident()?, metadata.into(), None, file_io).map(Some)
    }

    async fn enter(
        &self,
        name: &TableName,
        staged: &Table,
        updates: Vec<TableUpdate>,
    ) -> Result<Option<Table>> {
        let shared = self.shared();
        let metadata = built(name, staged.metadata(), None, updates)?.metadata;
        let to = files::write(&shared.file_io, &metadata, 0).await?;
        let entered = tokio::time::timeout(shared.call_deadline, self.insert(name, &to)).await;
        let entered = entered.unwrap_or_else(|_| {
            Err(Error::Unavailable {
                service: format!("catalog {}", name.catalog),
                why: format!("no answer within {} s", shared.call_deadline.as_secs_f32()),
            })
        });
        let entered = match entered {
            Ok(entered) => entered,
            // An answer that was lost: the catalog knows whether the table was entered.
            Err(error) => match self.pointer(name).await {
                Ok(Some(found)) => found == to,
                Ok(None) | Err(_) => return Err(Error::commit_unknown(name, &error)),
            },
        };
        if !entered {
            files::remove(&shared.file_io, &to).await;
            return Ok(None);
        }
        let (ident, metadata) = (name.to_ident()?, Arc::new(metadata));
        metadata::table(ident, metadata, Some(&to), &shared.file_io).map(Some)
    }
}

/// Whether a swap whose answer was lost happened: nothing is written twice. The new metadata file
/// stays where that cannot be known.
async fn look(
    pointers: &dyn Pointers,
    name: &TableName,
    (from, to): (&str, &str),
    error: Error,
) -> Result<bool> {
    match pointers.pointer(name).await {
        Ok(Some(now)) if now == to => Ok(true),
        Ok(Some(now)) if now == from => Err(Error::commit_unknown(name, &error)),
        Ok(Some(now)) => {
            // Another writer went on, from our metadata or from that before it.
            let newest = metadata::read_exactly(&pointers.shared().stores, &now).await;
            let newest = newest.map_err(|error| Error::commit_unknown(name, &error))?;
            let log = newest.metadata_log().iter();
            let log = log.map(|entry| entry.metadata_file.as_str());
            committed(log, from, to).ok_or_else(|| Error::commit_unknown(name, &error))
        }
        Ok(None) | Err(_) => Err(Error::commit_unknown(name, &error)),
    }
}

/// Whether the swap from `from` to `to` is part of a history; none when that reaches not far enough
/// back, since tables bound their metadata log.
fn committed<'a>(log: impl Iterator<Item = &'a str> + Clone, from: &str, to: &str) -> Option<bool> {
    let has = |wanted: &str| log.clone().any(|file| file == wanted);
    match has(to) {
        true => Some(true),
        false => has(from).then_some(false),
    }
}

async fn remove_expired(shared: &Shared, built: &Built) {
    let enabled = built.metadata.properties().get(DELETE_AFTER_COMMIT);
    if enabled.is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        for entry in &built.expired {
            files::remove(&shared.file_io, &entry.metadata_file).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_tells_of_a_swap_as_far_as_it_reaches() {
        let fate = |log: &[&str]| committed(log.iter().copied(), "from", "to");
        assert_eq!(fate(&["older", "from", "to", "newer"]), Some(true));
        assert_eq!(fate(&["to"]), Some(true));
        assert_eq!(fate(&["older", "from", "other"]), Some(false));
        assert_eq!(fate(&["other", "newer"]), None);
        assert_eq!(fate(&[]), None);
    }
}
