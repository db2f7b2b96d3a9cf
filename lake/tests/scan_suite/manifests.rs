//! Manifests and manifest lists: what iceberg-rust writes is read back, and nothing that is read
//! can do harm.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, BinaryArray};
use bytes::Bytes;
use iceberg::io::FileIO;
use iceberg::spec::{
    DataContentType, DataFile, DataFileBuilder, DataFileFormat, Datum, FormatVersion, Literal,
    Manifest, ManifestFile as TheirFile, ManifestList, ManifestListWriter, ManifestWriterBuilder,
    NestedField, Operation, PartitionSpec, PrimitiveLiteral, PrimitiveType, Schema, Snapshot,
    Struct, Summary, Transform, Type,
};
use inshore_lake::manifest::bounds::{Side, bounds_array};
use inshore_lake::manifest::list::decode_list;
use inshore_lake::manifest::{
    DataFileEntry, DecodedManifest, EMBEDDED_LIST_PREFIX, Entries, EntryStatus, ManifestContent,
    ManifestFile, PartitionFields, PartitionSpecs,
};
use inshore_lake::scan::schema::{TableColumns, primitive_type};
use inshore_lake::store::{LakeStorageFactory, Stores};
use tempfile::TempDir;

use crate::tables::Sales;

const DECIMAL: PrimitiveType = PrimitiveType::Decimal {
    precision: 12,
    scale: 2,
};

