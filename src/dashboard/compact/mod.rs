//! What is served is shorter than what is written: comments, white space that means nothing, and long names of local variables go.
//!
//! # What it promises
//!
//! * Strings, templates and regular expressions stay byte for byte. Of the rest of a script, what goes means nothing: comments, white
//!   space, a comma or a semicolon before a closing bracket, the parentheses around the only parameter of an arrow function, and what
//!   a variable is called within its module ([`names`]).
//! * A test compares the syntax trees of every module as written and as served: they differ in names of variables alone, one to one,
//!   and the names that a module takes from the platform are the same.
//!
//! # How it works
//!
//! A script is cut into pieces (words, literals, single marks, gaps), and the writer decides for each gap, by its neighbours alone,
//! whether nothing, a blank or a line break is left of it; a line break stays where a statement could end there without a semicolon.
//! Styles and markup need less: their white space is joined.
//!
//! # Known limitations
//!
//! A regular expression right after a closing bracket (`if (x) /y/.test(z)`) would be read as a division, and one `{` in it might
//! then be taken for a block. The page has none, and the comparison of the trees would tell.

mod names;
mod scan;

use names::{Names, Use, names};
use scan::{Piece, Scanner};

/// What is left of a gap between two pieces.
fn left_of_gap(before: Piece<'_>, after: Piece<'_>, line_break: bool) -> &'static str {
    let joins = |piece, marks: &str| matches!(piece, Piece::Mark(mark) if marks.contains(mark));
    if line_break {
        return if joins(before, "{([,;") || joins(after, "})].?:,;|&") { "" } else { "\n" };
    }
    match (before, after) {
        (Piece::Mark(a), Piece::Mark(b)) if a == b && "+-/".contains(a) || (a, b) == ('<', '!') => " ",
        (Piece::Mark('/'), Piece::Literal(text)) if text.starts_with('/') => " ",
        (Piece::Mark(_), _) | (_, Piece::Mark(_)) => "",
        (Piece::Literal(text), _) if text.ends_with("${") => "",
        (_, Piece::Literal(text)) if text.starts_with('}') => "",
        (Piece::Word(_), Piece::Literal(text)) if !text.starts_with('/') => "",
        _ => " ",
    }
}

/// A piece, and whether a gap stands before it, with a line break or without.
type Placed<'a> = (Piece<'a>, Option<bool>);

