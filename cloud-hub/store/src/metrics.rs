//! Counters of the store since it was opened.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Counters since the store was opened.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct StoreMetrics {
            $($(#[$doc])* pub $name: u64,)*
            /// Rows in memory that are not sealed.
            pub hot_rows: u64,
            /// Rows in sealed files.
            pub sealed_rows: u64,
            /// Bytes of sealed files, rollups included.
            pub sealed_bytes: u64,
            /// Sealed files, rollups not counted.
            pub sealed_files: u64,
            /// Readings in the cold tier.
            pub cold_rows: u64,
            /// Bytes of its files.
            pub cold_bytes: u64,
            /// Its files.
            pub cold_files: u64,
            /// Whether a write failed, so that nothing is accepted until the log is reopened.
            pub poisoned: bool,
        }

        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: AtomicU64,)*
            pub(crate) poisoned: AtomicBool,
        }

        impl Counters {
            pub(crate) fn read(&self) -> StoreMetrics {
                StoreMetrics {
                    $($name: self.$name.load(Ordering::Relaxed),)*
                    poisoned: self.poisoned.load(Ordering::Relaxed),
                    ..StoreMetrics::default()
                }
            }
        }
    };
}

counters! {
    /// Runs that were acknowledged.
    appended_batches,
    /// Rows that were stored by them.
    appended_rows,
    /// Rows that came again.
    duplicate_rows,
    /// Group commits.
    commits,
    /// Bytes handed to the log.
    log_bytes,
    /// Rows that became queryable.
    decoded_rows,
    /// Runs that could not be decoded.
    dead_letters,
    /// Rows of dead letters that were stored after all.
    revived_rows,
    /// Flushes that were committed.
    flushes,
    /// Sealed files, or rollups, that were found damaged after the start.
    damaged_files,
    /// How often several sealed files became one.
    compactions,
    /// Compactions that failed and are tried again.
    compaction_failures,
    /// Readings that retention has given up in sealed files.
    expired_rows,
    /// Of these, readings that went to the cold tier.
    frozen_rows,
    /// Readings that retention has given up in the cold tier.
    melted_rows,
    /// Sealed files of which retention has left nothing.
    expired_files,
    /// Flushes that failed and are tried again.
    flush_failures,
    /// Writes of the log that failed, after each of which it took no more until it was reopened.
    log_failures,
    /// How often the log was reopened after that.
    log_reopenings,
    /// Files of dead letters that were removed to make room for newer ones of the same agent.
    dead_files_removed,
}

pub(crate) fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}
