//! Settings of the engine, and the part of them that travels with a query.

use std::collections::BTreeMap;

use datafusion::config::ConfigOptions;
use datafusion::error::{DataFusionError, Result};
use datafusion::prelude::SessionConfig;
use http::{HeaderMap, HeaderValue};

/// Settings of one node's engine. The same on both roles unless said otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineOptions {
    /// Partitions per task: how many cores a task may use at once. 0 stands for the machine's
    /// cores.
    pub target_partitions: usize,
    /// Rows per batch.
    pub batch_size: usize,
    /// Upper bound of the memory that operators of all queries on this node may reserve, in bytes.
    /// 0 stands for no bound.
    pub memory_limit_bytes: u64,
    /// Bytes of decoded manifests kept in memory.
    pub manifest_cache_bytes: u64,
    /// Bytes of Parquet footers kept in memory.
    pub footer_cache_bytes: u64,
    /// Bytes of deleted positions and keys kept in memory.
    pub delete_cache_bytes: u64,
    /// A scan is given one more task for each such number of bytes to read, up to the number of
    /// workers.
    pub bytes_per_task: u64,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            target_partitions: 0,
            batch_size: 32 * 1024,
            memory_limit_bytes: 0,
            manifest_cache_bytes: 256 << 20,
            footer_cache_bytes: 256 << 20,
            delete_cache_bytes: 256 << 20,
            bytes_per_task: 4 << 20,
        }
    }
}

impl EngineOptions {
    /// Partitions per task with 0 resolved to the machine's cores; never less than 2, because an
    /// optimizer that sees one partition leaves out the exchanges that make a plan distributable.
    pub fn partitions(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        match self.target_partitions {
            0 => cores.max(2),
            n => n.max(2),
        }
    }
}

/// Header that carries a query's session settings from the coordinator to a worker.
const SETTINGS_HEADER: &str = "x-inshore-settings";

/// Stands between two settings in the header: ASCII's unit separator, which no setting holds.
const SEPARATOR: &str = "\u{1f}";

/// Prefixes of the settings that change how a fragment computes its rows.
const TRAVELLING: [&str; 3] = [
    "datafusion.execution.",
    "datafusion.optimizer.",
    "datafusion.format.",
];

/// Settings that belong to the node, not to the query.
const NODE_BOUND: [&str; 1] = ["datafusion.execution.target_partitions"];

/// Packs the settings that differ from DataFusion's defaults into headers for the workers.
pub fn settings_to_headers(config: &SessionConfig) -> Result<HeaderMap> {
    let defaults: BTreeMap<String, Option<String>> = entries(&ConfigOptions::default());
    let changed = entries(config.options())
        .into_iter()
        .filter(|(key, value)| travels(key) && defaults.get(key) != Some(value))
        .filter_map(|(key, value)| value.map(|value| format!("{key}={value}")))
        .collect::<Vec<_>>()
        .join(SEPARATOR);
    let mut headers = HeaderMap::new();
    if !changed.is_empty() {
        let value = HeaderValue::from_str(&escape(&changed)).map_err(|_| {
            DataFusionError::Configuration(
                "a session setting holds characters that cannot be sent to workers".to_owned(),
            )
        })?;
        headers.insert(SETTINGS_HEADER, value);
    }
    Ok(headers)
}

/// Applies what [`settings_to_headers`] packed.
pub fn apply_headers(config: &mut SessionConfig, headers: &HeaderMap) -> Result<()> {
    let Some(value) = headers.get(SETTINGS_HEADER) else {
        return Ok(());
    };
    let malformed =
        || DataFusionError::Configuration(format!("header {SETTINGS_HEADER} is malformed"));
    let text = unescape(value.to_str().map_err(|_| malformed())?);
    for line in text.split(SEPARATOR) {
        let (key, value) = line.split_once('=').ok_or_else(malformed)?;
        if travels(key) {
            config.options_mut().set(key, value)?;
        }
    }
    Ok(())
}

fn travels(key: &str) -> bool {
    TRAVELLING.iter().any(|prefix| key.starts_with(prefix)) && !NODE_BOUND.contains(&key)
}

fn entries(options: &ConfigOptions) -> BTreeMap<String, Option<String>> {
    options
        .entries()
        .into_iter()
        .map(|entry| (entry.key, entry.value))
        .collect()
}

/// Keeps a header's value within visible ASCII: everything else, and `%`, as `%XXXX` per UTF-16 unit.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for unit in text.encode_utf16() {
        match u8::try_from(unit) {
            Ok(byte) if byte.is_ascii_graphic() && byte != b'%' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{unit:04x}")),
        }
    }
    out
}

fn unescape(text: &str) -> String {
    let mut units = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        units.extend(rest[..at].encode_utf16());
        let hex = rest.get(at + 1..at + 5).unwrap_or_default();
        units.push(u16::from_str_radix(hex, 16).unwrap_or(u16::from(b'?')));
        rest = rest.get(at + 5..).unwrap_or_default();
    }
    units.extend(rest.encode_utf16());
    String::from_utf16_lossy(&units)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn settings_travel_and_node_bound_ones_stay() {
        let mut sent = SessionConfig::new()
            .with_batch_size(1234)
            .with_target_partitions(77);
        sent.options_mut()
            .set("datafusion.execution.time_zone", "Asia/Kolkata")
            .unwrap();
        sent.options_mut()
            .set("datafusion.format.null", "∅ %a\n=")
            .unwrap();
        let headers = settings_to_headers(&sent).unwrap();

        let mut received = SessionConfig::new().with_target_partitions(3);
        apply_headers(&mut received, &headers).unwrap();
        assert_eq!(received.batch_size(), 1234);
        assert_eq!(received.target_partitions(), 3);
        let options = received.options();
        assert_eq!(options.execution.time_zone.as_deref(), Some("Asia/Kolkata"));
        assert_eq!(options.format.null, "∅ %a\n=");
    }

    #[test]
    fn defaults_send_nothing() {
        let config = SessionConfig::from(ConfigOptions::default());
        assert!(settings_to_headers(&config).unwrap().is_empty());
    }
}
