//! Tables on the object store, as jobs read and write them: with errors that say whether a run may try again.

use crate::runs::RunError;
use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use desireline_connectors::store::Store;
use desireline_connectors::table::{self, Scan, TableError, TableLimits, WriteError};
use futures::TryStreamExt;
use std::convert::Infallible;

fn failed(error: &TableError) -> RunError {
    let message = error.to_string();
    if error.is_retryable() { RunError::external(error.code(), message) } else { RunError::user(error.code(), message) }
}

/// A whole table.
pub async fn read(store: &Store, object: &str) -> Result<(SchemaRef, Vec<RecordBatch>), RunError> {
    table::read(store, object, None).await.map_err(|error| failed(&error))
}

/// Some rows of a table in their order. Reads no further than these.
pub async fn page(store: &Store, object: &str, offset: usize, limit: usize) -> Result<Vec<RecordBatch>, RunError> {
    let scan = Scan::open(store, object).await.map_err(|error| failed(&error))?;
    let (_, mut batches) = scan.batches(None).map_err(|error| failed(&error))?;
    let (mut passed, mut found) = (0, Vec::new());
    let end = offset.saturating_add(limit);
    while passed < end {
        let Some(batch) = batches.try_next().await.map_err(|error| failed(&error))? else { break };
        let from = offset.saturating_sub(passed).min(batch.num_rows());
        let to = (end - passed).min(batch.num_rows());
        passed += batch.num_rows();
        if from < to {
            found.push(batch.slice(from, to - from));
        }
    }
    Ok(found)
}

/// Writes a table, over an older one of its name.
pub async fn write(store: &Store, object: &str, schema: SchemaRef, batches: Vec<RecordBatch>) -> Result<(), RunError> {
    let rows = futures::stream::iter(batches.into_iter().map(Ok::<_, Infallible>));
    match table::write(store, object, schema, rows, TableLimits::default()).await {
        Ok(_) => Ok(()),
        Err(WriteError::Table(error)) => Err(failed(&error)),
        Err(WriteError::Rows(never)) => match never {},
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{Int64Array, cast::AsArray, types::Int64Type};
    use std::collections::BTreeMap;
    use std::sync::Arc;

    #[tokio::test]
    async fn pages_are_the_rows_asked_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(&folder.path().display().to_string(), &BTreeMap::new()).expect("a folder");
        let numbers: Arc<Int64Array> = Arc::new(Int64Array::from_iter_values(0..20_000));
        let batch = RecordBatch::try_from_iter([("n", numbers as _)]).expect("a batch");
        write(&store, "t.parquet", batch.schema(), vec![batch]).await.expect("written");
        for (offset, limit, expected) in
            [(0, 3, 0..3), (8_190, 4, 8_190..8_194), (19_999, 5, 19_999..20_000), (20_000, 5, 0..0), (5, 0, 0..0)]
        {
            let page = page(&store, "t.parquet", offset, limit).await.expect("read");
            let rows: Vec<i64> = page.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
            assert_eq!(rows, expected.collect::<Vec<i64>>(), "{limit} from {offset}");
        }
        let error = read(&store, "none.parquet").await.expect_err("there is none");
        assert!(!error.retryable(), "{error}");
    }
}
