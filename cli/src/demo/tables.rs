//! The eight TPC-H tables: their definitions in SQL, and their rows as Arrow batches.
//!
//! Types follow DuckDB's `dbgen`: order, part, supplier and customer keys are 64 bits wide, nation
//! and region keys 32, money is decimal(15, 2). Nothing is ever NULL.

use std::fmt::{Display, Write};
use std::sync::Arc;

use anyhow::Context;
use arrow::array::{
    ArrayRef, Date32Array, Decimal128Array, Int32Array, Int64Array, RecordBatch, StringBuilder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use tpchgen::dates::TPCHDate;
use tpchgen::decimal::TPCHDecimal;
use tpchgen::generators::{
    Customer, CustomerGenerator, LineItem, LineItemGenerator, Nation, NationGenerator, Order,
    OrderGenerator, Part, PartGenerator, PartSupp, PartSuppGenerator, Region, RegionGenerator,
    Supplier, SupplierGenerator,
};

/// Rows that become one batch.
const CHUNK_ROWS: usize = 32 * 1024;

/// Digits of a money column, and those after the point.
const MONEY: (u8, i8) = (15, 2);

/// A column's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    /// 64-bit integer.
    Long,
    /// 32-bit integer.
    Int,
    /// decimal(15, 2).
    Money,
    /// Calendar date.
    Date,
    /// Text.
    Text,
}

/// A table.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// Its columns, none of them ever NULL.
    columns: &'static [(&'static str, Type)],
    /// The column whose month partitions it.
    month_of: Option<&'static str>,
    /// Which generator fills it.
    rows: Rows,
}

#[derive(Clone, Copy, Debug)]
enum Rows {
    Region,
    Nation,
    Supplier,
    Customer,
    Part,
    PartSupp,
    Orders,
    LineItem,
}

/// The columns of some rows, in order.
type Columns = anyhow::Result<Vec<ArrayRef>>;

/// Rows of a table, a batch at a time.
pub type Batches = Box<dyn Iterator<Item = anyhow::Result<RecordBatch>>>;

/// A share of a table's rows, which is generated without the others.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    /// Which one, from 1.
    pub number: i32,
    /// How many there are.
    pub of: i32,
}

use Type::{Date, Int, Long, Money, Text};

/// All tables; the largest is last.
pub const TABLES: &[Table] = &[
    Table {
        name: "region",
        columns: &[("r_regionkey", Int), ("r_name", Text), ("r_comment", Text)],
        month_of: None,
        rows: Rows::Region,
    },
    Table {
        name: "nation",
        columns: &[
            ("n_nationkey", Int),
            ("n_name", Text),
            ("n_regionkey", Int),
            ("n_comment", Text),
        ],
        month_of: None,
        rows: Rows::Nation,
    },
    Table {
        name: "supplier",
        columns: &[
            ("s_suppkey", Long),
            ("s_name", Text),
            ("s_address", Text),
            ("s_nationkey", Int),
            ("s_phone", Text),
            ("s_acctbal", Money),
            ("s_comment", Text),
        ],
        month_of: None,
        rows: Rows::Supplier,
    },
    Table {
        name: "customer",
        columns: &[
            ("c_custkey", Long),
            ("c_name", Text),
            ("c_address", Text),
            ("c_nationkey", Int),
            ("c_phone", Text),
            ("c_acctbal", Money),
            ("c_mktsegment", Text),
            ("c_comment", Text),
        ],
        month_of: None,
        rows: Rows::Customer,
    },
    Table {
        name: "part",
        columns: &[
            ("p_partkey", Long),
            ("p_name", Text),
            ("p_mfgr", Text),
            ("p_brand", Text),
            ("p_type", Text),
            ("p_size", Int),
            ("p_container", Text),
            ("p_retailprice", Money),
            ("p_comment", Text),
        ],
        month_of: None,
        rows: Rows::Part,
    },
    Table {
        name: "partsupp",
        columns: &[
            ("ps_partkey", Long),
            ("ps_suppkey", Long),
            ("ps_availqty", Long),
            ("ps_supplycost", Money),
            ("ps_comment", Text),
        ],
        month_of: None,
        rows: Rows::PartSupp,
    },
    Table {
        name: "orders",
        columns: &[
            ("o_orderkey", Long),
            ("o_custkey", Long),
            ("o_orderstatus", Text),
            ("o_totalprice", Money),
            ("o_orderdate", Date),
            ("o_orderpriority", Text),
            ("o_clerk", Text),
            ("o_shippriority", Int),
            ("o_comment", Text),
        ],
        month_of: Some("o_orderdate"),
        rows: Rows::Orders,
    },
    Table {
        name: "lineitem",
        columns: &[
            ("l_orderkey", Long),
            ("l_partkey", Long),
            ("l_suppkey", Long),
            ("l_linenumber", Long),
            ("l_quantity", Money),
            ("l_extendedprice", Money),
            ("l_discount", Money),
            ("l_tax", Money),
            ("l_returnflag", Text),
            ("l_linestatus", Text),
            ("l_shipdate", Date),
            ("l_commitdate", Date),
            ("l_receiptdate", Date),
            ("l_shipinstruct", Text),
            ("l_shipmode", Text),
            ("l_comment", Text),
        ],
        month_of: Some("l_shipdate"),
        rows: Rows::LineItem,
    },
];

