//! Words, constants and signs of SQL, as the database that will run it divides them.
//!
//! This decides where a statement ends and where `:index_values` stands, so it follows the databases' own rules about quotes, dollar quotes
//! and comments; a parser of all of SQL would be lenient exactly there.

use crate::SqlError;
use crate::statement::Dialect;
use std::ops::Range;

/// The place-holder for the values of an index.
pub const PLACEHOLDER: &str = ":index_values";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A keyword or a name without quotes.
    Word,
    /// A name or a text in quotes.
    Quoted,
    Number,
    Sign(char),
    IndexValues,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub kind: Kind,
    pub range: Range<usize>,
}

impl Token {
    pub fn text<'a>(&self, sql: &'a str) -> &'a str {
        &sql[self.range.clone()]
    }

    pub fn is_word(&self, sql: &str, word: &str) -> bool {
        self.kind == Kind::Word && self.text(sql).eq_ignore_ascii_case(word)
    }
}

/// The line, from 1, in which a byte stands.
pub fn line_of(sql: &str, at: usize) -> usize {
    1 + sql.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count()
}

/// `line 2, column 7`, both from 1.
pub fn place_of(sql: &str, at: usize) -> String {
    let before = sql.get(..at).unwrap_or(sql);
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("line {}, column {column}", line_of(sql, at))
}

/// Everything but space and comments.
pub fn tokens(sql: &str, dialect: Dialect) -> Result<Vec<Token>, SqlError> {
    let mut lexer = Lexer { sql, bytes: sql.as_bytes(), at: 0, dialect };
    let mut tokens: Vec<Token> = Vec::new();
    loop {
        lexer.skip_space()?;
        let begin = lexer.at;
        let after_e = tokens.last().is_some_and(|last| last.range.end == begin && last.is_word(sql, "e"));
        let Some(kind) = lexer.next(after_e)? else { return Ok(tokens) };
        tokens.push(Token { kind, range: begin..lexer.at });
    }
}

struct Lexer<'a> {
    sql: &'a str,
    bytes: &'a [u8],
    at: usize,
    dialect: Dialect,
}

fn begins_name(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || !byte.is_ascii()
}

fn is_in_name(byte: u8) -> bool {
    begins_name(byte) || byte.is_ascii_digit() || byte == b'$'
}

