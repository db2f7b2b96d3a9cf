//! Reads the expected results that come with the lakes, and brings query results into their form.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Decimal128Type, Float32Type, Float64Type, Int64Type, TimeUnit,
    TimestampMicrosecondType,
};
use arrow::record_batch::RecordBatch;
use serde_json::Value;

/// One query with its result.
#[derive(Debug)]
pub struct Case {
    pub name: String,
    pub keys: Vec<(String, String)>,
    pub sql: String,
    pub rows: Option<Vec<Vec<Option<String>>>>,
}

impl Case {
    pub fn key(&self, name: &str) -> Option<&str> {
        self.keys
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// Result types; commas inside parentheses belong to a type.
    pub fn types(&self) -> Vec<String> {
        let mut types = vec![String::new()];
        let mut depth = 0;
        for c in self.key("types").unwrap_or("").chars() {
            match c {
                '(' => depth += 1,
                ')' => depth -= 1,
                ',' if depth == 0 => {
                    types.push(String::new());
                    continue;
                }
                _ => {}
            }
            types.last_mut().unwrap().push(c);
        }
        types.iter().map(|t| t.trim().to_string()).collect()
    }
}

pub fn cases(sql: &str, csv: &str) -> Vec<Case> {
    let mut results = blocks(csv);
    let mut cases = vec![];
    for text in sql.split("-- case: ").skip(1) {
        let mut lines = text.lines();
        let name = lines.next().unwrap().trim().to_string();
        let mut keys = vec![];
        let mut statement = vec![];
        for line in lines {
            match line.strip_prefix("-- ").and_then(|l| l.split_once(": ")) {
                Some((key, value)) if statement.is_empty() => {
                    keys.push((key.to_string(), value.to_string()));
                }
                _ => statement.push(line),
            }
        }
        let rows = results
            .iter()
            .position(|(block, _)| *block == name)
            .map(|at| results.remove(at).1);
        let sql = statement
            .join("\n")
            .trim()
            .trim_end_matches(';')
            .to_string();
        cases.push(Case {
            name,
            keys,
            sql,
            rows,
        });
    }
    cases
}

/// One row, each value as text; none for NULL.
pub type Row = Vec<Option<String>>;

/// Blocks of a results file: the case's name, and its rows without the header.
fn blocks(csv: &str) -> Vec<(String, Vec<Row>)> {
    let mut blocks: Vec<(String, Vec<Row>)> = vec![];
    let mut header = false;
    for record in records(csv) {
        let name = match record.as_slice() {
            [Some(only)] => only.strip_prefix("# case: "),
            _ => None,
        };
        if let Some(name) = name {
            blocks.push((name.to_string(), vec![]));
            header = true;
        } else if header {
            header = false;
        } else {
            blocks.last_mut().unwrap().1.push(record);
        }
    }
    blocks
}

/// RFC 4180; unquoted `\N` is NULL, empty lines are left out.
fn records(csv: &str) -> Vec<Row> {
    let mut rows = vec![];
    let mut row: Row = vec![];
    let mut field = String::new();
    let mut quoted = false;
    let mut chars = csv.chars().peekable();
    let mut any = false;
    let finish = |row: &mut Row, field: &mut String, quoted: &mut bool| {
        let text = std::mem::take(field);
        row.push((*quoted || text != "\\N").then_some(text));
        *quoted = false;
    };
    while let Some(c) = chars.next() {
        match c {
            '"' if field.is_empty() && !quoted => {
                quoted = true;
                any = true;
                while let Some(c) = chars.next() {
                    if c != '"' {
                        field.push(c);
                    } else if chars.peek() == Some(&'"') {
                        field.push('"');
                        chars.next();
                    } else {
                        break;
                    }
                }
            }
            ',' => {
                finish(&mut row, &mut field, &mut quoted);
                any = true;
            }
            '\r' => {}
            '\n' => {
                if any || !field.is_empty() {
                    finish(&mut row, &mut field, &mut quoted);
                    rows.push(std::mem::take(&mut row));
                }
                any = false;
            }
            c => field.push(c),
        }
    }
    rows
}

/// Rows of a result in the form of the expected ones.
pub fn rows(batches: &[RecordBatch]) -> Vec<Row> {
    let mut rows = vec![];
    for batch in batches {
        for row in 0..batch.num_rows() {
            rows.push(
                batch
                    .columns()
                    .iter()
                    .map(|column| column.is_valid(row).then(|| text(column, row)))
                    .collect(),
            );
        }
    }
    rows
}

fn text(array: &ArrayRef, row: usize) -> String {
    match array.data_type() {
        DataType::List(_) | DataType::Struct(_) | DataType::Map(_, _) => {
            json(array, row).to_string()
        }
        _ => scalar(array, row),
    }
}

fn scalar(array: &ArrayRef, row: usize) -> String {
    use arrow::util::display::array_value_to_string;
    match array.data_type() {
        DataType::Float32 => float(&format!(
            "{:?}",
            array.as_primitive::<Float32Type>().value(row)
        )),
        DataType::Float64 => float(&format!(
            "{:?}",
            array.as_primitive::<Float64Type>().value(row)
        )),
        DataType::Decimal128(_, scale) => {
            decimal(array.as_primitive::<Decimal128Type>().value(row), *scale)
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
            let time = chrono::DateTime::from_timestamp_micros(micros).unwrap();
            let zone = if zone.is_some() { "Z" } else { "" };
            format!("{}{zone}", time.format("%Y-%m-%d %H:%M:%S%.6f"))
        }
        DataType::Time64(TimeUnit::Microsecond) => {
            let micros = arrow::compute::cast(array, &DataType::Int64).unwrap();
            let micros = micros.as_primitive::<Int64Type>().value(row);
            let seconds = micros / 1_000_000;
            format!(
                "{:02}:{:02}:{:02}.{:06}",
                seconds / 3600,
                seconds / 60 % 60,
                seconds % 60,
                micros % 1_000_000
            )
        }
        DataType::Binary => hex(array.as_binary::<i32>().value(row)),
        DataType::BinaryView => hex(array.as_binary_view().value(row)),
        DataType::FixedSizeBinary(_) => hex(array.as_fixed_size_binary().value(row)),
        _ => array_value_to_string(array, row).unwrap(),
    }
}

/// Rust writes `1e300` where Python writes `1e+300`.
fn float(text: &str) -> String {
    match text.split_once('e') {
        Some((digits, power)) if !power.starts_with('-') => format!("{digits}e+{power}"),
        _ => text.to_string(),
    }
}

fn json(array: &ArrayRef, row: usize) -> Value {
    if array.is_null(row) {
        return Value::Null;
    }
    let list = |values: ArrayRef| -> Value {
        (0..values.len())
            .map(|i| json(&values, i))
            .collect::<Vec<_>>()
            .into()
    };
    match array.data_type() {
        DataType::List(_) => list(array.as_list::<i32>().value(row)),
        DataType::Map(_, _) => {
            let entries = array.as_map().value(row);
            (0..entries.len())
                .map(|i| Value::from(vec![json(entries.column(0), i), json(entries.column(1), i)]))
                .collect::<Vec<_>>()
                .into()
        }
        DataType::Struct(fields) => {
            let array = array.as_struct();
            let pairs = fields
                .iter()
                .zip(array.columns())
                .map(|(field, column)| (field.name().clone(), json(column, row)));
            Value::Object(pairs.collect())
        }
        DataType::Boolean => Value::Bool(array.as_boolean().value(row)),
        DataType::Int32 | DataType::Int64 => scalar(array, row).parse::<i64>().unwrap().into(),
        _ => Value::String(scalar(array, row)),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn decimal(value: i128, scale: i8) -> String {
    let digits = format!(
        "{:0width$}",
        value.unsigned_abs(),
        width = scale as usize + 1
    );
    let (whole, part) = digits.split_at(digits.len() - scale as usize);
    let sign = if value < 0 { "-" } else { "" };
    if part.is_empty() {
        format!("{sign}{whole}")
    } else {
        format!("{sign}{whole}.{part}")
    }
}

/// An expected value as results are written: JSON with sorted keys.
pub fn normal(ty: &str, value: &Option<String>) -> Option<String> {
    let value = value.as_ref()?;
    Some(match ty {
        "list" | "map" | "struct" => serde_json::from_str::<Value>(value).unwrap().to_string(),
        _ => value.clone(),
    })
}

/// Whether two values of one type are equal.
pub fn same(ty: &str, expected: &Option<String>, found: &Option<String>) -> bool {
    let (Some(expected), Some(found)) = (expected, found) else {
        return expected.is_none() && found.is_none();
    };
    match ty {
        "float" => number(expected) as f32 == number(found) as f32 || both_nan(expected, found),
        "double" => {
            let (a, b) = (number(expected), number(found));
            a == b || both_nan(expected, found) || (a - b).abs() <= 1e-9 * a.abs()
        }
        "list" | "map" | "struct" => {
            let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap();
            parse(expected) == parse(found)
        }
        _ if ty.starts_with("decimal") => trimmed(expected) == trimmed(found),
        _ => expected == found,
    }
}

fn number(text: &str) -> f64 {
    text.parse().unwrap()
}

fn both_nan(a: &str, b: &str) -> bool {
    number(a).is_nan() && number(b).is_nan()
}

fn trimmed(text: &str) -> &str {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        text
    }
}

/// How a result differs from the expected rows of a case, if it does.
pub fn difference(case: &Case, mut found: Vec<Row>) -> Option<String> {
    let types = case.types();
    let in_form = |row: &Row| -> Row {
        row.iter()
            .zip(&types)
            .map(|(value, ty)| normal(ty, value))
            .collect()
    };
    let expected = case.rows.as_ref()?;
    let mut expected: Vec<Row> = expected.iter().map(in_form).collect();
    if !case.sql.to_uppercase().contains("ORDER BY") {
        expected.sort();
        found.sort();
    }
    let equal = expected.len() == found.len()
        && expected.iter().zip(&found).all(|(a, b)| {
            a.len() == b.len()
                && types
                    .iter()
                    .zip(a.iter().zip(b))
                    .all(|(ty, (a, b))| same(ty, a, b))
        });
    (!equal).then(|| {
        let show = |rows: &[Row]| {
            let rows: Vec<String> = rows.iter().take(8).map(|row| format!("{row:?}")).collect();
            rows.join("\n    ")
        };
        format!(
            "expected\n    {}\n  found\n    {}",
            show(&expected),
            show(&found)
        )
    })
}
