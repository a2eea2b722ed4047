//! Runs a program over a batch of rows.
//!
//! Every step is done for all rows that are at it, and `active` says which those are. A row that raises leaves `active` and is counted as
//! a fault with the line; a row whose next step only the interpreter does exactly leaves it, too, and is given to the interpreter from
//! its beginning. Branches split the active rows and join them again, so a variable may have values of several types, see
//! [`crate::vector`]. What an operator does not evaluate in Python is not evaluated here: the right side of `and` is computed for the rows
//! where the left side is true.

use crate::columns::{Column, Data};
use crate::ir::{Body, Expr, Line, Program, Scalar, Stmt};
use crate::kernels::Computed;
use crate::mask::{BATCH_ROWS, Mask};
use crate::text::MADE_BYTES_MAX;
use crate::vector::{NONE, Slice, Value, Vector};
use crate::worker::protocol::{self, Fault, FaultKind, Faults};
use crate::worker::rows::unreadable;
use std::borrow::Cow;
use std::rc::Rc;
use std::time::Instant;

mod operations;

/// A column in one batch.
#[expect(clippy::large_enum_variant, reason = "there is one for each column, and missing ones are rare")]
pub enum State<'a> {
    Missing,
    Present {
        value: Value<'a>,
        /// Rows whose values neither tier can read, with what is said of them.
        unreadable: Option<(Mask, String)>,
        /// Rows whose values do not fit 64 bits.
        elsewhere: Mask,
    },
}

impl<'a> State<'a> {
    /// Of at most [`BATCH_ROWS`] rows.
    pub fn of(name: &str, column: &Column<'a>, len: usize) -> Self {
        let all = Mask::first(len);
        let nulls = if column.has_nulls() { Mask::collect(len, |row| column.is_null(row)) } else { Mask::EMPTY };
        let mut present = all.without(&nulls);
        let mut bad = Mask::EMPTY;
        if column.may_be_out_of_range() {
            bad = Mask::collect(len, |row| column.out_of_range(row)).and(&present);
        } else if matches!(column.data, Data::Unsupported(_)) {
            bad = present;
        }
        let mut elsewhere = Mask::EMPTY;
        let vector = match &column.data {
            Data::None | Data::Unsupported(_) => NONE,
            Data::Bool(values) => Vector::Bool(Mask::collect(len, |row| values[row])),
            Data::Int(values) => Vector::Int(values.clone()),
            Data::Unsigned(values) => {
                elsewhere = Mask::collect(len, |row| i64::try_from(values[row]).is_err()).and(&present);
                Vector::Int(values.iter().map(|&value| value.cast_signed()).collect::<Vec<_>>().into())
            }
            Data::Float(values) => Vector::Float(values.clone()),
            Data::Str(values) => Vector::Str(Rc::from(values.as_slice())),
            Data::Datetime { micros, aware } => Vector::Datetime { micros: micros.clone(), aware: *aware },
            Data::Date(days) => Vector::Date(days.clone()),
        };
        present = present.without(&bad).without(&elsewhere);
        let mut value = Value::default();
        value.push(present, vector);
        value.push(nulls, NONE);
        let unreadable = (!bad.is_empty()).then(|| (bad, unreadable(name, column)));
        Self::Present { value, unreadable, elsewhere }
    }
}

/// Variables of one call.
type Locals<'a> = Vec<Value<'a>>;

pub struct Machine<'p, 'a> {
    program: &'p Program,
    columns: Vec<State<'a>>,
    len: usize,
    /// The number of the batch's first row.
    first_row: u64,
    deadline: Instant,
    faults: &'p mut Faults,
    elsewhere: Mask,
    /// What the batch's texts may still take.
    text_bytes_left: usize,
    /// The line of the step before which the time was up.
    late: Option<u32>,
}

/// What became of a batch.
pub struct Ran {
    /// Rows for the interpreter.
    pub elsewhere: Mask,
    pub late: Option<u32>,
}

