//! Conditions on functions of columns, with and without the rule that turns them into ranges.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimeUnit};
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::datasource::MemTable;
use datafusion::execution::SessionStateBuilder;
use datafusion::logical_expr::{Cast, Expr, LogicalPlan};
use datafusion::optimizer::{Optimizer, OptimizerRule};
use datafusion::prelude::{SessionConfig, SessionContext};
use inshore_engine::preimage::ColumnRanges;
use inshore_engine::session::embedded_state;

const OPERATORS: [&str; 6] = ["=", "<>", "<", "<=", ">", ">="];

/// The engine's session with its own optimizer rules, or with these.
fn session(rules: Option<Vec<Arc<dyn OptimizerRule + Send + Sync>>>) -> SessionContext {
    let config = SessionConfig::new().with_target_partitions(1);
    let state = embedded_state(config, Arc::default());
    SessionContext::new_with_state(match rules {
        None => state,
        Some(rules) => SessionStateBuilder::new_from_existing(state)
            .with_optimizer_rules(rules)
            .build(),
    })
}

/// Days around which something changes: months, leap days, weeks, years, 1970.
const NEAR_DAYS: [&str; 20] = [
    "1678-01-02",
    "1899-12-31",
    "1900-02-28",
    "1900-03-01",
    "1904-02-29",
    "1969-12-29",
    "1969-12-31",
    "1970-01-01",
    "1970-01-05",
    "1999-12-31",
    "2000-01-01",
    "2000-02-29",
    "2000-03-01",
    "2023-12-31",
    "2024-02-29",
    "2024-04-01",
    "2024-05-01",
    "2024-12-30",
    "2025-01-01",
    "2261-12-31",
];

/// Days that nanoseconds cannot hold.
const FAR_DAYS: [&str; 8] = [
    "0001-01-01",
    "0001-12-31",
    "1583-01-01",
    "1677-01-01",
    "2262-12-31",
    "9999-01-01",
    "9999-12-31",
    "-0043-03-15",
];

/// Each day with times around its ends, as microseconds, and a NULL.
fn instants(days: &[&str]) -> TimestampMicrosecondArray {
    let unit = DataType::Timestamp(TimeUnit::Microsecond, None);
    let days: ArrayRef = Arc::new(StringArray::from_iter_values(days));
    let days = cast(&cast(&days, &DataType::Date32).unwrap(), &unit).unwrap();
    let days = cast(&days, &DataType::Int64).unwrap();
    let second = 1_000_000;
    let offsets = [
        -1,
        0,
        1,
        999,
        1_000,
        -second,
        second - 1,
        second,
        59 * second + 999_999,
        3_599 * second,
        45_296 * second + 789_012,
        86_399 * second + 999_999,
    ];
    let days = days.as_primitive::<Int64Type>().values().to_vec();
    let all = days
        .iter()
        .flat_map(|day| offsets.iter().map(move |offset| Some(day + offset)));
    all.chain([None]).collect()
}

fn table(x: ArrayRef) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..x.len() as i64));
    let schema = Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("x", x.data_type().clone(), true),
    ]);
    RecordBatch::try_new(Arc::new(schema), vec![ids, x]).unwrap()
}

fn register(ctx: &SessionContext, batch: &RecordBatch) {
    let table = MemTable::try_new(batch.schema(), vec![vec![batch.clone()]]).unwrap();
    ctx.register_table("t", Arc::new(table)).unwrap();
}

/// Every condition on `f` and some of the constants.
fn conditions(f: &str, constants: &[String]) -> Vec<String> {
    let mut all = vec![];
    for (at, constant) in constants.iter().enumerate() {
        let next = &constants[(at + 1) % constants.len()];
        let other = &constants[(at + 4) % constants.len()];
        for operator in OPERATORS {
            all.push(format!("{f} {operator} {constant}"));
        }
        let operator = OPERATORS[at % OPERATORS.len()];
        all.push(format!("{constant} {operator} {f}"));
        for not in ["", "NOT"] {
            all.push(format!("{f} {not} BETWEEN {constant} AND {next}"));
            all.push(format!("{f} {not} IN ({next}, {constant}, {other})"));
        }
    }
    all
}

