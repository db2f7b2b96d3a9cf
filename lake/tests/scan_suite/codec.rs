//! Scans travel: every field survives, and the decoded scan gives the same rows.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::stats::Precision;
use datafusion::datasource::physical_plan::{FileScanConfig, FileScanConfigBuilder, FileSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::prelude::SessionContext;
use datafusion_proto::physical_plan::{AsExecutionPlan, PhysicalExtensionCodec};
use datafusion_proto::protobuf::PhysicalPlanNode;
use inshore_lake::codec::IcebergCodec;
use inshore_lake::scan::{IcebergSource, RowCountExec, ScanFile, as_iceberg_scan};
use prost::Message;

use crate::expected::rows;
use crate::pruning::find_scan;
use crate::split::small_pieces;
use crate::tables::Sales;

const SQL: &str = "SELECT tags, id + 1 AS next, region FROM sales \
                   WHERE day BETWEEN DATE '2023-02-10' AND DATE '2023-04-20' AND region LIKE 'n%'";

fn config(plan: &Arc<dyn ExecutionPlan>) -> &FileScanConfig {
    let exec = plan.downcast_ref::<DataSourceExec>().unwrap();
    exec.data_source().downcast_ref::<FileScanConfig>().unwrap()
}

fn source(plan: &Arc<dyn ExecutionPlan>) -> &IcebergSource {
    as_iceberg_scan(plan.as_ref()).unwrap()
}

fn encode(plan: &Arc<dyn ExecutionPlan>) -> Vec<u8> {
    let mut buf = vec![];
    IcebergCodec.try_encode(Arc::clone(plan), &mut buf).unwrap();
    buf
}

async fn scan(sales: &Sales) -> (SessionContext, Arc<dyn ExecutionPlan>) {
    let mut settings = small_pieces(2);
    let parquet = &mut settings.options_mut().execution.parquet;
    parquet.pushdown_filters = true;
    parquet.reorder_filters = true;
    parquet.bloom_filter_on_read = false;
    parquet.max_predicate_cache_size = Some(1 << 20);
    let ctx = sales.session(settings);
    let plan = ctx
        .sql(SQL)
        .await
        .unwrap()
        .create_physical_plan()
        .await
        .unwrap();
    let scan = find_scan(&plan).unwrap();
    let limited = FileScanConfigBuilder::from(config(&scan).clone())
        .with_limit(Some(1_000_000))
        .with_batch_size(Some(77))
        .with_preserve_order(true)
        .build();
    (ctx, DataSourceExec::from_data_source(limited))
}

#[tokio::test]
async fn every_field_survives() {
    let sales = Sales::new().await;
    let (_, original) = scan(&sales).await;
    let worker = SessionContext::new();
    let decoded = IcebergCodec
        .try_decode(&encode(&original), &[], &worker.task_ctx())
        .unwrap();

    let (a, b) = (config(&original), config(&decoded));
    assert_eq!(a.object_store_url, b.object_store_url);
    assert_eq!(a.limit, b.limit);
    assert_eq!(a.batch_size, b.batch_size);
    assert_eq!(a.preserve_order, b.preserve_order);
    assert_eq!(a.output_ordering, b.output_ordering);
    assert_eq!(a.statistics(), b.statistics());
    assert_eq!(original.schema(), decoded.schema());

    let (from, to) = (source(&original), source(&decoded));
    assert_eq!(from.info().table, to.info().table);
    assert_eq!(from.info().snapshot_id, to.info().snapshot_id);
    assert_eq!(from.info().columns.arrow, to.info().columns.arrow);
    assert_eq!(from.info().columns.fields, to.info().columns.fields);
    assert_eq!(from.info().rules, to.info().rules);
    assert_eq!(from.info().counts, to.info().counts);
    assert_eq!(
        from.parquet().table_parquet_options(),
        to.parquet().table_parquet_options()
    );
    assert_eq!(from.projection(), to.projection());
    let (filter, decoded_filter) = (from.filter().unwrap(), to.filter().unwrap());
    assert_eq!(&filter, &decoded_filter);

    assert_eq!(a.file_groups.len(), b.file_groups.len());
    for (a, b) in a.file_groups.iter().zip(&b.file_groups) {
        assert_eq!(a.len(), b.len());
        for (a, b) in a.iter().zip(b.iter()) {
            assert_eq!(a.object_meta, b.object_meta);
            assert_eq!(a.range, b.range);
            let (x, y) = (
                a.extension::<Arc<ScanFile>>(),
                b.extension::<Arc<ScanFile>>(),
            );
            assert_eq!(x.unwrap(), y.unwrap());
            let (x, y) = (
                a.statistics.as_ref().unwrap(),
                b.statistics.as_ref().unwrap(),
            );
            assert_eq!(x.num_rows, y.num_rows);
            assert_eq!(x.column_statistics, y.column_statistics);
            assert!(matches!(
                x.column_statistics[0].min_value,
                Precision::Exact(_)
            ));
        }
    }
}

#[tokio::test]
async fn a_decoded_scan_gives_the_same_rows() {
    let sales = Sales::new().await;
    let (ctx, original) = scan(&sales).await;
    let worker = SessionContext::new();
    sales.stores.register(&worker.runtime_env());
    // Through DataFusion's encoding of whole plans, as it goes over the wire.
    let bytes = PhysicalPlanNode::try_from_physical_plan(Arc::clone(&original), &IcebergCodec)
        .unwrap()
        .encode_to_vec();
    let node = PhysicalPlanNode::decode(bytes.as_slice()).unwrap();
    let decoded = node
        .try_into_physical_plan(&worker.task_ctx(), &IcebergCodec)
        .unwrap();
    let there = rows(&collect(decoded, worker.task_ctx()).await.unwrap());
    let here = rows(&collect(original, ctx.task_ctx()).await.unwrap());
    assert!(!here.is_empty());
    let sorted = |mut rows: Vec<Vec<Option<String>>>| {
        rows.sort();
        rows
    };
    assert_eq!(sorted(here), sorted(there));
}

#[tokio::test]
async fn sort_hints_and_dynamic_filters_do_not_stop_a_scan() {
    let sales = Sales::new().await;
    let ctx = sales.session(small_pieces(2));
    let sql = "SELECT id FROM sales ORDER BY id DESC LIMIT 3";
    let plan = ctx
        .sql(sql)
        .await
        .unwrap()
        .create_physical_plan()
        .await
        .unwrap();
    let scan = find_scan(&plan).unwrap();
    let worker = SessionContext::new();
    sales.stores.register(&worker.runtime_env());
    let decoded = IcebergCodec
        .try_decode(&encode(&scan), &[], &worker.task_ctx())
        .unwrap();
    assert_eq!(
        source(&decoded).sort_hint().len(),
        source(&scan).sort_hint().len()
    );
    let batches = collect(decoded, worker.task_ctx()).await.unwrap();
    // What the filter knows while nothing has run is nothing.
    assert_eq!(batches.iter().map(|b| b.num_rows()).sum::<usize>(), 4800);
    let found = rows(&ctx.sql(sql).await.unwrap().collect().await.unwrap());
    let ids: Vec<_> = found.iter().map(|row| row[0].clone().unwrap()).collect();
    assert_eq!(ids, ["4799", "4798", "4797"]);
}

#[tokio::test]
async fn row_counts_travel() {
    let sent = RowCountExec::new("lake.shop.sales".to_string(), Some(-3), u64::MAX);
    let bytes = encode(&(Arc::new(sent) as Arc<dyn ExecutionPlan>));
    let ctx = SessionContext::new().task_ctx();
    let decoded = IcebergCodec.try_decode(&bytes, &[], &ctx).unwrap();
    let found = decoded.downcast_ref::<RowCountExec>().unwrap();
    assert_eq!(found.table(), "lake.shop.sales");
    assert_eq!(found.snapshot_id(), Some(-3));
    assert_eq!(found.rows(), u64::MAX);
}

#[tokio::test]
async fn foreign_plans_and_bytes_are_refused() {
    let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int32, true)]));
    let mut buf = vec![];
    let foreign = Arc::new(EmptyExec::new(schema));
    assert!(IcebergCodec.try_encode(foreign, &mut buf).is_err());
    assert!(buf.is_empty());
    let ctx = SessionContext::new().task_ctx();
    assert!(
        IcebergCodec
            .try_decode(b"something else", &[], &ctx)
            .is_err()
    );

    let sales = Sales::new().await;
    let (_, original) = scan(&sales).await;
    let bytes = encode(&original);
    // No prefix of an encoded scan, and no damaged one, may panic.
    for cut in (0..bytes.len()).step_by(97) {
        let _ = IcebergCodec.try_decode(&bytes[..cut], &[], &ctx);
        let mut damaged = bytes.clone();
        damaged[cut] ^= 0x55;
        let _ = IcebergCodec.try_decode(&damaged, &[], &ctx);
    }
}
