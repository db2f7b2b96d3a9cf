//! Conditions on how a string begins: `left(s, n) = c`, `substr(s, 1, n) = c`, `starts_with(s, c)`
//! and `s LIKE 'abc%'`.
//!
//! Strings are in the order of their characters, so those that begin alike are a range. A `LIKE`
//! would say the same, but DataFusion compares the bounds of view strings with a literal of another
//! type, which fails, and with it all pruning by the conditions beside it.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::functions::string::starts_with::StartsWithFunc;
use datafusion::functions::unicode::left::LeftFunc;
use datafusion::functions::unicode::substr::SubstrFunc;
use datafusion::logical_expr::expr::{Cast, ScalarFunction};
use datafusion::logical_expr::{Expr, ExprSchemable, Like, lit};

/// A column of strings.
pub(super) struct Text {
    /// The column.
    pub column: Expr,
    data_type: DataType,
}

/// What a condition on a string comes to.
pub(super) enum Condition {
    /// False for every string.
    Never,
    /// True for every string.
    Always,
    /// This.
    When(Expr),
}

impl Text {
    /// The column under casts between forms of strings.
    fn of(expr: &Expr, schema: &DFSchema) -> Option<Self> {
        let column = without_string_cast(expr, schema)?;
        matches!(column, Expr::Column(_)).then_some(())?;
        Some(Self {
            column: column.clone(),
            data_type: column.get_type(schema).ok()?,
        })
    }

    fn literal(&self, text: String) -> Option<Expr> {
        Some(lit(match self.data_type {
            DataType::Utf8 => ScalarValue::Utf8(Some(text)),
            DataType::LargeUtf8 => ScalarValue::LargeUtf8(Some(text)),
            DataType::Utf8View => ScalarValue::Utf8View(Some(text)),
            _ => return None,
        }))
    }

    fn is(&self, text: &str, negated: bool) -> Option<Condition> {
        let (column, text) = (self.column.clone(), self.literal(text.to_owned())?);
        Some(Condition::When(match negated {
            true => column.not_eq(text),
            false => column.eq(text),
        }))
    }

    /// That the string begins with this one.
    fn begins(&self, prefix: &str, negated: bool) -> Option<Condition> {
        if prefix.is_empty() {
            return Some(match negated {
                true => Condition::Never,
                false => Condition::Always,
            });
        }
        let column = || self.column.clone();
        let from = self.literal(prefix.to_owned())?;
        let end = match end_of_prefix(prefix) {
            Some(end) => Some(self.literal(end)?),
            None => None,
        };
        Some(Condition::When(match (end, negated) {
            (Some(end), false) => column().gt_eq(from).and(column().lt(end)),
            (Some(end), true) => column().lt(from).or(column().gt_eq(end)),
            (None, false) => column().gt_eq(from),
            (None, true) => column().lt(from),
        }))
    }
}

/// The first characters of a column of strings.
pub(super) struct Prefix {
    /// The column.
    pub text: Text,
    characters: usize,
}

impl Prefix {
    /// Takes an expression apart; `constant` evaluates one without columns.
    pub fn of(
        expr: &Expr,
        schema: &DFSchema,
        constant: impl Fn(&Expr) -> Option<ScalarValue>,
    ) -> Option<Self> {
        let Expr::ScalarFunction(call) = without_string_cast(expr, schema)? else {
            return None;
        };
        let function = call.func.inner();
        let (string, length) = match call.args.as_slice() {
            [string, length] if function.is::<LeftFunc>() => (string, length),
            [string, start, length] if function.is::<SubstrFunc>() => match constant(start)? {
                ScalarValue::Int64(Some(1)) => (string, length),
                _ => return None,
            },
            _ => return None,
        };
        let ScalarValue::Int64(Some(characters)) = constant(length)? else {
            return None;
        };
        Some(Self {
            text: Text::of(string, schema)?,
            // A negative length counts from the end, or is an error.
            characters: usize::try_from(characters).ok()?,
        })
    }

    /// That the first characters are (or, negated, are not) this string. One shorter than asked for
    /// is all of the column's string, a longer one never comes out.
    pub fn equals(&self, string: &str, negated: bool) -> Option<Condition> {
        match string.chars().count().cmp(&self.characters) {
            std::cmp::Ordering::Less => self.text.is(string, negated),
            std::cmp::Ordering::Equal => self.text.begins(string, negated),
            std::cmp::Ordering::Greater if negated => Some(Condition::Always),
            std::cmp::Ordering::Greater => Some(Condition::Never),
        }
    }
}

