//! Which names are wanted.

/// A condition on a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// All names.
    #[default]
    Any,
    /// This name.
    Exactly(String),
    /// The names that SQL's `LIKE` finds; `\` before `%`, `_` or `\` makes it an ordinary character.
    Like(Vec<Symbol>),
}

/// A part of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Symbol {
    /// `%`: any characters, also none.
    Many,
    /// `_`: any character.
    One,
    /// This character.
    Just(char),
}

impl Pattern {
    /// The pattern that `LIKE` takes.
    pub(crate) fn like(text: &str) -> Self {
        let mut symbols = Vec::new();
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            symbols.push(match character {
                '%' => Symbol::Many,
                '_' => Symbol::One,
                '\\' => {
                    let escaped = characters.next_if(|next| matches!(next, '%' | '_' | '\\'));
                    Symbol::Just(escaped.unwrap_or('\\'))
                }
                other => Symbol::Just(other),
            });
        }
        let plain = symbols.iter().map(|symbol| match symbol {
            Symbol::Just(character) => Some(*character),
            _ => None,
        });
        match plain.collect::<Option<String>>() {
            Some(name) => Self::Exactly(name),
            None => Self::Like(symbols),
        }
    }

    /// As [`Self::like`] where there is a text, else all names.
    pub(crate) fn like_or_any(text: Option<&str>) -> Self {
        text.map_or(Self::Any, Self::like)
    }

    /// This name, or all names.
    pub(crate) fn exactly_or_any(name: Option<String>) -> Self {
        name.map_or(Self::Any, Self::Exactly)
    }

    /// Whether the name is wanted.
    pub(crate) fn fits(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(wanted) => wanted == name,
            Self::Like(symbols) => is_like(name, symbols),
        }
    }
}

/// In time proportional to the product of both lengths, whatever the pattern.
fn is_like(name: &str, symbols: &[Symbol]) -> bool {
    let name: Vec<char> = name.chars().collect();
    // Whether the symbols so far match the first 0, 1, ... characters.
    let mut matched: Vec<bool> = std::iter::once(true)
        .chain(name.iter().map(|_| false))
        .collect();
    for symbol in symbols {
        let before = matched.first().copied().unwrap_or_default();
        let mut last = *symbol == Symbol::Many && before;
        let mut next = vec![last];
        for (pair, character) in matched.windows(2).zip(&name) {
            let (shorter, same) = match pair {
                [shorter, same] => (*shorter, *same),
                _ => (false, false),
            };
            last = match symbol {
                Symbol::Many => last || same,
                Symbol::One => shorter,
                Symbol::Just(wanted) => shorter && wanted == character,
            };
            next.push(last);
        }
        matched = next;
    }
    matched.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_like_sql() {
        for (text, pattern, expected) in [
            ("lineitem", "line%", true),
            ("lineitem", "%item", true),
            ("lineitem", "l_neitem", true),
            ("lineitem", "line", false),
            ("lineitem", "%", true),
            ("lineitem", "%%", true),
            ("lineitem", "l%i%m", true),
            ("lineitem", "l%x%m", false),
            ("", "%", true),
            ("", "_", false),
            ("", "", true),
            ("a", "", false),
            ("ß€", "_€", true),
            ("ß€", "__", true),
            ("ß€", "_", false),
            ("a%b", "a%b", true),
            ("axb", r"a\%b", false),
            ("a%b", r"a\%b", true),
            ("a_b", r"a\_%", true),
            ("axb", r"a\_%", false),
            (r"a\b", r"a\\b", true),
            (r"a\b", r"a\b", true),
            (r"a\", r"a\", true),
            (r"a\x", r"%\\_", true),
        ] {
            assert_eq!(
                Pattern::like(pattern).fits(text),
                expected,
                "{text} LIKE {pattern}"
            );
        }
    }

    #[test]
    fn a_pattern_without_wildcards_is_a_name() {
        assert_eq!(Pattern::like(r"a\_b"), Pattern::Exactly("a_b".to_owned()));
        assert_eq!(Pattern::like_or_any(None), Pattern::Any);
    }
}