impl<'p, 'a> Machine<'p, 'a> {
    pub fn new(
        program: &'p Program,
        columns: Vec<State<'a>>,
        len: usize,
        first_row: u64,
        deadline: Instant,
        faults: &'p mut Faults,
    ) -> Self {
        debug_assert!(len <= BATCH_ROWS, "a batch has at most {BATCH_ROWS} rows");
        Self { program, columns, len, first_row, deadline, faults, elsewhere: Mask::EMPTY, text_bytes_left: MADE_BYTES_MAX, late: None }
    }

    /// Writes the votes that are not abstentions.
    pub fn run(mut self, applicable: &[i64], votes: &mut [i64]) -> Ran {
        let active = Mask::first(self.len);
        let program = self.program;
        let mut locals = vec![Value::default(); program.main.locals.len()];
        let returned = self.body(&program.main, active, &mut locals);
        for (rows, vector) in &returned.pieces {
            self.votes(rows, vector, applicable, votes);
        }
        Ran { elsewhere: self.elsewhere, late: self.late }
    }

    fn votes(&mut self, rows: &Mask, vector: &Vector<'_>, applicable: &[i64], votes: &mut [i64]) {
        match vector {
            Vector::Const(Scalar::Int(id)) => match protocol::vote_of_int(*id, applicable) {
                Ok(id) => fill(rows, id, votes),
                Err((kind, message)) => self.fault(kind, None, rows, message),
            },
            Vector::Int(ids) => self.each_vote(rows, votes, |row| protocol::vote_of_int(ids[row], applicable)),
            Vector::Float(ids) => self.each_vote(rows, votes, |row| protocol::vote_of_float(ids[row], applicable)),
            Vector::Const(Scalar::Float(id)) => self.each_vote(rows, votes, |_| protocol::vote_of_float(*id, applicable)),
            Vector::Const(Scalar::None) => {
                let (kind, message) = protocol::vote_of_none();
                self.fault(kind, None, rows, message);
            }
            other => {
                let (kind, message) = protocol::vote_of_other(other.type_name());
                self.fault(kind, None, rows, message);
            }
        }
    }

    fn each_vote(&mut self, rows: &Mask, votes: &mut [i64], vote: impl Fn(usize) -> Result<i64, (FaultKind, String)>) {
        for row in rows.rows() {
            match vote(row) {
                Ok(id) => votes[row] = id,
                Err((kind, message)) => {
                    let mut one = Mask::EMPTY;
                    one.insert(row);
                    self.fault(kind, None, &one, message);
                }
            }
        }
    }

    fn fault(&mut self, kind: FaultKind, line: Option<u32>, rows: &Mask, message: String) {
        if let Some(first) = rows.rows().next() {
            self.faults.add(Fault { kind, line, message, rows: rows.count(), first_row: self.first_row + first as u64 });
        }
    }

    /// These rows raise; they are active no more.
    fn raise(&mut self, line: u32, rows: &Mask, message: impl Into<String>, active: &mut Mask) {
        let rows = rows.and(active);
        if !rows.is_empty() {
            let message = message.into();
            // What Python itself would not raise.
            let limit = message.starts_with("NotImplementedError") || message.starts_with("MemoryError");
            let kind = if limit { FaultKind::Limit } else { FaultKind::Exception };
            self.fault(kind, Some(line), &rows, message);
            *active = active.without(&rows);
        }
    }

    fn give_away(&mut self, rows: &Mask, active: &mut Mask) {
        let rows = rows.and(active);
        self.elsewhere = self.elsewhere.or(&rows);
        *active = active.without(&rows);
    }

