//! Which files a snapshot takes out of its table.

use std::collections::HashSet;

use iceberg::spec::{
    DataContentType, DataFile, Literal, ManifestEntry, ManifestFile, PrimitiveLiteral, Struct,
};

use crate::{Error, Result};

/// A choice of files.
#[derive(Debug)]
pub(super) enum Removal {
    /// None.
    Nothing,
    /// All data and delete files.
    All,
    /// The data files of these partitions, with the position deletes that hold for nothing else.
    Partitions {
        spec_id: i32,
        /// Their values as [`widened`].
        partitions: HashSet<Struct>,
    },
}

/// The partition values of a file. Manifests have them in the types of their day: an `int` that became
/// a `long` since is the same partition.
fn widened(file: &DataFile) -> Struct {
    use PrimitiveLiteral as L;
    let values = file.partition().iter().map(|value| match value {
        Some(Literal::Primitive(L::Int(value))) => {
            Some(Literal::Primitive(L::Long(i64::from(*value))))
        }
        Some(Literal::Primitive(L::Float(value))) => {
            Some(Literal::Primitive(L::Double(f64::from(value.0).into())))
        }
        other => other.cloned(),
    });
    values.collect()
}

impl Removal {
    /// The partitions of a spec that some files lie in.
    pub fn partitions(spec_id: i32, files: &[DataFile]) -> Self {
        Self::Partitions {
            spec_id,
            partitions: files.iter().map(widened).collect(),
        }
    }

    /// Whether a manifest of this partition spec may have files to be removed.
    pub fn may_touch(&self, manifest: &ManifestFile) -> bool {
        match self {
            Self::Nothing => false,
            Self::All => true,
            Self::Partitions {
                spec_id,
                partitions,
            } => !partitions.is_empty() && manifest.partition_spec_id == *spec_id,
        }
    }

    /// Whether a file lies in what is removed. Equality deletes may hold for files that stay, so
    /// they go only with everything.
    pub fn takes(&self, spec_id: i32, entry: &ManifestEntry) -> bool {
        let is_equality = entry.content_type() == DataContentType::EqualityDeletes;
        matches!(self, Self::All) || (!is_equality && self.covers(spec_id, entry))
    }

    /// Whether a change of this file is a change of what is removed.
    pub fn covers(&self, spec_id: i32, entry: &ManifestEntry) -> bool {
        match self {
            Self::Nothing => false,
            Self::All => true,
            Self::Partitions {
                spec_id: own,
                partitions,
            } => match spec_id == *own {
                true => partitions.contains(&widened(entry.data_file())),
                // Equality deletes of an unpartitioned spec hold for every partition.
                false => entry.content_type() == DataContentType::EqualityDeletes,
            },
        }
    }

    /// # Errors
    /// [`Error::Refused`] for a table with files of another partitioning: such a file may hold rows
    /// of the partitions, and others too.
    pub fn check(&self, table: &str, manifests: &[ManifestFile]) -> Result<()> {
        let Self::Partitions {
            spec_id,
            partitions,
        } = self
        else {
            return Ok(());
        };
        let other = manifests.iter().any(|manifest| {
            manifest.content == iceberg::spec::ManifestContentType::Data
                && manifest.partition_spec_id != *spec_id
                && (manifest.has_added_files() || manifest.has_existing_files())
        });
        match other && !partitions.is_empty() {
            true => Err(Error::Refused(format!(
                "table {table} has files of an older partitioning, whose rows cannot be replaced \
                 by partition; rewrite those files first, or truncate the table and insert"
            ))),
            false => Ok(()),
        }
    }
}