impl Table {
    /// About how many rows the table has at a scale; exact except for `lineitem`, whose orders
    /// have one to seven lines, four on average.
    pub fn expected_rows(&self, scale: f64) -> u64 {
        let rows = match self.rows {
            Rows::Region => 5,
            Rows::Nation => 25,
            Rows::Supplier => SupplierGenerator::calculate_row_count(scale, 1, 1),
            Rows::Customer => CustomerGenerator::calculate_row_count(scale, 1, 1),
            Rows::Part => PartGenerator::calculate_row_count(scale, 1, 1),
            // The generator counts parts; each has four suppliers.
            Rows::PartSupp => 4 * PartSuppGenerator::calculate_row_count(scale, 1, 1),
            Rows::Orders => OrderGenerator::calculate_row_count(scale, 1, 1),
            Rows::LineItem => 4 * OrderGenerator::calculate_row_count(scale, 1, 1),
        };
        u64::try_from(rows).unwrap_or(0)
    }

    /// Divides the table into shares of about `rows` rows, but no more than `most` of them.
    pub fn shares(&self, scale: f64, rows: u64, most: u64) -> impl Iterator<Item = Share> + use<> {
        let shares = match self.rows {
            // Their generators give all rows, whatever share is asked for.
            Rows::Region | Rows::Nation => 1,
            _ => self.expected_rows(scale).div_ceil(rows).clamp(1, most),
        };
        let of = i32::try_from(shares).unwrap_or(1);
        (1..=of).map(move |number| Share { number, of })
    }

    /// Generates the rows of a share.
    pub fn batches(&self, scale: f64, Share { number, of }: Share) -> Batches {
        let schema = self.schema();
        match self.rows {
            Rows::Region => batches(
                schema,
                RegionGenerator::new(scale, number, of).iter(),
                region,
            ),
            Rows::Nation => batches(
                schema,
                NationGenerator::new(scale, number, of).iter(),
                nation,
            ),
            Rows::Supplier => batches(
                schema,
                SupplierGenerator::new(scale, number, of).iter(),
                supplier,
            ),
            Rows::Customer => batches(
                schema,
                CustomerGenerator::new(scale, number, of).iter(),
                customer,
            ),
            Rows::Part => batches(schema, PartGenerator::new(scale, number, of).iter(), part),
            Rows::PartSupp => batches(
                schema,
                PartSuppGenerator::new(scale, number, of).iter(),
                partsupp,
            ),
            Rows::Orders => batches(
                schema,
                OrderGenerator::new(scale, number, of).iter(),
                orders,
            ),
            Rows::LineItem => batches(
                schema,
                LineItemGenerator::new(scale, number, of).iter(),
                lineitem,
            ),
        }
    }