    /// The vector of a kernel, without the rows that have none.
    fn take(&mut self, computed: Computed<'a>, line: u32, rows: &Mask, active: &mut Mask) -> Value<'a> {
        let mut of_rows = rows.and(active);
        for (raised, message) in computed.raised {
            let before = of_rows;
            self.raise(line, &raised, message, &mut of_rows);
            *active = active.without(&before.without(&of_rows));
        }
        self.give_away(&computed.elsewhere.and(&of_rows), active);
        let mut value = Value::default();
        value.push(of_rows.and(active), computed.vector);
        value
    }

    fn out_of_time(&mut self, line: u32, active: &mut Mask) -> bool {
        if self.late.is_none() && Instant::now() > self.deadline {
            self.late = Some(line);
        }
        if self.late.is_some() {
            *active = Mask::EMPTY;
        }
        self.late.is_some()
    }

    /// Runs a body for the active rows; what they return.
    fn body(&mut self, body: &'p Body, active: Mask, locals: &mut Locals<'a>) -> Value<'a> {
        let mut returned = Value::default();
        let mut left = active;
        self.statements(body, &body.statements, locals, &mut left, &mut returned);
        if self.late.is_none() {
            returned.push(left, NONE);
        }
        returned
    }

    fn statements(&mut self, body: &'p Body, statements: &'p [Stmt], locals: &mut Locals<'a>, active: &mut Mask, returned: &mut Value<'a>) {
        for statement in statements {
            if active.is_empty() {
                return;
            }
            match statement {
                Stmt::Assign(local, value) => {
                    let value = self.value(value, active, (body, locals));
                    let mut merged = locals[*local].only(&Mask::first(self.len).without(active));
                    merged.extend(value);
                    locals[*local] = merged.compact(self.len);
                }
                Stmt::Evaluate(value) => {
                    self.value(value, active, (body, locals));
                }
                Stmt::Return(value) => {
                    let value = self.value(value, active, (body, locals));
                    returned.extend(value);
                    *active = Mask::EMPTY;
                }
                Stmt::If(branches, otherwise) => {
                    let mut after = Mask::EMPTY;
                    for (test, branch) in branches {
                        if active.is_empty() {
                            break;
                        }
                        if self.out_of_time(test.line, active) {
                            return;
                        }
                        let holds = self.truth(test, active, (body, locals));
                        let mut inside = holds;
                        *active = active.without(&holds);
                        self.statements(body, branch, locals, &mut inside, returned);
                        after = after.or(&inside);
                    }
                    self.statements(body, otherwise, locals, active, returned);
                    *active = active.or(&after);
                }
            }
        }
    }

    /// Whether an expression is true, in some of the active rows.
    fn truth(&mut self, expression: &'p Line<Expr>, active: &mut Mask, scope: (&'p Body, &Locals<'a>)) -> Mask {
        match &expression.of {
            Expr::Not(operand) => {
                let holds = self.truth(operand, active, scope);
                active.without(&holds)
            }
            Expr::And(operands) => {
                let mut rows = *active;
                for operand in operands {
                    if rows.is_empty() {
                        break;
                    }
                    let before = rows;
                    let holds = self.truth(operand, &mut rows, scope);
                    *active = active.without(&before.without(&rows));
                    rows = holds;
                }
                rows
            }
            Expr::Or(operands) => {
                let mut holds = Mask::EMPTY;
                let mut rows = *active;
                for operand in operands {
                    if rows.is_empty() {
                        break;
                    }
                    let before = rows;
                    let now = self.truth(operand, &mut rows, scope);
                    *active = active.without(&before.without(&rows));
                    holds = holds.or(&now);
                    rows = rows.without(&now);
                }
                holds
            }
            Expr::Compare(left, rest) => self.chain(left, rest, expression.line, active, scope),
            _ => {
                let value = self.value(expression, active, scope);
                self.truth_of(&value).and(active)
            }
        }
    }

    fn truth_of(&self, value: &Value<'a>) -> Mask {
        let each = value.pieces.iter().map(|(rows, vector)| {
            let truth = match vector {
                Vector::Const(scalar) if scalar.truth() => *rows,
                Vector::Const(_) => Mask::EMPTY,
                Vector::Bool(mask) => *mask,
                Vector::Int(values) | Vector::Delta(values) => crate::kernels::bits(values, |value| value != 0),
                Vector::Float(values) => crate::kernels::bits(values, |value| value != 0.0),
                Vector::Str(values) => Mask::collect(self.len, |row| !values[row].is_empty()),
                Vector::Datetime { .. } | Vector::Date(_) | Vector::Match => *rows,
            };
            truth.and(rows)
        });
        each.fold(Mask::EMPTY, |all, piece| all.or(&piece))
    }