/// Name, type, and the bound of file `n`.
type TestColumn = (&'static str, PrimitiveType, fn(i64) -> Datum);

fn columns() -> Vec<TestColumn> {
    use PrimitiveType as T;
    vec![
        ("id", T::Long, Datum::long),
        ("small", T::Int, |n| Datum::int(n as i32)),
        ("name", T::String, |n| Datum::string(format!("näme {n:05}"))),
        ("price", DECIMAL, |n| {
            Datum::try_from_bytes(&(i128::from(n) - 2).to_be_bytes(), DECIMAL).unwrap()
        }),
        ("day", T::Date, |n| Datum::date(n as i32 - 3)),
        ("at", T::Timestamp, |n| {
            Datum::timestamp_micros(n * 1_000_003)
        }),
        ("ratio", T::Double, |n| Datum::double(n as f64 / 8.0)),
        ("weight", T::Float, |n| Datum::float(n as f32 / 8.0)),
        ("ok", T::Boolean, |n| Datum::bool(n % 2 == 0)),
        ("key", T::Uuid, |n| {
            Datum::uuid(uuid::Uuid::from_u128(n as u128))
        }),
        ("code", T::Fixed(3), |n| Datum::fixed([n as u8, 1, 2])),
        ("blob", T::Binary, |n| Datum::binary([n as u8])),
    ]
}

fn schema() -> Arc<Schema> {
    let fields = columns()
        .into_iter()
        .enumerate()
        .map(|(index, (name, ty, _))| {
            let id = index as i32 + 1;
            Arc::new(NestedField::optional(id, name, Type::Primitive(ty)))
        });
    Arc::new(Schema::builder().with_fields(fields).build().unwrap())
}

fn spec() -> PartitionSpec {
    PartitionSpec::builder(schema())
        .with_spec_id(3)
        .add_partition_field("name", "name", Transform::Identity)
        .unwrap()
        .add_partition_field("id", "id_bucket", Transform::Bucket(16))
        .unwrap()
        .add_partition_field("price", "price_trunc", Transform::Truncate(10))
        .unwrap()
        .add_partition_field("day", "day_month", Transform::Month)
        .unwrap()
        .add_partition_field("at", "at_day", Transform::Day)
        .unwrap()
        .build()
        .unwrap()
}

fn fields() -> PartitionFields {
    PartitionFields::new(&spec(), |id| {
        let schema = schema();
        let field = schema.field_by_id(id)?;
        field.field_type.as_primitive_type().cloned()
    })
}

fn data_file(n: i64) -> DataFile {
    let ids = 1..=columns().len() as i32;
    let counts = |value: i64| -> HashMap<i32, u64> {
        // Some files lack some columns.
        let ids = ids.clone().filter(|id| (i64::from(*id) + n) % 5 != 0);
        ids.map(|id| (id, (value + i64::from(id)) as u64)).collect()
    };
    let bounds = |n: i64| -> HashMap<i32, Datum> {
        let columns = columns().into_iter().enumerate();
        let columns = columns.filter(|(index, _)| (*index as i64 + n) % 4 != 0);
        columns
            .map(|(index, (_, _, datum))| (index as i32 + 1, datum(n)))
            .collect()
    };
    let partition = Struct::from_iter([
        (n % 3 != 0).then(|| Literal::string(format!("p{}", n % 7))),
        Some(Literal::int((n % 16) as i32)),
        Some(Literal::decimal(i128::from(n / 10 * 10))),
        Some(Literal::int((n % 12) as i32)),
        Some(Literal::date(n as i32)),
    ]);
    DataFileBuilder::default()
        .content(DataContentType::Data)
        .file_path(format!("s3://lake/t/data/{n:08}.parquet"))
        .file_format(DataFileFormat::Parquet)
        .file_size_in_bytes(1000 + n as u64)
        .record_count(10 + n as u64)
        .partition(partition)
        .partition_spec_id(3)
        .column_sizes(counts(n * 10))
        .value_counts(counts(n * 100))
        .null_value_counts(counts(n))
        .nan_value_counts(counts(0))
        .lower_bounds(bounds(n))
        .upper_bounds(bounds(n + 1))
        .split_offsets(Some(vec![4, 400 + n]))
        .sort_order_id(1)
        .build()
        .unwrap()
}

fn delete_file(n: i64) -> DataFile {
    let mut builder = DataFileBuilder::default();
    builder
        .file_path(format!("s3://lake/t/data/{n:08}-deletes"))
        .file_size_in_bytes(100)
        .record_count(3)
        .partition(data_file(n).partition().clone())
        .partition_spec_id(3);
    if n % 2 == 0 {
        builder
            .content(DataContentType::EqualityDeletes)
            .file_format(DataFileFormat::Parquet)
            .equality_ids(Some(vec![1, 3]));
    } else {
        builder
            .content(DataContentType::PositionDeletes)
            .file_format(DataFileFormat::Puffin)
            .referenced_data_file(Some("s3://lake/t/data/1.parquet".to_string()))
            .content_offset(Some(4))
            .content_size_in_bytes(Some(50));
    }
    builder.build().unwrap()
}

/// A place for files that are written by iceberg-rust.
struct Files {
    directory: TempDir,
    io: FileIO,
}

impl Files {
    fn new() -> Self {
        let stores = Stores::for_local_files().unwrap();
        Self {
            directory: tempfile::tempdir().unwrap(),
            io: LakeStorageFactory::file_io(stores),
        }
    }

    fn path(&self, name: &str) -> String {
        format!("file://{}/{name}", self.directory.path().display())
    }

    async fn read(&self, path: &str) -> Bytes {
        self.io.new_input(path).unwrap().read().await.unwrap()
    }

    async fn manifest(
        &self,
        version: FormatVersion,
        content: ManifestContent,
        count: i64,
    ) -> TheirFile {
        let name = format!("{version}-{content:?}.avro");
        let output = self.io.new_output(self.path(&name)).unwrap();
        let builder = ManifestWriterBuilder::new(output, Some(77), schema(), spec());
        let mut writer = match (version, content) {
            (FormatVersion::V1, _) => builder.build_v1(),
            (FormatVersion::V2, ManifestContent::Data) => builder.build_v2_data(),
            (FormatVersion::V2, ManifestContent::Deletes) => builder.build_v2_deletes(),
            (FormatVersion::V3, ManifestContent::Data) => builder.build_v3_data(),
            (FormatVersion::V3, ManifestContent::Deletes) => builder.build_v3_deletes(),
        };
        for n in 0..count {
            let file = match content {
                ManifestContent::Data => data_file(n),
                ManifestContent::Deletes => delete_file(n),
            };
            match n % 5 {
                3 => writer.add_existing_file(file, 60 + n, n, Some(n)),
                4 => writer.add_delete_file(file, n, Some(n)),
                2 => writer.add_file(file, 5),
                _ => writer.add_file(file, -1),
            }
            .unwrap();
        }
        let mut file = writer.write_manifest_file().await.unwrap();
        if version == FormatVersion::V1 {
            file.sequence_number = 0;
            file.min_sequence_number = 0;
        }
        file
    }

    async fn list(&self, version: FormatVersion, manifests: Vec<TheirFile>) -> Bytes {
        let path = self.path(&format!("{version}-list.avro"));
        let output = self.io.new_output(&path).unwrap().writer().await.unwrap();
        let mut writer = match version {
            FormatVersion::V1 => ManifestListWriter::v1(output, 77, None),
            FormatVersion::V2 => ManifestListWriter::v2(output, 77, None, 9),
            FormatVersion::V3 => ManifestListWriter::v3(output, 77, None, 9, Some(1000)),
        };
        writer.add_manifests(manifests.into_iter()).unwrap();
        writer.close().await.unwrap();
        self.read(&path).await
    }
}

const VERSIONS: [FormatVersion; 3] = [FormatVersion::V1, FormatVersion::V2, FormatVersion::V3];

fn kinds(version: FormatVersion) -> &'static [ManifestContent] {
    match version {
        FormatVersion::V1 => &[ManifestContent::Data],
        _ => &[ManifestContent::Data, ManifestContent::Deletes],
    }
}

