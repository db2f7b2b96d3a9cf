//! The table's properties about its data files (Iceberg documentation, "Configuration", "Write
//! properties").

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use iceberg::spec::{PartitionSpec, Schema, SortOrder};
use parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

use super::metrics::MetricsModes;
use crate::{Error, Result};

const FORMAT: &str = "write.format.default";
const CODEC: &str = "write.parquet.compression-codec";
const LEVEL: &str = "write.parquet.compression-level";
const DISTRIBUTION: &str = "write.distribution-mode";
const LOCATION_PROVIDER: &str = "write.location-provider.impl";
const BLOOM_ENABLED: &str = "write.parquet.bloom-filter-enabled.column.";
const BLOOM_RATE: &str = "write.parquet.bloom-filter-fpp.column.";

/// Numbers, with their defaults and smallest values.
const TARGET_BYTES: Number = Number("write.target-file-size-bytes", 512 << 20, 1 << 16);
const ROW_GROUP_BYTES: Number = Number("write.parquet.row-group-size-bytes", 128 << 20, 1 << 16);
const PAGE_BYTES: Number = Number("write.parquet.page-size-bytes", 1 << 20, 1 << 10);
const PAGE_ROWS: Number = Number("write.parquet.page-row-limit", 20_000, 1);
const DICTIONARY_BYTES: Number = Number("write.parquet.dict-size-bytes", 2 << 20, 1 << 10);
const BLOOM_BYTES: Number = Number("write.parquet.bloom-filter-max-bytes", 1 << 20, 32);

/// Bits of a block of a Parquet bloom filter that one value sets (Parquet format, "Bloom filter").
const BLOOM_BITS: f64 = 8.0;

/// Rate of false positives of a bloom filter where the table does not say.
const BLOOM_RATE_DEFAULT: f64 = 0.01;

/// Longest prefix of a text in a file's own statistics. The table's bounds are cut from it.
const STATISTICS_BYTES: usize = 64;

/// How rows are dealt out to writers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distribution {
    /// As the query leaves them: each writer has files of each partition.
    None,
    /// By partition: one writer for each.
    Hash,
    /// By ranges of partitions and sort keys.
    Range,
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Hash => "hash",
            Self::Range => "range",
        })
    }
}

/// How a table wants its data files.
#[derive(Clone, Debug)]
pub struct WriteOptions {
    /// How rows are dealt out to writers.
    pub distribution: Distribution,
    /// A file is ended when it has about this many bytes.
    pub target_bytes: usize,
    /// What is known of each column.
    pub metrics: MetricsModes,
    parquet: WriterPropertiesBuilder,
}

impl WriteOptions {
    /// Reads the properties.
    ///
    /// # Errors
    /// [`Error::Refused`] names a property that cannot be heeded.
    pub(super) fn new(
        table: &str,
        schema: &Schema,
        spec: &PartitionSpec,
        sort_order: &SortOrder,
        own: &HashMap<String, String>,
    ) -> Result<Self> {
        let refused = |why: String| Error::Refused(format!("table {table} {why}"));
        if let Some(format) = own
            .get(FORMAT)
            .filter(|f| !f.eq_ignore_ascii_case("parquet"))
        {
            return Err(refused(format!(
                "wants its files as {format} ({FORMAT}); only parquet is written"
            )));
        }
        if let Some(class) = own.get(LOCATION_PROVIDER) {
            return Err(refused(format!(
                "has the places of its files chosen by the class {class} ({LOCATION_PROVIDER}), \
                 which does not run here"
            )));
        }
        let metrics = MetricsModes::new(schema, sort_order, own).map_err(refused)?;
        Ok(Self {
            distribution: distribution(own, spec, sort_order).map_err(refused)?,
            target_bytes: TARGET_BYTES.of(own).map_err(refused)?,
            parquet: parquet(own, schema, &metrics).map_err(refused)?,
            metrics,
        })
    }

    /// What the Parquet writer is told.
    pub fn parquet(&self) -> WriterProperties {
        self.parquet.clone().build()
    }
}

fn distribution(
    own: &HashMap<String, String>,
    spec: &PartitionSpec,
    sort_order: &SortOrder,
) -> Result<Distribution, String> {
    let Some(mode) = own.get(DISTRIBUTION) else {
        return Ok(match (spec.is_unpartitioned(), sort_order.is_unsorted()) {
            (true, true) => Distribution::None,
            (true, false) => Distribution::Range,
            (false, _) => Distribution::Hash,
        });
    };
    match mode.to_ascii_lowercase().as_str() {
        "none" => Ok(Distribution::None),
        "hash" => Ok(Distribution::Hash),
        "range" => Ok(Distribution::Range),
        _ => Err(format!(
            "has {DISTRIBUTION} = {mode}; it may be none, hash or range"
        )),
    }
}