    /// What the table's batches have for columns.
    pub fn schema(&self) -> SchemaRef {
        let fields = self.columns.iter();
        let fields = fields.map(|(name, ty)| Field::new(*name, ty.arrow(), false));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    /// The columns as a `CREATE TABLE` lists them.
    pub fn definitions(&self) -> Vec<String> {
        let columns = self.columns.iter();
        let columns = columns.map(|(name, ty)| format!("{name} {} NOT NULL", ty.sql()));
        columns.collect()
    }

    /// How a `CREATE TABLE` partitions it.
    pub fn partitioning(&self) -> Option<String> {
        let column = self.month_of?;
        Some(format!("PARTITIONED BY (month({column}))"))
    }
}

impl Type {
    fn arrow(self) -> DataType {
        match self {
            Self::Long => DataType::Int64,
            Self::Int => DataType::Int32,
            Self::Money => DataType::Decimal128(MONEY.0, MONEY.1),
            Self::Date => DataType::Date32,
            Self::Text => DataType::Utf8,
        }
    }

    fn sql(self) -> String {
        match self {
            Self::Long => "bigint".to_owned(),
            Self::Int => "int".to_owned(),
            Self::Money => format!("decimal({}, {})", MONEY.0, MONEY.1),
            Self::Date => "date".to_owned(),
            Self::Text => "varchar".to_owned(),
        }
    }
}

fn batches<R: 'static>(
    schema: SchemaRef,
    mut rows: impl Iterator<Item = R> + 'static,
    columns: fn(&[R]) -> Columns,
) -> Batches {
    Box::new(std::iter::from_fn(move || {
        let chunk: Vec<R> = rows.by_ref().take(CHUNK_ROWS).collect();
        let batch = || Ok(RecordBatch::try_new(Arc::clone(&schema), columns(&chunk)?)?);
        (!chunk.is_empty()).then(batch)
    }))
}