fn same_list(ours: &ManifestFile, theirs: &TheirFile) {
    assert_eq!(&*ours.path, theirs.manifest_path);
    assert_eq!(ours.length_bytes, theirs.manifest_length as u64);
    assert_eq!(ours.spec_id, theirs.partition_spec_id);
    assert_eq!(ours.content as i32, theirs.content as i32);
    assert_eq!(ours.sequence_number, theirs.sequence_number);
    assert_eq!(ours.min_sequence_number, theirs.min_sequence_number);
    assert_eq!(ours.added_snapshot_id, Some(theirs.added_snapshot_id));
    assert_eq!(ours.added_files, theirs.added_files_count.map(u64::from));
    assert_eq!(
        ours.existing_files,
        theirs.existing_files_count.map(u64::from)
    );
    assert_eq!(
        ours.deleted_files,
        theirs.deleted_files_count.map(u64::from)
    );
    assert_eq!(ours.added_rows, theirs.added_rows_count.map(|n| n as i64));
    assert_eq!(
        ours.existing_rows,
        theirs.existing_rows_count.map(|n| n as i64)
    );
    assert_eq!(
        ours.deleted_rows,
        theirs.deleted_rows_count.map(|n| n as i64)
    );
    assert_eq!(ours.first_row_id, theirs.first_row_id.map(|n| n as i64));
    assert!(!ours.encrypted);
    let ours = ours.partitions.as_ref().unwrap();
    let theirs = theirs.partitions.as_ref().unwrap();
    assert_eq!(ours.len(), theirs.len());
    for (ours, theirs) in ours.iter().zip(theirs) {
        assert_eq!(ours.contains_null, theirs.contains_null);
        assert_eq!(ours.contains_nan, theirs.contains_nan);
        let lower = theirs.lower_bound.as_ref().map(|bytes| bytes.as_slice());
        let upper = theirs.upper_bound.as_ref().map(|bytes| bytes.as_slice());
        assert_eq!(ours.lower_bound.as_deref(), lower);
        assert_eq!(ours.upper_bound.as_deref(), upper);
    }
}

