//! A labelling function as the compiled tier sees it: statements and expressions without names, each that can raise with its line.

use regex::Regex;
use std::sync::Arc;

/// A value that is known before any row is read. Sequences are literals of the code, only ever searched and compared.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(Arc<str>),
    /// Microseconds since 1970-01-01T00:00:00; `aware` is of UTC.
    Datetime {
        micros: i64,
        aware: bool,
    },
    /// Days since 1970-01-01.
    Date(i64),
    /// Microseconds.
    Delta(i64),
    Sequence(SequenceKind, Arc<[Scalar]>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SequenceKind {
    Tuple,
    List,
    Set,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    FloorDiv,
    Mod,
    Pow,
}

impl BinaryOp {
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::FloorDiv => "//",
            Self::Mod => "%",
            Self::Pow => "** or pow()",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompareOp {
    Eq,
    NotEq,
    Lt,
    LtE,
    Gt,
    GtE,
    In,
    NotIn,
    Is,
    IsNot,
}

impl CompareOp {
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Eq => "==",
            Self::NotEq => "!=",
            Self::Lt => "<",
            Self::LtE => "<=",
            Self::Gt => ">",
            Self::GtE => ">=",
            Self::In => "in",
            Self::NotIn => "not in",
            Self::Is => "is",
            Self::IsNot => "is not",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnaryOp {
    Neg,
    Pos,
}

/// Builtin functions of one or more arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Builtin {
    Abs,
    Bool,
    Float,
    Int,
    Len,
    Max,
    Min,
    Round,
    Str,
}

/// Methods of strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StrMethod {
    Count,
    EndsWith,
    Find,
    IsAlpha,
    IsDigit,
    Lower,
    LStrip,
    Replace,
    RStrip,
    StartsWith,
    Strip,
    Upper,
}

/// Fields and methods without arguments of moments, dates and spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeField {
    Date,
    Day,
    Days,
    Hour,
    IsoWeekday,
    Microsecond,
    Microseconds,
    Minute,
    Month,
    Second,
    Seconds,
    TotalSeconds,
    Weekday,
    Year,
}

/// Functions of `math` with one argument, or two (`Atan2`, `CopySign`, `Fmod`, `LogBase`, `Pow`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MathFunction {
    Atan,
    Atan2,
    Ceil,
    CopySign,
    Cos,
    Degrees,
    Exp,
    Fabs,
    Floor,
    Fmod,
    IsFinite,
    IsInf,
    IsNan,
    Log,
    Log10,
    Log1p,
    Log2,
    Pow,
    Radians,
    Sin,
    Sqrt,
    Tan,
    Tanh,
    Trunc,
}

#[derive(Clone, Debug)]
pub struct Pattern {
    /// Anchored as the function asks: at the start for `match`, at both ends for `fullmatch`.
    pub regex: Regex,
    /// The pattern has the same meaning here and in Python for these subjects only.
    pub ascii_only: bool,
}

#[derive(Clone, Debug)]
pub enum Expr {
    Const(Scalar),
    /// `row['name']`; the index is that of [`Program::columns`].
    Column {
        column: usize,
    },
    /// `row.get('name', default)`.
    Get {
        column: usize,
        default: Box<Line<Expr>>,
    },
    /// `'name' in row`.
    Has {
        column: usize,
    },
    Local(usize),
    Not(Box<Line<Expr>>),
    Unary(UnaryOp, Box<Line<Expr>>),
    Binary(BinaryOp, Box<Line<Expr>>, Box<Line<Expr>>),
    /// A chain: each operand is evaluated once, and none after the first comparison that does not hold.
    Compare(Box<Line<Expr>>, Vec<(CompareOp, Line<Expr>)>),
    And(Vec<Line<Expr>>),
    Or(Vec<Line<Expr>>),
    If {
        test: Box<Line<Expr>>,
        then: Box<Line<Expr>>,
        or_else: Box<Line<Expr>>,
    },
    Call(Builtin, Vec<Line<Expr>>),
    Str(StrMethod, Box<Line<Expr>>, Vec<Line<Expr>>),
    Time(TimeField, Box<Line<Expr>>),
    Math(MathFunction, Vec<Line<Expr>>),
    Search(Arc<Pattern>, Box<Line<Expr>>),
    /// A function of the code; its body is run in an environment of its own.
    User(usize, Vec<Line<Expr>>),
}

/// Something with the line that an error in it is reported for.
#[derive(Clone, Debug)]
pub struct Line<T> {
    pub line: u32,
    pub of: T,
}

#[derive(Clone, Debug)]
pub enum Stmt {
    Assign(usize, Line<Expr>),
    /// Tests with their bodies, and what is done otherwise.
    If(Vec<(Line<Expr>, Vec<Stmt>)>, Vec<Stmt>),
    Return(Line<Expr>),
    Evaluate(Line<Expr>),
}

#[derive(Clone, Debug)]
pub struct Body {
    /// Parameters are the first locals.
    pub parameters: usize,
    /// Names of the locals, for errors.
    pub locals: Vec<String>,
    pub statements: Vec<Stmt>,
}

/// A whole labelling function.
#[derive(Clone, Debug)]
pub struct Program {
    pub columns: Vec<String>,
    /// What [`Expr::User`] calls; a body calls only those before it, so none calls itself.
    pub functions: Vec<Body>,
    pub main: Body,
}

impl Body {
    /// Levels within each other, with those of the functions that are called, of which `functions` has the depths.
    pub fn depth(&self, functions: &[usize]) -> usize {
        depth_of_statements(&self.statements, functions)
    }
}

fn depth_of_statements(statements: &[Stmt], functions: &[usize]) -> usize {
    let depth = |statement: &Stmt| match statement {
        Stmt::Assign(_, value) | Stmt::Return(value) | Stmt::Evaluate(value) => value.of.depth(functions),
        Stmt::If(branches, otherwise) => {
            let inside = branches.iter().map(|(test, body)| test.of.depth(functions).max(depth_of_statements(body, functions)));
            inside.max().unwrap_or(0).max(depth_of_statements(otherwise, functions))
        }
    };
    1 + statements.iter().map(depth).max().unwrap_or(0)
}

impl Expr {
    fn depth(&self, functions: &[usize]) -> usize {
        let of = |expression: &Line<Expr>| expression.of.depth(functions);
        let all = |expressions: &[Line<Expr>]| expressions.iter().map(of).max().unwrap_or(0);
        1 + match self {
            Self::Const(_) | Self::Column { .. } | Self::Has { .. } | Self::Local(_) => 0,
            Self::Get { default: operand, .. } | Self::Not(operand) | Self::Unary(_, operand) => of(operand),
            Self::Time(_, operand) | Self::Search(_, operand) => of(operand),
            Self::Binary(_, left, right) => of(left).max(of(right)),
            Self::Compare(left, rest) => of(left).max(rest.iter().map(|(_, right)| of(right)).max().unwrap_or(0)),
            Self::And(operands) | Self::Or(operands) | Self::Call(_, operands) | Self::Math(_, operands) => all(operands),
            Self::If { test, then, or_else } => of(test).max(of(then)).max(of(or_else)),
            Self::Str(_, subject, arguments) => of(subject).max(all(arguments)),
            Self::User(function, arguments) => all(arguments).max(functions.get(*function).copied().unwrap_or(usize::MAX / 2)),
        }
    }
}