fn region(rows: &[Region<'_>]) -> Columns {
    Ok(vec![
        ints(rows, |r| r.r_regionkey)?,
        texts(rows, |r| &r.r_name)?,
        texts(rows, |r| &r.r_comment)?,
    ])
}

fn nation(rows: &[Nation<'_>]) -> Columns {
    Ok(vec![
        ints(rows, |r| r.n_nationkey)?,
        texts(rows, |r| &r.n_name)?,
        ints(rows, |r| r.n_regionkey)?,
        texts(rows, |r| &r.n_comment)?,
    ])
}

fn supplier(rows: &[Supplier]) -> Columns {
    Ok(vec![
        longs(rows, |r| r.s_suppkey),
        texts(rows, |r| &r.s_name)?,
        texts(rows, |r| &r.s_address)?,
        ints(rows, |r| r.s_nationkey)?,
        texts(rows, |r| &r.s_phone)?,
        money(rows, |r| r.s_acctbal)?,
        texts(rows, |r| &r.s_comment)?,
    ])
}

fn customer(rows: &[Customer<'_>]) -> Columns {
    Ok(vec![
        longs(rows, |r| r.c_custkey),
        texts(rows, |r| &r.c_name)?,
        texts(rows, |r| &r.c_address)?,
        ints(rows, |r| r.c_nationkey)?,
        texts(rows, |r| &r.c_phone)?,
        money(rows, |r| r.c_acctbal)?,
        texts(rows, |r| &r.c_mktsegment)?,
        texts(rows, |r| &r.c_comment)?,
    ])
}

fn part(rows: &[Part<'_>]) -> Columns {
    Ok(vec![
        longs(rows, |r| r.p_partkey),
        texts(rows, |r| &r.p_name)?,
        texts(rows, |r| &r.p_mfgr)?,
        texts(rows, |r| &r.p_brand)?,
        texts(rows, |r| &r.p_type)?,
        ints(rows, |r| i64::from(r.p_size))?,
        texts(rows, |r| &r.p_container)?,
        money(rows, |r| r.p_retailprice)?,
        texts(rows, |r| &r.p_comment)?,
    ])
}

fn partsupp(rows: &[PartSupp<'_>]) -> Columns {
    Ok(vec![
        longs(rows, |r| r.ps_partkey),
        longs(rows, |r| r.ps_suppkey),
        longs(rows, |r| i64::from(r.ps_availqty)),
        money(rows, |r| r.ps_supplycost)?,
        texts(rows, |r| &r.ps_comment)?,
    ])
}

fn orders(rows: &[Order<'_>]) -> Columns {
    Ok(vec![
        longs(rows, |r| r.o_orderkey),
        longs(rows, |r| r.o_custkey),
        texts(rows, |r| &r.o_orderstatus)?,
        money(rows, |r| r.o_totalprice)?,
        dates(rows, |r| r.o_orderdate),
        texts(rows, |r| &r.o_orderpriority)?,
        texts(rows, |r| &r.o_clerk)?,
        ints(rows, |r| i64::from(r.o_shippriority))?,
        texts(rows, |r| &r.o_comment)?,
    ])
}

fn lineitem(rows: &[LineItem<'_>]) -> Columns {
    Ok(vec![
        longs(rows, |r| r.l_orderkey),
        longs(rows, |r| r.l_partkey),
        longs(rows, |r| r.l_suppkey),
        longs(rows, |r| i64::from(r.l_linenumber)),
        // The generator counts whole pieces; the column has cents like its neighbours.
        money(rows, |r| TPCHDecimal::new(r.l_quantity * 100))?,
        money(rows, |r| r.l_extendedprice)?,
        money(rows, |r| r.l_discount)?,
        money(rows, |r| r.l_tax)?,
        texts(rows, |r| &r.l_returnflag)?,
        texts(rows, |r| &r.l_linestatus)?,
        dates(rows, |r| r.l_shipdate),
        dates(rows, |r| r.l_commitdate),
        dates(rows, |r| r.l_receiptdate),
        texts(rows, |r| &r.l_shipinstruct)?,
        texts(rows, |r| &r.l_shipmode)?,
        texts(rows, |r| &r.l_comment)?,
    ])
}

fn longs<R>(rows: &[R], value: fn(&R) -> i64) -> ArrayRef {
    Arc::new(rows.iter().map(value).map(Some).collect::<Int64Array>())
}

fn ints<R>(rows: &[R], value: fn(&R) -> i64) -> anyhow::Result<ArrayRef> {
    let values: Result<Vec<i32>, _> = rows.iter().map(|row| i32::try_from(value(row))).collect();
    Ok(Arc::new(Int32Array::from(
        values.context("a generated number exceeds 32 bits")?,
    )))
}

fn money<R>(rows: &[R], value: fn(&R) -> TPCHDecimal) -> anyhow::Result<ArrayRef> {
    let (precision, scale) = MONEY;
    let cents: Decimal128Array = rows
        .iter()
        .map(|row| Some(i128::from(value(row).into_inner())))
        .collect();
    Ok(Arc::new(cents.with_precision_and_scale(precision, scale)?))
}

fn dates<R>(rows: &[R], value: fn(&R) -> TPCHDate) -> ArrayRef {
    Arc::new(
        rows.iter()
            .map(|row| Some(value(row).to_unix_epoch()))
            .collect::<Date32Array>(),
    )
}

fn texts<R>(rows: &[R], value: for<'r> fn(&'r R) -> &'r dyn Display) -> anyhow::Result<ArrayRef> {
    let mut builder = StringBuilder::with_capacity(rows.len(), rows.len() * 16);
    for row in rows {
        write!(builder, "{}", value(row))?;
        builder.append_value("");
    }
    Ok(Arc::new(builder.finish()))
}