fn same_file(ours: &DataFileEntry, theirs: &DataFile) {
    assert_eq!(&*ours.path, theirs.file_path());
    assert_eq!(ours.content, theirs.content_type());
    assert!(ours.format == theirs.file_format());
    assert_eq!(ours.size_bytes, theirs.file_size_in_bytes());
    assert_eq!(ours.record_count, theirs.record_count());
    assert_eq!(
        &*ours.split_offsets,
        theirs.split_offsets().unwrap_or_default()
    );
    assert_eq!(ours.sort_order_id, theirs.sort_order_id());
    assert_eq!(
        ours.equality_ids.to_vec(),
        theirs.equality_ids().unwrap_or_default()
    );
    assert_eq!(
        ours.referenced_data_file.as_deref(),
        theirs.referenced_data_file().as_deref()
    );
    assert_eq!(ours.content_offset, theirs.content_offset());
    assert_eq!(ours.content_size_bytes, theirs.content_size_in_bytes());
}

fn same_metrics(ours: &DecodedManifest, row: usize, theirs: &DataFile) {
    for (index, (name, _, _)) in columns().into_iter().enumerate() {
        let id = index as i32 + 1;
        let metrics = ours.columns.get(&id);
        let count =
            |array: &arrow::array::UInt64Array| array.is_valid(row).then(|| array.value(row));
        let found = metrics.and_then(|m| count(&m.sizes));
        assert_eq!(found.as_ref(), theirs.column_sizes().get(&id), "{name}");
        let found = metrics.and_then(|m| count(&m.value_counts));
        assert_eq!(found.as_ref(), theirs.value_counts().get(&id), "{name}");
        let found = metrics.and_then(|m| count(&m.null_counts));
        assert_eq!(
            found.as_ref(),
            theirs.null_value_counts().get(&id),
            "{name}"
        );
        let found = metrics.and_then(|m| count(&m.nan_counts));
        assert_eq!(found.as_ref(), theirs.nan_value_counts().get(&id), "{name}");
        let bound = |array: &BinaryArray| array.is_valid(row).then(|| array.value(row).to_vec());
        let bytes = |datum: &Datum| datum.to_bytes().unwrap().to_vec();
        let found = metrics.and_then(|m| bound(&m.lower));
        assert_eq!(found, theirs.lower_bounds().get(&id).map(bytes), "{name}");
        let found = metrics.and_then(|m| bound(&m.upper));
        assert_eq!(found, theirs.upper_bounds().get(&id).map(bytes), "{name}");
    }
}

#[tokio::test]
async fn what_another_library_writes_is_read_back() {
    let files = Files::new();
    for version in VERSIONS {
        for content in kinds(version) {
            let file = files.manifest(version, *content, 23).await;
            let bytes = files.list(version, vec![file.clone()]).await;
            let ours = decode_list("list", &bytes).unwrap();
            let theirs = ManifestList::parse_with_version(&bytes, version).unwrap();
            assert_eq!(ours.len(), 1);
            same_list(&ours[0], &theirs.entries()[0]);

            let bytes = files.read(&file.manifest_path).await;
            let theirs = Manifest::parse_avro(&bytes).unwrap();
            let all = DecodedManifest::decode(&ours[0], &bytes, &fields(), Entries::All).unwrap();
            let live = DecodedManifest::decode(&ours[0], &bytes, &fields(), Entries::Live).unwrap();
            assert_eq!(all.entries.len(), 23);
            assert_eq!(live.entries.len(), 19);
            assert_eq!((all.spec_id, &*all.path), (3, &*file.manifest_path));
            for (row, theirs) in theirs.entries().iter().enumerate() {
                let entry = &all.entries[row];
                same_file(entry, theirs.data_file());
                same_metrics(&all, row, theirs.data_file());
                assert_eq!(entry.status.code(), theirs.status() as i32);
                assert_eq!(entry.snapshot_id, theirs.snapshot_id());
                let inherited = if version == FormatVersion::V1 { 0 } else { 9 };
                let expected = theirs.sequence_number().unwrap_or(inherited);
                assert_eq!(entry.sequence_number, expected);
            }
            let alive = theirs.entries().iter().filter(|entry| entry.is_alive());
            for (row, theirs) in alive.enumerate() {
                same_file(&live.entries[row], theirs.data_file());
                same_metrics(&live, row, theirs.data_file());
                let partition = theirs.data_file().partition();
                for (place, column) in live.partitions.iter().enumerate() {
                    let expected = partition.fields()[place].as_ref();
                    let expected = expected.and_then(|value| value.as_primitive_literal());
                    assert_eq!(column.values[row], expected, "{}", column.name);
                }
            }
            let ids: Vec<i32> = live
                .partitions
                .iter()
                .map(|column| column.field_id)
                .collect();
            assert_eq!(ids, [1000, 1001, 1002, 1003, 1004]);
            assert!(live.memory_bytes() > 1000);
        }
    }
}

