//! From a place to its files: a file, a folder, or a pattern.

use futures::TryStreamExt;
use glob::{MatchOptions, Pattern};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt};

use std::sync::Arc;

use super::access::{FileAccess, Place};
use crate::store::Stores;
use crate::{Error, Result};

/// Most files that one pattern or folder may stand for.
const FILES_MAX: usize = 100_000;

/// Folders whose listings one pattern may need.
const FOLDERS_MAX: usize = 100_000;

/// How `*`, `?`, `[…]` and `**` match: within one level, and no hidden files.
const MATCHING: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

/// A file that was found.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub object: ObjectMeta,
    /// The folders between the part of the place that is no pattern, and the file.
    pub folders: Vec<String>,
}

/// The files of a place in the lakes.
///
/// # Errors
/// As [`FileAccess`] and [`expand`].
pub(crate) async fn expand_place(stores: &Arc<Stores>, text: &str) -> Result<(Place, Vec<Found>)> {
    let place = FileAccess::new(Arc::clone(stores), None)?.place(text)?;
    let found = expand(&place).await?;
    Ok((place, found))
}

/// The files of a place, sorted. Hidden ones, whose names begin with `.` or `_`, are left out of
/// folders.
///
/// # Errors
/// [`Error::NotFound`] when there is none; [`Error::OutsideLakes`] when a symbolic link leads out of
/// the lakes; [`Error::Refused`] when there are too many.
pub(super) async fn expand(place: &Place) -> Result<Vec<Found>> {
    let parts: Vec<String> = place
        .path
        .parts()
        .map(|part| part.as_ref().to_owned())
        .collect();
    let pattern = parts.iter().position(|part| is_pattern(part));
    let before: Vec<&str> = parts.iter().map(String::as_str).collect();
    let before = before
        .get(..pattern.unwrap_or(parts.len()))
        .unwrap_or_default();
    let base = child(&Path::default(), &before.join("/"))?;
    let objects = match pattern {
        None => file_or_folder(place).await?,
        Some(at) => matching(place, &base, parts.get(at..).unwrap_or_default()).await?,
    };
    let mut objects: Vec<ObjectMeta> = objects
        .into_iter()
        // Marks of folders in object stores, and of jobs that have ended.
        .filter(|object| object.size > 0 || object.location == place.path)
        .collect();
    if objects.is_empty() {
        return Err(Error::NotFound(format!("no file found at {}", place.text)));
    }
    objects.sort_by(|a, b| a.location.cmp(&b.location));
    let paths = objects.iter().map(|object| object.location.clone());
    place.check_links(paths.collect()).await?;
    Ok(objects
        .into_iter()
        .map(|object| {
            let mut folders: Vec<String> = below(&base, &object.location);
            folders.pop();
            Found { object, folders }
        })
        .collect())
}

fn is_pattern(part: &str) -> bool {
    part.contains(['*', '?', '['])
}

fn is_hidden(name: &str) -> bool {
    name.starts_with(['.', '_'])
}

/// A folder in a folder, as it is: `join` would encode its name.
fn child(folder: &Path, name: &str) -> Result<Path> {
    Path::parse(format!("{folder}/{name}")).map_err(|error| Error::Internal(error.to_string()))
}

/// The segments of `path` below `base`.
fn below(base: &Path, path: &Path) -> Vec<String> {
    let parts = path.prefix_match(base).into_iter().flatten();
    parts.map(|part| part.as_ref().to_owned()).collect()
}

async fn file_or_folder(place: &Place) -> Result<Vec<ObjectMeta>> {
    if !place.text.ends_with('/') {
        match place.store.head(&place.path).await {
            Ok(object) => return Ok(vec![object]),
            Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(place.failed(error)),
        }
    }
    let mut found = Vec::new();
    collect(place, &place.path, &mut found, |segments| {
        !segments.iter().any(|segment| is_hidden(segment))
    })
    .await?;
    Ok(found)
}

/// Adds the files under a folder whose segments below it are `wanted`.
async fn collect(
    place: &Place,
    folder: &Path,
    found: &mut Vec<ObjectMeta>,
    wanted: impl Fn(&[String]) -> bool,
) -> Result<()> {
    let mut listing = place.store.list(Some(folder));
    while let Some(object) = listing.try_next().await.map_err(|e| place.failed(e))? {
        if wanted(&below(folder, &object.location)) {
            found.push(object);
            check_count(place, found.len(), FILES_MAX)?;
        }
    }
    Ok(())
}

fn check_count(place: &Place, count: usize, most: usize) -> Result<()> {
    match count > most {
        true => Err(Error::Refused(format!(
            "{} stands for more than {most} files or folders; name fewer",
            place.text
        ))),
        false => Ok(()),
    }
}

/// Goes down level by level, so that only folders that match are listed.
async fn matching(place: &Place, base: &Path, parts: &[String]) -> Result<Vec<ObjectMeta>> {
    let wrong = |error: glob::PatternError| {
        Error::Refused(format!(
            "{}: the pattern is wrong: {}",
            place.text, error.msg
        ))
    };
    let mut found = Vec::new();
    let mut folders = vec![base.clone()];
    for (at, part) in parts.iter().enumerate() {
        let is_last = at + 1 == parts.len();
        if part == "**" {
            let rest = parts.get(at..).unwrap_or_default().join("/");
            let pattern = Pattern::new(&rest).map_err(wrong)?;
            for folder in &folders {
                collect(place, folder, &mut found, |segments| {
                    pattern.matches_with(&segments.join("/"), MATCHING)
                })
                .await?;
            }
            return Ok(found);
        }
        let pattern = Pattern::new(part).map_err(wrong)?;
        let matches = |path: &Path| {
            let name = path.filename().unwrap_or_default();
            pattern.matches_with(name, MATCHING)
        };
        let mut next = Vec::new();
        for folder in &folders {
            if !is_last && !is_pattern(part) {
                next.push(child(folder, part)?);
                continue;
            }
            let listed = place.store.list_with_delimiter(Some(folder)).await;
            let listed = listed.map_err(|error| place.failed(error))?;
            match is_last {
                true => found.extend(listed.objects.into_iter().filter(|o| matches(&o.location))),
                false => next.extend(listed.common_prefixes.into_iter().filter(|p| matches(p))),
            }
            check_count(place, found.len(), FILES_MAX)?;
            check_count(place, next.len(), FOLDERS_MAX)?;
        }
        folders = next;
    }
    Ok(found)
}
