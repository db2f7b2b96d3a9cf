//! Files of a statement that nothing refers to yet.

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::path::Path;

use super::target::WriteTarget;
use super::writer::remove;
use crate::store::Stores;

/// Writers elsewhere end a little later than the statement: who was about to finish is waited for.
const STRAGGLERS: Duration = Duration::from_secs(2);

/// Owns the files of one statement until they are committed. When it is dropped, all of them are
/// removed, whoever wrote them.
#[derive(Debug)]
pub struct StatementFiles {
    target: Arc<WriteTarget>,
    stores: Arc<Stores>,
    owned: bool,
}

impl StatementFiles {
    /// The files that are written for `target`.
    pub fn new(target: Arc<WriteTarget>, stores: Arc<Stores>) -> Self {
        Self {
            target,
            stores,
            owned: true,
        }
    }

    /// A commit begins: from now on the files may belong to the table, so that they are removed only
    /// by [`StatementFiles::remove`].
    pub fn release(&mut self) {
        self.owned = false;
    }

    /// Removes the files that are there now; those of stragglers go a little later, as when it is
    /// dropped.
    pub async fn remove(mut self) {
        clean(&self.target, &self.stores).await;
        self.owned = true;
    }
}

impl Drop for StatementFiles {
    fn drop(&mut self) {
        if !self.owned {
            return;
        }
        let (target, stores) = (Arc::clone(&self.target), Arc::clone(&self.stores));
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                clean(&target, &stores).await;
                // Those that were just about to finish.
                tokio::time::sleep(STRAGGLERS).await;
                clean(&target, &stores).await;
            });
        }
    }
}

async fn clean(target: &WriteTarget, stores: &Stores) {
    let Ok((store, folder, url)) = stores.resolve(&target.folder) else {
        return;
    };
    let prefix = target.statement.to_string();
    // Object stores list names in their order, file systems do not.
    let in_order = !target.store.as_str().starts_with("file:");
    match files(&store, &folder, &prefix, in_order).await {
        Ok(files) => {
            for path in files {
                remove(&store, &path).await;
            }
        }
        Err(error) => warn(target, &error),
    }
    // Those of a writer that was killed.
    match stores.unfinished(&url, &folder).await {
        Ok(files) => {
            let paths = files.into_iter().map(|file| file.path);
            for path in paths.filter(|path| begins_with(path, &prefix)) {
                if let Err(error) = stores.remove_unfinished(&path).await {
                    warn(target, &error);
                }
            }
        }
        Err(error) => warn(target, &error),
    }
}

fn begins_with(path: &Path, prefix: &str) -> bool {
    path.filename().is_some_and(|name| name.starts_with(prefix))
}

fn warn(target: &WriteTarget, error: &dyn std::error::Error) {
    let (table, statement) = (&target.table, target.statement);
    tracing::warn!(%table, %statement, %error, "files that are not needed were not removed");
}

/// The files of a folder whose names begin with `prefix`.
async fn files(
    store: &Arc<dyn ObjectStore>,
    folder: &Path,
    prefix: &str,
    in_order: bool,
) -> object_store::Result<Vec<Path>> {
    // A table may have many files: the listing begins at the first of the statement's, and ends
    // behind the last where it can.
    let from = folder.clone().join(prefix);
    let mut listed = store.list_with_offset(Some(folder), &from);
    let mut found = vec![];
    while let Some(file) = listed.try_next().await? {
        if begins_with(&file.location, prefix) {
            found.push(file.location);
        } else if in_order {
            break;
        }
    }
    Ok(found)
}
