//! What the server can do, as `GetSqlInfo` tells it. JDBC asks for all of it when it connects.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use arrow::array::RecordBatch;
use arrow::compute::can_cast_types;
use arrow::datatypes::{DataType, IntervalUnit, SchemaRef, TimeUnit};
use arrow_flight::sql::metadata::{SqlInfoData, SqlInfoDataBuilder};
use arrow_flight::sql::{
    CommandGetSqlInfo, SqlInfo as Id, SqlNullOrdering, SqlOuterJoinsSupportLevel,
    SqlSupportedCaseSensitivity, SqlSupportedElementActions, SqlSupportedGroupBy,
    SqlSupportedResultSetConcurrency, SqlSupportedResultSetType, SqlSupportedSubqueries,
    SqlSupportedTransaction, SqlSupportedUnions, SqlSupportsConvert, SqlTransactionIsolationLevel,
};
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::keywords::{
    ALL_KEYWORDS, ALL_KEYWORDS_INDEX, RESERVED_FOR_COLUMN_ALIAS, RESERVED_FOR_IDENTIFIER,
    RESERVED_FOR_TABLE_ALIAS,
};

use super::put_together;
use crate::flight::sessions::SESSIONS_MAX;
use crate::flight::statements::{PREPARED_IDLE, STATEMENTS_MAX};
use crate::node::Coordinator;
use crate::{Error, Result};

/// The version of Arrow's format.
const ARROW_VERSION: &str = "1.3";

/// What one server tells, put together when it is first asked for.
#[derive(Default)]
pub(in crate::flight) struct ServerInfo {
    told: OnceLock<std::result::Result<Told, String>>,
}

struct Told {
    data: SqlInfoData,
    ids: BTreeSet<u32>,
}

impl ServerInfo {
    /// The schema of [`ServerInfo::answer`].
    ///
    /// # Errors
    /// A defect of ours.
    pub(super) fn schema(&self, node: &Coordinator) -> Result<SchemaRef> {
        Ok(self.told(node)?.data.schema())
    }

    /// What was asked for, as far as it is known; everything when nothing was.
    ///
    /// # Errors
    /// A defect of ours.
    pub(super) fn answer(
        &self,
        node: &Coordinator,
        query: CommandGetSqlInfo,
    ) -> Result<RecordBatch> {
        let told = self.told(node)?;
        if query.info.is_empty() {
            return put_together(told.data.record_batch([]));
        }
        let asked: BTreeSet<u32> = query.info.into_iter().collect();
        let known: Vec<u32> = asked.intersection(&told.ids).copied().collect();
        match known.is_empty() {
            // No condition would stand for all of them.
            true => Ok(RecordBatch::new_empty(told.data.schema())),
            false => put_together(told.data.record_batch(known)),
        }
    }

    fn told(&self, node: &Coordinator) -> Result<&Told> {
        let told = self.told.get_or_init(|| {
            let mut info = Info::default();
            server(&mut info);
            identifiers(&mut info);
            functions(&mut info, node);
            queries(&mut info);
            limits(&mut info);
            transactions(&mut info);
            let data = info.builder.build().map_err(|error| error.to_string())?;
            Ok(Told {
                data,
                ids: info.ids,
            })
        });
        let broken = |error: &String| Error::Execution(DataFusionError::Internal(error.clone()));
        told.as_ref().map_err(broken)
    }
}

