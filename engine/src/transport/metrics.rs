//! DataFusion's metrics, and those of datafusion-distributed, over the wire.
//!
//! Nothing is lost on the way but custom metrics of other makers, which have no encoding.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
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
use inshore_proto::error::{Code, RetryVerdict, WireError};
use inshore_proto::pb;
use inshore_proto::pb::metric::Value;
use sketches_ddsketch::DDSketch;

/// Encodes a set of metrics.
pub fn encode(set: &MetricsSet) -> pb::MetricsSet {
    pb::MetricsSet {
        metrics: set
            .iter()
            .filter_map(|metric| encode_metric(metric))
            .collect(),
    }
}

/// Decodes a set of metrics.
pub fn decode(set: pb::MetricsSet) -> Result<MetricsSet, WireError> {
    let mut decoded = MetricsSet::new();
    for metric in set.metrics {
        // A kind that this node does not know is shown nowhere; it harms nothing.
        if let Some(metric) = decode_metric(metric)? {
            decoded.push(Arc::new(metric));
        }
    }
    Ok(decoded)
}

fn encode_metric(metric: &Metric) -> Option<pb::Metric> {
    let labels = metric.labels().iter().map(|label| pb::Label {
        name: label.name().to_owned(),
        value: label.value().to_owned(),
    });
    let category = match metric.metric_category() {
        None => pb::Category::Unspecified,
        Some(MetricCategory::Rows) => pb::Category::Rows,
        Some(MetricCategory::Bytes) => pb::Category::Bytes,
        Some(MetricCategory::Timing) => pb::Category::Timing,
        Some(MetricCategory::Uncategorized) => pb::Category::Uncategorized,
    };
    Some(pb::Metric {
        name: given_name(metric.value()).to_owned(),
        partition: metric.partition().map(|partition| partition as u64),
        labels: labels.collect(),
        summary: metric.metric_type() == MetricType::Summary,
        category: category.into(),
        value: Some(encode_value(metric.value())?),
    })
}

/// The name of a metric of a kind that can have any name.
fn given_name(value: &MetricValue) -> &str {
    match value {
        MetricValue::Count { name, .. }
        | MetricValue::Gauge { name, .. }
        | MetricValue::Time { name, .. }
        | MetricValue::PruningMetrics { name, .. }
        | MetricValue::Ratio { name, .. }
        | MetricValue::Custom { name, .. } => name,
        _ => "",
    }
}

fn encode_value(value: &MetricValue) -> Option<Value> {
    Some(match value {
        MetricValue::OutputRows(count) => Value::OutputRows(count.value() as u64),
        MetricValue::ElapsedCompute(time) => Value::ElapsedComputeNs(time.value() as u64),
        MetricValue::SpillCount(count) => Value::SpillCount(count.value() as u64),
        MetricValue::SpilledBytes(count) => Value::SpilledBytes(count.value() as u64),
        MetricValue::OutputBytes(count) => Value::OutputBytes(count.value() as u64),
        MetricValue::OutputBatches(count) => Value::OutputBatches(count.value() as u64),
        MetricValue::SpilledRows(count) => Value::SpilledRows(count.value() as u64),
        MetricValue::CurrentMemoryUsage(gauge) => Value::CurrentMemoryBytes(gauge.value() as u64),
        MetricValue::Count { count, .. } => Value::Count(count.value() as u64),
        MetricValue::Gauge { gauge, .. } => Value::Gauge(gauge.value() as u64),
        MetricValue::Time { time, .. } => Value::TimeNs(time.value() as u64),
        MetricValue::StartTimestamp(time) => Value::Start(encode_timestamp(time)),
        MetricValue::EndTimestamp(time) => Value::End(encode_timestamp(time)),
        MetricValue::PruningMetrics {
            pruning_metrics, ..
        } => Value::Pruning(pb::Pruning {
            pruned: pruning_metrics.pruned() as u64,
            matched: pruning_metrics.matched() as u64,
            fully_matched: pruning_metrics.fully_matched() as u64,
        }),
        MetricValue::Ratio { ratio_metrics, .. } => Value::Ratio(encode_ratio(ratio_metrics)),
        MetricValue::Custom { value, .. } => return encode_custom(value.as_ref()),
    })
}

fn encode_timestamp(time: &Timestamp) -> pb::Timestamp {
    pb::Timestamp {
        unix_ns: time.value().and_then(|time| time.timestamp_nanos_opt()),
    }
}

