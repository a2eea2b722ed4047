//! Background upkeep: compaction of the log, pending erasures, cold parts that nothing names.

use super::Inner;
use desireline_connectors::log::Compactor;
use std::sync::Arc;

impl Inner {
    /// Keeps the number of objects bounded and carries out erasures, until the service stops.
    pub async fn compact_loop(self: Arc<Self>, compactor: Compactor) {
        match self.sweep_cold().await {
            Ok(0) => {}
            Ok(deleted) => tracing::info!(deleted, "cold parts that nothing names were deleted"),
            Err(error) => tracing::warn!(%error, "the cold parts could not be looked through"),
        }
        let mut stopping = self.stopping.subscribe();
        loop {
            self.carry_out_erasures(&compactor).await;
            self.forget_rows(&compactor).await;
            match compactor.run_once().await {
                Ok(report) => tracing::debug!(?report, "the log was looked through for compaction"),
                Err(error) => tracing::warn!(%error, "the log could not be compacted; it will be tried again"),
            }
            tokio::select! {
                () = tokio::time::sleep(self.config.compaction.every) => {}
                () = self.maintain.notified() => {}
                _ = stopping.wait_for(|stop| *stop) => return,
            }
        }
    }
}
