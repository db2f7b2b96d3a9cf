//! Pruning, statistics and limits, seen in the plan.

use std::sync::Arc;

use arrow::util::pretty::pretty_format_batches;
use datafusion::common::ScalarValue;
use datafusion::common::stats::Precision;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::displayable;
use datafusion::prelude::{SessionConfig, SessionContext};
use inshore_lake::plan::PlanCounts;
use inshore_lake::scan::{as_iceberg_scan, scan_bytes};

use crate::tables::{ROWS, Sales, first_day};

/// The first scan of a plan.
pub fn find_scan(plan: &Arc<dyn ExecutionPlan>) -> Option<Arc<dyn ExecutionPlan>> {
    if as_iceberg_scan(plan.as_ref()).is_some() {
        return Some(Arc::clone(plan));
    }
    plan.children().into_iter().find_map(find_scan)
}

async fn counts(ctx: &SessionContext, sql: &str) -> PlanCounts {
    let plan = ctx
        .sql(sql)
        .await
        .unwrap()
        .create_physical_plan()
        .await
        .unwrap();
    let scan = find_scan(&plan).unwrap();
    as_iceberg_scan(scan.as_ref()).unwrap().info().counts
}

#[tokio::test]
async fn manifests_and_files_are_pruned_by_partition_and_by_bounds() {
    let sales = Sales::new().await;
    let ctx = sales.session(SessionConfig::new().with_target_partitions(2));
    let all = counts(&ctx, "SELECT * FROM sales").await;
    assert_eq!((all.manifests_read, all.manifests_total), (4, 4));
    assert_eq!((all.files_read, all.files_total), (12, 12));

    // One month: three manifests by their summaries, two more files by their partition.
    let june = counts(
        &ctx,
        "SELECT * FROM sales WHERE day >= DATE '2023-06-01' AND day < DATE '2023-07-01'",
    )
    .await;
    assert_eq!((june.manifests_read, june.files_read), (1, 1));

    // Ids are no partition: every manifest is opened, and bounds leave one file.
    let one = counts(&ctx, "SELECT * FROM sales WHERE id = 1500").await;
    assert_eq!((one.manifests_read, one.files_read), (4, 1));

    // A condition that bounds cannot answer leaves the other one its effect.
    let beside = "SELECT * FROM sales WHERE day = DATE '2023-06-05' AND region LIKE 'n%h'";
    assert_eq!(counts(&ctx, beside).await.files_read, 1);

    let none = counts(&ctx, "SELECT * FROM sales WHERE day < DATE '2020-01-01'").await;
    assert_eq!((none.manifests_read, none.files_read), (0, 0));
    let rows = ctx
        .sql("SELECT count(*) FROM sales WHERE day < DATE '2020-01-01'")
        .await
        .unwrap()
        .collect()
        .await
        .unwrap();
    assert!(
        pretty_format_batches(&rows)
            .unwrap()
            .to_string()
            .contains("| 0 ")
    );

    // A timestamp compared with the date column, and a cast on the column.
    let cast = counts(
        &ctx,
        "SELECT * FROM sales WHERE day > TIMESTAMP '2023-11-30 12:00:00'",
    )
    .await;
    assert!(cast.files_read <= 2, "{cast:?}");
}

#[tokio::test]
async fn explain_shows_what_was_pruned() {
    let sales = Sales::new().await;
    let ctx = sales.session(SessionConfig::new().with_target_partitions(2));
    let plan = ctx
        .sql("EXPLAIN SELECT id FROM sales WHERE day = DATE '2023-03-05'")
        .await
        .unwrap()
        .collect()
        .await
        .unwrap();
    let text = pretty_format_batches(&plan).unwrap().to_string();
    for part in [
        "table=lake.shop.sales",
        "manifests=1/4",
        "files=1/12",
        "snapshot=",
    ] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
}

#[tokio::test]
async fn ends_of_a_column_come_from_the_metadata() {
    let sales = Sales::new().await;
    let ctx = sales.session(SessionConfig::new().with_target_partitions(2));
    let plan = async |sql: &str| {
        let frame = ctx.sql(sql).await.unwrap();
        let plan = frame.create_physical_plan().await.unwrap();
        displayable(plan.as_ref()).indent(true).to_string()
    };
    let answered = plan("SELECT count(*), min(id), max(id), min(day) FROM sales").await;
    assert!(!answered.contains("DataSourceExec"), "{answered}");
    let filtered = plan("SELECT max(id) FROM sales WHERE id % 2 = 0").await;
    assert!(filtered.contains("DataSourceExec"), "{filtered}");
    let limited = plan("SELECT max(id) FROM (SELECT id FROM sales LIMIT 5)").await;
    assert!(limited.contains("DataSourceExec"), "{limited}");
}

