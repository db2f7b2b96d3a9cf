//! Files that were cut or changed: an error that names the file, never a panic.

use apache_avro::Codec;
use datafusion::error::DataFusionError;
use iceberg::spec::DataFileFormat;
use inshore_lake::Error;
use inshore_lake::formats::all_columns;

use crate::support::{Contents, PATH, read, source};
use crate::{avro, orc, parquet};

fn files() -> Vec<(DataFileFormat, Vec<u8>)> {
    vec![
        (DataFileFormat::Parquet, parquet::file()),
        (DataFileFormat::Avro, avro::file(Codec::Null)),
        (DataFileFormat::Avro, avro::file(Codec::Snappy)),
        (DataFileFormat::Orc, orc::file("nested.orc")),
        (DataFileFormat::Orc, orc::file("plain.orc")),
        (DataFileFormat::Orc, orc::file("lz4.orc")),
        (DataFileFormat::Orc, orc::file("first.orc")),
    ]
}

async fn read_bytes(format: DataFileFormat, bytes: Vec<u8>) -> Result<Contents, DataFusionError> {
    let mut source = source(bytes, format).await;
    source.record_count = (format == DataFileFormat::Avro).then_some(avro::ROWS as u64);
    read(&source, None, 100, all_columns).await
}

fn assert_named(error: &DataFusionError) {
    assert!(error.to_string().contains(PATH), "{error}");
}

#[tokio::test]
async fn cut_files() {
    for (format, bytes) in files() {
        for part in 0..40 {
            let cut = bytes[..bytes.len() * part / 40].to_vec();
            let error = read_bytes(format, cut).await.unwrap_err();
            assert_named(&error);
            assert!(Error::in_chain(&error).is_some(), "{error}");
        }
        assert_named(&read_bytes(format, vec![]).await.unwrap_err());
    }
}

#[tokio::test]
async fn changed_files() {
    let mut seed = 1_u64;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) as usize % below
    };
    for (format, bytes) in files() {
        let mut errors = 0;
        for round in 0..120 {
            let mut changed = bytes.clone();
            // Also where footers and headers are.
            let at = match round % 3 {
                0 => random(bytes.len()),
                1 => bytes.len() - 1 - random(bytes.len().min(1500)),
                _ => random(bytes.len().min(1500)),
            };
            changed[at] ^= 1 << random(8);
            if let Err(error) = read_bytes(format, changed).await {
                assert_named(&error);
                errors += 1;
            }
        }
        assert!(errors > 5, "{format}: {errors} errors");
    }
}

#[tokio::test]
async fn missing_files_and_other_formats() {
    for format in [
        DataFileFormat::Parquet,
        DataFileFormat::Avro,
        DataFileFormat::Orc,
    ] {
        let mut missing = source(b"x".to_vec(), format).await;
        missing.path = object_store::path::Path::from(format!("{PATH} that is gone"));
        let error = read(&missing, None, 10, all_columns).await.unwrap_err();
        assert_named(&error);
        let ours = Error::in_chain(&error);
        assert!(matches!(ours, Some(Error::Store { .. })), "{error:?}");
        for (other, bytes) in files() {
            if other != format {
                assert_named(&read_bytes(format, bytes).await.unwrap_err());
            }
        }
    }
    let puffin = source(b"x".to_vec(), DataFileFormat::Puffin).await;
    let error = read(&puffin, None, 10, all_columns).await.unwrap_err();
    assert!(matches!(
        Error::in_chain(&error),
        Some(Error::Unsupported { .. })
    ));
}
