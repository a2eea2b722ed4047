//! A script in pieces: words, literals, marks and gaps.

/// One piece of a script.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Piece<'a> {
    /// An identifier, a keyword or a number.
    Word(&'a str),
    /// A string, a regular expression, or a stretch of a template with its delimiters.
    Literal(&'a str),
    /// One character of punctuation.
    Mark(char),
    /// White space and comments.
    Gap { line_break: bool },
}

/// The words after which a slash begins a regular expression.
const BEFORE_EXPRESSION: [&str; 10] = ["return", "typeof", "case", "in", "of", "delete", "void", "throw", "else", "await"];

pub struct Scanner<'a> {
    rest: &'a str,
    /// For each template that is open, how many braces are open in its running expression.
    templates: Vec<usize>,
    /// The last two pieces that were no gaps.
    last: [Option<Piece<'a>>; 2],
}

impl<'a> Scanner<'a> {
    pub fn new(source: &'a str) -> Self {
        Self { rest: source, templates: Vec::new(), last: [None, None] }
    }

    fn take(&mut self, bytes: usize) -> &'a str {
        let (piece, rest) = self.rest.split_at(bytes);
        self.rest = rest;
        piece
    }

    /// Where the literal ends that is closed by `quote`, backslashes escaping; for a template also where an expression begins.
    fn literal(&self, from: usize, quote: char) -> usize {
        let (mut escaped, mut in_class, mut previous) = (false, false, ' ');
        for (at, c) in self.rest.char_indices().skip_while(|(at, _)| *at < from) {
            let plain = !escaped;
            if escaped {
                escaped = false;
            } else if c == '\\' {
                escaped = true;
            } else if quote == '/' && (c == '[' || c == ']') {
                in_class = c == '[';
            } else if (c == quote && !in_class) || (quote == '`' && previous == '$' && c == '{') {
                return at + c.len_utf8();
            }
            previous = if plain { c } else { ' ' };
        }
        self.rest.len()
    }

    fn gap(&self) -> usize {
        let mut at = 0;
        loop {
            let rest = &self.rest[at..];
            let blanks = rest.len() - rest.trim_start().len();
            at += match () {
                () if blanks > 0 => blanks,
                () if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
                () if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
                () => return at,
            };
        }
    }

    /// Whether a slash here begins a regular expression, by what stands before it.
    fn expects_expression(&self) -> bool {
        match self.last {
            [Some(Piece::Mark('+')), Some(Piece::Mark('+'))] | [Some(Piece::Mark('-')), Some(Piece::Mark('-'))] => false,
            [_, Some(Piece::Mark(mark))] => !matches!(mark, ')' | ']' | '}'),
            [_, Some(Piece::Word(word))] => BEFORE_EXPRESSION.contains(&word),
            [_, Some(Piece::Literal(text))] => text.ends_with("${"),
            _ => true,
        }
    }

    fn template(&mut self) -> Piece<'a> {
        let text = self.take(self.literal(1, '`'));
        if text.ends_with("${") {
            self.templates.push(0);
        }
        Piece::Literal(text)
    }
}

impl<'a> Iterator for Scanner<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        let first = self.rest.chars().next()?;
        let gap = self.gap();
        if gap > 0 {
            return Some(Piece::Gap { line_break: self.take(gap).contains('\n') });
        }
        let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
        let piece = match first {
            '"' | '\'' => Piece::Literal(self.take(self.literal(1, first))),
            '`' => self.template(),
            '}' if self.templates.last() == Some(&0) => {
                self.templates.pop();
                self.template()
            }
            '/' if self.expects_expression() => Piece::Literal(self.take(self.literal(1, '/'))),
            c if is_word(c) => Piece::Word(self.take(self.rest.find(|c| !is_word(c)).unwrap_or(self.rest.len()))),
            mark => {
                if let Some(open) = self.templates.last_mut() {
                    *open = match mark {
                        '{' => *open + 1,
                        '}' => *open - 1,
                        _ => *open,
                    };
                }
                self.take(mark.len_utf8());
                Piece::Mark(mark)
            }
        };
        self.last = [self.last[1], Some(piece)];
        Some(piece)
    }
}
