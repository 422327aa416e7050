//! The named limits of a job, each with its reason.

/// Longest name of a job in bytes: it is written into series, labels and paths.
pub const NAME_BYTES_MAX: usize = 64;
/// Most patterns of a source, for devices and for points each: every new series is tried against all.
pub const PATTERNS_MAX: usize = 64;
/// Longest pattern in bytes; an id has 64.
pub const PATTERN_BYTES_MAX: usize = 128;
/// Most stages of a job: every reading passes all.
pub const STAGES_MAX: usize = 16;
/// Longest statement of SQL in bytes: it is told with the job wherever that is shown.
pub const SQL_BYTES_MAX: usize = 16 * 1024;
/// Most windows of a statement that one reading may be in: it is run for each of them.
pub const SQL_OVERLAP_MAX: u64 = 60;
/// How often the statement of a window is run before the window is given up.
pub const ATTEMPTS_MAX: u32 = 4;
/// How long after a failure it is run again, in ns; each time ten times as long.
pub const RETRY_NS: i64 = 1_000_000_000;
/// How long late readings of a window are gathered before its statement is run again, in ns: each run reads all of the window.
pub const GATHER_NS: i64 = 1_000_000_000;
/// Windows that were given up, and those that are to be tried again, of which is told: enough to see what goes wrong.
pub const FAILURES_MAX: usize = 100;
/// Longest reason that is kept of a failure, in characters.
pub const REASON_CHARS_MAX: usize = 500;
/// Sessions of a series, or another key, that were given and let go, of which it is known where they were: so far back late
/// readings have sessions aggregated again.
pub const PAST_SESSIONS_MAX: usize = 1_000;
/// What each of them counts for in the state, in readings.
pub const PAST_SESSION_READINGS: u64 = 6;
/// Most sinks of a job.
pub const SINKS_MAX: usize = 4;
/// Shortest window, hop, gap or time-out in ms.
pub const LENGTH_MS_MIN: u64 = 1;
/// Longest window, gap, tolerance, lateness or time-out in ms: a leap year.
pub const LENGTH_MS_MAX: u64 = 366 * 24 * 3_600_000;
/// Most windows that one reading may be in, which is `length_ms` over `hop_ms`: each of them is computed
/// from that many slices.
pub const OVERLAP_MAX: u64 = 1_000;
/// Most devices that a job may be told to hold.
pub const DEVICES_MAX: u64 = 1_000_000;
/// Most slices of windows and sessions that a job may be told to keep open.
pub const OPEN_WINDOWS_MAX: u64 = 10_000_000;
/// Most bytes of state that a job may be told to hold: all of it is in memory.
pub const STATE_BYTES_MAX: u64 = 1 << 30;
/// Least of the same, so that a device, a series and a window fit.
pub const STATE_BYTES_MIN: u64 = 64 << 10;
/// Furthest time from 1970 that a reading may have, either way, in ns (1823 to 2116): so that no sum of a
/// time, a window's length and a lateness leaves the range.
pub const TIME_ABS_MAX_NS: i64 = 1 << 62;
/// Greatest magnitude of a value: so that neither a sum of 2^50 readings nor an integral over all of time
/// leaves the range of `f64`.
pub const VALUE_ABS_MAX: f64 = 1e280;

/// What a device counts for in the state, in bytes.
pub const DEVICE_BYTES: u64 = 512;
/// What a series, or another key of windows, counts for.
pub const KEY_BYTES: u64 = 256;
/// What a slice or a session counts for: its sum may need forty numbers.
pub const CELL_BYTES: u64 = 512;
/// What a reading that is kept counts for.
pub const READING_BYTES: u64 = 16;
/// What a window that waits for its re-aggregation counts for.
pub const WANTED_BYTES: u64 = 256;
