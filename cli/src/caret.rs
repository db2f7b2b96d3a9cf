//! Shows where in a statement an error lies: the line, and a caret under the column.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Columns of a source line that are shown at most; longer lines are cut around the place.
const SHOWN_COLUMNS: usize = 100;

/// A place in a statement: line and column from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// Finds the last `line N, column M` of a message; the parser spells it `Line: N, Column: M`.
pub fn position(message: &str) -> Option<Position> {
    let lower = message.to_ascii_lowercase();
    let mut found = None;
    for (at, word) in lower.match_indices("line") {
        let rest = lower.get(at + word.len()..).unwrap_or("");
        let place = number(rest).and_then(|(line, rest)| {
            let rest = rest.trim_start_matches([',', ' ']).strip_prefix("column")?;
            let (column, _) = number(rest)?;
            Some(Position { line, column })
        });
        found = place.or(found);
    }
    found.filter(|place| place.line > 0 && place.column > 0)
}

/// The number at the start, after `:` and blanks, and what follows it.
fn number(text: &str) -> Option<(usize, &str)> {
    let text = text.trim_start_matches([':', ' ']);
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let digits = text.get(..end)?;
    Some((digits.parse().ok()?, text.get(end..)?))
}

/// The line of `sql` at the position and a caret under it, or `None` when the position lies
/// outside. `first_line` is the number of the statement's first line in its file.
pub fn excerpt(sql: &str, at: Position, first_line: usize) -> Option<String> {
    let line = sql.lines().nth(at.line - 1)?;
    let chars: Vec<char> = line
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    // One past the end is where a parser finds the end of the input.
    if at.column > chars.len() + 1 {
        return None;
    }
    let caret = at.column - 1;
    let from = if chars.len() > SHOWN_COLUMNS {
        caret.saturating_sub(SHOWN_COLUMNS / 2)
    } else {
        0
    };
    let to = chars.len().min(from + SHOWN_COLUMNS);
    let shown: String = chars.get(from..to)?.iter().collect();
    let before: usize = chars
        .get(from..caret)?
        .iter()
        .filter_map(|c| c.width())
        .sum();
    let cut = if from > 0 { "…" } else { "" };
    let label = (first_line + at.line - 1).to_string();
    let margin = " ".repeat(label.width());
    let indent = " ".repeat(before + cut.width());
    let more = if to < chars.len() { "…" } else { "" };
    Some(format!(
        "{label} | {cut}{shown}{more}\n{margin} | {indent}^"
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn positions_are_found_in_messages() {
        let place = |line, column| Some(Position { line, column });
        assert_eq!(
            position("Expected: x, found: y at Line: 1, Column: 8"),
            place(1, 8)
        );
        assert_eq!(position("no field `a` at line 12, column 3"), place(12, 3));
        assert_eq!(
            position("in line 4: no field at line 2, column 5."),
            place(2, 5)
        );
        assert_eq!(position("offline 3 workers"), None);
        assert_eq!(position("line 0, column 0"), None);
        assert_eq!(position("line 99999999999999999999999, column 1"), None);
    }

    #[test]
    fn the_caret_stands_under_the_column() {
        let sql = "select 1\n  from nowhere";
        let text = excerpt(sql, Position { line: 2, column: 8 }, 10).unwrap();
        assert_eq!(text, "11 |   from nowhere\n   |        ^");
        let text = excerpt(
            "select\tä, 日本 x",
            Position {
                line: 1,
                column: 14,
            },
            1,
        )
        .unwrap();
        assert_eq!(text, "1 | select ä, 日本 x\n  |                ^");
    }

    #[test]
    fn the_end_of_the_input_is_a_place_and_beyond_is_none() {
        assert!(excerpt("select", Position { line: 1, column: 7 }, 1).is_some());
        assert!(excerpt("select", Position { line: 1, column: 8 }, 1).is_none());
        assert!(excerpt("select", Position { line: 2, column: 1 }, 1).is_none());
    }

    #[test]
    fn long_lines_are_cut_around_the_place() {
        let sql = format!("select {} from t", "x".repeat(500));
        let text = excerpt(
            &sql,
            Position {
                line: 1,
                column: 300,
            },
            1,
        )
        .unwrap();
        assert!(
            text.lines().all(|line| line.width() <= SHOWN_COLUMNS + 10),
            "{text}"
        );
    }
}
