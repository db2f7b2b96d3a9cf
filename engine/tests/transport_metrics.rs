//! Metrics survive the wire, field by field.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use datafusion::common::format::{MetricCategory, MetricType};
use datafusion::physical_plan::metrics::{
    Count, CustomMetricValue, Gauge, Label, Metric, MetricValue, MetricsSet, PruningMetrics,
    RatioMergeStrategy, RatioMetrics, Time, Timestamp,
};
use datafusion_distributed::{
    AvgLatencyMetric, BytesCounterMetric, FirstLatencyMetric, MaxGaugeMetric, MaxLatencyMetric,
    MinLatencyMetric, P50LatencyMetric, P75LatencyMetric, P95LatencyMetric, P99LatencyMetric,
};
use inshore_engine::transport::metrics::{decode, encode};
use inshore_proto::pb;

fn round_trip(metric: Metric) -> Arc<Metric> {
    let mut set = MetricsSet::new();
    set.push(Arc::new(metric));
    let decoded = decode(encode(&set)).unwrap();
    assert_eq!(decoded.iter().count(), 1);
    Arc::clone(decoded.iter().next().unwrap())
}

fn same(value: MetricValue) {
    let labels = vec![Label::new("file", "a.parquet"), Label::new("k", "v")];
    let sent = Metric::new_with_labels(value.clone(), Some(3), labels)
        .with_type(MetricType::Summary)
        .with_category(MetricCategory::Bytes);
    let received = round_trip(sent);
    assert_eq!(received.value(), &value);
    assert_eq!(received.value().name(), value.name());
    assert_eq!(received.value().to_string(), value.to_string());
    assert_eq!(received.partition(), Some(3));
    let labels: Vec<_> = received
        .labels()
        .iter()
        .map(|l| (l.name(), l.value()))
        .collect();
    assert_eq!(labels, [("file", "a.parquet"), ("k", "v")]);
    assert!(received.metric_type() == MetricType::Summary);
    assert!(received.metric_category() == Some(MetricCategory::Bytes));
}

fn count(value: usize) -> Count {
    let count = Count::new();
    count.add(value);
    count
}

fn time(nanos: u64) -> Time {
    let time = Time::new();
    time.add_duration(Duration::from_nanos(nanos));
    time
}

fn gauge(value: usize) -> Gauge {
    let gauge = Gauge::new();
    gauge.set(value);
    gauge
}

fn custom(value: impl CustomMetricValue + 'static) -> MetricValue {
    MetricValue::Custom {
        name: "custom".into(),
        value: Arc::new(value),
    }
}

#[test]
fn kinds_with_a_fixed_name() {
    same(MetricValue::OutputRows(count(1)));
    same(MetricValue::ElapsedCompute(time(2)));
    same(MetricValue::SpillCount(count(3)));
    same(MetricValue::SpilledBytes(count(4)));
    same(MetricValue::OutputBytes(count(5)));
    same(MetricValue::OutputBatches(count(6)));
    same(MetricValue::SpilledRows(count(7)));
    same(MetricValue::CurrentMemoryUsage(gauge(8)));
    let at = Timestamp::new();
    at.set(DateTime::from_timestamp(1_700_000_000, 123_456_789).unwrap());
    same(MetricValue::StartTimestamp(at.clone()));
    same(MetricValue::EndTimestamp(at));
    same(MetricValue::EndTimestamp(Timestamp::new()));
}

#[test]
fn kinds_with_a_name() {
    same(MetricValue::Count {
        name: "batches".into(),
        count: count(9),
    });
    same(MetricValue::Gauge {
        name: "max_mem_used".into(),
        gauge: gauge(10),
    });
    same(MetricValue::Time {
        name: "network_latency_sum".into(),
        time: time(11),
    });
    same(MetricValue::Time {
        name: "never".into(),
        time: Time::new(),
    });
}

#[test]
fn pruning_keeps_all_three_numbers() {
    let pruning = PruningMetrics::new();
    pruning.add_pruned(5);
    pruning.add_matched(6);
    pruning.add_fully_matched(2);
    let value = MetricValue::PruningMetrics {
        name: "row_groups".into(),
        pruning_metrics: pruning,
    };
    let received = round_trip(Metric::new(value.clone(), None));
    let MetricValue::PruningMetrics {
        pruning_metrics, ..
    } = received.value()
    else {
        panic!("another kind: {received}");
    };
    let numbers = [
        pruning_metrics.pruned(),
        pruning_metrics.matched(),
        pruning_metrics.fully_matched(),
    ];
    assert_eq!(numbers, [5, 6, 2]);
    assert_eq!(received.value().to_string(), value.to_string());
    assert_eq!(received.partition(), None);
    assert!(received.metric_type() == MetricType::Dev);
    assert!(received.metric_category().is_none());
}