#[tokio::test]
async fn row_ids_and_sequence_numbers_are_inherited() {
    let files = Files::new();
    let file = files
        .manifest(FormatVersion::V3, ManifestContent::Data, 10)
        .await;
    let list = files.list(FormatVersion::V3, vec![file.clone()]).await;
    let ours = decode_list("list", &list).unwrap().remove(0);
    assert_eq!(ours.first_row_id, Some(1000));
    let bytes = files.read(&file.manifest_path).await;
    let decoded = DecodedManifest::decode(&ours, &bytes, &fields(), Entries::All).unwrap();
    let mut next = 1000;
    for (n, entry) in decoded.entries.iter().enumerate() {
        let sequence = match n % 5 {
            2 => (5, Some(9)),
            3 | 4 => (n as i64, Some(n as i64)),
            _ => (9, Some(9)),
        };
        assert_eq!(
            (entry.sequence_number, entry.file_sequence_number),
            sequence
        );
        if entry.status == EntryStatus::Deleted {
            assert_eq!(entry.first_row_id, None);
        } else {
            assert_eq!(entry.first_row_id, Some(next));
            next += entry.record_count as i64;
        }
    }
    // Without row ids in the list no file has any, and neither has a delete file.
    let without = ManifestFile {
        first_row_id: None,
        ..ours.clone()
    };
    let decoded = DecodedManifest::decode(&without, &bytes, &fields(), Entries::Live).unwrap();
    assert!(
        decoded
            .entries
            .iter()
            .all(|entry| entry.first_row_id.is_none())
    );
    let deletes = ManifestFile {
        content: ManifestContent::Deletes,
        ..ours
    };
    let decoded = DecodedManifest::decode(&deletes, &bytes, &fields(), Entries::Live).unwrap();
    assert!(
        decoded
            .entries
            .iter()
            .all(|entry| entry.first_row_id.is_none())
    );
}

#[tokio::test]
async fn a_promoted_column_has_the_type_of_today() {
    let files = Files::new();
    let file = files
        .manifest(FormatVersion::V2, ManifestContent::Data, 5)
        .await;
    let list = files.list(FormatVersion::V2, vec![file.clone()]).await;
    let ours = decode_list("list", &list).unwrap().remove(0);
    let bytes = files.read(&file.manifest_path).await;
    // Today the decimal is longer than it was.
    let mut fields = fields();
    let longer = PrimitiveType::Decimal {
        precision: 38,
        scale: 2,
    };
    fields.fields[2].value_type = Some(longer.clone());
    fields.fields[2].source_type = Some(longer);
    let decoded = DecodedManifest::decode(&ours, &bytes, &fields, Entries::Live).unwrap();
    let price = &decoded.partitions[2];
    assert_eq!(price.values[3], Some(PrimitiveLiteral::Int128(0)));
    assert_eq!(
        price.source_type,
        arrow::datatypes::DataType::Decimal128(38, 2)
    );
    let small = &decoded.columns[&2].lower;
    let ty = PrimitiveType::Long;
    let array = bounds_array(small, &ty, &primitive_type(&ty, true), Side::Lower).unwrap();
    assert_eq!(array.data_type(), &arrow::datatypes::DataType::Int64);
    assert_eq!(array.null_count(), small.null_count());
}