    /// The value of an expression in the rows that are active afterwards.
    fn value(&mut self, expression: &'p Line<Expr>, active: &mut Mask, scope: (&'p Body, &Locals<'a>)) -> Value<'a> {
        let line = expression.line;
        match &expression.of {
            Expr::Const(scalar) => Value::constant(*active, scalar.clone()),
            Expr::Column { column } => self.column(*column, None, line, active),
            Expr::Get { column, default } => {
                let default = self.value(default, active, scope);
                self.column(*column, Some(default), line, active)
            }
            Expr::Has { column } => {
                let has = matches!(self.columns[*column], State::Present { .. });
                Value::constant(*active, Scalar::Bool(has))
            }
            Expr::Local(local) => {
                let (body, locals) = scope;
                let value = locals[*local].only(active);
                let unbound = active.without(&value.rows());
                if !unbound.is_empty() {
                    let name = &body.locals[*local];
                    let message =
                        format!("UnboundLocalError: cannot access local variable '{name}' where it is not associated with a value");
                    self.raise(line, &unbound, message, active);
                }
                value
            }
            Expr::Not(_) | Expr::Compare(..) => {
                let holds = self.truth(expression, active, scope);
                Value::one(*active, Vector::Bool(holds))
            }
            Expr::And(operands) => self.operands(operands, true, active, scope),
            Expr::Or(operands) => self.operands(operands, false, active, scope),
            Expr::If { test, then, or_else } => {
                let mut holds = self.truth(test, active, scope);
                let mut others = active.without(&holds);
                let mut value = Value::default();
                if !holds.is_empty() {
                    value.extend(self.value(then, &mut holds, scope));
                }
                if !others.is_empty() {
                    value.extend(self.value(or_else, &mut others, scope));
                }
                *active = holds.or(&others);
                value.compact(self.len)
            }
            Expr::User(function, arguments) => self.call(*function, arguments, line, active, scope),
            _ => self.operation(expression, active, scope),
        }
    }

    /// `and` and `or` give one of their operands.
    fn operands(&mut self, operands: &'p [Line<Expr>], and: bool, active: &mut Mask, scope: (&'p Body, &Locals<'a>)) -> Value<'a> {
        let mut value = Value::default();
        let mut rows = *active;
        for (index, operand) in operands.iter().enumerate() {
            if rows.is_empty() {
                break;
            }
            let before = rows;
            let of_operand = self.value(operand, &mut rows, scope);
            *active = active.without(&before.without(&rows));
            if index + 1 == operands.len() {
                value.extend(of_operand);
                break;
            }
            let holds = self.truth_of(&of_operand).and(&rows);
            let (decided, open) = if and { (rows.without(&holds), holds) } else { (holds, rows.without(&holds)) };
            value.extend(of_operand.only(&decided));
            rows = open;
        }
        value.compact(self.len)
    }

    fn column(&mut self, column: usize, default: Option<Value<'a>>, line: u32, active: &mut Mask) -> Value<'a> {
        let (value, unreadable, elsewhere) = match (&self.columns[column], default) {
            (State::Missing, Some(default)) => return default.only(active),
            (State::Missing, None) => {
                let message = format!("KeyError: '{}'", self.program.columns[column]);
                let all = *active;
                self.raise(line, &all, message, active);
                return Value::default();
            }
            (State::Present { value, unreadable, elsewhere }, _) => (value.only(active), unreadable.clone(), *elsewhere),
        };
        if let Some((rows, message)) = unreadable {
            let rows = rows.and(active);
            self.fault(FaultKind::Limit, Some(line), &rows, message);
            *active = active.without(&rows);
        }
        self.give_away(&elsewhere, active);
        value
    }

    fn call(
        &mut self,
        function: usize,
        arguments: &'p [Line<Expr>],
        line: u32,
        active: &mut Mask,
        scope: (&'p Body, &Locals<'a>),
    ) -> Value<'a> {
        let program = self.program;
        let body = &program.functions[function];
        let mut locals = vec![Value::default(); body.locals.len()];
        for (local, argument) in locals.iter_mut().zip(arguments) {
            *local = self.value(argument, active, scope);
        }
        // A small text can call functions that call functions so often that it takes for ever.
        if active.is_empty() || self.out_of_time(line, active) {
            return Value::default();
        }
        let returned = self.body(body, *active, &mut locals).compact(self.len);
        *active = returned.rows();
        returned
    }
}

/// Each vote is still [`ABSTAIN`](crate::source::ABSTAIN), all of whose bits are set, so that a row's vote is what is left of them.
fn fill(rows: &Mask, id: i64, votes: &mut [i64]) {
    if id == crate::source::ABSTAIN {
        return;
    }
    for (word, votes) in rows.words.iter().zip(votes.chunks_mut(64)) {
        match *word {
            0 => {}
            u64::MAX => votes.fill(id),
            word => {
                for (byte, votes) in word.to_le_bytes().into_iter().zip(votes.chunks_mut(8)) {
                    for (bit, vote) in votes.iter_mut().enumerate() {
                        let outside = (i64::from(byte >> bit) & 1) - 1;
                        *vote &= id | outside;
                    }
                }
            }
        }
    }
}

/// The value of an expression of constants alone, when it has one.
pub fn constant(expression: &Line<Expr>) -> Option<Scalar> {
    let known = |operand: &Line<Expr>| matches!(operand.of, Expr::Const(_));
    let folds = match &expression.of {
        Expr::Not(operand) | Expr::Unary(_, operand) | Expr::Time(_, operand) => known(operand),
        Expr::Binary(_, left, right) => known(left) && known(right),
        Expr::Compare(left, rest) => known(left) && rest.iter().all(|(_, right)| known(right)),
        Expr::Call(_, arguments) | Expr::Math(_, arguments) => arguments.iter().all(known),
        Expr::Str(_, subject, arguments) => known(subject) && arguments.iter().all(known),
        _ => false,
    };
    if !folds {
        return None;
    }
    let main = Body { parameters: 0, locals: Vec::new(), statements: Vec::new() };
    let program = Program { columns: Vec::new(), functions: Vec::new(), main };
    let mut faults = Faults::default();
    let deadline = Instant::now() + std::time::Duration::from_secs(1);
    let mut machine = Machine::new(&program, Vec::new(), 1, 0, deadline, &mut faults);
    // The expression only has to live as long as the machine.
    let value = machine.constant_of(expression);
    value.as_ref().and_then(|value| value.pieces.first()).and_then(|(_, vector)| scalar_of(vector))
}

impl<'p> Machine<'p, 'p> {
    fn constant_of(&mut self, expression: &'p Line<Expr>) -> Option<Value<'p>> {
        let mut active = Mask::first(1);
        let program = self.program;
        let value = self.value(expression, &mut active, (&program.main, &Vec::new()));
        (active == Mask::first(1)).then_some(value)
    }
}

fn scalar_of(vector: &Vector<'_>) -> Option<Scalar> {
    let first = |values: &Slice<'_, i64>| values.first().copied();
    Some(match vector {
        Vector::Const(scalar) => scalar.clone(),
        Vector::Bool(mask) => Scalar::Bool(mask.has(0)),
        Vector::Int(values) => Scalar::Int(first(values)?),
        Vector::Float(values) => Scalar::Float(values.first().copied()?),
        Vector::Str(values) => Scalar::Str(values.first().map(Cow::as_ref)?.into()),
        Vector::Datetime { micros, aware } => Scalar::Datetime { micros: first(micros)?, aware: *aware },
        Vector::Date(days) => Scalar::Date(first(days)?),
        Vector::Delta(micros) => Scalar::Delta(first(micros)?),
        Vector::Match => return None,
    })
}
