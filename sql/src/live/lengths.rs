//! Lengths of time are compared as PostgreSQL compares them: a day is 24 hours, a month 30 days.
//!
//! The engine would compare an interval field by field, so that a day would be more than 36 hours. So both sides of a comparison become
//! numbers of microseconds.

use super::functions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Between, BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator};

/// The same plan with lengths compared so.
pub fn compared(plan: LogicalPlan) -> Result<LogicalPlan> {
    let rewritten = plan.transform_up_with_subqueries(|node| {
        let schema = merge_schema(&node.inputs());
        let names = NamePreserver::new(&node);
        node.map_expressions(|expr| {
            let name = names.save(&expr);
            Ok(expr.transform_up(|expr| Ok(comparison(expr, &schema)))?.update_data(|expr| name.restore(expr)))
        })
    })?;
    Ok(rewritten.data)
}

fn comparison(expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if compares(op) && (is_length(&left, schema) || is_length(&right, schema)) => {
            let (left, right) = (number(*left, schema), number(*right, schema));
            Transformed::yes(Expr::BinaryExpr(BinaryExpr { left, op, right }))
        }
        Expr::Between(Between { expr, negated, low, high }) if is_length(&expr, schema) => {
            let (expr, low, high) = (number(*expr, schema), number(*low, schema), number(*high, schema));
            Transformed::yes(Expr::Between(Between { expr, negated, low, high }))
        }
        other => Transformed::no(other),
    }
}

fn compares(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

fn is_length(expr: &Expr, schema: &DFSchema) -> bool {
    expr.get_type(schema).is_ok_and(|kind| functions::is_length(&kind))
}

/// The length as a number; whatever else stands in the comparison is left to the types to refuse.
fn number(expr: Expr, schema: &DFSchema) -> Box<Expr> {
    if !is_length(&expr, schema) {
        return Box::new(expr);
    }
    Box::new(Expr::ScalarFunction(ScalarFunction::new_udf(functions::length(), vec![expr])))
}
