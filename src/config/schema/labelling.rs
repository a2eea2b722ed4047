//! Settings of labelling functions and of what is learned from them.

use super::super::reader::settings;
use super::super::values::Size;
use std::path::PathBuf;
use std::time::Duration;

settings! {
    /// Labelling functions, label models and classifiers.
    Labelling {
        /// Functions can be made active, and their code be changed, without approval.
        lenient_toggle: bool = default "false";
        /// Threads on which the models of one job are trained and its functions evaluated. Default: as many as there are cores.
        training_threads: Option<usize> = unset "4" in "1"..="1024";
        /// How long one model may be trained; it is left out when it takes longer.
        model_time_max: Duration = default "10m" in "1s"..="1d";
        /// Functions that are tested at the same time.
        tests_at_once: usize = default "2" in "1"..="1024";
        /// Processes for functions that are interpreted.
        workers_max: usize = default "2" in "1"..="1024";
        /// Memory of such a process beyond its program.
        worker_memory: Size = default "512MiB" in "32MiB"..="64GiB";
        /// How long a function may take for one batch of rows.
        batch_deadline: Duration = default "10s" in "100ms"..="1h";
        /// The program that is started as a worker. Default: this one.
        worker: Option<PathBuf> = unset "/usr/local/bin/desireline";
    }
}
