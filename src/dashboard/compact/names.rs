//! Shorter names for what is local to a module.
//!
//! # What it promises
//!
//! A name that a module binds for itself (a variable, a parameter, a function) gets a name of a letter or two that occurs nowhere else
//! in the module, the same for all its bindings: so nothing shadows anything that it did not shadow before. Properties, keys, members
//! of classes, what is imported, what is exported, and what the platform provides keep their names; `{ a }` becomes `{ a: b }`.
//!
//! # How it works
//!
//! Each bracket knows what it holds ([`Group`]), by the pieces around it; a word is judged by its bracket and its two neighbours.
//!
//! # Known limitations
//!
//! It reads the language as the page writes it: statements end with semicolons, and there are no labels, no `var`, no `export { … }`.

use super::scan::Piece;
use std::collections::{BTreeMap, BTreeSet};

/// What a bracket holds.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Group {
    /// Statements or the top of the module.
    Block,
    Class,
    /// An object; or a pattern, which binds.
    Object {
        binds: bool,
    },
    /// Brackets and parentheses: parameters or a pattern, which bind, or anything else.
    List {
        binds: bool,
    },
    Import,
}

/// How a word is used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Use {
    /// A variable.
    Name,
    /// A property, a key, a member.
    Fixed,
    /// `{ a }`: a key and a variable.
    Both,
}

/// What a module calls its own names as it is served, and how each piece of it is used.
pub struct Names<'a> {
    pub short: BTreeMap<&'a str, String>,
    pub uses: Vec<Use>,
}

struct Reader<'p, 'a> {
    pieces: &'p [Piece<'a>],
    /// Of an opening bracket, where it closes.
    closes: BTreeMap<usize, usize>,
    /// The brackets that are open, and whether their running statement declares or exports.
    open: Vec<Open>,
    bound: BTreeSet<&'a str>,
    kept: BTreeSet<&'a str>,
}

#[derive(Clone, Copy)]
struct Open {
    group: Group,
    declares: bool,
    exports: bool,
}

fn opens(piece: Piece<'_>) -> bool {
    matches!(piece, Piece::Mark('(' | '[' | '{')) || matches!(piece, Piece::Literal(text) if text.ends_with("${"))
}

fn closes(piece: Piece<'_>) -> bool {
    matches!(piece, Piece::Mark(')' | ']' | '}')) || matches!(piece, Piece::Literal(text) if text.starts_with('}'))
}

