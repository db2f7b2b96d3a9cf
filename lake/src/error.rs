//! The crate's one error type: what went wrong, as a code, and whether trying again can help.

use std::fmt;
use std::sync::Arc;

use datafusion::error::DataFusionError;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Anything that can go wrong between a table name and its rows.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting is missing or wrong. The message names the key.
    #[error("{0}")]
    Config(String),
    /// A catalog, namespace, table or file does not exist.
    #[error("{0}")]
    NotFound(String),
    /// What is to be made is there already.
    #[error("{0}")]
    Exists(String),
    /// The statement cannot be done in the state that the catalog or the table is in.
    #[error("{0}")]
    Conflict(String),
    /// A change that a catalog or a table cannot have (yet).
    #[error("{0}")]
    Refused(String),
    /// A change was sent, and its answer was lost: it may be there or not.
    #[error("it is not known whether table {table} was changed: {why}; look before you try again")]
    CommitUnknown {
        /// The table's full name.
        table: String,
        /// What went wrong.
        why: String,
    },
    /// The table uses something of the Iceberg specification that is not read yet.
    #[error("{what} of table {table} cannot be read: {why}")]
    Unsupported {
        /// The table's full name or location.
        table: String,
        /// The feature, file or column concerned.
        what: String,
        /// Why, and what to do.
        why: String,
    },
    /// A metadata, manifest or data file is broken.
    #[error("file {path} is corrupt: {why}")]
    Corrupt {
        /// Location of the file.
        path: String,
        /// What about it is wrong.
        why: String,
    },
    /// A location lies outside every configured lake.
    #[error("{location} lies outside the configured lakes ({roots})")]
    OutsideLakes {
        /// The location asked for.
        location: String,
        /// The configured roots.
        roots: String,
    },
    /// A catalog or an object store did not answer, or refused.
    #[error("{service}: {why}")]
    Unavailable {
        /// The catalog or the store.
        service: String,
        /// What it said.
        why: String,
    },
    /// A file in an object store could not be read.
    #[error("cannot read {path}: {source}")]
    Store {
        /// Location of the file.
        path: String,
        /// The store's error.
        source: Arc<object_store::Error>,
    },
    /// A file that a snapshot names is not in the store.
    #[error(
        "file {path} of snapshot {snapshot_id} of table {table} no longer exists; the snapshot may \
         have been expired, or its files removed by another writer, while the query ran: run the \
         statement again ({source})"
    )]
    Gone {
        /// The table's full name.
        table: String,
        /// The snapshot that is read.
        snapshot_id: i64,
        /// Location of the file, as the table spells it.
        path: String,
        /// The store's error.
        source: Arc<object_store::Error>,
    },
    /// A broken invariant of ours.
    #[error("internal error: {0}")]
    Internal(String),
}

/// Coarse class of an [`Error`], stable across versions and used for wire codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The owner's configuration is wrong.
    Config,
    /// Something named does not exist.
    NotFound,
    /// Something named exists already.
    Exists,
    /// The state of a catalog or a table does not allow it.
    Conflict,
    /// Not supported.
    Unsupported,
    /// Data or metadata is broken.
    Corrupt,
    /// Not allowed by configuration.
    Forbidden,
    /// A service is away for now.
    Unavailable,
    /// A defect of this program.
    Internal,
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Config => "config",
            Self::NotFound => "not_found",
            Self::Exists => "already_exists",
            Self::Conflict => "conflict",
            Self::Unsupported => "unsupported",
            Self::Corrupt => "corrupt",
            Self::Forbidden => "forbidden",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        })
    }
}

impl Error {
    /// An object store's error about the file at `path`.
    pub fn store(path: impl Into<String>, source: object_store::Error) -> Self {
        Self::Store {
            path: path.into(),
            source: Arc::new(source),
        }
    }

    /// A change of a table whose answer was lost with this error.
    pub(crate) fn commit_unknown(table: &crate::TableName, error: &Self) -> Self {
        Self::CommitUnknown {
            table: table.to_string(),
            why: error.to_string(),
        }
    }

    /// The error of reading a file of this snapshot: a file that is missing was there when the
    /// snapshot was committed, so it is said what may have become of it.
    pub(crate) fn of_snapshot(self, table: &str, snapshot_id: i64) -> Self {
        match self {
            Self::Store { path, source }
                if matches!(*source, object_store::Error::NotFound { .. }) =>
            {
                Self::Gone {
                    table: table.to_owned(),
                    snapshot_id,
                    path,
                    source,
                }
            }
            other => other,
        }
    }

    /// What iceberg-rust said about the file at `path`: our own error where its storage came from
    /// us, else a broken or unsupported file.
    pub fn from_iceberg(path: &str, error: &iceberg::Error) -> Self {
        if let Some(ours) = Self::in_chain(error) {
            return ours;
        }
        let why = innermost(error).map_or_else(
            || error.message().to_owned(),
            |source| format!("{}: {source}", error.message()),
        );
        match error.kind() {
            iceberg::ErrorKind::FeatureUnsupported => Self::Unsupported {
                table: path.to_owned(),
                what: "the metadata".to_owned(),
                why,
            },
            _ => Self::Corrupt {
                path: path.to_owned(),
                why,
            },
        }
    }

    /// What DataFusion said while the file at `path` was read: our own error where there is one.
    pub fn from_datafusion(path: &str, error: DataFusionError) -> Self {
        match Self::in_chain(&error) {
            Some(ours) => ours,
            None => Self::Corrupt {
                path: path.to_owned(),
                why: error.strip_backtrace(),
            },
        }
    }

    /// The first error of this type among the causes of `error`.
    pub fn in_chain(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        causes(error).find_map(|cause| cause.downcast_ref::<Self>().cloned())
    }

    /// The error's class.
    pub fn code(&self) -> Code {
        match self {
            Self::Config(_) => Code::Config,
            Self::NotFound(_) | Self::Gone { .. } => Code::NotFound,
            Self::Exists(_) => Code::Exists,
            Self::Conflict(_) => Code::Conflict,
            Self::Unsupported { .. } | Self::Refused(_) => Code::Unsupported,
            Self::Corrupt { .. } => Code::Corrupt,
            Self::OutsideLakes { .. } => Code::Forbidden,
            Self::Unavailable { .. } | Self::CommitUnknown { .. } => Code::Unavailable,
            Self::Store { source, .. } => match source.as_ref() {
                object_store::Error::NotFound { .. } => Code::NotFound,
                object_store::Error::PermissionDenied { .. }
                | object_store::Error::Unauthenticated { .. } => Code::Forbidden,
                _ => Code::Unavailable,
            },
            Self::Internal(_) => Code::Internal,
        }
    }

    /// Whether the same request may succeed later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        // A change that may have happened must not be made twice.
        self.code() == Code::Unavailable && !matches!(self, Self::CommitUnknown { .. })
    }
}

/// `error` and its causes, from the outside in.
fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

/// The last cause of `error`, where the text usually says most; none when it has no cause.
pub(crate) fn innermost(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    causes(error).skip(1).last().map(ToString::to_string)
}

impl From<Error> for DataFusionError {
    fn from(error: Error) -> Self {
        Self::External(Box::new(error))
    }
}