/// Everything that decoding a manifest leads to.
fn use_all(manifest: &DecodedManifest) {
    assert!(manifest.memory_bytes() < 1 << 26);
    for metrics in manifest.columns.values() {
        for (_, ty, _) in columns() {
            for side in [Side::Lower, Side::Upper] {
                let data_type = primitive_type(&ty, true);
                for bytes in [&metrics.lower, &metrics.upper] {
                    let array = bounds_array(bytes, &ty, &data_type, side);
                    assert!(array.is_none_or(|array| array.len() == manifest.entries.len()));
                }
            }
        }
    }
    for column in &manifest.partitions {
        assert_eq!(column.values.len(), manifest.entries.len());
    }
}

#[tokio::test]
async fn garbled_files_give_errors_and_nothing_else() {
    let files = Files::new();
    let manifest = files
        .manifest(FormatVersion::V3, ManifestContent::Data, 6)
        .await;
    let list = files.list(FormatVersion::V3, vec![manifest.clone()]).await;
    let ours = decode_list("list", &list).unwrap().remove(0);
    let bytes = files.read(&manifest.manifest_path).await;
    let mut random = fastrand::Rng::with_seed(7);
    let (mut refused, mut read) = (0, 0);
    for round in 0..4000 {
        let good = if round % 4 == 0 { &list } else { &bytes };
        let mut bad = good.to_vec();
        match round % 3 {
            0 => bad.truncate(random.usize(..bad.len())),
            1 => {
                for _ in 0..random.usize(1..4) {
                    let place = random.usize(..bad.len());
                    bad[place] ^= 1 << random.u8(..8);
                }
            }
            _ => {
                let place = random.usize(..bad.len());
                bad[place] = *random.choice(&[0, 1, 0x7f, 0x80, 0xfe, 0xff]).unwrap();
            }
        }
        let failed = if round % 4 == 0 {
            decode_list("some.avro", &bad).err()
        } else {
            let which = if round % 2 == 0 {
                Entries::All
            } else {
                Entries::Live
            };
            let decoded = DecodedManifest::decode(&ours, &bad, &fields(), which);
            decoded.as_ref().ok().map(use_all);
            decoded.err()
        };
        match failed {
            Some(error) => {
                refused += 1;
                let text = error.to_string();
                let named = text.contains("some.avro") || text.contains(&manifest.manifest_path);
                assert!(named, "{text}");
            }
            None => read += 1,
        }
    }
    assert!(
        refused > 1000 && read > 100,
        "{refused} refused, {read} read"
    );
}

#[tokio::test]
async fn snapshots_that_name_their_manifests_have_a_list() {
    let sales = Sales::new().await;
    let table = &sales.table;
    let current = table.metadata().current_snapshot().unwrap();
    let list = sales.manifests.manifest_list(table, current).await.unwrap();
    let paths: Vec<&str> = list.iter().map(|manifest| &*manifest.path).collect();
    let embedded = format!(
        "{EMBEDDED_LIST_PREFIX}{}",
        serde_json::to_string(&paths).unwrap()
    );
    let snapshot = |list: String| {
        let summary = Summary {
            operation: Operation::Append,
            additional_properties: HashMap::new(),
        };
        Arc::new(
            Snapshot::builder()
                .with_snapshot_id(1)
                .with_sequence_number(0)
                .with_timestamp_ms(0)
                .with_manifest_list(list)
                .with_summary(summary)
                .build(),
        )
    };
    let snapshot_of_paths = snapshot(embedded);
    let found = sales
        .manifests
        .manifest_list(table, &snapshot_of_paths)
        .await
        .unwrap();
    assert_eq!(found.len(), 4);
    let specs = PartitionSpecs::of(table.metadata());
    let mut files = 0;
    for (found, manifest) in found.iter().zip(list.iter()) {
        assert_eq!(found.path, manifest.path);
        assert_eq!(found.length_bytes, manifest.length_bytes);
        assert_eq!(found.spec_id, manifest.spec_id);
        assert_eq!((found.added_files, found.sequence_number), (None, 0));
        let spec = specs.of_manifest("sales", found).unwrap();
        let decoded = sales
            .manifests
            .manifest(table.file_io(), found, spec)
            .await
            .unwrap();
        files += decoded.entries.len();
    }
    assert_eq!(files, 12);
    let broken = snapshot(format!("{EMBEDDED_LIST_PREFIX}[\"/nowhere/m.avro\"]"));
    let error = sales
        .manifests
        .manifest_list(table, &broken)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("/nowhere/m.avro"), "{error}");
}

