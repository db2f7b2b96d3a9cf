//! Opening a table by where it lies, without a catalog.
//!
//! A metadata file is opened as it is. In a table's folder the newest metadata is found as Hadoop
//! tables do (Iceberg specification, "File System Tables"): `metadata/version-hint.text` names a
//! version, later versions may already be there; without a hint the highest version counts.

use std::sync::Arc;

use iceberg::table::Table;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use super::metadata;
use crate::store::{LakeStorageFactory, Stores};
use crate::{Error, Result, TableName};

/// Files that name the current version; the second name is in use too.
const HINT_FILES: [&str; 2] = ["version-hint.text", "version-hint.txt"];

/// Endings of metadata files.
const METADATA_ENDINGS: [&str; 3] = [".gz.metadata.json", ".metadata.json.gz", ".metadata.json"];

/// A metadata file of a table's folder.
struct Candidate {
    /// The file's name without its ending: `v3`, `00003-uuid`.
    stem: String,
    version: u64,
    /// Named `vN`, as Hadoop tables do, where versions follow each other.
    plain: bool,
    file: ObjectMeta,
}

/// Opens the table at `location`: a metadata file, or a table's folder, or that folder's
/// `metadata`. `name` is what the table is called from now on.
///
/// # Errors
/// [`Error::NotFound`] when the folder holds no metadata, [`Error::OutsideLakes`],
/// [`Error::Store`], [`Error::Corrupt`] or [`Error::Unsupported`] as for [`super::Catalogs::load`].
pub async fn open_location(
    stores: &Arc<Stores>,
    location: &str,
    name: &TableName,
) -> Result<Table> {
    let location = match is_metadata_file(location) {
        true => location.to_owned(),
        false => newest(stores, location.trim_end_matches('/')).await?,
    };
    let (parsed, _) = metadata::read(stores, &location).await?;
    let file_io = LakeStorageFactory::file_io(Arc::clone(stores));
    metadata::table(name.to_ident()?, parsed, Some(&location), &file_io)
}

fn is_metadata_file(location: &str) -> bool {
    [".json", ".json.gz"]
        .iter()
        .any(|end| location.ends_with(end))
}

/// The newest metadata file below a table's folder.
async fn newest(stores: &Stores, folder: &str) -> Result<String> {
    let folders = match folder.ends_with("/metadata") {
        // Or a table that is called so.
        true => vec![folder.to_owned(), format!("{folder}/metadata")],
        false => vec![format!("{folder}/metadata")],
    };
    for folder in &folders {
        let (store, prefix, _) = stores.resolve(folder)?;
        let listed = store.list_with_delimiter(Some(&prefix)).await;
        let files = match listed {
            Ok(listed) => listed.objects,
            Err(object_store::Error::NotFound { .. }) => continue,
            Err(error) => return Err(Error::store(folder, error)),
        };
        let hint = read_hint(store.as_ref(), &prefix, &files).await;
        let candidates = files.into_iter().filter_map(candidate).collect();
        if let Some(newest) = choose(candidates, hint.as_deref()) {
            let name = newest.file.location.filename().unwrap_or_default();
            return Ok(format!("{folder}/{name}"));
        }
    }
    Err(Error::NotFound(format!(
        "no Iceberg table at {folder}: there is no metadata file (v<N>.metadata.json or \
         <N>-<uuid>.metadata.json) in {}",
        folders.join(" or ")
    )))
}

/// What the hint file says, if there is one that can be read and is not empty.
async fn read_hint(store: &dyn ObjectStore, prefix: &Path, files: &[ObjectMeta]) -> Option<String> {
    for name in HINT_FILES {
        let Some(file) = files
            .iter()
            .find(|file| file.location.filename() == Some(name))
        else {
            continue;
        };
        let path = prefix.clone().join(name);
        // Only a hint: it may be away or broken, the listing has the answer too.
        let read = async { store.get_range(&path, 0..file.size.min(256)).await };
        let Ok(content) = read.await else { continue };
        let hint = String::from_utf8_lossy(&content).trim().to_owned();
        if !hint.is_empty() {
            return Some(hint);
        }
    }
    None
}

fn candidate(file: ObjectMeta) -> Option<Candidate> {
    let name = file.location.filename()?;
    let ending = METADATA_ENDINGS
        .iter()
        .find(|ending| name.ends_with(**ending))?;
    let stem = name.strip_suffix(ending)?.to_owned();
    let (digits, plain) = match stem.strip_prefix('v') {
        Some(digits) => (digits, true),
        None => (stem.split_once('-')?.0, false),
    };
    let version = digits.parse().ok()?;
    Some(Candidate {
        stem,
        version,
        plain,
        file,
    })
}

/// The candidate a hint leads to, else the highest version; of equal ones the youngest file.
fn choose(mut candidates: Vec<Candidate>, hint: Option<&str>) -> Option<Candidate> {
    candidates.sort_by_key(|c| (c.version, c.file.last_modified));
    let hinted = hint.and_then(|hint| {
        let same = |c: &Candidate| c.stem == hint || (c.plain && c.version.to_string() == hint);
        candidates.iter().rposition(same)
    });
    let Some(mut chosen) = hinted else {
        return candidates.pop();
    };
    // A writer may have died between writing the next version and the hint: it is committed.
    while candidates.get(chosen).is_some_and(|c| c.plain) {
        let next = candidates[chosen].version.saturating_add(1);
        let later = |c: &Candidate| c.plain && c.version == next;
        match candidates.iter().rposition(later) {
            Some(later) if later != chosen => chosen = later,
            _ => break,
        }
    }
    Some(candidates.swap_remove(chosen))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn chosen(names: &[&str], hint: Option<&str>) -> Option<String> {
        let file = |name: &&str| ObjectMeta {
            location: Path::parse(format!("t/metadata/{name}")).unwrap(),
            last_modified: chrono::DateTime::UNIX_EPOCH,
            size: 1,
            e_tag: None,
            version: None,
        };
        let candidates = names.iter().map(file).filter_map(candidate).collect();
        let found = choose(candidates, hint)?;
        found.file.location.filename().map(str::to_owned)
    }

    #[test]
    fn a_hint_leads_and_later_versions_are_committed_too() {
        let names = [
            "v1.metadata.json",
            "v2.metadata.json",
            "v3.gz.metadata.json",
            "v9.metadata.json",
        ];
        assert_eq!(chosen(&names, Some("1")).unwrap(), "v3.gz.metadata.json");
        assert_eq!(chosen(&names, Some("9")).unwrap(), "v9.metadata.json");
        // A hint that leads nowhere does not hide the table.
        assert_eq!(chosen(&names, Some("77")).unwrap(), "v9.metadata.json");
        assert_eq!(
            chosen(&names, Some("nonsense")).unwrap(),
            "v9.metadata.json"
        );
    }

    #[test]
    fn without_a_hint_the_highest_version_counts() {
        let names = [
            "v2.metadata.json",
            "v10.metadata.json.gz",
            "version-hint.text",
            "x.avro",
        ];
        assert_eq!(chosen(&names, None).unwrap(), "v10.metadata.json.gz");
        let names = [
            "00002-b.metadata.json",
            "00010-a.gz.metadata.json",
            "notes.metadata.json",
        ];
        assert_eq!(chosen(&names, None).unwrap(), "00010-a.gz.metadata.json");
        assert_eq!(
            chosen(&names, Some("00002-b")).unwrap(),
            "00002-b.metadata.json"
        );
        assert_eq!(chosen(&["snap-1.avro"], None), None);
    }
}
