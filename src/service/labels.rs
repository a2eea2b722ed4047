//! Label matrices: what the views have of them, and what waits to be evaluated.

use super::touched::Waiting;
use super::{At, NO_PANIC, Service, ServiceError};
use desireline_dataflows::query::{Answer, Query};
use desireline_dataflows::views::labels::MatrixRow;
use desireline_dataflows::views::labels::query::{After, LabelsAnswer, LabelsQuery, MatrixFacts, merge_facts, merge_rows};
use desireline_records::{Control, LogicalTime, MatrixId, Progress, Token};
use ecow::EcoString;
use std::sync::Arc;

/// A page of a matrix, with the matrix as a whole at the same time.
#[derive(Clone, Debug)]
pub struct MatrixPage {
    pub facts: MatrixFacts,
    pub rows: Vec<MatrixRow>,
    pub next: Option<After>,
}

impl Service {
    async fn ask_labels(&self, queries: Vec<LabelsQuery>) -> Result<(LogicalTime, Vec<Vec<LabelsAnswer>>), ServiceError> {
        let wanted = queries.len();
        let all = Query::All(queries.into_iter().map(Query::Labels).collect());
        let (as_of, parts) = self.inner.ask(all).await?;
        let mut by_query: Vec<Vec<LabelsAnswer>> = (0..wanted).map(|_| Vec::new()).collect();
        for part in parts {
            let Answer::All(answers) = part else { continue };
            for (to, answer) in by_query.iter_mut().zip(answers) {
                if let Answer::Labels(answer) = answer {
                    to.push(answer);
                }
            }
        }
        Ok((as_of, by_query))
    }

    /// Every matrix, without its rows.
    pub async fn matrices(&self) -> Result<At<Vec<MatrixFacts>>, ServiceError> {
        let (as_of, mut parts) = self.ask_labels(vec![LabelsQuery::Matrices { combinations_max: 0 }]).await?;
        let value = merge_facts(parts.swap_remove(0).into_iter().flat_map(|part| part.matrices));
        Ok(At { as_of, value })
    }

    /// One matrix, with how many rows have which votes when there are not too many combinations.
    pub async fn matrix(&self, matrix: MatrixId, combinations_max: usize) -> Result<At<Option<MatrixFacts>>, ServiceError> {
        let (as_of, mut parts) = self.ask_labels(vec![LabelsQuery::Matrix { matrix, combinations_max }]).await?;
        let value = merge_facts(parts.swap_remove(0).into_iter().flat_map(|part| part.matrices)).pop();
        Ok(At { as_of, value })
    }

    /// The rows of some things.
    pub async fn matrix_rows(&self, matrix: MatrixId, keys: Arc<[EcoString]>) -> Result<Vec<MatrixRow>, ServiceError> {
        let (_, mut parts) = self.ask_labels(vec![LabelsQuery::Keys { matrix, keys }]).await?;
        Ok(parts.swap_remove(0).into_iter().flat_map(|part| part.rows).collect())
    }

    /// A page of a matrix in the order of key hashes.
    pub async fn matrix_page(
        &self,
        matrix: MatrixId,
        after: Option<After>,
        rows_max: usize,
        disputed_only: bool,
        combinations_max: usize,
        at_least: Option<Token>,
    ) -> Result<At<Option<MatrixPage>>, ServiceError> {
        if let Some(token) = at_least {
            self.inner.wait_applied(token.time, self.inner.config.peek_deadline).await?;
        }
        let rows = LabelsQuery::Rows { matrix, after, rows_max, disputed_only };
        let (as_of, mut parts) = self.ask_labels(vec![LabelsQuery::Matrix { matrix, combinations_max }, rows]).await?;
        let (rows, next) = merge_rows(parts.pop().unwrap_or_default(), rows_max);
        let facts = merge_facts(parts.pop().unwrap_or_default().into_iter().flat_map(|part| part.matrices)).pop();
        Ok(At { as_of, value: facts.map(|facts| MatrixPage { facts, rows, next }) })
    }

    /// Makes records of matrices durable.
    pub async fn put_matrix(&self, controls: Vec<Control>) -> Result<Token, ServiceError> {
        self.inner.must_be_ready()?;
        self.inner.commit(Progress { controls, ..Progress::default() }).await
    }

    /// What has changed after a time, for a matrix.
    pub fn label_work(&self, through: LogicalTime, keys_max: usize) -> Waiting {
        let fold = self.inner.fold.read().expect(NO_PANIC);
        fold.touched.waiting(through, fold.last_time, keys_max)
    }

    /// Keys that wait for some matrix.
    pub fn label_work_len(&self) -> usize {
        self.inner.fold.read().expect(NO_PANIC).touched.count()
    }
}