#[tokio::test]
async fn statistics_are_those_of_the_files_left() {
    let sales = Sales::new().await;
    let ctx = sales.session(SessionConfig::new().with_target_partitions(2));
    let provider = sales.provider();
    let whole = provider.snapshot_statistics().await.unwrap();
    assert_eq!(whole.num_rows, Precision::Exact(12 * ROWS as usize));
    let id = &whole.column_statistics[0];
    let exact = |value: i64| Precision::Exact(ScalarValue::Int64(Some(value)));
    assert_eq!(id.min_value, exact(0));
    assert_eq!(id.max_value, exact(12 * ROWS - 1));
    assert_eq!(id.null_count, Precision::Exact(0));
    let nulls = (0..12 * ROWS).filter(|id| id % 7 == 0).count();
    assert_eq!(
        whole.column_statistics[1].null_count,
        Precision::Exact(nulls)
    );

    let plan = ctx
        .sql("SELECT id FROM sales WHERE day >= DATE '2023-12-01'")
        .await
        .unwrap()
        .create_physical_plan()
        .await
        .unwrap();
    let scan = find_scan(&plan).unwrap();
    let pruned = scan.partition_statistics(None).unwrap();
    assert_eq!(pruned.num_rows.get_value(), Some(&(ROWS as usize)));
    let all = ctx.sql("SELECT * FROM sales").await.unwrap();
    let all = find_scan(&all.create_physical_plan().await.unwrap()).unwrap();
    let (some, all) = (
        scan_bytes(scan.as_ref()).unwrap(),
        scan_bytes(all.as_ref()).unwrap(),
    );
    assert!(some > 0 && some * 12 < all, "{some} of {all}");
}

#[tokio::test]
async fn counts_and_limits_need_few_files() {
    let sales = Sales::new().await;
    let ctx = sales.session(SessionConfig::new().with_target_partitions(2));
    let limited = counts(&ctx, "SELECT id FROM sales LIMIT 10").await;
    assert_eq!(limited.files_read, 1);
    let rows = ctx
        .sql("SELECT id FROM sales LIMIT 450")
        .await
        .unwrap()
        .collect()
        .await
        .unwrap();
    assert_eq!(rows.iter().map(|b| b.num_rows()).sum::<usize>(), 450);
    // Answered by the manifests alone.
    let plan = ctx.sql("SELECT count(*) FROM sales").await.unwrap();
    let plan = plan.create_physical_plan().await.unwrap();
    assert!(find_scan(&plan).is_none());
}

#[tokio::test]
async fn rows_of_no_columns_open_no_file() {
    let sales = Sales::new().await;
    let ctx = sales.session(SessionConfig::new().with_batch_size(1_000));
    let sql = "SELECT 'x' FROM sales";
    let plan = ctx.sql(sql).await.unwrap();
    let plan = plan.create_physical_plan().await.unwrap();
    assert!(find_scan(&plan).is_none());
    let shown = displayable(plan.as_ref()).indent(true).to_string();
    assert!(
        shown.contains("RowCountExec: iceberg: table=lake.shop.sales"),
        "{shown}"
    );
    let sizes = async |sql: &str| -> Vec<usize> {
        let batches = ctx.sql(sql).await.unwrap().collect().await.unwrap();
        batches.iter().map(|batch| batch.num_rows()).collect()
    };
    assert_eq!(sizes(sql).await, [1_000, 1_000, 1_000, 1_000, 800]);
    let limited = sizes("SELECT 1 FROM sales LIMIT 7").await;
    assert_eq!(limited.iter().sum::<usize>(), 7);
    let later = sizes("SELECT 1 FROM sales LIMIT 7 OFFSET 4795").await;
    assert_eq!(later.iter().sum::<usize>(), 5);
}

#[tokio::test]
async fn rows_and_values_arrive() {
    let sales = Sales::new().await;
    let ctx = sales.session(SessionConfig::new().with_target_partitions(2));
    let rows = ctx
        .sql(
            "SELECT count(*), count(region), sum(amount), min(day), max(day), sum(cardinality(tags)) \
             FROM sales WHERE id >= 0",
        )
        .await
        .unwrap()
        .collect()
        .await
        .unwrap();
    let found = crate::expected::rows(&rows);
    let ids = 0..12 * ROWS;
    let expected = [
        (12 * ROWS).to_string(),
        ids.clone().filter(|id| id % 7 != 0).count().to_string(),
        {
            let cents: i64 = ids.clone().map(|id| id * 101).sum();
            format!("{}.{:02}", cents / 100, cents % 100)
        },
        "2023-01-01".to_string(),
        "2023-12-28".to_string(),
        ids.filter(|id| id % 5 != 0)
            .map(|id| id % 3)
            .sum::<i64>()
            .to_string(),
    ];
    assert_eq!(first_day(0), 19358);
    let found: Vec<String> = found[0].iter().map(|v| v.clone().unwrap()).collect();
    assert_eq!(found, expected);
}
