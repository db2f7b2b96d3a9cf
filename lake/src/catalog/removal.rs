//! Taking a table out of its catalog together with its files: only as it was seen, so that no file
//! of a table that lives on is deleted.

use iceberg::table::Table;

use super::Catalogs;
use super::commit::Policy;
use crate::{Error, Result, TableName};

/// What came of taking a table out of its catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is out, and its files are there.
    Out,
    /// It is out, and the catalog deletes its files.
    WithFiles,
    /// Another writer was quicker: it is changed or gone.
    Late,
}

/// A table that is in its catalog no more.
#[derive(Debug)]
pub struct Removed {
    /// The table as it was last.
    pub table: Table,
    /// Whether the catalog deletes its files itself.
    pub catalog_deletes: bool,
}

impl Catalogs {
    /// Takes a table out of its catalog so that its files may be deleted; none when there is no such
    /// table. `check` says whether the table may go, each time that it is looked at.
    ///
    /// # Errors
    /// What `check` gives; as [`Catalogs::load`]; [`Error::Conflict`] when the table was replaced
    /// meanwhile, or other writers were quicker every time; [`Error::CommitUnknown`] when the
    /// catalog's answer was lost: nothing may be deleted then.
    pub async fn remove_table(
        &self,
        name: &TableName,
        check: &(dyn Fn(&Table) -> Result<()> + Sync),
    ) -> Result<Option<Removed>> {
        let mut known = None;
        let mut attempt = 0;
        loop {
            let Some(table) = self.load(name).await? else {
                return Ok(None);
            };
            let uuid = table.metadata().uuid();
            if *known.get_or_insert(uuid) != uuid {
                return Err(Error::Conflict(format!(
                    "table {name} was replaced by another one meanwhile, which is left as it is"
                )));
            }
            check(&table)?;
            let catalog_deletes = match self.take_out(name, &table).await? {
                Taken::Out => false,
                Taken::WithFiles => true,
                Taken::Late => {
                    let policy = Policy::of(table.metadata());
                    policy.next(name, &mut attempt).await?;
                    continue;
                }
            };
            return Ok(Some(Removed {
                table,
                catalog_deletes,
            }));
        }
    }

    async fn take_out(&self, name: &TableName, table: &Table) -> Result<Taken> {
        let backend = self.backend(&name.catalog).await?;
        let deadline = self.shared.call_deadline;
        let taken = tokio::time::timeout(deadline, backend.take_out(name, table)).await;
        taken.unwrap_or_else(|_| {
            Err(Error::CommitUnknown {
                table: name.to_string(),
                why: format!("no answer within {} s", deadline.as_secs_f32()),
            })
        })
    }
}
