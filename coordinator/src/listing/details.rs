//! The columns of tables and views. For this each is opened: several at once, each within a time,
//! and all within another.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::FieldRef;
use datafusion::catalog::TableProvider;
use futures::stream::{self, Stream, StreamExt};
use inshore_lake::TableName;
use inshore_lake::defaults;
use inshore_lake::table::IcebergTable;
use tokio::time::Instant;
use tracing::warn;

use super::{CONCURRENT, Kind, information_schema};
use crate::session::Session;
use crate::{Error, Result, system};

/// How long one table or view may take.
const ONE_DEADLINE: Duration = Duration::from_secs(30);

/// How long all of a listing may take; those that were not opened until then are left out.
const ALL_DEADLINE: Duration = Duration::from_secs(120);

/// A column of a table or view.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) field: FieldRef,
    pub(crate) comment: Option<String>,
    /// What rows get that say nothing of it, as SQL.
    pub(crate) default: Option<String>,
}

/// Opens tables and views, and gives their columns in the order in which they were named; none for
/// one that is gone or cannot be opened.
pub(crate) fn columns<'a>(
    session: &'a Session,
    relations: BTreeMap<TableName, Kind>,
) -> impl Stream<Item = (TableName, Kind, Option<Vec<Column>>)> + Send + 'a {
    let end = Instant::now() + ALL_DEADLINE;
    let opened = relations.into_iter().map(move |(name, kind)| async move {
        let columns = in_time(end, &name, columns_of(session, &name, kind)).await;
        (name, kind, columns)
    });
    stream::iter(opened).buffered(CONCURRENT)
}

/// Opens tables, in the order in which they were named; without those that cannot be opened.
pub(crate) async fn tables(
    session: &Session,
    names: Vec<TableName>,
) -> Vec<(TableName, Arc<IcebergTable>)> {
    let end = Instant::now() + ALL_DEADLINE;
    let opened = names.into_iter().map(|name| async move {
        let table = in_time(end, &name, open(session, &name)).await;
        (name, table)
    });
    let opened = stream::iter(opened).buffered(CONCURRENT);
    let opened: Vec<_> = opened.collect().await;
    let opened = opened.into_iter();
    opened
        .filter_map(|(name, table)| Some((name, table?)))
        .collect()
}

/// What came of opening something; none, with a warning in the log, after an error or too long a
/// time.
async fn in_time<T>(
    end: Instant,
    name: &TableName,
    opening: impl Future<Output = Result<Option<T>>>,
) -> Option<T> {
    let deadline = end.min(Instant::now() + ONE_DEADLINE);
    match tokio::time::timeout_at(deadline, opening).await {
        Ok(Ok(opened)) => opened,
        Ok(Err(error)) => {
            warn!(table = %name, %error, "left out of a listing");
            None
        }
        Err(_) => {
            warn!(table = %name, "left out of a listing: it was not opened in time");
            None
        }
    }
}

async fn columns_of(
    session: &Session,
    name: &TableName,
    kind: Kind,
) -> Result<Option<Vec<Column>>> {
    match kind {
        Kind::Table => Ok(open(session, name).await?.map(|table| of_table(&table))),
        Kind::View => {
            let query = format!("SELECT * FROM {name}");
            // In a box, because a statement that reads the listing is being planned itself.
            let schema = Box::pin(session.describe(&query)).await?;
            Ok(Some(plain(schema.fields())))
        }
        Kind::System if name.namespace == system::SCHEMA => {
            let table = session.node().system_table(&name.table)?;
            Ok(table.map(|table| plain(table.schema().fields())))
        }
        Kind::System => {
            let table = information_schema::table(session, &name.table).await?;
            Ok(table.map(|table| plain(table.schema().fields())))
        }
    }
}

/// A table of the session, or else of a catalog, as it is now; none where there is none.
///
/// # Errors
/// Those of opening it.
async fn open(session: &Session, name: &TableName) -> Result<Option<Arc<IcebergTable>>> {
    if let Some(table) = session.own_table(name) {
        return Ok(Some(table));
    }
    let node = session.node();
    let Some(table) = node.options.catalogs.load(name).await? else {
        return Ok(None);
    };
    let (manifests, stores) = (
        Arc::clone(&node.manifests),
        Arc::clone(&node.options.stores),
    );
    let table = IcebergTable::try_new(name.clone(), table, manifests, stores);
    table.map(Some).map_err(Error::from)
}

fn of_table(table: &IcebergTable) -> Vec<Column> {
    let fields = table.iceberg_schema().as_struct();
    let schema = table.schema();
    let columns = schema.fields().iter().map(|field| {
        let iceberg = fields.field_by_name(field.name());
        let default = iceberg.and_then(|iceberg| {
            let default = iceberg.write_default.as_ref()?;
            Some(defaults::sql(default, &iceberg.field_type))
        });
        Column {
            field: Arc::clone(field),
            comment: iceberg.and_then(|iceberg| iceberg.doc.clone()),
            default,
        }
    });
    columns.collect()
}

fn plain(fields: &[FieldRef]) -> Vec<Column> {
    let columns = fields.iter().map(|field| Column {
        field: Arc::clone(field),
        comment: None,
        default: None,
    });
    columns.collect()
}