/// `s LIKE 'abc%'`; `None` for patterns that are no prefix.
pub(super) fn like(
    like: &Like,
    schema: &DFSchema,
    constant: impl Fn(&Expr) -> Option<ScalarValue>,
) -> Option<(Text, Condition)> {
    if like.case_insensitive || like.escape_char.is_some() {
        return None;
    }
    let text = Text::of(&like.expr, schema)?;
    let pattern = constant(&like.pattern)?;
    let (prefix, open) = prefix_of_pattern(pattern.try_as_str().flatten()?)?;
    let condition = match open {
        true => text.begins(&prefix, like.negated)?,
        false => text.is(&prefix, like.negated)?,
    };
    Some((text, condition))
}

/// `starts_with(s, 'abc')`.
pub(super) fn starts_with(
    call: &ScalarFunction,
    schema: &DFSchema,
    constant: impl Fn(&Expr) -> Option<ScalarValue>,
) -> Option<(Text, Condition)> {
    let [string, prefix] = call.args.as_slice() else {
        return None;
    };
    if !call.func.inner().is::<StartsWithFunc>() {
        return None;
    }
    let text = Text::of(string, schema)?;
    let prefix = constant(prefix)?;
    let condition = text.begins(prefix.try_as_str().flatten()?, false)?;
    Some((text, condition))
}

/// The text of a pattern without wildcards but perhaps a last `%`, and whether there is one.
fn prefix_of_pattern(pattern: &str) -> Option<(String, bool)> {
    let mut prefix = String::with_capacity(pattern.len());
    let mut rest = pattern.chars();
    while let Some(character) = rest.next() {
        match character {
            '%' => {
                return rest
                    .all(|character| character == '%')
                    .then_some((prefix, true));
            }
            '_' => return None,
            // Before other characters a backslash has no agreed meaning.
            '\\' => match rest.next() {
                Some(escaped @ ('%' | '_' | '\\')) => prefix.push(escaped),
                _ => return None,
            },
            other => prefix.push(other),
        }
    }
    Some((prefix, false))
}

/// The first string after all that begin with `prefix`; `None` if there is none.
fn end_of_prefix(prefix: &str) -> Option<String> {
    let mut end = prefix.to_owned();
    while let Some(last) = end.pop() {
        // Surrogates are no characters: a range of characters leaves them out.
        if let Some(next) = (last..=char::MAX).nth(1) {
            end.push(next);
            return Some(end);
        }
    }
    None
}

fn is_string(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    )
}

/// Looks through casts from one form of string to another; `None` if it is no string.
fn without_string_cast<'e>(expr: &'e Expr, schema: &DFSchema) -> Option<&'e Expr> {
    let mut inner = expr;
    loop {
        if !is_string(&inner.get_type(schema).ok()?) {
            return None;
        }
        inner = match inner {
            Expr::Cast(Cast { expr, .. }) if is_string(&expr.get_type(schema).ok()?) => expr,
            Expr::Alias(alias) => &alias.expr,
            _ => return Some(inner),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_end_where_the_next_one_begins() {
        for (prefix, end) in [
            ("abc", Some("abd")),
            ("a\u{7f}", Some("a\u{80}")),
            ("ä", Some("å")),
            ("\u{d7ff}", Some("\u{e000}")),
            ("a\u{10ffff}", Some("b")),
            ("\u{10ffff}\u{10ffff}", None),
            ("", None),
        ] {
            assert_eq!(end_of_prefix(prefix).as_deref(), end, "{prefix:?}");
        }
    }

    #[test]
    fn patterns_are_prefixes_or_nothing() {
        for (pattern, prefix) in [
            ("abc%", Some(("abc", true))),
            ("abc", Some(("abc", false))),
            ("abc%%", Some(("abc", true))),
            ("%", Some(("", true))),
            ("", Some(("", false))),
            (r"a\%b\_c\\%", Some((r"a%b_c\", true))),
            ("a%c", None),
            ("a_%", None),
            ("%c", None),
            (r"a\b%", None),
            (r"a\", None),
        ] {
            let prefix = prefix.map(|(text, open)| (text.to_owned(), open));
            assert_eq!(prefix_of_pattern(pattern), prefix, "{pattern}");
        }
    }
}