impl Lexer<'_> {
    fn is_mysql(&self) -> bool {
        self.dialect == Dialect::MySql
    }

    fn peek(&self, ahead: usize) -> u8 {
        self.bytes.get(self.at + ahead).copied().unwrap_or_default()
    }

    fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    fn refused(&self, at: usize, what: &str) -> SqlError {
        SqlError::Statement(format!("{}: {what}", place_of(self.sql, at)))
    }

    fn skip_while(&mut self, is_wanted: impl Fn(u8) -> bool) {
        while self.at < self.bytes.len() && is_wanted(self.bytes[self.at]) {
            self.at += 1;
        }
    }

    fn skip_space(&mut self) -> Result<(), SqlError> {
        loop {
            self.skip_while(|byte| byte.is_ascii_whitespace() || byte == 0x0b);
            let is_dashes = self.rest().starts_with(b"--") && (!self.is_mysql() || self.peek(2) <= b' ');
            if is_dashes || self.is_mysql() && self.peek(0) == b'#' && self.at < self.bytes.len() {
                self.skip_while(|byte| byte != b'\n' && byte != b'\r');
            } else if self.rest().starts_with(b"/*") {
                self.skip_comment()?;
            } else {
                return Ok(());
            }
        }
    }

    fn skip_comment(&mut self) -> Result<(), SqlError> {
        let begin = self.at;
        if self.is_mysql() && (self.rest().starts_with(b"/*!") || self.rest().starts_with(b"/*M!")) {
            return Err(self.refused(begin, "a comment that the database would run is not accepted"));
        }
        let mut depth = 0_usize;
        while self.at < self.bytes.len() {
            if self.rest().starts_with(b"/*") && (depth == 0 || !self.is_mysql()) {
                depth += 1;
                self.at += 2;
            } else if self.rest().starts_with(b"*/") {
                depth -= 1;
                self.at += 2;
                if depth == 0 {
                    return Ok(());
                }
            } else {
                self.at += 1;
            }
        }
        Err(self.refused(begin, "the comment does not end"))
    }

    fn next(&mut self, after_e: bool) -> Result<Option<Kind>, SqlError> {
        let begin = self.at;
        let Some(first) = self.bytes.get(begin).copied() else { return Ok(None) };
        let kind = match first {
            0 => return Err(self.refused(begin, "a character with the number 0")),
            b'\'' => self.quoted(self.is_mysql() || after_e && self.dialect == Dialect::Postgres)?,
            b'"' => self.quoted(false)?,
            b'`' if self.is_mysql() => self.quoted(false)?,
            b'$' if !self.is_mysql() => self.dollar()?,
            b':' => self.colon(),
            _ if begins_name(first) => {
                self.skip_while(is_in_name);
                Kind::Word
            }
            _ if first.is_ascii_digit() => {
                self.skip_while(|byte| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'_');
                Kind::Number
            }
            sign => {
                self.at += 1;
                Kind::Sign(char::from(sign))
            }
        };
        Ok(Some(kind))
    }

    /// Up to the quote that it begins with; two of them stand for one.
    fn quoted(&mut self, has_escapes: bool) -> Result<Kind, SqlError> {
        let (begin, quote) = (self.at, self.peek(0));
        self.at += 1;
        while self.at < self.bytes.len() {
            match self.peek(0) {
                b'\\' if has_escapes => self.at += 2,
                b'\\' if quote == b'"' && self.is_mysql() => {
                    return Err(self.refused(self.at, "a backslash in double quotes: its meaning depends on the server; use single quotes"));
                }
                byte if byte == quote && self.peek(1) == quote => self.at += 2,
                byte if byte == quote => {
                    self.at += 1;
                    return Ok(Kind::Quoted);
                }
                _ => self.at += 1,
            }
        }
        Err(self.refused(begin, "the quote is not closed"))
    }

    /// A text between two tags of dollars, or a parameter, which nobody binds.
    fn dollar(&mut self) -> Result<Kind, SqlError> {
        let begin = self.at;
        self.at += 1;
        if self.peek(0).is_ascii_digit() {
            return Err(self.refused(begin, "parameters other than :index_values are not bound"));
        }
        self.skip_while(|byte| is_in_name(byte) && byte != b'$');
        if self.peek(0) != b'$' {
            self.at = begin + 1;
            return Ok(Kind::Sign('$'));
        }
        self.at += 1;
        let tag = &self.sql[begin..self.at];
        match self.sql[self.at..].find(tag) {
            Some(end) => self.at += end + tag.len(),
            None => return Err(self.refused(begin, "the dollar quote is not closed")),
        }
        Ok(Kind::Quoted)
    }

    fn colon(&mut self) -> Kind {
        let is_placeholder = self.rest().starts_with(PLACEHOLDER.as_bytes()) && !is_in_name(self.peek(PLACEHOLDER.len()));
        if is_placeholder {
            self.at += PLACEHOLDER.len();
            return Kind::IndexValues;
        }
        // A cast, or an assignment: one sign, whose second half begins nothing.
        self.at += if matches!(self.peek(1), b':' | b'=') { 2 } else { 1 };
        Kind::Sign(':')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(sql: &str, dialect: Dialect) -> Vec<&str> {
        tokens(sql, dialect).unwrap_or_else(|error| panic!("{sql}: {error}")).iter().map(|token| token.text(sql)).collect()
    }

    #[test]
    fn quotes_end_where_the_database_ends_them() {
        for (dialect, sql, expected) in [
            (Dialect::Postgres, r"'a\' b 'c''d'", vec![r"'a\'", "b", "'c''d'"]),
            (Dialect::Postgres, r"E'a\' b' c", vec!["E", r"'a\' b'", "c"]),
            (Dialect::Postgres, "$$a;'b$$ $x$ $$ $x$ c$1", vec!["$$a;'b$$", "$x$ $$ $x$", "c$1"]),
            (Dialect::Postgres, r#""a""b" `"#, vec![r#""a""b""#, "`"]),
            (Dialect::MySql, r"'a\' b' `c``d`", vec![r"'a\' b'", "`c``d`"]),
            (Dialect::MySql, "a$b$c", vec!["a$b$c"]),
        ] {
            assert_eq!(texts(sql, dialect), expected, "{sql}");
        }
    }

    #[test]
    fn comments_end_where_the_database_ends_them() {
        assert_eq!(texts("a -- b ; 'c\nd /* e /* f */ ; */ g", Dialect::Postgres), ["a", "d", "g"]);
        assert_eq!(texts("a # b ; 'c\nd /* e /* f */ g --1 -- h", Dialect::MySql), ["a", "d", "g", "-", "-", "1"]);
        assert_eq!(texts("a # b", Dialect::Postgres), ["a", "#", "b"]);
    }

    #[test]
    fn what_is_ambiguous_or_unfinished_is_refused_with_its_place() {
        for (dialect, sql, reason) in [
            (Dialect::Postgres, "a\n 'b", "line 2, column 2: the quote"),
            (Dialect::Postgres, "a /* /* */", "line 1, column 3: the comment"),
            (Dialect::Postgres, "$a$ b $A$", "dollar quote"),
            (Dialect::Postgres, "a = $1", "parameters"),
            (Dialect::Postgres, "a\0", "number 0"),
            (Dialect::MySql, "SELECT 1 /*! INTO OUTFILE 'x' */", "would run"),
            (Dialect::MySql, "SELECT 1 /*M! INTO OUTFILE 'x' */", "would run"),
            (Dialect::MySql, r#"SELECT "a\" b""#, "double quotes"),
        ] {
            let error = tokens(sql, dialect).expect_err(sql).to_string();
            assert!(error.contains(reason), "{sql}: {error}");
        }
    }

    #[test]
    fn every_text_is_divided_or_refused() {
        for dialect in [Dialect::Postgres, Dialect::MySql, Dialect::Live] {
            for sql in ["", "é'ü'", "\\", "$", "$é", ":", "::index_values", "'\\", "1.e+5", "/", "--", "-", "/*/", "e'", "\u{a0}x"] {
                if let Ok(tokens) = tokens(sql, dialect) {
                    assert!(tokens.windows(2).all(|pair| pair[0].range.end <= pair[1].range.start), "{sql}");
                    assert!(tokens.iter().all(|token| !token.text(sql).is_empty()), "{sql}");
                }
            }
        }
    }
}
