//! Files of the local file system that a writer began and did not finish.
//!
//! `object_store` writes a file under its name with `#1` behind, or another number, and renames it when
//! it is complete. What a writer leaves that was killed in between, it neither lists nor deletes, so
//! that this is done here. Object stores show nothing of an upload that was not completed; a rule of
//! the bucket ends it.

use std::fs::{self, DirEntry};
use std::io;
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use datafusion::execution::object_store::ObjectStoreUrl;
use object_store::path::Path;

use super::Stores;
use crate::{Error, Result};

/// An unfinished file.
#[derive(Debug)]
pub(crate) struct Unfinished {
    /// Where it is.
    pub path: Path,
    /// When it was last written to.
    pub last_modified: DateTime<Utc>,
}

/// Whether a file's name is that of one that is not finished.
pub(crate) fn is_unfinished(name: &str) -> bool {
    name.split_once('#').is_some_and(|(_, number)| {
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

impl Stores {
    /// The unfinished files below a folder of a store; none outside the local file system. Symbolic
    /// links are not followed.
    ///
    /// # Errors
    /// [`Error::Store`] for a folder that cannot be read.
    pub(crate) async fn unfinished(
        &self,
        url: &ObjectStoreUrl,
        folder: &Path,
    ) -> Result<Vec<Unfinished>> {
        if *url != ObjectStoreUrl::local_filesystem() {
            return Ok(vec![]);
        }
        let root = folder.to_string();
        blocking(format!("/{folder}"), move || below(&root)).await
    }

    /// Removes an unfinished file; one that is gone already is no error.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub(crate) async fn remove_unfinished(&self, path: &Path) -> Result<()> {
        let location = format!("/{path}");
        let file = location.clone();
        blocking(location, move || or_gone(fs::remove_file(file))).await
    }
}

async fn blocking<T: Send + 'static>(
    location: String,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T> {
    let failed = |error: io::Error| {
        let source = Box::new(error);
        let store = "LocalFileSystem";
        Error::store(location, object_store::Error::Generic { store, source })
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(failed),
        Err(error) => Err(Error::Internal(error.to_string())),
    }
}

fn below(root: &str) -> io::Result<Vec<Unfinished>> {
    let mut found = vec![];
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        // One that was removed meanwhile has no files.
        let Some(entries) = some_or_gone(fs::read_dir(PathBuf::from(format!("/{folder}"))))? else {
            continue;
        };
        for entry in entries {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                // No location can name it.
                continue;
            };
            let path = format!("{folder}/{name}");
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() && is_unfinished(&name) {
                found.extend(unfinished(&path, &entry)?);
            }
        }
    }
    Ok(found)
}

fn unfinished(path: &str, entry: &DirEntry) -> io::Result<Option<Unfinished>> {
    let Ok(path) = Path::parse(path) else {
        return Ok(None);
    };
    let Some(metadata) = some_or_gone(entry.metadata())? else {
        return Ok(None);
    };
    let last_modified = metadata.modified()?.into();
    Ok(Some(Unfinished {
        path,
        last_modified,
    }))
}

fn some_or_gone<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn or_gone(result: io::Result<()>) -> io::Result<()> {
    some_or_gone(result).map(|_| ())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_of_unfinished_files_end_in_a_number() {
        for name in ["a.parquet#1", "#12", "00001-x.metadata.json#3"] {
            assert!(is_unfinished(name), "{name}");
        }
        for name in ["a.parquet", "a#", "a#x", "a#1b", "a#b#1", "1"] {
            assert!(!is_unfinished(name), "{name}");
        }
    }

    #[tokio::test]
    async fn unfinished_files_are_found_and_removed_at_any_depth() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("data/p=a%2Fb");
        fs::create_dir_all(&deep).unwrap();
        for file in ["x.parquet", "x.parquet#1", "y.parquet#2"] {
            fs::write(deep.join(file), "x").unwrap();
        }
        let stores = Stores::for_local_files().unwrap();
        let location = folder.path().to_str().unwrap();
        let (_, root, url) = stores.resolve(location).unwrap();
        let mut found = stores.unfinished(&url, &root).await.unwrap();
        found.sort_by(|a, b| a.path.cmp(&b.path));
        let names: Vec<_> = found
            .iter()
            .filter_map(|file| file.path.filename())
            .collect();
        assert_eq!(names, ["x.parquet#1", "y.parquet#2"]);
        for file in &found {
            stores.remove_unfinished(&file.path).await.unwrap();
            stores.remove_unfinished(&file.path).await.unwrap();
        }
        let left: Vec<_> = fs::read_dir(&deep).unwrap().collect();
        assert_eq!(left.len(), 1);
        let none = root.clone().join("none");
        assert!(stores.unfinished(&url, &none).await.unwrap().is_empty());
    }
}