/// The conditions as the session plans them, kept apart by being arguments of one function, where
/// NULL matters.
async fn planned(ctx: &SessionContext, conditions: &[String]) -> Vec<Expr> {
    let arguments: Vec<String> = conditions.iter().map(|c| format!("({c})")).collect();
    let sql = format!("SELECT id FROM t WHERE coalesce({})", arguments.join(", "));
    let plan = ctx.sql(&sql).await.unwrap().into_optimized_plan().unwrap();
    let mut found = vec![];
    plan.apply(|node| {
        if let LogicalPlan::Filter(filter) = node
            && let Expr::ScalarFunction(call) = &filter.predicate
        {
            found = call.args.clone();
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .unwrap();
    assert_eq!(found.len(), conditions.len());
    found.into_iter().map(with_plain_casts).collect()
}

/// `arrow_cast` cannot be evaluated; DataFusion's simplifier would replace it.
fn with_plain_casts(expr: Expr) -> Expr {
    let plain = expr.transform_up(|part| match &part {
        Expr::ScalarFunction(call) if call.name() == "arrow_cast" => {
            let to = call.args[1].as_literal().unwrap();
            let to: DataType = to.try_as_str().flatten().unwrap().parse().unwrap();
            let cast = Cast::new(Box::new(call.args[0].clone()), to);
            Ok(Transformed::yes(Expr::Cast(cast)))
        }
        _ => Ok(Transformed::no(part)),
    });
    plain.unwrap().data
}

fn truth(ctx: &SessionContext, batch: &RecordBatch, expr: &Expr) -> Vec<Option<bool>> {
    let schema = DFSchema::try_from_qualified_schema("t", batch.schema().as_ref()).unwrap();
    let expr = ctx.create_physical_expr(expr.clone(), &schema).unwrap();
    let array = expr.evaluate(batch).unwrap();
    let array = array.into_array(batch.num_rows()).unwrap();
    array.as_boolean().iter().collect()
}

fn has_function(expr: &Expr) -> bool {
    expr.exists(|part| {
        Ok(matches!(
            part,
            Expr::ScalarFunction(_) | Expr::Cast(_) | Expr::TryCast(_)
        ))
    })
    .unwrap()
}

/// Compares truth values, row by row, with and without the rule. With it, no function is left.
async fn agree(x: ArrayRef, f: &str, constants: &[String]) {
    let batch = table(x);
    let (plain, ranges) = (
        session(Some(vec![])),
        session(Some(vec![Arc::new(ColumnRanges)])),
    );
    register(&plain, &batch);
    register(&ranges, &batch);
    let conditions = conditions(f, constants);
    let before = planned(&plain, &conditions).await;
    let after = planned(&ranges, &conditions).await;
    let kind = batch.column(1).data_type();
    let mut kinds_of_truth = [false; 3];
    for ((condition, before), after) in conditions.iter().zip(&before).zip(&after) {
        assert!(!has_function(after), "{kind}: {condition} became {after}");
        let (expected, found) = (truth(&plain, &batch, before), truth(&plain, &batch, after));
        for (row, (expected, found)) in expected.iter().zip(&found).enumerate() {
            assert_eq!(
                expected,
                found,
                "{kind}: {condition} became {after}, for {}",
                shown(&batch, row)
            );
            kinds_of_truth[expected.map_or(2, usize::from)] = true;
        }
    }
    assert_eq!(kinds_of_truth, [true; 3], "{kind}: {f} tests too little");
}

fn shown(batch: &RecordBatch, row: usize) -> String {
    let column = batch.column(1);
    let options = FormatOptions::default();
    let formatter = ArrayFormatter::try_new(column.as_ref(), &options).unwrap();
    formatter.value(row).to_string()
}

/// Timestamps of a type as SQL.
fn timestamps(of: &DataType, texts: &[&str]) -> Vec<String> {
    texts
        .iter()
        .map(|text| format!("arrow_cast('{text}', '{of}')"))
        .collect()
}

const NEAR_TIMES: [&str; 9] = [
    "1900-03-01T00:00:00",
    "1969-12-29T00:00:00",
    "1970-01-01T00:00:00",
    "1969-12-31T23:59:59",
    "2000-01-01T00:00:00",
    "2024-02-29T12:34:56",
    "2024-04-01T00:00:00",
    "2024-12-30T00:00:00.789",
    "2025-01-01T00:00:00.000001",
];

fn all_units() -> Vec<DataType> {
    let utc = Some(Arc::from("UTC"));
    vec![
        DataType::Timestamp(TimeUnit::Second, None),
        DataType::Timestamp(TimeUnit::Millisecond, None),
        DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Timestamp(TimeUnit::Nanosecond, None),
        DataType::Timestamp(TimeUnit::Microsecond, utc.clone()),
        DataType::Timestamp(TimeUnit::Nanosecond, utc),
    ]
}

#[tokio::test]
async fn truncated_timestamps() {
    let parts = [
        "microsecond",
        "millisecond",
        "second",
        "minute",
        "hour",
        "day",
        "week",
        "month",
        "QUARTER",
        "year",
    ];
    for of in all_units() {
        let x = cast(&instants(&NEAR_DAYS), &of).unwrap();
        for part in parts {
            let constants = timestamps(&of, &NEAR_TIMES);
            agree(
                Arc::clone(&x),
                &format!("date_trunc('{part}', x)"),
                &constants,
            )
            .await;
        }
    }
    // A constant with more digits than the column.
    let fine = DataType::Timestamp(TimeUnit::Nanosecond, None);
    let coarse = DataType::Timestamp(TimeUnit::Millisecond, None);
    let x = cast(&instants(&NEAR_DAYS), &coarse).unwrap();
    let constants = timestamps(&fine, &NEAR_TIMES);
    agree(Arc::clone(&x), "date_trunc('minute', x)", &constants).await;
    agree(x, "x::timestamp", &constants).await;
}

#[tokio::test]
async fn fine_parts_of_far_timestamps() {
    let of = DataType::Timestamp(TimeUnit::Microsecond, None);
    let x: ArrayRef = Arc::new(instants(&FAR_DAYS));
    let constants = timestamps(
        &of,
        &[
            "0001-01-01T00:00:00",
            "0001-12-31T12:34:56",
            "1677-01-01T00:00:01",
            "9999-01-01T00:00:00",
            "9999-12-31T23:59:59.999999",
        ],
    );
    for part in ["millisecond", "second", "minute", "hour", "day"] {
        agree(
            Arc::clone(&x),
            &format!("date_trunc('{part}', x)"),
            &constants,
        )
        .await;
    }
}

#[tokio::test]
async fn dates_of_timestamps() {
    let constants = [
        "1900-03-01",
        "1969-12-31",
        "1970-01-01",
        "2000-02-29",
        "2024-05-01",
        "2023-12-31",
        "1677-01-01",
        "9999-12-31",
        "0001-01-01",
    ];
    let constants: Vec<String> = constants
        .iter()
        .map(|day| format!("DATE '{day}'"))
        .collect();
    for of in all_units() {
        let x = cast(&instants(&NEAR_DAYS), &of).unwrap();
        agree(Arc::clone(&x), "CAST(x AS date)", &constants).await;
        agree(x, "date(x)", &constants).await;
    }
    let far: ArrayRef = Arc::new(instants(&FAR_DAYS));
    agree(Arc::clone(&far), "x::date", &constants).await;
    agree(
        far,
        "x::date",
        &["'1677-01-01'".into(), "'9999-12-31'".into()],
    )
    .await;
}

#[tokio::test]
async fn years() {
    let whole = [
        "1970", "1969", "2024", "0", "-44", "1677", "9999", "2262", "250000",
    ];
    let whole: Vec<String> = whole.iter().map(ToString::to_string).collect();
    let broken = ["2024.0", "2024.5", "1969.25", "2023.999", "9999.0"];
    let decimal: Vec<String> = broken
        .iter()
        .map(|v| format!("CAST({v} AS decimal(9, 3))"))
        .collect();
    let double: Vec<String> = broken
        .iter()
        .map(|v| format!("CAST({v} AS double)"))
        .collect();
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(instants(&FAR_DAYS)),
        cast(&instants(&FAR_DAYS), &DataType::Date32).unwrap(),
        cast(&instants(&NEAR_DAYS), &DataType::Date32).unwrap(),
    ];
    for of in all_units() {
        columns.push(cast(&instants(&NEAR_DAYS), &of).unwrap());
    }
    for x in columns {
        for f in ["year(x)", "extract(year from x)", "date_part('isoyear', x)"] {
            agree(Arc::clone(&x), f, &whole).await;
        }
        agree(Arc::clone(&x), "date_part('YEAR', x)", &decimal).await;
        agree(x, "extract(year from x)", &double).await;
    }
}

#[tokio::test]
async fn dates_as_timestamps() {
    let x = cast(&instants(&NEAR_DAYS), &DataType::Date32).unwrap();
    for of in all_units() {
        let constants = timestamps(&of, &NEAR_TIMES);
        agree(Arc::clone(&x), "x", &constants).await;
    }
    let nanos = timestamps(
        &DataType::Timestamp(TimeUnit::Nanosecond, None),
        &NEAR_TIMES,
    );
    for part in ["hour", "day", "week", "month", "quarter", "year"] {
        agree(Arc::clone(&x), &format!("date_trunc('{part}', x)"), &nanos).await;
    }
    agree(
        x,
        "x::timestamp::date",
        &["DATE '1970-01-01'".into(), "DATE '2024-05-01'".into()],
    )
    .await;
}

#[tokio::test]
async fn timestamps_in_another_precision() {
    let units = [("s", 0), ("ms", 3), ("µs", 6), ("ns", 9)];
    for of in all_units() {
        let DataType::Timestamp(_, None) = of else {
            continue;
        };
        let x = cast(&instants(&NEAR_DAYS), &of).unwrap();
        for (unit, digits) in units {
            let to: DataType = format!("Timestamp({unit})").parse().unwrap();
            if to != of {
                let constants = timestamps(&to, &NEAR_TIMES);
                agree(
                    Arc::clone(&x),
                    &format!("x::timestamp({digits})"),
                    &constants,
                )
                .await;
            }
        }
    }
}

/// Nanoseconds end in the midst of a year, a month and a day.
#[tokio::test]
async fn the_ends_of_nanoseconds() {
    let day = 86_400_000_000_000_i64;
    let of = DataType::Timestamp(TimeUnit::Nanosecond, None);
    let ends = Int64Array::from(vec![
        Some(i64::MIN + day),
        Some(i64::MIN + day + 1),
        Some(0),
        Some(i64::MAX - 1),
        Some(i64::MAX),
        None,
    ]);
    let x = cast(&ends, &of).unwrap();
    let whole = ["1676", "1677", "1678", "2261", "2262", "2263", "3000"];
    let whole: Vec<String> = whole.iter().map(ToString::to_string).collect();
    agree(Arc::clone(&x), "year(x)", &whole).await;
    let days = [
        "1677-09-21",
        "1677-09-22",
        "1677-09-23",
        "2262-04-11",
        "2262-04-12",
        "9999-01-01",
    ];
    let days: Vec<String> = days.iter().map(|day| format!("DATE '{day}'")).collect();
    agree(Arc::clone(&x), "x::date", &days).await;
    let times = timestamps(
        &of,
        &["1677-09-22T00:00:00", "2262-04-11T00:00:00", "1970-01-01"],
    );
    for part in ["minute", "hour", "day"] {
        agree(Arc::clone(&x), &format!("date_trunc('{part}', x)"), &times).await;
    }
}

/// Statements through all of the optimizer, the answer and the plan.
async fn ids(ctx: &SessionContext, condition: &str) -> (String, Vec<i64>) {
    let frame = ctx
        .sql(&format!("SELECT id FROM t WHERE {condition}"))
        .await
        .unwrap();
    let plan = frame.clone().into_optimized_plan().unwrap().to_string();
    let mut found = vec![];
    for batch in frame.collect().await.unwrap() {
        found.extend(batch.column(0).as_primitive::<Int64Type>().values());
    }
    found.sort_unstable();
    (plan, found)
}

#[tokio::test]
async fn whole_statements() {
    let (plain, engine) = (session(Some(vec![])), session(None));
    let batch = table(Arc::new(instants(&NEAR_DAYS)));
    register(&plain, &batch);
    register(&engine, &batch);
    let conditions = [
        "date_trunc('month', x) = TIMESTAMP '2024-04-01'",
        "date_trunc('month', x) = TIMESTAMP '2024-04-02'",
        "date_trunc('month', x) <> TIMESTAMP '2024-04-02'",
        "NOT date_trunc('month', x) <> TIMESTAMP '2024-04-01'",
        "NOT (date_trunc('month', x) = TIMESTAMP '2024-04-02') OR id = 3",
        "(date_trunc('month', x) = TIMESTAMP '2024-04-02') IS NULL",
        "(year(x) = 2024) IS NOT TRUE",
        "date_trunc('year', x) > TIMESTAMP '2262-01-01'",
        "date_trunc('year', x) <= TIMESTAMP '2262-01-01'",
        "date_trunc('day', x) IN (TIMESTAMP '2024-02-29', TIMESTAMP '2024-04-01', '2024-05-01')",
        "date_trunc('day', x) NOT IN (TIMESTAMP '2024-02-29', TIMESTAMP '2024-04-01')",
        "year(x) = 2024",
        "year(x) BETWEEN 1969 AND 1970",
        "2024 < extract(year FROM x)",
        "x::date = DATE '2024-05-01'",
        "CAST(x AS date) BETWEEN DATE '2024-02-29' AND DATE '2024-02-29' + INTERVAL '1 month'",
        "'2024-05-01' = date(x)",
        "to_date('2024-05-01') > date(x)",
        "date_trunc('month', x) >= date_trunc('month', TIMESTAMP '2024-04-15')",
        "x::date IN (DATE '1970-01-01', DATE '1969-12-31', DATE '2000-02-29')",
    ];
    for condition in conditions {
        let (_, expected) = ids(&plain, condition).await;
        let (plan, found) = ids(&engine, condition).await;
        assert_eq!(expected, found, "{condition}:\n{plan}");
        for function in ["date_trunc(", "date_part(", "CAST("] {
            assert!(!plan.contains(function), "{condition}:\n{plan}");
        }
    }
    let (plan, _) = ids(&engine, conditions[0]).await;
    assert!(
        plan.contains("t.x >= TimestampMicrosecond(1711929600000000, None)")
            && plan.contains("t.x < TimestampMicrosecond(1714521600000000, None)"),
        "{plan}"
    );
    // A constant that is no month leaves nothing to scan.
    let (plan, _) = ids(&engine, conditions[1]).await;
    assert!(plan.starts_with("EmptyRelation"), "{plan}");
}

/// Where DataFusion's `date_trunc` fails, for want of nanoseconds, a range does not.
#[tokio::test]
async fn coarse_parts_of_far_timestamps() {
    let (plain, engine) = (session(Some(vec![])), session(None));
    let batch = table(Arc::new(instants(&FAR_DAYS)));
    register(&plain, &batch);
    register(&engine, &batch);
    let cases = [
        (
            "date_trunc('month', x) = arrow_cast('9999-12-01T00:00:00', 'Timestamp(µs)')",
            "x::date BETWEEN DATE '9999-12-01' AND DATE '9999-12-31'",
        ),
        (
            "date_trunc('year', x) <= arrow_cast('0001-01-01T00:00:00', 'Timestamp(µs)')",
            "x::date <= DATE '0001-12-31'",
        ),
        (
            "date_trunc('quarter', x) <> arrow_cast('2262-10-01T00:00:00', 'Timestamp(µs)')",
            "x::date NOT BETWEEN DATE '2262-10-01' AND DATE '2262-12-31'",
        ),
    ];
    for (coarse, same) in cases {
        let (_, expected) = ids(&plain, same).await;
        let (plan, found) = ids(&engine, coarse).await;
        assert!(!expected.is_empty(), "{same}");
        assert_eq!(expected, found, "{coarse}:\n{plan}");
    }
}

#[tokio::test]
async fn conditions_are_found_wherever_they_are() {
    let (plain, engine) = (session(Some(Optimizer::new().rules)), session(None));
    let batch = table(Arc::new(instants(&NEAR_DAYS)));
    register(&plain, &batch);
    register(&engine, &batch);
    let statements = [
        "SELECT a.id FROM (SELECT id, date_trunc('month', x) AS m FROM t) a \
         WHERE a.m = TIMESTAMP '2024-04-01'",
        "SELECT a.id FROM t a JOIN t b ON a.id = b.id AND year(b.x) = 2024",
        "SELECT a.id FROM t a LEFT JOIN t b ON a.id = b.id AND b.x::date = DATE '2024-05-01'",
        "SELECT id FROM t WHERE id IN (SELECT id FROM t WHERE date(x) = DATE '2024-05-01')",
    ];
    for sql in statements {
        let mut answers = vec![];
        for ctx in [&plain, &engine] {
            let wrapped = format!("SELECT count(*), sum(id) FROM ({sql}) AS q");
            let rows = ctx.sql(&wrapped).await.unwrap().collect().await.unwrap();
            answers.push(
                arrow::util::pretty::pretty_format_batches(&rows)
                    .unwrap()
                    .to_string(),
            );
        }
        assert!(answers.iter().all(|answer| answer == &answers[0]), "{sql}");
        let plan = engine
            .sql(sql)
            .await
            .unwrap()
            .into_optimized_plan()
            .unwrap();
        let plan = plan.to_string();
        for function in ["date_trunc(", "date_part(", "CAST("] {
            assert!(!plan.contains(function), "{sql}:\n{plan}");
        }
    }
}

#[tokio::test]
async fn prefixes_of_strings() {
    let texts = [
        "abc",
        "abcd",
        "ab",
        "a",
        "",
        "a%c",
        "a_c",
        "axc",
        "a\\c",
        "äbc",
        "äb",
        "日本語",
    ];
    let mut texts: Vec<Option<&str>> = texts.into_iter().map(Some).collect();
    texts.push(None);
    let x: ArrayRef = Arc::new(StringArray::from(texts.clone()));
    let constants: Vec<String> = [
        "abc",
        "ab",
        "",
        "a%c",
        "a_c",
        "a\\c",
        "äbc",
        "日本語",
        "abcd",
    ]
    .iter()
    .map(|text| format!("'{text}'"))
    .collect();
    let (plain, ranges) = (
        session(Some(vec![])),
        session(Some(vec![Arc::new(ColumnRanges)])),
    );
    for of in [DataType::Utf8, DataType::Utf8View, DataType::LargeUtf8] {
        let batch = table(cast(&x, &of).unwrap());
        register(&plain, &batch);
        register(&ranges, &batch);
        let mut conditions = vec![];
        for f in [
            "left(x, 3)",
            "substr(x, 1, 3)",
            "substring(x FROM 1 FOR 2)",
            "left(x, 0)",
        ] {
            for constant in &constants {
                conditions.push(format!("{f} = {constant}"));
                conditions.push(format!("{constant} <> {f}"));
                conditions.push(format!("{f} IN ({constant}, 'ab', 'axc')"));
                conditions.push(format!("{f} NOT IN ({constant}, 'ab', 'axc')"));
            }
        }
        for pattern in [
            "abc%", "a%", "%", "abc", "", r"a\%%", r"a\_c", r"a\\%", "ä%", "日本%", "a%%",
        ] {
            conditions.push(format!("x LIKE '{pattern}'"));
            conditions.push(format!("x NOT LIKE '{pattern}'"));
        }
        for constant in &constants {
            conditions.push(format!("starts_with(x, {constant})"));
        }
        let before = planned(&plain, &conditions).await;
        let after = planned(&ranges, &conditions).await;
        for ((condition, before), after) in conditions.iter().zip(&before).zip(&after) {
            let like = after
                .exists(|part| Ok(matches!(part, Expr::Like(_))))
                .unwrap();
            assert!(
                !like && !has_function(after),
                "{of}: {condition} became {after}"
            );
            assert_eq!(
                truth(&plain, &batch, before),
                truth(&plain, &batch, after),
                "{of}: {condition} became {after}"
            );
        }
        plain.deregister_table("t").unwrap();
        ranges.deregister_table("t").unwrap();
    }
}

/// What is no range, or not for sure, stays as it is.
#[tokio::test]
async fn what_is_left_alone() {
    let (plain, ranges) = (
        session(Some(vec![])),
        session(Some(vec![Arc::new(ColumnRanges)])),
    );
    let kolkata = DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("Asia/Kolkata")));
    let plain_type = DataType::Timestamp(TimeUnit::Microsecond, None);
    let nowhere = [
        (
            &kolkata,
            "date_trunc('day', x) = arrow_cast('2024-01-01T00:00:00', 'Timestamp(µs, \"Asia/Kolkata\")')",
        ),
        (&kolkata, "x::date = DATE '2024-01-01'"),
        (&kolkata, "year(x) = 2024"),
        (&plain_type, "month(x) = 5"),
        (&plain_type, "date_part('epoch', x) > 5"),
        (&plain_type, "year(x) = NULL"),
        (&plain_type, "x::date = NULL"),
        (&plain_type, "year(x) IN (2024, NULL)"),
        (&plain_type, "x + INTERVAL '1 day' > TIMESTAMP '2024-01-01'"),
        (
            &plain_type,
            "date_trunc('day', x + INTERVAL '1 day') > TIMESTAMP '2024-01-01'",
        ),
        (&plain_type, "date_trunc('day', x) = x"),
        (&plain_type, "year(x) = 1e300"),
        (&plain_type, "year(x) < CAST('NaN' AS double)"),
        (&plain_type, "year(x) < 300000"),
        (&plain_type, "TRY_CAST(x AS date) = DATE '2024-01-01'"),
        (&plain_type, "year(x) > id"),
        (&plain_type, "year(x) > random()"),
        (&plain_type, "left(to_char(x, '%Y'), 2) = '20'"),
        (&DataType::Utf8, "x LIKE 'a%c'"),
        (&DataType::Utf8, "x LIKE 'a_'"),
        (&DataType::Utf8, "x LIKE '%c'"),
        (&DataType::Utf8, "x LIKE NULL"),
        (&DataType::Utf8, "x ILIKE 'a%'"),
        (&DataType::Utf8, "left(x, -1) = 'a'"),
        (&DataType::Utf8, "substr(x, 2, 1) = 'a'"),
        (&DataType::Utf8, "left(x, 1) < 'a'"),
    ];
    for (of, condition) in nowhere {
        let batch = table(cast(&instants(&NEAR_DAYS), of).unwrap());
        register(&plain, &batch);
        register(&ranges, &batch);
        let conditions = [condition.to_string()];
        assert_eq!(
            planned(&plain, &conditions).await,
            planned(&ranges, &conditions).await,
            "{condition}"
        );
        plain.deregister_table("t").unwrap();
        ranges.deregister_table("t").unwrap();
    }
}

