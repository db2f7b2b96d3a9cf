//! Questions by raw calls, whose answers have to be what was announced.
#![allow(clippy::unwrap_used, clippy::panic, dead_code)]

use std::collections::BTreeMap;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::Schema;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::{CommandGetTables, CommandStatementQuery, ProstMessageExt};
use arrow_flight::{FlightDescriptor, IpcMessage};
use futures::TryStreamExt;
use inshore_testkit::{Cluster, rows};
use prost::Message;
use tonic::transport::{Channel, Endpoint};

/// A client that looks at all it is told.
pub struct Client(FlightServiceClient<Channel>);

impl Client {
    pub async fn of(cluster: &Cluster) -> Self {
        let endpoint = Endpoint::from_shared(cluster.address()).unwrap();
        Self(FlightServiceClient::new(endpoint.connect().await.unwrap()))
    }

    /// The answer to a command. What it will look like is told beforehand, in two ways.
    pub async fn ask(&mut self, command: &impl ProstMessageExt) -> RecordBatch {
        let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
        let told = self.0.get_schema(descriptor.clone()).await.unwrap();
        let told = Schema::try_from(&told.into_inner()).unwrap();
        let info = self.0.get_flight_info(descriptor).await.unwrap();
        let info = info.into_inner();
        let announced = info.clone().try_decode_schema().unwrap();
        assert_eq!(told, announced);
        let ticket = info.endpoint[0].ticket.clone().unwrap();
        let data = self.0.do_get(ticket).await.unwrap().into_inner();
        let mut stream = FlightRecordBatchStream::new_from_flight_data(data.map_err(Into::into));
        let mut batches = Vec::new();
        while let Some(batch) = stream.try_next().await.unwrap() {
            batches.push(batch);
        }
        let delivered = stream.schema().unwrap().clone();
        assert_eq!(&announced, delivered.as_ref());
        concat_batches(&delivered, &batches).unwrap()
    }

    pub async fn sql(&mut self, sql: &str) -> RecordBatch {
        let query = CommandStatementQuery {
            query: sql.to_owned(),
            transaction_id: None,
        };
        self.ask(&query).await
    }

    /// The rows of a statement, in order.
    pub async fn rows(&mut self, sql: &str) -> Vec<String> {
        lines(&self.sql(sql).await)
    }

    /// `catalog|schema|table|type` of the tables that fit.
    pub async fn tables(
        &mut self,
        catalog: Option<&str>,
        schema: &str,
        table: &str,
    ) -> Vec<String> {
        let query = CommandGetTables {
            catalog: catalog.map(str::to_owned),
            db_schema_filter_pattern: (schema != "-").then(|| schema.to_owned()),
            table_name_filter_pattern: (table != "-").then(|| table.to_owned()),
            ..CommandGetTables::default()
        };
        lines(&self.ask(&query).await)
    }

    /// The tables of a schema with their columns.
    pub async fn columns(&mut self, schema: &str) -> BTreeMap<String, Schema> {
        let query = CommandGetTables {
            db_schema_filter_pattern: Some(schema.to_owned()),
            include_schema: true,
            ..CommandGetTables::default()
        };
        let found = self.ask(&query).await;
        let names = found.column_by_name("table_name").unwrap();
        let schemas = found.column_by_name("table_schema").unwrap();
        let schemas = schemas.as_binary::<i32>().iter().flatten();
        let schemas = schemas.map(|bytes| Schema::try_from(IpcMessage(bytes.to_vec().into())));
        let names = names.as_string::<i32>().iter().flatten();
        let found = names.map(str::to_owned).zip(schemas.map(Result::unwrap));
        found.collect()
    }
}

/// The rows of a batch, in order.
pub fn lines(batch: &RecordBatch) -> Vec<String> {
    rows::in_order(std::slice::from_ref(batch)).unwrap()
}

/// Runs statements one after the other.
pub async fn run(cluster: &Cluster, statements: &[&str]) {
    for sql in statements {
        let done = cluster.rows(sql).await;
        done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
}
