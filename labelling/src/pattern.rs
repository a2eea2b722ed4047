//! Python's regular expressions in the syntax of the engines that run them here.
//!
//! A pattern is read item by item and written again with what differs made explicit: `$` also matches before a newline at the end, `\Z`
//! does not, `\w` is letters, numbers and the underscore, `\s` has the separators of ASCII, a bracket within brackets is only a bracket.
//! What has no equal is not translated, and neither is what is not known here.
//!
//! The compiled tier uses an engine that takes linear time and knows no looking around and no back references; only whether there is a
//! match is asked of it. The interpreter's engine backtracks, and its captures are used, so groups stay as they are.

use crate::ir::Pattern;
use regex::RegexBuilder;
use std::iter::Peekable;
use std::str::Chars;

/// Compiled size of a pattern.
const SIZE_BYTES_MAX: usize = 1024 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Match,
    Search,
    FullMatch,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    pub ignore_case: bool,
    pub dot_all: bool,
    pub multi_line: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Engine {
    /// For truth only.
    Linear {
        full: bool,
    },
    Backtracking {
        lines: bool,
    },
}

const WORD: &str = r"\p{L}\p{N}_";
const SPACE: &str = r"\s\x1c-\x1f";

/// For the compiled tier; `None` where the meaning would not be the same.
pub fn compile(pattern: &str, flags: Flags, method: Method) -> Option<Pattern> {
    if flags.multi_line || (flags.ignore_case && !pattern.is_ascii()) {
        return None;
    }
    let engine = Engine::Linear { full: method == Method::FullMatch };
    let mut translation = Translation {
        engine,
        from: pattern.chars().peekable(),
        out: String::new(),
        levels: vec![Level::default()],
        groups: 0,
        boundary: false,
    };
    translation.all()?;
    let body = translation.out;
    let text = match method {
        Method::Search => body,
        Method::Match => format!(r"\A(?:{body})"),
        Method::FullMatch => format!(r"\A(?:{body})\z"),
    };
    let mut builder = RegexBuilder::new(&text);
    builder.case_insensitive(flags.ignore_case).dot_matches_new_line(flags.dot_all).size_limit(SIZE_BYTES_MAX);
    let regex = builder.build().ok()?;
    Some(Pattern { regex, ascii_only: flags.ignore_case || translation.boundary })
}

/// A pattern for the interpreter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewritten {
    pub text: String,
    /// Every match has a letter. After a match without, the engines go on in different places.
    pub consumes: bool,
    pub captures: bool,
}

/// For the interpreter. With `lines`, `$` is the end of each line, in which both agree.
pub fn rewrite(pattern: &str, lines: bool) -> Option<Rewritten> {
    let from = pattern.chars().peekable();
    let mut translation = Translation {
        engine: Engine::Backtracking { lines },
        from,
        out: String::new(),
        levels: vec![Level::default()],
        groups: 0,
        boundary: false,
    };
    translation.all()?;
    let consumes = translation.levels.pop().is_some_and(|level| level.consumes());
    Some(Rewritten { text: translation.out, consumes, captures: translation.groups > 0 })
}

/// What is known of a group that is being read.
#[derive(Clone, Copy, Debug)]
struct Level {
    /// The alternative at hand takes at least a letter.
    taken: bool,
    /// So did all before it.
    all_taken: bool,
    /// It is no looking around.
    takes: bool,
}

impl Default for Level {
    fn default() -> Self {
        Self { taken: false, all_taken: true, takes: true }
    }
}

impl Level {
    fn consumes(self) -> bool {
        self.takes && self.taken && self.all_taken
    }
}

struct Translation<'p> {
    engine: Engine,
    from: Peekable<Chars<'p>>,
    out: String,
    /// The groups that are open, the whole first.
    levels: Vec<Level>,
    /// Groups that capture.
    groups: usize,
    /// `\b` depends on what a word is made of, which differs for other than ASCII texts.
    boundary: bool,
}

