//! Locations as Iceberg writes them, taken apart without changing a character.
//!
//! Iceberg's locations look like URLs but are not: `%3A`, `+` and spaces stand for themselves
//! (`Location` strings are passed to the file system as they are). Nothing here decodes or encodes.

use std::fmt;

use datafusion::execution::object_store::ObjectStoreUrl;
use object_store::path::Path;

use crate::{Error, Result};

/// The protocol of a store; the spellings of one protocol are one scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scheme {
    File,
    S3,
    Azure,
    Gcs,
    Memory,
}

/// What one object store serves: a bucket, a container, or the local file system.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct StoreKey {
    pub scheme: Scheme,
    /// Bucket; `container@host` for Azure; empty for files.
    pub authority: String,
}

impl StoreKey {
    /// The key under which DataFusion's registry knows the store. The registry ignores what stands
    /// before `@`, so an Azure container becomes part of the host name.
    pub fn url(&self) -> Result<ObjectStoreUrl> {
        let text = match (self.scheme, self.authority.split_once('@')) {
            (Scheme::Azure, Some((container, host))) => format!("abfss://{container}.{host}"),
            _ => self.to_string(),
        };
        ObjectStoreUrl::parse(&text)
            .map_err(|error| Error::Config(format!("{self} is not a store's address: {error}")))
    }
}

impl fmt::Display for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::File => "file",
            Scheme::S3 => "s3",
            Scheme::Azure => "abfss",
            Scheme::Gcs => "gs",
            Scheme::Memory => "memory",
        };
        write!(f, "{scheme}://{}", self.authority)
    }
}

/// A location taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Location {
    pub key: StoreKey,
    pub path: Path,
}

/// Why a location has no place in any store.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// A scheme that is not served, a relative path, or a path that climbs above `/`.
    Foreign,
    /// Characters or segments that cannot be addressed.
    Unaddressable(String),
}

impl Location {
    /// Takes `file:///p`, `file:/p`, `/p`, `s3://bucket/key` and the like apart.
    pub fn parse(location: &str) -> Result<Self, Problem> {
        if location.starts_with('/') {
            return Self::file(location);
        }
        if let Some((scheme, rest)) = location.split_once("://") {
            let scheme = match scheme.to_ascii_lowercase().as_str() {
                "file" => Scheme::File,
                "s3" | "s3a" | "s3n" => Scheme::S3,
                "abfss" | "abfs" | "wasbs" | "wasb" => Scheme::Azure,
                "gs" | "gcs" => Scheme::Gcs,
                "memory" => Scheme::Memory,
                _ => return Err(Problem::Foreign),
            };
            let (authority, path) = match rest.find('/') {
                Some(slash) => rest.split_at(slash),
                None => (rest, ""),
            };
            return match (scheme, authority) {
                (Scheme::File, "" | "localhost") => Self::file(path),
                (Scheme::File, _) => Err(Problem::Foreign),
                (Scheme::Memory, _) => Self::object(scheme, authority, path),
                (_, "") => Err(Problem::Foreign),
                _ => Self::object(scheme, authority, path),
            };
        }
        match location.strip_prefix("file:") {
            Some(path) if path.starts_with('/') => Self::file(path),
            _ => Err(Problem::Foreign),
        }
    }

    /// A path of the local file system, with `//`, `.` and `..` resolved before anything is
    /// checked or opened, so that both see the same path.
    fn file(path: &str) -> Result<Self, Problem> {
        let mut segments: Vec<&str> = Vec::new();
        for segment in path.split('/') {
            match segment {
                "" | "." => {}
                ".." => {
                    segments.pop().ok_or(Problem::Foreign)?;
                }
                name => segments.push(name),
            }
        }
        Self::build(Scheme::File, "", &segments.join("/"))
    }

    /// An object's key, literally. `object_store` has no way to name a key with an empty segment.
    fn object(scheme: Scheme, authority: &str, path: &str) -> Result<Self, Problem> {
        let key = path.strip_prefix('/').unwrap_or(path);
        Self::build(scheme, authority, key.strip_suffix('/').unwrap_or(key))
    }

    fn build(scheme: Scheme, authority: &str, path: &str) -> Result<Self, Problem> {
        let path = Path::parse(path).map_err(|error| Problem::Unaddressable(error.to_string()))?;
        Ok(Self {
            key: StoreKey {
                scheme,
                authority: authority.to_owned(),
            },
            path,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn split(location: &str) -> (String, String) {
        let location = Location::parse(location).unwrap();
        (location.key.to_string(), location.path.to_string())
    }

    fn pair(key: &str, path: &str) -> (String, String) {
        (key.to_owned(), path.to_owned())
    }

    #[test]
    fn every_spelling_of_a_store_is_one_store() {
        for location in [
            "/a/b",
            "file:/a/b",
            "file:///a/b",
            "file://localhost/a//./x/../b/",
        ] {
            assert_eq!(split(location), pair("file://", "a/b"), "{location}");
        }
        for location in ["s3://bucket/k", "s3a://bucket/k", "S3N://bucket/k/"] {
            assert_eq!(split(location), pair("s3://bucket", "k"), "{location}");
        }
        assert_eq!(split("gcs://b"), pair("gs://b", ""));
        assert_eq!(
            split("abfs://c@acc.dfs.core.windows.net/x/y"),
            pair("abfss://c@acc.dfs.core.windows.net", "x/y")
        );
    }

    #[test]
    fn names_are_literal() {
        let name = "a%3Ab%2Fc+d e/ü=日本/%25/#x?y=1";
        assert_eq!(split(&format!("file:///{name}")).1, name);
        assert_eq!(split(&format!("s3://bucket/{name}")).1, name);
    }

    #[test]
    fn foreign_and_climbing_locations_are_refused() {
        for location in [
            "hdfs://host/x",
            "data/x",
            "file://host/x",
            "s3:///x",
            "file:///../x",
            "",
        ] {
            assert_eq!(
                Location::parse(location),
                Err(Problem::Foreign),
                "{location}"
            );
        }
        for location in ["s3://b/x/../y", "s3://b/x//y", "s3://b/./y", "/a\nb"] {
            let result = Location::parse(location);
            assert!(
                matches!(result, Err(Problem::Unaddressable(_))),
                "{location}"
            );
        }
    }

    #[test]
    fn registry_keys_keep_azure_containers_apart() {
        let url = |location| {
            Location::parse(location)
                .unwrap()
                .key
                .url()
                .unwrap()
                .to_string()
        };
        assert_eq!(url("/x"), "file:///");
        assert_eq!(url("s3://My_Bucket/x"), "s3://My_Bucket/");
        assert_eq!(
            url("abfss://c@acc.dfs.core.windows.net/x"),
            "abfss://c.acc.dfs.core.windows.net/"
        );
    }
}
