//! The demo lake: a folder with an Iceberg catalog on SQLite, a warehouse, and a marker that is
//! written last, so that an interrupted generation is told from a finished one.
//!
//! ```text
//! DIR/inshore-demo.toml        the marker: scale and version
//! DIR/inshore-demo.unfinished  there while the lake is being made
//! DIR/generate/                so are these files, which the tables are made of
//! DIR/catalog.db               the catalog
//! DIR/warehouse/               the tables
//! ```

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::failure::say;

/// Counts up when the tables' shape changes; a lake of another version is made anew.
const VERSION: u32 = 1;

/// The catalog's name, in its database and in SQL.
pub const CATALOG: &str = "demo";

/// The schema of the tables.
pub const NAMESPACE: &str = "tpch";

/// The folder of the files that the tables are made of.
const GENERATED: &str = "generate";

const MARKER: &str = "inshore-demo.toml";
const UNFINISHED: &str = "inshore-demo.unfinished";
const LOCK: &str = "inshore-demo.lock";

/// What the marker tells.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Marker {
    version: u32,
    scale: f64,
}

/// A demo's folder.
#[derive(Clone, Debug)]
pub struct Lake {
    dir: PathBuf,
}

/// A lake that is being made. Dropping this removes the generated files, and leaves the lake
/// unfinished unless [`Making::finish`] was called before.
#[derive(Debug)]
pub struct Making {
    lake: Lake,
    scale: f64,
    _lock: File,
}

impl Lake {
    /// Opens the lake in a folder. Unless it is finished, what there is of it is removed, and it
    /// has to be made.
    ///
    /// # Errors
    /// When the folder holds something else, or cannot be written.
    pub fn open(dir: &Path, scale: f64) -> anyhow::Result<(Self, Option<Making>)> {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let lake = Self {
            dir: dir.canonicalize()?,
        };
        let lock = lake.lock()?;
        match lake.marker()? {
            Some(found)
                if found
                    == (Marker {
                        version: VERSION,
                        scale,
                    }) =>
            {
                say(&format!("using the lake in {}", lake.dir.display()));
                return Ok((lake, None));
            }
            Some(found) if found.version == VERSION => bail!(
                "{} holds a demo lake of scale {}, not {scale}; choose another --dir",
                lake.dir.display(),
                found.scale
            ),
            Some(_) => say("the lake is of an older version; making it anew"),
            None if lake.path(UNFINISHED).exists() => {
                say("the lake was not finished; making it anew");
            }
            None if !lake.is_empty()? => bail!(
                "{} is not empty and no demo lake; choose another --dir",
                lake.dir.display()
            ),
            None => {}
        }
        lake.check_path()?;
        lake.clean()?;
        say(&format!(
            "making a TPC-H lake of scale {scale} in {}",
            lake.dir.display()
        ));
        let making = Making {
            lake: lake.clone(),
            scale,
            _lock: lock,
        };
        Ok((lake, Some(making)))
    }

    /// The lake's folder, absolute.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The folder as a URL.
    ///
    /// # Errors
    /// When its path cannot be written as one.
    pub fn root(&self) -> anyhow::Result<String> {
        file_url(&self.dir)
    }

    /// The warehouse as a URL.
    ///
    /// # Errors
    /// When its path cannot be written as one.
    pub fn warehouse(&self) -> anyhow::Result<String> {
        file_url(&self.path("warehouse"))
    }