impl Translation<'_> {
    fn all(&mut self) -> Option<()> {
        while let Some(letter) = self.from.next() {
            match letter {
                '\\' => self.escape()?,
                '[' => {
                    self.class()?;
                    self.took(true);
                }
                '(' => self.open()?,
                ')' => {
                    let level = self.levels.pop().filter(|_| !self.levels.is_empty())?;
                    self.out.push(')');
                    self.took(level.consumes());
                }
                '|' => {
                    self.out.push('|');
                    if let Some(level) = self.levels.last_mut() {
                        level.all_taken &= level.taken;
                        level.taken = false;
                    }
                }
                '.' => {
                    self.out.push('.');
                    self.took(true);
                }
                '$' => self.end()?,
                '{' => self.count()?,
                '*' | '+' | '?' => self.repeat(letter)?,
                '^' => self.out.push(letter),
                _ => {
                    self.literal(letter);
                    self.took(true);
                }
            }
        }
        (self.levels.len() == 1).then_some(())
    }

    /// Something was read that takes a letter or none; what follows may make it optional.
    fn took(&mut self, takes: bool) {
        let mut ahead = self.from.clone();
        let optional = match ahead.next() {
            Some('*' | '?') => true,
            Some('{') => !ahead.next().is_some_and(|digit| ('1'..='9').contains(&digit)),
            _ => false,
        };
        if let Some(level) = self.levels.last_mut() {
            level.taken |= takes && !optional;
        }
    }

    fn backtracking(&self) -> bool {
        matches!(self.engine, Engine::Backtracking { .. })
    }

    fn literal(&mut self, letter: char) {
        let mut buffer = [0; 4];
        self.out.push_str(&regex::escape(letter.encode_utf8(&mut buffer)));
    }

    /// `*`, `*?`; Python's possessive `*+` has no equal.
    fn repeat(&mut self, letter: char) -> Option<()> {
        self.out.push(letter);
        self.lazy()
    }

    /// A count may be lazy; a second one after it is an error, and a possessive one is Python's alone.
    fn lazy(&mut self) -> Option<()> {
        if self.from.next_if_eq(&'?').is_some() {
            self.out.push('?');
        }
        (!matches!(self.from.peek(), Some('+' | '*' | '?' | '{'))).then_some(())
    }

    /// `{2}`, `{2,}`, `{,3}`, `{2,3}`; other braces are themselves.
    fn count(&mut self) -> Option<()> {
        let rest: String = self.from.clone().take_while(|&letter| letter != '}').collect();
        let closed = self.from.clone().any(|letter| letter == '}');
        let (low, high) = rest.split_once(',').map_or((rest.as_str(), None), |(low, high)| (low, Some(high)));
        let digits = |text: &str| text.chars().all(|letter| letter.is_ascii_digit());
        let is_count = closed && digits(low) && high.is_none_or(digits) && !(low.is_empty() && high.is_none_or(str::is_empty));
        if !is_count {
            self.literal('{');
            return Some(());
        }
        for _ in 0..=rest.chars().count() {
            self.from.next();
        }
        let low = if low.is_empty() { "0" } else { low };
        match high {
            Some(high) => self.out.push_str(&format!("{{{low},{high}}}")),
            None => self.out.push_str(&format!("{{{low}}}")),
        }
        self.lazy()
    }

    fn open(&mut self) -> Option<()> {
        self.levels.push(Level::default());
        if self.from.peek() != Some(&'?') {
            self.groups += 1;
            self.out.push_str(if self.backtracking() { "(" } else { "(?:" });
            return Some(());
        }
        let rest: String = self.from.clone().collect();
        let backtracking = self.backtracking();
        let kept = |starts: &[&'static str]| starts.iter().find(|start| rest.starts_with(**start)).copied();
        if rest.starts_with("?:") {
            self.take("?:");
            self.out.push_str("(?:");
        } else if let Some(start) = kept(&["?=", "?!", "?<=", "?<!"]).filter(|_| backtracking) {
            if let Some(level) = self.levels.last_mut() {
                level.takes = false;
            }
            self.take(start);
            self.out.push('(');
            self.out.push_str(start);
        } else if let Some(named) = rest.strip_prefix("?P<") {
            let (name, _) = named.split_once('>')?;
            let simple = name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
            if name.is_empty() || !simple {
                return None;
            }
            self.groups += 1;
            self.take(&format!("?P<{name}>"));
            self.out.push_str(&if backtracking { format!("(?P<{name}>") } else { "(?:".to_owned() });
        } else {
            return None;
        }
        Some(())
    }

    fn take(&mut self, text: &str) {
        for _ in text.chars() {
            self.from.next();
        }
    }

    /// The end of the text, also before a newline there.
    fn end(&mut self) -> Option<()> {
        match self.engine {
            Engine::Backtracking { lines: true } => self.out.push('$'),
            Engine::Backtracking { lines: false } => self.out.push_str(r"(?=\n?\z)"),
            Engine::Linear { full } => {
                // Without looking ahead the newline is consumed, so nothing may follow.
                let mut rest = self.from.clone().skip_while(|&letter| letter == ')');
                let last = rest.next().is_none() || (self.levels.len() == 1 && self.from.peek() == Some(&'|'));
                if !last {
                    return None;
                }
                self.out.push_str(if full { r"\z" } else { r"(?:\n?\z)" });
            }
        }
        Some(())
    }

    fn escape(&mut self) -> Option<()> {
        let letter = self.from.next()?;
        match letter {
            'd' | 'D' => self.out.extend(['\\', letter]),
            'w' => self.out.push_str(&format!("[{WORD}]")),
            'W' => self.out.push_str(&format!("[^{WORD}]")),
            's' => self.out.push_str(&format!("[{SPACE}]")),
            'S' => self.out.push_str(&format!("[^{SPACE}]")),
            'A' => self.out.push_str(r"\A"),
            'Z' => self.out.push_str(r"\z"),
            'b' | 'B' => {
                self.boundary = true;
                self.out.extend(['\\', letter]);
            }
            '1'..='9' if self.backtracking() && !self.from.peek().is_some_and(char::is_ascii_digit) => {
                self.out.extend(['\\', letter]);
            }
            _ => {
                let letter = self.character(letter)?;
                self.literal(letter);
                self.took(true);
            }
        }
        if matches!(letter, 'd' | 'D' | 'w' | 'W' | 's' | 'S') {
            self.took(true);
        }
        Some(())
    }

    /// The character that an escape stands for.
    fn character(&mut self, letter: char) -> Option<char> {
        match letter {
            'n' => Some('\n'),
            't' => Some('\t'),
            'r' => Some('\r'),
            'f' => Some('\x0c'),
            'v' => Some('\x0b'),
            'a' => Some('\x07'),
            'x' => self.hexadecimal(2),
            'u' => self.hexadecimal(4),
            'U' => self.hexadecimal(8),
            _ if letter.is_ascii_alphanumeric() => None,
            _ => Some(letter),
        }
    }

    fn hexadecimal(&mut self, digits: usize) -> Option<char> {
        let text: String = self.from.by_ref().take(digits).collect();
        let hexadecimal = text.len() == digits && text.chars().all(|letter| letter.is_ascii_hexdigit());
        char::from_u32(u32::from_str_radix(&text, 16).ok().filter(|_| hexadecimal)?)
    }

    fn class(&mut self) -> Option<()> {
        self.out.push('[');
        if self.from.next_if_eq(&'^').is_some() {
            self.out.push('^');
        }
        let mut first = true;
        loop {
            let letter = self.from.next()?;
            if letter == ']' && !first {
                self.out.push(']');
                return Some(());
            }
            first = false;
            let Some(low) = self.class_item(letter)? else { continue };
            let mut ahead = self.from.clone();
            let range = ahead.next() == Some('-') && ahead.next().is_some_and(|next| next != ']');
            self.class_literal(low);
            if range {
                self.from.next();
                let letter = self.from.next()?;
                let high = self.class_item(letter)??;
                self.out.push('-');
                self.class_literal(high);
            }
        }
    }

    /// A character, or `None` for a set that has been written.
    fn class_item(&mut self, letter: char) -> Option<Option<char>> {
        if letter != '\\' {
            return Some(Some(letter));
        }
        let escaped = self.from.next()?;
        match escaped {
            'd' | 'D' => self.out.extend(['\\', escaped]),
            'w' => self.out.push_str(WORD),
            's' => self.out.push_str(SPACE),
            'b' => return Some(Some('\x08')),
            'W' | 'S' => return None,
            _ => return Some(Some(self.character(escaped)?)),
        }
        Some(None)
    }

    fn class_literal(&mut self, letter: char) {
        if letter.is_ascii_punctuation() {
            self.out.push('\\');
        }
        self.out.push(letter);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(pattern: &str, method: Method, subject: &str) -> Option<bool> {
        Some(compile(pattern, Flags::default(), method)?.regex.is_match(subject))
    }

    #[test]
    fn the_end_is_also_before_a_last_newline() {
        assert_eq!(found("a$", Method::Match, "a\n"), Some(true));
        assert_eq!(found("a$", Method::Match, "a\n\n"), Some(false));
        assert_eq!(found(r"a\Z", Method::Match, "a\n"), Some(false));
        assert_eq!(found("a$", Method::FullMatch, "a\n"), Some(false));
        assert_eq!(found("^(a|b$)", Method::Search, "b\n"), Some(true));
        assert_eq!(found("(a$|b)c", Method::Search, "bc"), None);
        assert_eq!(rewrite("a$b", false).map(|pattern| pattern.text).as_deref(), Some(r"a(?=\n?\z)b"));
    }

    #[test]
    fn sets_and_counts_are_as_in_python() {
        assert_eq!(found("[[a]", Method::FullMatch, "["), Some(true));
        assert_eq!(found("[]a-]+", Method::FullMatch, "]-a"), Some(true));
        assert_eq!(found("[a&&b~~c]+", Method::FullMatch, "&~a"), Some(true));
        assert_eq!(found("a{,2}", Method::FullMatch, "aa"), Some(true));
        assert_eq!(found("a{,2}", Method::FullMatch, "aaa"), Some(false));
        assert_eq!(found("a{x}", Method::FullMatch, "a{x}"), Some(true));
        assert_eq!(found(r"[\w\s.-]+", Method::FullMatch, "\u{e9}_\u{1c}.-"), Some(true));
        assert_eq!(found(r"\w", Method::Search, "\u{301}"), Some(false));
    }

    #[test]
    fn what_has_no_equal_is_not_translated() {
        for pattern in ["(?=a)", "(?<!a)b", r"(a)\1", "a*+", "(?i)a", "a**", "(", "[a", r"\y", "(?P=x)"] {
            assert!(compile(pattern, Flags::default(), Method::Search).is_none(), "{pattern}");
        }
        assert!(compile("a", Flags { multi_line: true, ..Flags::default() }, Method::Search).is_none());
        assert_eq!(rewrite(r"(?<!a)(?P<x>b)\1", false).map(|pattern| pattern.text).as_deref(), Some(r"(?<!a)(?P<x>b)\1"));
    }

    #[test]
    fn patterns_that_may_match_nothing_are_told() {
        let consumes = |pattern: &str| rewrite(pattern, false).expect("a pattern").consumes;
        for pattern in ["a", r"\w+", "(a|b)", "a*b", "(?:ab)+", "[a]{2}", "x|y", r"\d{1,3}"] {
            assert!(consumes(pattern), "{pattern}");
        }
        for pattern in ["", "a*", "a|", "(a|b*)", "(?=a)", r"\b", "^$", "(ab)?", "[a]{0,2}", "a{,2}", "(?:a?)+"] {
            assert!(!consumes(pattern), "{pattern}");
        }
    }

    #[test]
    fn words_of_other_alphabets_are_left_to_the_other_tier() {
        assert!(compile(r"\bcat\b", Flags::default(), Method::Search).is_some_and(|pattern| pattern.ascii_only));
        let ignoring = Flags { ignore_case: true, ..Flags::default() };
        assert!(compile("cat", ignoring, Method::Search).is_some_and(|pattern| pattern.ascii_only));
        assert!(compile("k\u{e4}se", ignoring, Method::Search).is_none());
    }
}