#[test]
fn ratios_keep_how_they_merge_and_show() {
    for merge in [
        RatioMergeStrategy::AddPartAddTotal,
        RatioMergeStrategy::AddPartSetTotal,
        RatioMergeStrategy::SetPartAddTotal,
    ] {
        for raw in [true, false] {
            let ratio = RatioMetrics::new()
                .with_merge_strategy(merge.clone())
                .with_display_raw_values(raw);
            ratio.set_part(2);
            ratio.set_total(8);
            let value = MetricValue::Ratio {
                name: "selectivity".into(),
                ratio_metrics: ratio,
            };
            let received = round_trip(Metric::new(value.clone(), Some(0)));
            let MetricValue::Ratio { ratio_metrics, .. } = received.value() else {
                panic!("another kind: {received}");
            };
            assert_eq!((ratio_metrics.part(), ratio_metrics.total()), (2, 8));
            assert_eq!(ratio_metrics.display_raw_values(), raw);
            assert_eq!(
                format!("{:?}", ratio_metrics.merge_strategy()),
                format!("{merge:?}")
            );
            assert_eq!(received.value().to_string(), value.to_string());
        }
    }
}

#[test]
fn custom_kinds_of_datafusion_distributed() {
    same(custom(BytesCounterMetric::from_value(1 << 40)));
    same(custom(MaxGaugeMetric::from_value(12)));
    same(custom(MinLatencyMetric::from_nanos(13)));
    same(custom(MinLatencyMetric::default()));
    same(custom(MaxLatencyMetric::from_nanos(14)));
    same(custom(FirstLatencyMetric::from_nanos(15)));
    same(custom(AvgLatencyMetric::from_raw(160, 10)));
}

#[test]
fn quantiles_keep_their_sketch() {
    macro_rules! check {
        ($($kind:ident),*) => {$({
            let sent = $kind::default();
            for millis in 1..=1000 {
                sent.add_duration(Duration::from_millis(millis));
            }
            same(custom(sent.clone()));
            let received = round_trip(Metric::new(custom(sent.clone()), None));
            let MetricValue::Custom { value, .. } = received.value() else {
                panic!("another kind: {received}");
            };
            let received = value.as_any().downcast_ref::<$kind>().unwrap();
            assert_eq!((received.value(), received.count()), (sent.value(), 1000));
            // It can still be merged with others.
            let merged: Arc<dyn CustomMetricValue> = Arc::new($kind::default());
            merged.aggregate(Arc::clone(value));
            assert_eq!(merged.as_usize(), sent.value());
        })*};
    }
    check!(
        P50LatencyMetric,
        P75LatencyMetric,
        P95LatencyMetric,
        P99LatencyMetric
    );
}

#[derive(Debug)]
struct Foreign;

impl std::fmt::Display for Foreign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("foreign")
    }
}

impl CustomMetricValue for Foreign {
    fn new_empty(&self) -> Arc<dyn CustomMetricValue> {
        Arc::new(Self)
    }
    fn aggregate(&self, _: Arc<dyn CustomMetricValue>) {}
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
    fn is_eq(&self, _: &Arc<dyn CustomMetricValue>) -> bool {
        true
    }
}

#[test]
fn unknown_custom_metrics_are_left_out() {
    let mut set = MetricsSet::new();
    set.push(Arc::new(Metric::new(custom(Foreign), None)));
    set.push(Arc::new(Metric::new(
        MetricValue::OutputRows(count(1)),
        None,
    )));
    let decoded = decode(encode(&set)).unwrap();
    assert_eq!(decoded.iter().count(), 1);
    assert_eq!(decoded.output_rows(), Some(1));
}

#[test]
fn malformed_metrics() {
    let set = |value| pb::MetricsSet {
        metrics: vec![pb::Metric {
            value,
            ..pb::Metric::default()
        }],
    };
    // A kind of a later version.
    assert_eq!(decode(set(None)).unwrap().iter().count(), 0);
    for bytes in [&b""[..], &[0xff; 40]] {
        let sketch = pb::metric::Value::LatencyP50(bytes::Bytes::copy_from_slice(bytes));
        assert!(decode(set(Some(sketch))).is_err());
    }
    let extreme = pb::Timestamp {
        unix_ns: Some(i64::MIN),
    };
    decode(set(Some(pb::metric::Value::Start(extreme)))).unwrap();
}
