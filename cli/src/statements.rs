//! Cuts a text into statements at `;`, minding quotes, comments and dollar quotes.

/// One statement of a longer text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Its text from the first word on, without the `;`.
    pub text: String,
    /// The line of the whole text where it begins, from 1.
    pub line: usize,
}

/// A text cut into statements.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// The statements that a `;` ended.
    pub ended: Vec<Statement>,
    /// What follows the last `;`, unless it is blank or comments only.
    pub open: Option<Statement>,
}

impl Split {
    /// All statements, the last one with or without its `;`.
    pub fn all(self) -> Vec<Statement> {
        self.ended.into_iter().chain(self.open).collect()
    }
}

/// Cuts a text.
pub fn split(text: &str) -> Split {
    let mut out = Split::default();
    let mut scanner = Scanner { text, at: 0 };
    let mut start: Option<usize> = None;
    let mut from = (0, 1);
    let mut statement = |start: usize, end: usize| {
        let (offset, line) = from;
        let line = line + count_lines(text.get(offset..start).unwrap_or(""));
        from = (start, line);
        let text = text.get(start..end).unwrap_or("").trim_end().to_owned();
        Statement { text, line }
    };
    while let Some((token, at)) = scanner.next() {
        match token {
            Token::Blank => {}
            Token::End => {
                if let Some(start) = start.take() {
                    out.ended.push(statement(start, at));
                }
            }
            Token::Text => start = start.or(Some(at)),
        }
    }
    out.open = start.map(|start| statement(start, text.len()));
    out
}

fn count_lines(text: &str) -> usize {
    text.bytes().filter(|byte| *byte == b'\n').count()
}

enum Token {
    /// White space or a comment.
    Blank,
    /// `;`
    End,
    /// Anything else; a quoted text is one token.
    Text,
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl Scanner<'_> {
    /// The next token and where it begins.
    fn next(&mut self) -> Option<(Token, usize)> {
        let at = self.at;
        let rest = self.text.get(at..)?;
        let first = rest.chars().next()?;
        let (token, length) = match first {
            ';' => (Token::End, 1),
            '-' if rest.starts_with("--") => (
                Token::Blank,
                rest.find('\n').map_or(rest.len(), |end| end + 1),
            ),
            '/' if rest.starts_with("/*") => (Token::Blank, block_comment(rest)),
            '\'' => (Token::Text, quoted(rest, '\'', self.escapes(at))),
            '"' | '`' => (Token::Text, quoted(rest, first, false)),
            '$' => (Token::Text, dollar_quoted(rest)),
            // A whole word at once, so that a `$` inside of it opens nothing.
            first if is_word(first) => {
                let end = rest.find(|c| !is_word(c) && c != '$').unwrap_or(rest.len());
                (Token::Text, end)
            }
            first if first.is_whitespace() => (Token::Blank, first.len_utf8()),
            first => (Token::Text, first.len_utf8()),
        };
        self.at += length;
        Some((token, at))
    }

    /// Whether the quote at `at` follows a lone `E`: such a text has backslash escapes.
    fn escapes(&self, at: usize) -> bool {
        let mut before = self.text.get(..at).unwrap_or("").chars().rev();
        matches!(before.next(), Some('e' | 'E')) && !before.next().is_some_and(is_word)
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Length of the quoted text at the start; a doubled quote stands for itself.
fn quoted(text: &str, quote: char, escapes: bool) -> usize {
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if escapes && c == '\\' {
            chars.next();
        } else if c == quote {
            if chars.peek().is_some_and(|(_, next)| *next == quote) {
                chars.next();
            } else {
                return at + c.len_utf8();
            }
        }
    }
    text.len()
}

/// Length of the comment at the start; such comments nest.
fn block_comment(text: &str) -> usize {
    let bytes = text.as_bytes();
    let (mut at, mut depth) = (0, 0_usize);
    while at < bytes.len() {
        match bytes.get(at..at + 2) {
            Some(b"/*") => (depth, at) = (depth + 1, at + 2),
            Some(b"*/") => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// Length of `$tag$ … $tag$` at the start; 1 when the `$` opens no such text (as in `$1`).
fn dollar_quoted(text: &str) -> usize {
    let Some(end) = text.get(1..).and_then(|rest| rest.find('$')) else {
        return 1;
    };
    let tag = text.get(..end + 2).unwrap_or("");
    let inner = tag.trim_matches('$');
    let named = inner.chars().all(is_word) && !inner.starts_with(|c: char| c.is_ascii_digit());
    if !named {
        return 1;
    }
    let body = text.get(tag.len()..).unwrap_or("");
    body.find(tag)
        .map_or(text.len(), |close| tag.len() + close + tag.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(sql: &str) -> (Vec<String>, Option<String>) {
        let split = split(sql);
        let ended = split
            .ended
            .into_iter()
            .map(|statement| statement.text)
            .collect();
        (ended, split.open.map(|statement| statement.text))
    }

    fn all(sql: &str) -> Vec<String> {
        split(sql)
            .all()
            .into_iter()
            .map(|statement| statement.text)
            .collect()
    }

    #[test]
    fn statements_end_at_semicolons() {
        assert_eq!(all("select 1; select 2"), ["select 1", "select 2"]);
        assert_eq!(all(" ;; select 1 ;\n"), ["select 1"]);
        assert!(all("").is_empty());
        assert!(all("-- nothing\n /* at; all */ ;").is_empty());
    }

    #[test]
    fn quotes_hide_semicolons() {
        for sql in [
            "select ';'",
            "select 'it''s; fine'",
            "select \"a;b\"",
            "select `a;b`",
            "select E'\\';'",
            "select $$a;'b$$",
            "select $x$a;$$;$x$",
            "select 1 -- a;b",
            "select /* a; /* b; */ c; */ 1",
            "select 'ü;ß'",
            "select $1",
            "select a$b from t where c = ';$'",
            "select name'\\' from t",
        ] {
            assert_eq!(
                texts(&format!("{sql};")).0.len(),
                usize::from(!sql.contains("--")),
                "{sql}"
            );
            assert_eq!(all(sql), [sql]);
        }
        assert_eq!(all("select $1; select $2"), ["select $1", "select $2"]);
    }

    #[test]
    fn an_unclosed_quote_stays_open() {
        for sql in [
            "select 'a;",
            "select \"a;",
            "select $$a;",
            "select 1 /* ;",
            "select E'\\'",
        ] {
            let (ended, open) = texts(sql);
            assert!(ended.is_empty(), "{sql}");
            assert!(open.is_some(), "{sql}");
        }
    }

    #[test]
    fn lines_are_counted() {
        let lines: Vec<usize> = split("select 1;\n\n-- x\nselect\n2; select 3;\nselect 4")
            .all()
            .into_iter()
            .map(|statement| statement.line)
            .collect();
        assert_eq!(lines, [1, 4, 5, 6]);
    }
}