/// Whether the piece at `at` can be left out: a comma or semicolon before what closes, brackets around the only name of a function.
fn is_needless(pieces: &[Placed<'_>], at: usize) -> bool {
    let piece = |at: usize| pieces.get(at).map(|(piece, _)| *piece);
    let mark = |at: usize, mark: char| piece(at) == Some(Piece::Mark(mark));
    // (name) =>
    let is_arrow = |open: usize| {
        mark(open, '(')
            && matches!(piece(open + 1), Some(Piece::Word(_)))
            && mark(open + 2, ')')
            && mark(open + 3, '=')
            && mark(open + 4, '>')
            && open.checked_sub(1).is_none_or(|before| !matches!(piece(before), Some(Piece::Word(_))))
    };
    match pieces[at].0 {
        Piece::Mark('(') => is_arrow(at),
        Piece::Mark(')') => at >= 2 && is_arrow(at - 2),
        Piece::Mark(';') => mark(at + 1, '}') && !ends_condition(&pieces[..at]),
        Piece::Mark(',') => {
            mark(at + 1, '}') || mark(at + 1, ')') || (mark(at + 1, ']') && at > 0 && !mark(at - 1, ',') && !mark(at - 1, '['))
        }
        _ => false,
    }
}

/// Whether these pieces end with the condition of a loop or an `if`, whose body a semicolon would be.
fn ends_condition(pieces: &[Placed<'_>]) -> bool {
    let mut depth = 0_usize;
    for (at, (piece, _)) in pieces.iter().enumerate().rev() {
        match piece {
            Piece::Mark(')') => depth += 1,
            Piece::Mark('(') if depth > 1 => depth -= 1,
            Piece::Mark('(') => return at > 0 && matches!(pieces[at - 1].0, Piece::Word("for" | "while" | "if")),
            _ if depth == 0 => return false,
            _ => {}
        }
    }
    false
}

/// A script without its comments, without white space and marks that mean nothing.
pub fn script(source: &str) -> String {
    let mut pieces: Vec<Placed<'_>> = Vec::new();
    let mut gap = None;
    for piece in Scanner::new(source) {
        if let Piece::Gap { line_break } = piece {
            gap = Some(line_break);
        } else {
            pieces.push((piece, gap.take()));
        }
    }
    let Names { short, uses } = names(&pieces.iter().map(|(piece, _)| *piece).collect::<Vec<_>>());
    let mut out = String::with_capacity(source.len());
    let mut before = Piece::Mark(';');
    for (at, &(piece, gap)) in pieces.iter().enumerate() {
        if is_needless(&pieces, at) {
            continue;
        }
        // What is left out hands its gap on.
        let gap = gap.or_else(|| at.checked_sub(1).filter(|&at| is_needless(&pieces, at)).and_then(|at| pieces[at].1));
        if let Some(line_break) = gap {
            out.push_str(left_of_gap(before, piece, line_break));
        }
        match piece {
            Piece::Word(word) => match (uses[at], short.get(word)) {
                (Use::Name, Some(name)) => out.push_str(name),
                (Use::Both, Some(name)) => out.extend([word, ":", name]),
                _ => out.push_str(word),
            },
            Piece::Literal(text) => out.push_str(text),
            Piece::Mark(mark) => out.push(mark),
            Piece::Gap { .. } => {}
        }
        before = piece;
    }
    out
}

/// A style sheet without its comments; a blank is left where it may be the descendant combinator or parts values.
pub fn style(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        let blanks = rest.len() - rest.trim_start().len();
        let bytes = match c {
            '"' => rest[1..].find('"').map_or(rest.len(), |end| end + 2),
            _ if rest.starts_with("/*") => {
                rest = rest.split_once("*/").map_or("", |(_, after)| after);
                continue;
            }
            _ if blanks > 0 => {
                rest = &rest[blanks..];
                if !out.is_empty() && !out.ends_with(['{', '}', ';', ',', ':', ' ']) && !rest.starts_with(['{', '}']) {
                    out.push(' ');
                }
                continue;
            }
            _ => c.len_utf8(),
        };
        if c == '}' && out.ends_with(';') {
            out.pop();
        }
        out.push_str(&rest[..bytes]);
        rest = &rest[bytes..];
    }
    out
}

/// Markup without indentation: what is left of white space is a line break, which separates as well.
pub fn markup(source: &str) -> String {
    source.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_and_comments_go_and_literals_stay() {
        for (source, expected) in [
            ("g = 1, b = [ 2, 3 ]; // one\n\n/* two\n */ f(a , b);\n", "g=1,b=[2,3];f(a,b);"),
            ("x = \"a  // b\" + 'c  /* d' ;", "x=\"a  // b\"+'c  /* d';"),
            ("`a  ${ b + `c  ${ {d : 1}.d }  // e` }  \n\tf`", "`a  ${b+`c  ${{d:1}.d}  // e`}  \n\tf`"),
            ("x = a / b / c; y = /[/\"]  \\/ /g . test(z)", "x=a/b/c;y=/[/\"]  \\/ /g.test(z)"),
            ("i++ / 2 / \"a b\"", "i++/2/\"a b\""),
            ("a + +b - -c - --d", "a+ +b- -c- --d"),
            ("if (a) return  \"x\"\nelse throw x in y", "if(a)return\"x\"\nelse throw x in y"),
            ("a\n\t.b()\n\t? c\n\t: d\n(e)", "a.b()?c:d\n(e)"),
            ("return /x  y/.test(z) ? `\\`  ${1}` : '\\'  '", "return /x  y/.test(z)?`\\`  ${1}`:'\\'  '"),
            ("f = {\n\ta() {\n\t\tb()\n\t}\n}\ng()", "f={a(){b()}}\ng()"),
            ("f((x) => [a, , b, ], async (y) => ({ z, }),);", "f(x=>[a,,b],async(y)=>({z}));"),
            ("() => { while (f(a)); } g(); { if (b) c(); }", "()=>{while(f(a));}g();{if(b)c()}"),
            ("`\\${  x`; `$  {  x`", "`\\${  x`;`$  {  x`"),
        ] {
            assert_eq!(script(source), expected, "{source}");
            assert_eq!(script(expected), expected, "what is compact stays: {source}");
        }
    }

    #[test]
    fn what_is_local_gets_a_short_name_and_everything_else_keeps_its_own() {
        for (source, expected) in [
            // Properties, keys and what comes from outside stay; a shorthand is written out.
            ("const total = one.total, size = { total, size: total };", "const a=one.total,b={total:a,size:a};"),
            ("const { first, second: [third, ...others], fourth = 4 } = given;", "const{first:a,second:[d,...c],fourth:b=4}=given;"),
            ("import { thing } from \"./x.js\"; const used = thing;", "import{thing}from\"./x.js\";const a=thing;"),
            ("export const outer = 1, other = outer; const inner = 2;", "export const outer=1,other=outer;const a=2;"),
            ("export function outer(param) { return param; } function inner() {}", "export function outer(a){return a}function b(){}"),
            // Two scopes, one name; a name that is taken is passed over.
            ("list.map((item) => item + a); list.map((item, index) => index);", "list.map(b=>b+a);list.map((b,c)=>c);"),
            ("const made = { make(value) { return `${value} ${ { value } }`; } };", "const b={make(a){return`${a} ${{value:a}}`}};"),
            ("class Thing { field = 1; act(field, local) { this.field = local; } }", "class b{field=1;act(field,a){this.field=a}}"),
            (
                "for (const [key, value] of all) if (value ? key : null) go({ key: value });",
                "for(const[a,b]of all)if(b?a:null)go({key:b});",
            ),
            (
                "const f = async ({ deep: { name } }, { list = [] } = {}) => name + list;",
                "const f=async({deep:{name:b}},{list:a=[]}={})=>b+a;",
            ),
            (
                "try { act(); } catch (error) { tell(error); } try { act(); } catch { rest(); }",
                "try{act()}catch(a){tell(a)}try{act()}catch{rest()}",
            ),
        ] {
            assert_eq!(script(source), expected, "{source}");
        }
    }

    #[test]
    fn styles_keep_the_blanks_that_mean_something() {
        let source = "/* a */\n.a .b:is(:hover, [x]) > p {\n\tmargin: 0 auto; color: rgb(0 0 0 / 40%);\n}\n@media (min-width: 1px) and (x: y) {\n\t.c { content: \"a  {  b\"; }\n}\n";
        let expected =
            ".a .b:is(:hover,[x]) > p{margin:0 auto;color:rgb(0 0 0 / 40%)}@media (min-width:1px) and (x:y){.c{content:\"a  {  b\"}}";
        assert_eq!(style(source), expected);
        assert_eq!(markup("<p>\n\t<b>a</b>\n\n\t<i> b</i>\n</p>\n"), "<p>\n<b>a</b>\n<i> b</i>\n</p>");
    }
}