fn encode_ratio(ratio: &RatioMetrics) -> pb::Ratio {
    let merge = match ratio.merge_strategy() {
        RatioMergeStrategy::AddPartAddTotal => pb::RatioMerge::AddPartAddTotal,
        RatioMergeStrategy::AddPartSetTotal => pb::RatioMerge::AddPartSetTotal,
        RatioMergeStrategy::SetPartAddTotal => pb::RatioMerge::SetPartAddTotal,
    };
    pb::Ratio {
        part: ratio.part() as u64,
        total: ratio.total() as u64,
        merge: merge.into(),
        display_raw_values: ratio.display_raw_values(),
    }
}

fn encode_custom(value: &dyn CustomMetricValue) -> Option<Value> {
    let any = value.as_any();
    let sketch = |sketch: datafusion::error::Result<Vec<u8>>| sketch.ok().map(Bytes::from);
    if let Some(metric) = any.downcast_ref::<BytesCounterMetric>() {
        Some(Value::ByteCount(metric.value() as u64))
    } else if let Some(metric) = any.downcast_ref::<MaxGaugeMetric>() {
        Some(Value::MaxGauge(metric.value() as u64))
    } else if let Some(metric) = any.downcast_ref::<MinLatencyMetric>() {
        Some(Value::LatencyMinNs(metric.value() as u64))
    } else if let Some(metric) = any.downcast_ref::<MaxLatencyMetric>() {
        Some(Value::LatencyMaxNs(metric.value() as u64))
    } else if let Some(metric) = any.downcast_ref::<FirstLatencyMetric>() {
        Some(Value::LatencyFirstNs(metric.value() as u64))
    } else if let Some(metric) = any.downcast_ref::<AvgLatencyMetric>() {
        Some(Value::LatencyAvg(pb::Average {
            sum_ns: metric.nanos_sum() as u64,
            count: metric.count() as u64,
        }))
    } else if let Some(metric) = any.downcast_ref::<P50LatencyMetric>() {
        sketch(metric.serialize_sketch()).map(Value::LatencyP50)
    } else if let Some(metric) = any.downcast_ref::<P75LatencyMetric>() {
        sketch(metric.serialize_sketch()).map(Value::LatencyP75)
    } else if let Some(metric) = any.downcast_ref::<P95LatencyMetric>() {
        sketch(metric.serialize_sketch()).map(Value::LatencyP95)
    } else if let Some(metric) = any.downcast_ref::<P99LatencyMetric>() {
        sketch(metric.serialize_sketch()).map(Value::LatencyP99)
    } else {
        None
    }
}

fn decode_metric(metric: pb::Metric) -> Result<Option<Metric>, WireError> {
    let category = match metric.category() {
        pb::Category::Unspecified => None,
        pb::Category::Rows => Some(MetricCategory::Rows),
        pb::Category::Bytes => Some(MetricCategory::Bytes),
        pb::Category::Timing => Some(MetricCategory::Timing),
        pb::Category::Uncategorized => Some(MetricCategory::Uncategorized),
    };
    let Some(value) = metric.value else {
        return Ok(None);
    };
    let value = decode_value(Cow::Owned(metric.name), value)?;
    let labels = metric
        .labels
        .into_iter()
        .map(|label| Label::new(label.name, label.value));
    let partition = metric.partition.map(number);
    let mut decoded = Metric::new_with_labels(value, partition, labels.collect());
    if metric.summary {
        decoded = decoded.with_type(MetricType::Summary);
    }
    if let Some(category) = category {
        decoded = decoded.with_category(category);
    }
    Ok(Some(decoded))
}

