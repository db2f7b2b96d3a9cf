//! Fewer, larger manifests: what Iceberg's own writers do with the small ones of many appends.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt};
use iceberg::spec::{ManifestContentType, ManifestFile, TableMetadata};

use super::manifests::{CONCURRENT_READS, Manifests, failed};
use crate::{Error, Result};

/// Table properties, and their defaults.
const ENABLED: &str = "commit.manifest-merge.enabled";
const MIN_COUNT: (&str, usize) = ("commit.manifest.min-count-to-merge", 100);
const TARGET_BYTES: (&str, u64) = ("commit.manifest.target-size-bytes", 8 << 20);

/// How a table's manifests are merged.
struct Policy {
    min_count: usize,
    target_bytes: u64,
}

impl Policy {
    /// None when they are not.
    fn of(metadata: &TableMetadata) -> Option<Self> {
        let property = |key: &str| metadata.properties().get(key);
        if property(ENABLED).is_some_and(|value| value.eq_ignore_ascii_case("false")) {
            return None;
        }
        let min_count = property(MIN_COUNT.0).and_then(|value| value.parse().ok());
        let target_bytes = property(TARGET_BYTES.0).and_then(|value| value.parse().ok());
        Some(Self {
            min_count: min_count.unwrap_or(MIN_COUNT.1),
            target_bytes: target_bytes.unwrap_or(TARGET_BYTES.1),
        })
    }
}

/// Merges data manifests, the newest of which comes first; manifests of deletes stay as they are.
pub(super) async fn merged(
    writer: &mut Manifests<'_>,
    manifests: Vec<ManifestFile>,
) -> Result<Vec<ManifestFile>> {
    let Some(policy) = Policy::of(writer.table.metadata()) else {
        return Ok(manifests);
    };
    let (data, deletes): (Vec<_>, Vec<_>) = manifests
        .into_iter()
        .partition(|manifest| manifest.content == ManifestContentType::Data);
    let newest = data.first().map(|manifest| manifest.manifest_path.clone());
    let mut by_spec = BTreeMap::<_, Vec<_>>::new();
    for manifest in data {
        let group = by_spec.entry(Reverse(manifest.partition_spec_id));
        group.or_default().push(manifest);
    }
    let mut result = vec![];
    for bin in by_spec
        .into_values()
        .flat_map(|group| packed(group, policy.target_bytes))
    {
        let has_newest = bin
            .iter()
            .any(|m| Some(&m.manifest_path) == newest.as_ref());
        match bin.len() < 2 || (has_newest && bin.len() < policy.min_count) {
            true => result.extend(bin),
            false => result.extend(merged_bin(writer, bin).await?),
        }
    }
    result.extend(deletes);
    Ok(result)
}

/// Bins of neighbours up to `target` bytes, filled from the oldest on, so that the one with the
/// newest has room left and the others need not be merged again.
fn packed(group: Vec<ManifestFile>, target: u64) -> Vec<Vec<ManifestFile>> {
    let mut bins = vec![];
    let (mut bin, mut bytes) = (vec![], 0_u64);
    for manifest in group.into_iter().rev() {
        let length = u64::try_from(manifest.manifest_length).unwrap_or(0);
        if !bin.is_empty() && bytes.saturating_add(length) > target {
            bins.push(std::mem::take(&mut bin));
            bytes = 0;
        }
        bytes = bytes.saturating_add(length);
        bin.push(manifest);
    }
    bins.push(bin);
    for bin in &mut bins {
        bin.reverse();
    }
    bins.reverse();
    bins
}

async fn merged_bin(
    writer: &mut Manifests<'_>,
    bin: Vec<ManifestFile>,
) -> Result<Vec<ManifestFile>> {
    let (name, file_io) = (writer.name, writer.table.file_io().clone());
    let mut read = futures::stream::iter(bin)
        .map(|file| {
            let file_io = file_io.clone();
            async move {
                let manifest = file.load_manifest(&file_io).await;
                let manifest = manifest.map_err(|error| failed(name, &error))?;
                Ok::<_, Error>((file, manifest))
            }
        })
        .buffered(CONCURRENT_READS);
    let failed = |error: iceberg::Error| failed(name, &error);
    let (mut entries, mut stay) = (vec![], vec![]);
    let mut shape = None;
    while let Some((file, manifest)) = read.try_next().await? {
        let (schema, spec) = (
            manifest.metadata().schema().clone(),
            manifest.metadata().partition_spec().clone(),
        );
        let partition = spec.partition_type(&schema).map_err(failed)?;
        let (_, _, expected) = shape.get_or_insert_with(|| (schema, spec, partition.clone()));
        // A column of the partitioning may have got another type.
        match *expected == partition {
            true => entries.extend(writer.carried(&file, &manifest)?),
            false => stay.push(file),
        }
    }
    let mut result = vec![];
    if let Some((schema, spec, _)) = shape
        && !entries.is_empty()
    {
        let written = writer.write(schema, spec, ManifestContentType::Data, entries);
        result.push(written.await?);
    }
    result.extend(stay);
    Ok(result)
}