/// A measurement, to be run with optimisation:
/// `cargo test --release -p inshore-lake --test scan_suite speed -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "a measurement"]
async fn speed() {
    use std::time::Instant;

    use datafusion::common::ScalarValue;
    use datafusion::logical_expr::{col, lit};
    use datafusion::physical_expr::create_physical_expr;
    use inshore_lake::plan::prune::Pruner;
    use inshore_lake::plan::statistics::scan_statistics;

    let files = Files::new();
    let file = files
        .manifest(FormatVersion::V2, ManifestContent::Data, 12_500)
        .await;
    let list = files.list(FormatVersion::V2, vec![file.clone()]).await;
    let ours = decode_list("list", &list).unwrap().remove(0);
    let bytes = files.read(&file.manifest_path).await;
    let start = Instant::now();
    let decoded = DecodedManifest::decode(&ours, &bytes, &fields(), Entries::Live).unwrap();
    let taken = start.elapsed();
    println!(
        "{} entries: {:?} each",
        decoded.entries.len(),
        taken / 12_500
    );

    let file = files
        .manifest(FormatVersion::V2, ManifestContent::Data, 125)
        .await;
    let bytes = files.read(&file.manifest_path).await;
    let manifests: Vec<Arc<DecodedManifest>> = (0..1000)
        .map(|_| DecodedManifest::decode(&ours, &bytes, &fields(), Entries::Live).unwrap())
        .map(Arc::new)
        .collect();
    println!(
        "a manifest of 100 files: {} bytes",
        manifests[0].memory_bytes()
    );
    let schema = schema();
    let columns = TableColumns::try_new("t", &schema).unwrap();
    let df_schema = datafusion::common::DFSchema::try_from(Arc::clone(&columns.arrow)).unwrap();
    for (what, filter) in [
        ("id", col("id").gt(lit(1_000_000_i64))),
        (
            "name",
            col("name").eq(lit(ScalarValue::Utf8View(Some("x".to_string())))),
        ),
        ("weight", col("weight").lt(lit(-1.0_f32))),
    ] {
        let filter = create_physical_expr(&filter, &df_schema, &Default::default()).unwrap();
        let pruner = Pruner::new(filter, &columns, &schema).unwrap();
        let start = Instant::now();
        let kept = pruner.keep_files(&manifests);
        let taken = start.elapsed();
        let kept = kept.into_iter().filter(|keep| *keep).count();
        println!("filter on {what}: {taken:?}, {kept} files kept");
        let summaries = vec![ours.clone(); 1000];
        let spec = Arc::new(fields());
        let summaries: Vec<_> = summaries.iter().map(|manifest| (manifest, &spec)).collect();
        let start = Instant::now();
        let kept = pruner.keep_manifests(&summaries);
        println!("  1000 summaries: {:?} {}", start.elapsed(), kept.len());
    }
    let planned: Vec<_> = manifests
        .iter()
        .flat_map(|m| (0..m.entries.len()).map(|entry| (Arc::clone(m), entry)))
        .collect();
    let all: Vec<usize> = (0..columns.fields.len()).collect();
    for wanted in [&all[..1], &all] {
        let start = Instant::now();
        let statistics = scan_statistics(&planned, &columns, &schema, wanted);
        let (taken, count) = (start.elapsed(), wanted.len());
        println!(
            "statistics of {count} columns: {taken:?}, {:?}",
            statistics.num_rows
        );
    }
}