fn decode_value(name: Cow<'static, str>, value: Value) -> Result<MetricValue, WireError> {
    let custom = |name, value: Arc<dyn CustomMetricValue>| MetricValue::Custom { name, value };
    Ok(match value {
        Value::OutputRows(n) => MetricValue::OutputRows(count(n)),
        Value::ElapsedComputeNs(n) => MetricValue::ElapsedCompute(time(n)),
        Value::SpillCount(n) => MetricValue::SpillCount(count(n)),
        Value::SpilledBytes(n) => MetricValue::SpilledBytes(count(n)),
        Value::OutputBytes(n) => MetricValue::OutputBytes(count(n)),
        Value::OutputBatches(n) => MetricValue::OutputBatches(count(n)),
        Value::SpilledRows(n) => MetricValue::SpilledRows(count(n)),
        Value::CurrentMemoryBytes(n) => MetricValue::CurrentMemoryUsage(gauge(n)),
        Value::Count(n) => MetricValue::Count {
            name,
            count: count(n),
        },
        Value::Gauge(n) => MetricValue::Gauge {
            name,
            gauge: gauge(n),
        },
        Value::TimeNs(n) => MetricValue::Time {
            name,
            time: time(n),
        },
        Value::Start(at) => MetricValue::StartTimestamp(timestamp(at)),
        Value::End(at) => MetricValue::EndTimestamp(timestamp(at)),
        Value::Pruning(pruning) => MetricValue::PruningMetrics {
            name,
            pruning_metrics: decode_pruning(pruning),
        },
        Value::Ratio(ratio) => MetricValue::Ratio {
            name,
            ratio_metrics: decode_ratio(ratio),
        },
        Value::ByteCount(n) => custom(name, Arc::new(BytesCounterMetric::from_value(number(n)))),
        Value::MaxGauge(n) => custom(name, Arc::new(MaxGaugeMetric::from_value(number(n)))),
        Value::LatencyMinNs(n) => custom(name, Arc::new(MinLatencyMetric::from_nanos(number(n)))),
        Value::LatencyMaxNs(n) => custom(name, Arc::new(MaxLatencyMetric::from_nanos(number(n)))),
        Value::LatencyFirstNs(n) => {
            custom(name, Arc::new(FirstLatencyMetric::from_nanos(number(n))))
        }
        Value::LatencyAvg(avg) => custom(
            name,
            Arc::new(AvgLatencyMetric::from_raw(
                number(avg.sum_ns),
                number(avg.count),
            )),
        ),
        Value::LatencyP50(bytes) => custom(
            name,
            Arc::new(P50LatencyMetric::from_sketch(sketch(&bytes)?)),
        ),
        Value::LatencyP75(bytes) => custom(
            name,
            Arc::new(P75LatencyMetric::from_sketch(sketch(&bytes)?)),
        ),
        Value::LatencyP95(bytes) => custom(
            name,
            Arc::new(P95LatencyMetric::from_sketch(sketch(&bytes)?)),
        ),
        Value::LatencyP99(bytes) => custom(
            name,
            Arc::new(P99LatencyMetric::from_sketch(sketch(&bytes)?)),
        ),
    })
}

fn number(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn count(value: u64) -> Count {
    let count = Count::new();
    count.add(number(value));
    count
}

fn gauge(value: u64) -> Gauge {
    let gauge = Gauge::new();
    gauge.set(number(value));
    gauge
}

fn time(value_ns: u64) -> Time {
    let time = Time::new();
    // A time that was never measured stays so; DataFusion counts any duration as 1 ns at least.
    if value_ns > 0 {
        time.add_duration(Duration::from_nanos(value_ns));
    }
    time
}

fn timestamp(at: pb::Timestamp) -> Timestamp {
    let timestamp = Timestamp::new();
    if let Some(unix_ns) = at.unix_ns {
        timestamp.set(DateTime::from_timestamp_nanos(unix_ns));
    }
    timestamp
}

fn decode_pruning(pruning: pb::Pruning) -> PruningMetrics {
    let metrics = PruningMetrics::new();
    metrics.add_pruned(number(pruning.pruned));
    metrics.add_matched(number(pruning.matched));
    metrics.add_fully_matched(number(pruning.fully_matched));
    metrics
}

fn decode_ratio(ratio: pb::Ratio) -> RatioMetrics {
    let merge = match ratio.merge() {
        pb::RatioMerge::AddPartAddTotal => RatioMergeStrategy::AddPartAddTotal,
        pb::RatioMerge::AddPartSetTotal => RatioMergeStrategy::AddPartSetTotal,
        pb::RatioMerge::SetPartAddTotal => RatioMergeStrategy::SetPartAddTotal,
    };
    let metrics = RatioMetrics::new()
        .with_merge_strategy(merge)
        .with_display_raw_values(ratio.display_raw_values);
    metrics.set_part(number(ratio.part));
    metrics.set_total(number(ratio.total));
    metrics
}

/// Reads a quantile sketch, in the encoding of datafusion-distributed's `serialize_sketch`.
fn sketch(bytes: &[u8]) -> Result<DDSketch, WireError> {
    bincode::deserialize(bytes).map_err(|error| {
        WireError::new(
            Code::InvalidArgument,
            RetryVerdict::Never,
            format!("malformed latency sketch: {error}"),
        )
    })
}
