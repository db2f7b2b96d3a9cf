//! Writing table metadata files.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use iceberg::io::FileIO;
use iceberg::spec::TableMetadata;
use uuid::Uuid;

use crate::{Error, Result};

/// Property that says how metadata files are compressed: `none` or `gzip`.
const COMPRESSION: &str = "write.metadata.compression-codec";

/// Property with the folder of metadata files, where it is not the table's own `metadata`.
const FOLDER: &str = "write.metadata.path";

/// The folder of a table's metadata files, without a slash at its end.
pub(crate) fn metadata_folder(metadata: &TableMetadata) -> String {
    let own = || format!("{}/metadata", metadata.location().trim_end_matches('/'));
    let given = metadata.properties().get(FOLDER);
    given.map_or_else(own, |path| path.trim_end_matches('/').to_owned())
}

/// Writes a metadata file; `number` is its place in the table's history.
///
/// # Errors
/// [`Error::Store`], [`Error::OutsideLakes`] or [`Error::Unavailable`] when it cannot be written.
pub(super) async fn write(
    file_io: &FileIO,
    metadata: &TableMetadata,
    number: u64,
) -> Result<String> {
    let compressed = metadata
        .properties()
        .get(COMPRESSION)
        .is_some_and(|codec| codec.eq_ignore_ascii_case("gzip"));
    let folder = metadata_folder(metadata);
    let ending = if compressed { ".gz" } else { "" };
    let location = format!(
        "{folder}/{number:05}-{}{ending}.metadata.json",
        Uuid::new_v4()
    );
    let failed = |why: String| Error::Unavailable {
        service: location.clone(),
        why,
    };
    let mut text = serde_json::to_vec(metadata).map_err(|error| failed(error.to_string()))?;
    if compressed {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        text = encoder
            .write_all(&text)
            .and_then(|()| encoder.finish())
            .map_err(|error| failed(error.to_string()))?;
    }
    let written = async {
        let output = file_io.new_output(&location)?;
        output.write(Bytes::from(text)).await
    };
    written
        .await
        .map_err(|error| match Error::in_chain(&error) {
            Some(ours) => ours,
            None => failed(error.to_string()),
        })?;
    Ok(location)
}

/// The number that a metadata file has in its name: `00003-…`, or `v3` as Hadoop tables have it.
pub(super) fn number_of(location: &str) -> u64 {
    let name = location.rsplit('/').next().unwrap_or(location);
    let name = name.strip_prefix('v').unwrap_or(name);
    let digits = name.bytes().take_while(u8::is_ascii_digit).count();
    name[..digits].parse().unwrap_or(0)
}

/// Removes a file that nothing refers to. What stays because that fails is found by whoever looks
/// for unreferenced files.
pub(super) async fn remove(file_io: &FileIO, location: &str) {
    if let Err(error) = file_io.delete(location).await {
        tracing::warn!(location, %error, "a metadata file that is not needed could not be removed");
    }
}

/// The refusal to drop a namespace.
pub(super) fn not_empty(namespace: &str) -> Error {
    Error::Conflict(format!(
        "schema {namespace} is not empty: drop its tables and schemas first"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_files_are_numbered_on() {
        for (location, number) in [
            ("file:///t/metadata/00000-a.metadata.json", 0),
            ("s3://b/t/metadata/00041-2f.gz.metadata.json", 41),
            ("file:///t/metadata/v3.metadata.json", 3),
            ("file:///t/metadata/whatever.json", 0),
            ("file:///t/metadata/", 0),
        ] {
            assert_eq!(number_of(location), number, "{location}");
        }
    }
}
