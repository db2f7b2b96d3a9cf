//! What clients put: values for parameters, and rows for tables.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow_flight::FlightData;
use arrow_flight::decode::{DecodedPayload, FlightDataDecoder};
use arrow_flight::error::FlightError;
use arrow_flight::sql::server::PeekableFlightDataStream;
use arrow_flight::sql::{
    CommandStatementIngest, TableDefinitionOptions, TableExistsOption, TableNotExistOption,
};
use datafusion::error::DataFusionError;
use futures::{StreamExt, TryStreamExt};
use tonic::Code;

use crate::parameters::{Bound, ManyRows, ValueShape};
use crate::result::ResultShape;
use crate::rows::{self, Batches};
use crate::session::{IfMissing, IfThere, Ingest, Planned, Session};
use crate::{Error, Result};

use super::service::{carry_out, changed};
use super::statements::{Binding, Prepared};

/// Values of the parameters of one statement, at most, in bytes.
const VALUES_BYTES_MAX: usize = 32 << 20;

/// A client that sends nothing for this long has given up.
const SILENCE: Duration = Duration::from_secs(5 * 60);

/// Batches that a client sends.
pub(super) struct Put {
    schema: SchemaRef,
    batches: Batches,
}

impl Put {
    /// Waits for the schema; none when there are no columns.
    ///
    /// # Errors
    /// What is no stream of batches.
    pub(super) async fn read(stream: PeekableFlightDataStream) -> Result<Option<Self>> {
        // A message may hold the command alone.
        let messages = heard(stream).try_filter(|data| {
            let has_data = !data.data_header.is_empty();
            async move { has_data }
        });
        let mut decoder = FlightDataDecoder::new(messages);
        let schema = loop {
            match decoder.next().await {
                None => return Ok(None),
                Some(decoded) => match decoded.map_err(unreadable)?.payload {
                    DecodedPayload::Schema(schema) => break schema,
                    DecodedPayload::None => {}
                    DecodedPayload::RecordBatch(_) => {
                        return Err(Error::Sql("batches come before their schema".to_owned()));
                    }
                },
            }
        };
        let shape = ResultShape::plain(&schema);
        let schema = Arc::clone(shape.schema());
        let batches = decoder.filter_map(move |decoded| {
            let batch = match decoded.map_err(unreadable) {
                Err(error) => Some(Err(external(error))),
                Ok(decoded) => match decoded.payload {
                    DecodedPayload::RecordBatch(batch) => Some(shape.apply(batch)),
                    DecodedPayload::None => None,
                    DecodedPayload::Schema(_) => Some(Err(external(Error::Sql(
                        "the schema comes twice".to_owned(),
                    )))),
                },
            };
            async move { batch }
        });
        let batches = batches.boxed();
        Ok((!schema.fields().is_empty()).then_some(Self { schema, batches }))
    }