#[tokio::test]
async fn named_parts() {
    let engine = session(None);
    let sql = "SELECT year(x), quarter(x), month(x), week(x), day(x), hour(x), minute(x), \
               second(x), date(x), year(DATE '2021-01-01'), year(NULL::date) IS NULL, \
               date('2024-05-06') FROM (VALUES (TIMESTAMP '2024-05-06 07:08:09')) AS v(x)";
    let rows = engine.sql(sql).await.unwrap().collect().await.unwrap();
    let found: Vec<String> = rows[0]
        .columns()
        .iter()
        .map(|column| ScalarValue::try_from_array(column, 0).unwrap().to_string())
        .collect();
    assert_eq!(
        found,
        [
            "2024",
            "2",
            "5",
            "19",
            "6",
            "7",
            "8",
            "9",
            "2024-05-06",
            "2021",
            "true",
            "2024-05-06"
        ]
    );
    assert_eq!(rows[0].schema().field(0).name(), "year(v.x)");

    let grouped = "SELECT year(x) AS y, count(*) AS n, max(month(x)) AS m FROM (VALUES \
                   (TIMESTAMP '2023-01-02'), (TIMESTAMP '2024-05-06'), (TIMESTAMP '2024-03-06')) \
                   AS v(x) GROUP BY year(x) HAVING year(x) > 2000 ORDER BY year(x)";
    let rows = engine.sql(grouped).await.unwrap().collect().await.unwrap();
    let text = arrow::util::pretty::pretty_format_batches(&rows)
        .unwrap()
        .to_string();
    assert!(
        text.contains("| 2023 | 1 | 1 |") && text.contains("| 2024 | 2 | 5 |"),
        "{text}"
    );

    let wrong = engine.sql("SELECT year(5)").await.unwrap().collect().await;
    let wrong = wrong.unwrap_err().to_string();
    assert!(wrong.contains("date_part"), "{wrong}");
}