    /// The catalog database as a URI.
    pub fn catalog_uri(&self) -> String {
        format!("sqlite://{}", self.path("catalog.db").display())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Holds off a second `inshore demo` on the same folder.
    fn lock(&self) -> anyhow::Result<File> {
        let file = File::create(self.path(LOCK))
            .with_context(|| format!("cannot write into {}", self.dir.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(fs::TryLockError::WouldBlock) => {
                bail!(
                    "another `inshore demo` is making the lake in {}",
                    self.dir.display()
                )
            }
            Err(fs::TryLockError::Error(error)) => Err(error).context("cannot lock the lake"),
        }
    }

    fn marker(&self) -> anyhow::Result<Option<Marker>> {
        match fs::read_to_string(self.path(MARKER)) {
            Ok(text) => toml::from_str(&text)
                .map(Some)
                .with_context(|| format!("{} cannot be read", self.path(MARKER).display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn is_empty(&self) -> anyhow::Result<bool> {
        for entry in fs::read_dir(&self.dir)? {
            if entry?.file_name() != LOCK {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Refuses paths that a pattern of files would misread, or that are no URL.
    fn check_path(&self) -> anyhow::Result<()> {
        match self.dir.to_string_lossy().contains(['*', '?', '[']) {
            true => Err(strange(&self.dir)),
            false => file_url(&self.dir).map(drop),
        }
    }

    /// Removes what an earlier attempt left. Only called on folders that are ours.
    fn clean(&self) -> anyhow::Result<()> {
        fs::write(self.path(UNFINISHED), "")?;
        for name in [
            MARKER,
            "catalog.db",
            "catalog.db-journal",
            "catalog.db-wal",
            "catalog.db-shm",
        ] {
            gone(fs::remove_file(self.path(name)))?;
        }
        gone(fs::remove_dir_all(self.path("warehouse")))?;
        gone(fs::remove_dir_all(self.path(GENERATED)))?;
        Ok(fs::create_dir_all(self.path("warehouse"))?)
    }
}

impl Making {
    /// The TPC-H scale factor.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// The folder of the generated files.
    pub fn generated(&self) -> PathBuf {
        self.lake.path(GENERATED)
    }

    /// Removes the generated files and marks the lake as finished.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn finish(self) -> anyhow::Result<()> {
        gone(fs::remove_dir_all(self.generated()))?;
        let marker = toml::to_string(&Marker {
            version: VERSION,
            scale: self.scale,
        })?;
        fs::write(self.lake.path(MARKER), marker)?;
        Ok(fs::remove_file(self.lake.path(UNFINISHED))?)
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        // Whoever makes the lake anew removes what cannot be removed now.
        let _ = fs::remove_dir_all(self.generated());
    }
}

/// What is not there need not be removed.
fn gone(removed: std::io::Result<()>) -> std::io::Result<()> {
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn file_url(path: &Path) -> anyhow::Result<String> {
    match Url::from_file_path(path) {
        // The Iceberg crates take the path behind `file://` as it is, without decoding it.
        Ok(url) if url.path() == path.to_string_lossy() => Ok(url.to_string()),
        _ => Err(strange(path)),
    }
}

fn strange(path: &Path) -> anyhow::Error {
    anyhow!(
        "the path {} has characters a lake's path cannot have; choose another --dir",
        path.display()
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_unfinished_lake_is_made_anew_and_other_folders_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        fs::create_dir_all(dir.join("warehouse/tpch")).unwrap();
        fs::write(dir.join("warehouse/tpch/rest"), "x").unwrap();
        let refused = Lake::open(dir, 0.001).unwrap_err();
        assert!(refused.to_string().contains("not empty"), "{refused}");
        fs::write(dir.join(UNFINISHED), "").unwrap();
        fs::create_dir_all(dir.join("generate/part")).unwrap();
        fs::write(dir.join("catalog.db"), "x").unwrap();
        let (lake, making) = Lake::open(dir, 0.001).unwrap();
        let making = making.unwrap();
        for rest in ["warehouse/tpch", "generate", "catalog.db"] {
            assert!(!lake.path(rest).exists(), "{rest}");
        }
        let busy = Lake::open(dir, 0.001).unwrap_err();
        assert!(
            busy.to_string().contains("another `inshore demo`"),
            "{busy}"
        );
        // Given up half-way.
        fs::create_dir_all(making.generated().join("part")).unwrap();
        drop(making);
        assert!(!dir.join("generate").exists());
        let (_, making) = Lake::open(dir, 0.001).unwrap();
        let making = making.unwrap();
        fs::create_dir_all(making.generated()).unwrap();
        making.finish().unwrap();
        assert!(!dir.join("generate").exists());
        assert!(!dir.join(UNFINISHED).exists());
        assert!(Lake::open(dir, 0.001).unwrap().1.is_none());
        let other = Lake::open(dir, 0.002).unwrap_err();
        assert!(other.to_string().contains("scale 0.001"), "{other}");
    }

    #[test]
    fn a_path_that_is_no_plain_location_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a b", "a[1]", "a*"] {
            let refused = Lake::open(&folder.path().join(name), 0.001).unwrap_err();
            assert!(refused.to_string().contains("characters"), "{refused}");
        }
    }
}