fn parquet(
    own: &HashMap<String, String>,
    schema: &Schema,
    metrics: &MetricsModes,
) -> Result<WriterPropertiesBuilder, String> {
    let longest = match metrics.longest() {
        Some(longest) if longest <= STATISTICS_BYTES / 4 => Some(STATISTICS_BYTES),
        _ => None,
    };
    let mut builder = WriterProperties::builder()
        .set_compression(compression(own)?)
        .set_max_row_group_row_count(None)
        .set_max_row_group_bytes(Some(ROW_GROUP_BYTES.of(own)?))
        .set_data_page_size_limit(PAGE_BYTES.of(own)?)
        .set_data_page_row_count_limit(PAGE_ROWS.of(own)?)
        .set_dictionary_page_size_limit(DICTIONARY_BYTES.of(own)?)
        .set_statistics_truncate_length(longest)
        .set_created_by(concat!("inshore ", env!("CARGO_PKG_VERSION")).to_owned());
    let bytes = BLOOM_BYTES.of(own)?;
    for (key, value) in own {
        let Some(column) = key.strip_prefix(BLOOM_ENABLED) else {
            continue;
        };
        if !value.eq_ignore_ascii_case("true") || schema.field_by_name(column).is_none() {
            continue;
        }
        let rate = own.get(&format!("{BLOOM_RATE}{column}"));
        let rate = rate.map_or(Ok(BLOOM_RATE_DEFAULT), |text| {
            let rate = text.parse::<f64>().ok().filter(|r| 0.0 < *r && *r < 1.0);
            rate.ok_or_else(|| {
                format!("has {BLOOM_RATE}{column} = {text}; it lies between 0 and 1")
            })
        })?;
        let path = ColumnPath::new(column.split('.').map(str::to_owned).collect());
        builder = builder
            .set_column_bloom_filter_enabled(path.clone(), true)
            .set_column_bloom_filter_fpp(path.clone(), rate)
            .set_column_bloom_filter_ndv(path, distinct_values(bytes, rate));
    }
    Ok(builder)
}

/// How many distinct values a bloom filter of so many bytes holds at this rate of false positives
/// (Parquet format, "Bloom filter", "Sizing").
fn distinct_values(bytes: usize, rate: f64) -> u64 {
    let bits = bytes as f64 * 8.0;
    let values = -bits * (1.0 - rate.powf(1.0 / BLOOM_BITS)).ln() / BLOOM_BITS;
    (values as u64).max(1)
}

fn compression(own: &HashMap<String, String>) -> Result<Compression, String> {
    let codec = own.get(CODEC).map_or("zstd", String::as_str);
    let level = own.get(LEVEL).filter(|text| *text != "null");
    let wrong = |why: &dyn fmt::Display| {
        let level = level.map_or("", String::as_str);
        format!("has {LEVEL} = {level}: {why}")
    };
    let number = level.map(|text| text.parse::<i32>().map_err(|error| wrong(&error)));
    let number = number.transpose()?;
    let unsigned = number.map(|n| u32::try_from(n).map_err(|error| wrong(&error)));
    Ok(match codec.to_ascii_lowercase().as_str() {
        "zstd" => Compression::ZSTD(match number {
            Some(level) => ZstdLevel::try_new(level).map_err(|error| wrong(&error))?,
            None => ZstdLevel::default(),
        }),
        "gzip" => Compression::GZIP(match unsigned.transpose()? {
            Some(level) => GzipLevel::try_new(level).map_err(|error| wrong(&error))?,
            None => GzipLevel::default(),
        }),
        "brotli" => Compression::BROTLI(match unsigned.transpose()? {
            Some(level) => BrotliLevel::try_new(level).map_err(|error| wrong(&error))?,
            None => BrotliLevel::default(),
        }),
        "snappy" => Compression::SNAPPY,
        "lz4" | "lz4_raw" => Compression::LZ4_RAW,
        "none" | "uncompressed" => Compression::UNCOMPRESSED,
        other => {
            return Err(format!(
                "wants its files compressed by {other} ({CODEC}); zstd, gzip, brotli, snappy, lz4 \
                 and uncompressed are written"
            ));
        }
    })
}

/// A property's name, default and smallest value.
struct Number(&'static str, usize, usize);

impl Number {
    fn of(&self, own: &HashMap<String, String>) -> Result<usize, String> {
        let Some(text) = own.get(self.0) else {
            return Ok(self.1);
        };
        match usize::from_str(text) {
            Ok(number) => Ok(number.max(self.2)),
            Err(_) => Err(format!("has {} = {text}; it is a number", self.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<WriteOptions> {
        let own = pairs.iter();
        let own = own.map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let schema = Schema::builder().build().unwrap();
        let spec = PartitionSpec::unpartition_spec();
        let order = SortOrder::unsorted_order();
        WriteOptions::new("t", &schema, &spec, &order, &own.collect())
    }

    #[test]
    fn properties_that_cannot_be_heeded_are_named() {
        for (key, value) in [
            (FORMAT, "orc"),
            (CODEC, "lzo"),
            (LEVEL, "fast"),
            (LEVEL, "77"),
            (DISTRIBUTION, "random"),
            (LOCATION_PROVIDER, "com.bank.Places"),
            (TARGET_BYTES.0, "1 GB"),
            ("write.metadata.metrics.default", "most"),
        ] {
            let error = read(&[(key, value)]).unwrap_err().to_string();
            assert!(error.contains(key) && error.contains(value), "{error}");
        }
    }

    #[test]
    fn defaults_are_those_of_the_documentation() {
        let options = read(&[]).unwrap();
        assert_eq!(options.distribution, Distribution::None);
        assert_eq!(options.target_bytes, 512 << 20);
        let parquet = options.parquet();
        let column = ColumnPath::from("c");
        let codec = parquet.compression(&column);
        assert_eq!(codec, Compression::ZSTD(ZstdLevel::default()));
        assert_eq!(parquet.max_row_group_bytes(), Some(128 << 20));
    }

    #[test]
    fn a_bloom_filter_holds_what_its_size_allows() {
        // 10 bits or so for each value at one false positive in a hundred.
        let values = distinct_values(1 << 20, 0.01);
        assert!((700_000..900_000).contains(&values), "{values}");
        assert_eq!(distinct_values(1, 0.000_001), 1);
    }
}