/// A value of one of the types that there are for it.
enum Value {
    Text(&'static str),
    Flag(bool),
    Count(i64),
    Bits(i32),
    Texts(Vec<String>),
    Map(BTreeMap<i32, Vec<i32>>),
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<i64> for Value {
    fn from(count: i64) -> Self {
        Self::Count(count)
    }
}

impl From<i32> for Value {
    fn from(bits: i32) -> Self {
        Self::Bits(bits)
    }
}

impl From<Vec<String>> for Value {
    fn from(texts: Vec<String>) -> Self {
        Self::Texts(texts)
    }
}

impl From<BTreeMap<i32, Vec<i32>>> for Value {
    fn from(map: BTreeMap<i32, Vec<i32>>) -> Self {
        Self::Map(map)
    }
}

#[derive(Default)]
struct Info {
    builder: SqlInfoDataBuilder,
    ids: BTreeSet<u32>,
}

impl Info {
    fn tell(&mut self, id: Id, value: impl Into<Value>) {
        match value.into() {
            Value::Text(text) => self.builder.append(id, text),
            Value::Flag(flag) => self.builder.append(id, flag),
            Value::Count(count) => self.builder.append(id, count),
            Value::Bits(bits) => self.builder.append(id, bits),
            Value::Texts(texts) => self.builder.append(id, texts),
            Value::Map(map) => self.builder.append(id, map),
        }
        self.ids.insert(id as u32);
    }

    /// Several of a list of alternatives, by their numbers.
    fn tell_set(&mut self, id: Id, alternatives: impl IntoIterator<Item = i32>) {
        let bits = alternatives
            .into_iter()
            .fold(0, |bits, place| bits | (1 << place));
        self.tell(id, bits);
    }
}

fn server(info: &mut Info) {
    info.tell(Id::FlightSqlServerName, "Inshore");
    info.tell(Id::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    info.tell(Id::FlightSqlServerArrowVersion, ARROW_VERSION);
    info.tell(Id::FlightSqlServerReadOnly, false);
    info.tell(Id::FlightSqlServerSql, true);
    info.tell(Id::FlightSqlServerSubstrait, false);
    info.tell(
        Id::FlightSqlServerTransaction,
        SqlSupportedTransaction::None as i32,
    );
    info.tell(Id::FlightSqlServerCancel, true);
    info.tell(Id::FlightSqlServerBulkIngestion, true);
    info.tell(Id::FlightSqlServerIngestTransactionsSupported, false);
    let idle = i32::try_from(PREPARED_IDLE.as_millis()).unwrap_or(i32::MAX);
    info.tell(Id::FlightSqlServerStatementTimeout, idle);
    // There are none that could time out.
    info.tell(Id::FlightSqlServerTransactionTimeout, 0);
    // Catalogs are configured.
    info.tell(Id::SqlDdlCatalog, false);
    info.tell(Id::SqlDdlSchema, true);
    info.tell(Id::SqlDdlTable, true);
}

fn identifiers(info: &mut Info) {
    info.tell(
        Id::SqlIdentifierCase,
        SqlSupportedCaseSensitivity::SqlCaseSensitivityLowercase as i32,
    );
    info.tell(Id::SqlIdentifierQuoteChar, "\"");
    // They are exact, for which there is no word.
    info.tell(
        Id::SqlQuotedIdentifierCase,
        SqlSupportedCaseSensitivity::SqlCaseSensitivityUnknown as i32,
    );
    info.tell(Id::SqlExtraNameCharacters, "#$@");
    info.tell(Id::SqlSearchStringEscape, "\\");
    info.tell(Id::SqlCatalogTerm, "catalog");
    info.tell(Id::SqlSchemaTerm, "schema");
    info.tell(Id::SqlProcedureTerm, "procedure");
    info.tell(Id::SqlCatalogAtStart, true);
    let calls = SqlSupportedElementActions::SqlElementInProcedureCalls as i32;
    info.tell_set(Id::SqlSchemasSupportedActions, [calls]);
    info.tell_set(Id::SqlCatalogsSupportedActions, [calls]);
    info.tell(Id::SqlKeywords, keywords());
}

/// The words that are no names unless they are quoted.
fn keywords() -> Vec<String> {
    let reserved = [
        RESERVED_FOR_TABLE_ALIAS,
        RESERVED_FOR_COLUMN_ALIAS,
        RESERVED_FOR_IDENTIFIER,
    ];
    let words = ALL_KEYWORDS_INDEX.iter().zip(ALL_KEYWORDS);
    let words = words.filter(|(word, _)| reserved.iter().any(|list| list.contains(word)));
    words.map(|(_, text)| (*text).to_owned()).collect()
}

/// The functions of a session, as far as they fit one of the four lists.
fn functions(info: &mut Info, node: &Coordinator) {
    let own = inshore_engine::functions::all();
    let state = node.local_state(node.base_config());
    let mut lists: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (name, function) in state.scalar_functions() {
        let section = function.documentation().map(|text| text.doc_section.label);
        let list = match section {
            Some("Math Functions") => "numeric",
            Some("String Functions" | "Regular Expression Functions") => "string",
            Some("Binary String Functions") => "string",
            Some("Time and Date Functions") => "datetime",
            Some("Conditional Functions" | "Hashing Functions" | "Other Functions") => "system",
            // Parts of dates, and the date of a time.
            None if own.iter().any(|own| own.name() == name) => "datetime",
            _ => continue,
        };
        lists.entry(list).or_default().insert(name.clone());
    }
    for (id, list) in [
        (Id::SqlNumericFunctions, "numeric"),
        (Id::SqlStringFunctions, "string"),
        (Id::SqlSystemFunctions, "system"),
        (Id::SqlDatetimeFunctions, "datetime"),
    ] {
        let names = lists.remove(list).unwrap_or_default();
        info.tell(id, names.into_iter().collect::<Vec<String>>());
    }
}

fn queries(info: &mut Info) {
    info.tell(Id::SqlAllTablesAreSelectable, true);
    // ORDER BY puts NULL last, and first with DESC.
    info.tell(
        Id::SqlNullOrdering,
        SqlNullOrdering::SqlNullsSortedHigh as i32,
    );
    info.tell(Id::SqlSupportsColumnAliasing, true);
    info.tell(Id::SqlNullPlusNullIsNull, true);
    info.tell(Id::SqlSupportsConvert, conversions());
    info.tell(Id::SqlSupportsTableCorrelationNames, true);
    // They may be those of other tables.
    info.tell(Id::SqlSupportsDifferentTableCorrelationNames, false);
    info.tell(Id::SqlSupportsExpressionsInOrderBy, true);
    info.tell(Id::SqlSupportsOrderByUnrelated, true);
    info.tell_set(
        Id::SqlSupportedGroupBy,
        [
            SqlSupportedGroupBy::SqlGroupByUnrelated as i32,
            SqlSupportedGroupBy::SqlGroupByBeyondSelect as i32,
        ],
    );
    // The backslash is the only one.
    info.tell(Id::SqlSupportsLikeEscapeClause, false);
    info.tell(Id::SqlSupportsNonNullableColumns, true);
    // Of both, the least includes UPDATE and DELETE.
    info.tell_set(Id::SqlSupportedGrammar, []);
    info.tell_set(Id::SqlAnsi92SupportedLevel, []);
    info.tell(Id::SqlSupportsIntegrityEnhancementFacility, false);
    // Its description says a number, and JDBC reads a set.
    info.tell_set(
        Id::SqlOuterJoinsSupportLevel,
        [
            SqlOuterJoinsSupportLevel::SqlLimitedOuterJoins as i32,
            SqlOuterJoinsSupportLevel::SqlFullOuterJoins as i32,
        ],
    );
    info.tell_set(Id::SqlSupportedPositionedCommands, []);
    info.tell(Id::SqlSelectForUpdateSupported, false);
    // CALL is there, JDBC's {call ...} is not.
    info.tell(Id::SqlStoredProceduresSupported, false);
    info.tell(Id::SqlStoredFunctionsUsingCallSyntaxSupported, false);
    info.tell(Id::SqlNamedParametersSupported, false);
    info.tell_set(
        Id::SqlSupportedSubqueries,
        [
            SqlSupportedSubqueries::SqlSubqueriesInComparisons as i32,
            SqlSupportedSubqueries::SqlSubqueriesInExists as i32,
            SqlSupportedSubqueries::SqlSubqueriesInIns as i32,
            SqlSupportedSubqueries::SqlSubqueriesInQuantifieds as i32,
        ],
    );
    info.tell(Id::SqlCorrelatedSubqueriesSupported, true);
    info.tell_set(
        Id::SqlSupportedUnions,
        [
            SqlSupportedUnions::SqlUnion as i32,
            SqlSupportedUnions::SqlUnionAll as i32,
        ],
    );
}

/// Which types can be cast to which.
fn conversions() -> BTreeMap<i32, Vec<i32>> {
    use DataType as D;
    use SqlSupportsConvert as C;
    let types = [
        (C::SqlConvertBigint, D::Int64),
        (C::SqlConvertBinary, D::Binary),
        (C::SqlConvertBit, D::Boolean),
        (C::SqlConvertChar, D::Utf8),
        (C::SqlConvertDate, D::Date32),
        (C::SqlConvertDecimal, D::Decimal128(38, 10)),
        (C::SqlConvertFloat, D::Float64),
        (C::SqlConvertInteger, D::Int32),
        (
            C::SqlConvertIntervalDayTime,
            D::Interval(IntervalUnit::MonthDayNano),
        ),
        (
            C::SqlConvertIntervalYearMonth,
            D::Interval(IntervalUnit::MonthDayNano),
        ),
        (C::SqlConvertLongvarbinary, D::Binary),
        (C::SqlConvertLongvarchar, D::Utf8),
        (C::SqlConvertNumeric, D::Decimal128(38, 10)),
        (C::SqlConvertReal, D::Float32),
        (C::SqlConvertSmallint, D::Int16),
        (C::SqlConvertTime, D::Time64(TimeUnit::Microsecond)),
        (
            C::SqlConvertTimestamp,
            D::Timestamp(TimeUnit::Microsecond, None),
        ),
        (C::SqlConvertTinyint, D::Int8),
        (C::SqlConvertVarbinary, D::Binary),
        (C::SqlConvertVarchar, D::Utf8),
    ];
    let to = |from: &D| -> Vec<i32> {
        let targets = types.iter().filter(|(_, to)| can_cast_types(from, to));
        targets.map(|(id, _)| *id as i32).collect()
    };
    types
        .iter()
        .map(|(id, from)| (*id as i32, to(from)))
        .collect()
}

fn limits(info: &mut Info) {
    // 0: there is no limit, or none that is known beforehand.
    for id in [
        Id::SqlMaxBinaryLiteralLength,
        Id::SqlMaxCharLiteralLength,
        Id::SqlMaxColumnNameLength,
        Id::SqlMaxColumnsInGroupBy,
        Id::SqlMaxColumnsInIndex,
        Id::SqlMaxColumnsInOrderBy,
        Id::SqlMaxColumnsInSelect,
        Id::SqlMaxColumnsInTable,
        Id::SqlMaxCursorNameLength,
        Id::SqlMaxIndexLength,
        Id::SqlDbSchemaNameLength,
        Id::SqlMaxProcedureNameLength,
        Id::SqlMaxCatalogNameLength,
        Id::SqlMaxRowSize,
        Id::SqlMaxStatementLength,
        Id::SqlMaxTableNameLength,
        Id::SqlMaxTablesInSelect,
        Id::SqlMaxUsernameLength,
    ] {
        info.tell(id, 0_i64);
    }
    let count = |limit: usize| i64::try_from(limit).unwrap_or(i64::MAX);
    info.tell(Id::SqlMaxConnections, count(SESSIONS_MAX));
    info.tell(Id::SqlMaxStatements, count(STATEMENTS_MAX));
    info.tell(Id::SqlMaxRowSizeIncludesBlobs, true);
}

/// There are no transactions: each statement happens as a whole or not at all. The level of
/// isolation that is the default (562) is left out, since JDBC reads it as another type than the
/// one that is specified.
fn transactions(info: &mut Info) {
    info.tell(Id::SqlTransactionsSupported, false);
    info.tell_set(
        Id::SqlSupportedTransactionsIsolationLevels,
        [SqlTransactionIsolationLevel::SqlTransactionNone as i32],
    );
    info.tell(Id::SqlDataDefinitionCausesTransactionCommit, false);
    info.tell(Id::SqlDataDefinitionsInTransactionsIgnored, false);
    // A prepared statement takes many rows of values.
    info.tell(Id::SqlBatchUpdatesSupported, true);
    info.tell(Id::SqlSavepointsSupported, false);
    info.tell(Id::SqlLocatorsUpdateCopy, false);
    // Results are read once, from the first row to the last.
    let read_only = SqlSupportedResultSetConcurrency::SqlResultSetConcurrencyReadOnly as i32;
    info.tell_set(
        Id::SqlSupportedResultSetTypes,
        [SqlSupportedResultSetType::SqlResultSetTypeForwardOnly as i32],
    );
    info.tell_set(
        Id::SqlSupportedConcurrenciesForResultSetForwardOnly,
        [read_only],
    );
    for id in [
        Id::SqlSupportedConcurrenciesForResultSetUnspecified,
        Id::SqlSupportedConcurrenciesForResultSetScrollSensitive,
        Id::SqlSupportedConcurrenciesForResultSetScrollInsensitive,
    ] {
        info.tell_set(id, []);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_conversions_are_listed() {
        let words = keywords();
        for word in ["SELECT", "FROM", "WHERE"] {
            assert!(words.iter().any(|known| known == word), "{word}");
        }
        let conversions = conversions();
        let of = |from: SqlSupportsConvert, to: SqlSupportsConvert| {
            conversions
                .get(&(from as i32))
                .is_some_and(|targets| targets.contains(&(to as i32)))
        };
        assert!(of(
            SqlSupportsConvert::SqlConvertVarchar,
            SqlSupportsConvert::SqlConvertInteger
        ));
        assert!(!of(
            SqlSupportsConvert::SqlConvertBit,
            SqlSupportsConvert::SqlConvertTimestamp
        ));
    }
}