    /// Waits for a first row.
    async fn has_rows(&mut self) -> Result<bool> {
        while let Some(batch) = self.batches.try_next().await? {
            if batch.num_rows() > 0 {
                let rest = std::mem::replace(&mut self.batches, futures::stream::empty().boxed());
                let first = futures::stream::once(async move { Ok(batch) });
                self.batches = first.chain(rest).boxed();
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The batches as values of parameters, all of them, as far as there is room for.
    async fn collected(mut self, shape: &ValueShape) -> Result<RecordBatch> {
        let mut batches = vec![];
        let mut bytes = 0;
        while let Some(batch) = self.batches.try_next().await? {
            let columns = batch.columns().iter();
            let sizes = columns.map(|column| column.to_data().get_slice_memory_size());
            for size in sizes {
                bytes += size.map_err(DataFusionError::from)?;
            }
            if bytes > VALUES_BYTES_MAX {
                return Err(Error::ResourceExhausted(format!(
                    "values of parameters may take {} MiB; send fewer rows at a time",
                    VALUES_BYTES_MAX >> 20
                )));
            }
            batches.push(shape.apply(&batch)?);
        }
        let batch = concat_batches(shape.schema(), &batches).map_err(DataFusionError::from)?;
        Ok(batch)
    }

    /// The batches as a table of values, which is read once.
    fn table(self, shape: ValueShape) -> Result<Bound> {
        let schema = Arc::clone(shape.schema());
        let values = self
            .batches
            .map(move |batch| shape.apply(&batch?).map_err(external));
        Ok(Bound::table(rows::table(schema, values.boxed())?))
    }
}

/// The messages, or an error when none comes for too long.
fn heard(
    stream: PeekableFlightDataStream,
) -> impl futures::Stream<Item = Result<FlightData, FlightError>> + Send {
    futures::stream::try_unfold(stream, |mut stream| async move {
        match tokio::time::timeout(SILENCE, stream.next()).await {
            Ok(None) => Ok(None),
            Ok(Some(Ok(data))) => Ok(Some((data, stream))),
            Ok(Some(Err(status))) => Err(FlightError::Tonic(Box::new(status))),
            Err(_) => {
                let seconds = SILENCE.as_secs();
                let error = format!("the client sent nothing for {seconds} s");
                Err(FlightError::ProtocolError(error))
            }
        }
    })
}

fn unreadable(error: FlightError) -> Error {
    match error {
        FlightError::Tonic(status) => match status.code() {
            Code::Cancelled | Code::Aborted => Error::Cancelled,
            Code::OutOfRange | Code::ResourceExhausted => {
                Error::ResourceExhausted(status.message().to_owned())
            }
            _ => Error::Sql(format!("the rows cannot be read: {}", status.message())),
        },
        other => Error::Sql(format!("the rows cannot be read: {other}")),
    }
}

fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// Reads the values of a statement's parameters.
///
/// # Errors
/// Values that do not fit, or are too many.
pub(super) async fn values(
    prepared: &Prepared,
    stream: PeekableFlightDataStream,
) -> Result<Option<RecordBatch>> {
    let put = Put::read(stream).await?;
    match put {
        None if prepared.parameters.is_empty() => Ok(None),
        None => Err(prepared.parameters.missing()),
        Some(put) => {
            let shape = prepared.parameters.shape(&put.schema)?;
            Ok(Some(put.collected(&shape).await?))
        }
    }
}

/// Runs a statement for the rows of values that come with the request, else for those that were
/// bound; how many rows it changed, as [`changed`] counts them.
///
/// # Errors
/// The statement's. For one that is run row by row, the rows before have taken effect.
pub(super) async fn update(prepared: &Prepared, stream: PeekableFlightDataStream) -> Result<i64> {
    let parameters = &prepared.parameters;
    let (session, sql) = (&prepared.session, &prepared.sql);
    let Some(mut put) = Put::read(stream).await? else {
        return match &prepared.bound {
            Some(bound) => update_bound(prepared, bound).await,
            None if parameters.is_empty() => changed(session, session.plan(sql).await?).await,
            None => Err(parameters.missing()),
        };
    };
    let shape = parameters.shape(&put.schema)?;
    match parameters.many {
        ManyRows::Insert { .. } if !put.has_rows().await? => Ok(0),
        ManyRows::Insert { rows: 1 } => {
            let planned = session.plan_bound(sql, &put.table(shape)?).await?;
            changed(session, planned).await
        }
        ManyRows::Insert { .. } | ManyRows::Query => {
            let values = put.collected(&shape).await?;
            let planned = session.plan_bound(sql, &Bound::batch(values)).await?;
            changed(session, planned).await
        }
        ManyRows::Each => {
            let mut batches = put.batches;
            let mut total = 0_i64;
            while let Some(batch) = batches.try_next().await? {
                let changed = for_each(prepared, &shape.apply(&batch)?).await?;
                total = total.saturating_add(changed);
            }
            Ok(total)
        }
    }
}

async fn update_bound(prepared: &Prepared, bound: &Binding) -> Result<i64> {
    let (session, values) = (&prepared.session, &bound.values);
    if is_run_for_each(prepared, values) {
        return for_each(prepared, values).await;
    }
    let bound = Bound::batch(values.clone());
    let planned = session.plan_bound(&prepared.sql, &bound).await?;
    changed(session, planned).await
}

/// Whether a statement is run once for each row of values: without any, not at all.
pub(super) fn is_run_for_each(prepared: &Prepared, values: &RecordBatch) -> bool {
    match prepared.parameters.many {
        ManyRows::Query => false,
        ManyRows::Insert { .. } => values.num_rows() == 0,
        ManyRows::Each => values.num_rows() != 1,
    }
}

/// Runs a statement once for each row of values.
///
/// # Errors
/// As [`update`].
pub(super) async fn for_each(prepared: &Prepared, values: &RecordBatch) -> Result<i64> {
    let mut total = 0_i64;
    for row in 0..values.num_rows() {
        let one = Bound::batch(values.slice(row, 1));
        let planned = prepared.session.plan_bound(&prepared.sql, &one).await?;
        let changed = carry_out(&prepared.session, planned).await?;
        total = total.saturating_add(changed.unwrap_or(0).max(0));
    }
    Ok(total)
}

/// The plan of a prepared statement with the values that were bound.
///
/// # Errors
/// The statement's, and values that are missing.
pub(super) async fn planned(prepared: &Prepared) -> Result<Planned> {
    let session = &prepared.session;
    match &prepared.bound {
        Some(bound) => {
            let bound = Bound::batch(bound.values.clone());
            session.plan_bound(&prepared.sql, &bound).await
        }
        None if prepared.parameters.is_empty() => session.plan(&prepared.sql).await,
        None => Err(prepared.parameters.missing()),
    }
}

/// The schema of a prepared statement's result.
///
/// # Errors
/// The statement's.
pub(super) async fn described(prepared: &Prepared) -> Result<SchemaRef> {
    let session = &prepared.session;
    match &prepared.bound {
        Some(bound) => {
            let bound = Bound::types_only(bound.values.schema());
            session.describe_bound(&prepared.sql, &bound).await
        }
        None => Ok(session.prepare(&prepared.sql).await?.schema),
    }
}

/// Writes the rows of a request into a table; how many.
///
/// # Errors
/// What is not supported, and the statement's; nothing is left then.
pub(super) async fn ingest(
    session: &Session,
    command: CommandStatementIngest,
    stream: PeekableFlightDataStream,
) -> Result<i64> {
    let ingest = target(command)?;
    let Some(put) = Put::read(stream).await? else {
        return Err(Error::Sql(
            "the rows to be written have no columns".to_owned(),
        ));
    };
    let planned = session.ingest(&ingest, put.schema, put.batches).await?;
    Ok(carry_out(session, planned).await?.unwrap_or(-1))
}

fn target(command: CommandStatementIngest) -> Result<Ingest> {
    if command.temporary {
        return Err(Error::Unsupported(
            "temporary tables are not supported; rows go into tables of a catalog".to_owned(),
        ));
    }
    let mut options: Vec<&str> = command.options.keys().map(String::as_str).collect();
    options.sort_unstable();
    if let Some(option) = options.first() {
        return Err(Error::Unsupported(format!(
            "option {option} of an ingestion is not known; there are none"
        )));
    }
    if command.table.is_empty() {
        return Err(Error::Sql(
            "the table of an ingestion has no name".to_owned(),
        ));
    }
    let unset = |what: &str| {
        Error::Sql(format!(
            "an ingestion has to say what is done when the table {what}"
        ))
    };
    let definition = command.table_definition_options;
    let TableDefinitionOptions {
        if_not_exist,
        if_exists,
    } = definition.unwrap_or_default();
    Ok(Ingest {
        catalog: command.catalog.filter(|name| !name.is_empty()),
        schema: command.schema.filter(|name| !name.is_empty()),
        table: command.table,
        if_missing: match TableNotExistOption::try_from(if_not_exist) {
            Ok(TableNotExistOption::Create) => IfMissing::Create,
            Ok(TableNotExistOption::Fail) => IfMissing::Fail,
            Ok(TableNotExistOption::Unspecified) | Err(_) => return Err(unset("does not exist")),
        },
        if_there: match TableExistsOption::try_from(if_exists) {
            Ok(TableExistsOption::Fail) => IfThere::Fail,
            Ok(TableExistsOption::Append) => IfThere::Append,
            Ok(TableExistsOption::Replace) => IfThere::Replace,
            Ok(TableExistsOption::Unspecified) | Err(_) => return Err(unset("exists")),
        },
    })
}