fn pairs(pieces: &[Piece<'_>]) -> BTreeMap<usize, usize> {
    let (mut open, mut pairs) = (Vec::new(), BTreeMap::new());
    for (at, &piece) in pieces.iter().enumerate() {
        if closes(piece) {
            pairs.extend(open.pop().map(|from| (from, at)));
        }
        if opens(piece) {
            open.push(at);
        }
    }
    pairs
}

impl<'a> Reader<'_, 'a> {
    fn piece(&self, at: usize, step: isize) -> Option<Piece<'a>> {
        self.pieces.get(at.checked_add_signed(step)?).copied()
    }

    fn is_mark(&self, at: usize, step: isize, marks: &str) -> bool {
        matches!(self.piece(at, step), Some(Piece::Mark(mark)) if marks.contains(mark))
    }

    fn is_word(&self, at: usize, step: isize, words: &[&str]) -> bool {
        matches!(self.piece(at, step), Some(Piece::Word(word)) if words.contains(&word))
    }

    fn is_arrow(&self, at: usize, step: isize) -> bool {
        self.is_mark(at, step, "=") && self.is_mark(at, step + 1, ">")
    }

    fn top(&self) -> Open {
        self.open.last().copied().unwrap_or(Open { group: Group::Block, declares: false, exports: false })
    }

    /// Whether a pattern may stand here: in a pattern, or in a declaration.
    fn may_bind(&self, at: usize) -> bool {
        let Open { group, declares, .. } = self.top();
        let within = matches!(group, Group::Object { binds: true } | Group::List { binds: true }) && self.is_mark(at, -1, "([{,:.");
        within || self.is_word(at, -1, &["const", "let"]) || (declares && self.is_mark(at, -1, ","))
    }

    fn group(&self, at: usize) -> Group {
        let end = self.closes.get(&at).copied().unwrap_or(at);
        match self.pieces[at] {
            Piece::Mark('(') => {
                let is_method = matches!(self.top().group, Group::Class | Group::Object { .. })
                    && matches!(self.piece(at, -1), Some(Piece::Word(_)))
                    && self.is_mark(end, 1, "{");
                let is_function = self.is_word(at, -1, &["function", "catch"]) || self.is_word(at, -2, &["function"]);
                Group::List { binds: is_method || is_function || self.is_arrow(end, 1) }
            }
            Piece::Mark('[') => Group::List { binds: self.may_bind(at) },
            Piece::Mark('{') => self.braces(at),
            _ => Group::List { binds: false },
        }
    }

    fn braces(&self, at: usize) -> Group {
        if self.is_word(at, -1, &["import"]) {
            return Group::Import;
        }
        if self.is_word(at, -2, &["class"]) || self.is_word(at, -4, &["class"]) {
            return Group::Class;
        }
        let follows_statement = match self.piece(at, -1) {
            None | Some(Piece::Mark(')' | ';' | '{' | '}')) => true,
            Some(Piece::Word(word)) => matches!(word, "else" | "try" | "catch" | "finally" | "do"),
            _ => self.is_arrow(at, -2),
        };
        if follows_statement { Group::Block } else { Group::Object { binds: self.may_bind(at) } }
    }

    /// What becomes of the running statement at a word or mark of its own level.
    fn step(&mut self, at: usize) {
        let (declares, exports) = (self.is_word(at, 0, &["const", "let"]), self.is_word(at, 0, &["export"]));
        let ends = self.is_mark(at, 0, ";") || self.is_word(at, 0, &["of"]);
        if let Some(open) = self.open.last_mut() {
            open.declares = (open.declares || declares) && !ends;
            open.exports = (open.exports || exports) && !ends;
        }
    }

    fn word(&mut self, at: usize, word: &'a str) -> Use {
        let Open { group, exports, .. } = self.top();
        let follows_spread = self.is_mark(at, -1, ".") && self.is_mark(at, -2, ".");
        if self.is_mark(at, -1, ".") && !follows_spread {
            return Use::Fixed;
        }
        let starts = self.is_mark(at, -1, "{,") || (self.is_word(at, -1, &["async", "get", "set"]) && self.is_mark(at, -2, "{,"));
        let is_object = matches!(group, Group::Object { .. });
        if is_object && starts && self.is_mark(at, 1, ":(") {
            return Use::Fixed;
        }
        let after_declarator = self.is_word(at, -1, &["const", "let", "function", "class"]);
        if self.may_bind(at) || after_declarator || self.is_arrow(at, 1) {
            if exports || matches!(group, Group::Import) {
                self.kept.insert(word)
            } else {
                self.bound.insert(word)
            };
        }
        if matches!(group, Group::Import | Group::Class) || self.is_word(at, -1, &["as"]) {
            self.kept.insert(word);
        }
        if is_object && starts && self.is_mark(at, 1, ",}=") { Use::Both } else { Use::Name }
    }

    fn read(&mut self) -> Vec<Use> {
        let mut uses = Vec::with_capacity(self.pieces.len());
        for (at, &piece) in self.pieces.iter().enumerate() {
            if closes(piece) {
                self.open.pop();
                // `export function f() {}` ends without a semicolon.
                if self.top().group == Group::Block && !self.top().declares {
                    self.open.last_mut().into_iter().for_each(|open| open.exports = false);
                }
            }
            self.step(at);
            let found = if let Piece::Word(word) = piece { self.word(at, word) } else { Use::Fixed };
            uses.push(found);
            if opens(piece) {
                self.open.push(Open { group: self.group(at), declares: false, exports: false });
            }
        }
        uses
    }
}

/// Words that mean something of their own in some places: they are nobody's name as it is served.
const CONTEXTUAL: [&str; 7] = ["as", "async", "from", "get", "of", "set", "static"];

const LETTERS: &[u8; 52] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// `a` to `Z`, then `aa`, `ab` …
fn nth_name(n: usize) -> String {
    let letter = |n: usize| char::from(LETTERS[n % LETTERS.len()]);
    if n < LETTERS.len() { letter(n).to_string() } else { format!("{}{}", letter(n / LETTERS.len() - 1), letter(n)) }
}

/// The short names of a module. A gap is no piece here.
pub fn names<'a>(pieces: &[Piece<'a>]) -> Names<'a> {
    let top = Open { group: Group::Block, declares: false, exports: false };
    let mut reader = Reader { pieces, closes: pairs(pieces), open: vec![top], bound: BTreeSet::new(), kept: BTreeSet::new() };
    let uses = reader.read();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for piece in pieces {
        if let Piece::Word(word) = piece {
            *counts.entry(word).or_default() += 1;
        }
    }
    let mut bound: Vec<&str> = reader.bound.difference(&reader.kept).copied().filter(|word| !CONTEXTUAL.contains(word)).collect();
    bound.sort_by_key(|word| std::cmp::Reverse(counts[word]));
    let is_free = |name: &String| {
        !counts.contains_key(name.as_str()) && !matches!(name.as_str(), "do" | "if" | "in") && !CONTEXTUAL.contains(&name.as_str())
    };
    let mut free = (0..LETTERS.len() * (LETTERS.len() + 1)).map(nth_name).filter(is_free).peekable();
    let mut short = BTreeMap::new();
    for word in bound {
        if free.peek().is_some_and(|name| name.len() < word.len()) {
            short.extend(free.next().map(|name| (word, name)));
        }
    }
    Names { short, uses }
}
