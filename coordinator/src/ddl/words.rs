//! Words that are no keywords of the parser.

use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

/// Whether a token is this word, without quotes.
pub fn is_word(token: &Token, text: &str) -> bool {
    matches!(token, Token::Word(word)
        if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(text))
}

/// Whether a token is one of these words, without quotes.
pub fn is_any(token: &Token, texts: &[&str]) -> bool {
    texts.iter().any(|text| is_word(token, text))
}

/// Takes the next token if it is this word.
pub fn word(parser: &mut Parser<'_>, text: &str) -> bool {
    let found = is_word(&parser.peek_token_ref().token, text);
    if found {
        parser.advance_token();
    }
    found
}

/// Takes a text in single quotes. The parser's own literals may be words too.
///
/// # Errors
/// The next token is none.
pub fn quoted_text(parser: &mut Parser<'_>) -> Result<String, ParserError> {
    let token = parser.next_token();
    match token.token {
        Token::SingleQuotedString(text) => Ok(text),
        _ => parser.expected("a text in single quotes", token),
    }
}

/// The tokens that are no white space, with their places.
pub fn without_space(tokens: &[TokenWithSpan]) -> impl Iterator<Item = (usize, &Token)> {
    let tokens = tokens.iter().enumerate();
    let tokens = tokens.map(|(place, token)| (place, &token.token));
    tokens.filter(|(_, token)| !matches!(token, Token::Whitespace(_)))
}
