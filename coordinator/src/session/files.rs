//! Files that a statement reads as tables.

use datafusion::execution::session_state::SessionState;
use futures::FutureExt;
use inshore_lake::catalog::{Reference, StatementCatalogs};
use inshore_lake::files::FilesTable;

use super::Session;
use super::resolve::{exists, reference_of};
use crate::names::Mention;
use crate::{Error, Result, files};

impl Session {
    /// Opens the files among a statement's references, as tables of their names.
    pub(super) async fn open_files(
        &self,
        references: &[Reference],
        mentions: &[Mention],
        state: &SessionState,
        catalogs: &StatementCatalogs,
    ) -> Result<()> {
        for Reference { name, .. } in references {
            let mention = mentions
                .iter()
                .find(|mention| self.resolved(state, reference_of(&mention.parts)) == *name);
            let Some(mention) = mention else {
                continue;
            };
            let request = match &mention.file {
                Some(request) => Some(request.clone()),
                None if mention.version.is_some() || exists(catalogs, name) => None,
                None => files::of_missing(&mention.parts),
            };
            let Some(request) = request else {
                continue;
            };
            // Boxed, so that its type does not depend on the lifetimes here.
            let opened = FilesTable::open(&self.node.files, state, &request).boxed();
            let opened = opened.await;
            let table = opened.map_err(|error| match (error, mention.position) {
                (inshore_lake::Error::NotFound(why), Some(at)) => {
                    Error::NotFound(format!("{why} at {at}"))
                }
                (error, _) => error.into(),
            })?;
            catalogs.register(&name.catalog, &name.namespace, &name.table, table);
        }
        Ok(())
    }
}
