//! The named limits of pipelines, each with its reason.

/// Most pipelines of an agent: which of them take a series is a bit each in one word.
pub const PIPELINES_MAX: usize = 64;
/// Most stages of a pipeline: more than a person can follow.
pub const STAGES_MAX: usize = 64;
/// Longest name of a pipeline, a stage or a port in bytes: it is written into labels and states.
pub const NAME_BYTES_MAX: usize = 64;
/// Most patterns of a pipeline: every new series is tried against all.
pub const PATTERNS_MAX: usize = 64;
/// Longest pattern in bytes; a device and a point have 64 each.
pub const PATTERN_BYTES_MAX: usize = 160;
/// Most ports of a branch: each is an expression that a reading may have to be tried against.
pub const PORTS_MAX: usize = 16;
/// Most inputs of a derived point.
pub const INPUTS_MAX: usize = 16;
/// Longest expression in bytes.
pub const EXPRESSION_BYTES_MAX: usize = 1024;
/// Deepest nesting of an expression: its evaluation recurses, on the stack of whoever runs the pipeline.
pub const EXPRESSION_DEPTH_MAX: usize = 24;
/// Most operators, names and constants of an expression: it has no loops, so this bounds its work.
pub const EXPRESSION_NODES_MAX: usize = 200;
/// Longest message of a rule in bytes.
pub const MESSAGE_BYTES_MAX: usize = 256;

/// Longest window, silence, tolerance or duration in ms: a leap year.
pub const LENGTH_MS_MAX: u64 = 366 * 24 * 3_600_000;
/// Most windows that one reading may be in, which is `length_ms` over `hop_ms`: it is added to each of them.
pub const OVERLAP_MAX: u64 = 64;
/// Most windows that a series may have open: a reading that would open another becomes a dead letter.
pub const OPEN_WINDOWS_PER_SERIES_MAX: usize = 1_024;
/// Most windows that a stage may have open, of all series.
pub const OPEN_WINDOWS_MAX: usize = 200_000;
/// Most series for which a stage keeps a state; a reading of another one becomes a dead letter.
pub const SERIES_PER_STAGE_MAX: usize = 20_000;
/// Most series that a pipeline knows, those that it makes included.
pub const SERIES_MAX: usize = 200_000;
/// Most readings that a z-score may look back over.
pub const LOOK_BACK_MAX: u64 = 1_000_000;
/// Furthest time from 1970 that a window or a rule takes, either way, in ns (1823 to 2116): so that no sum of a
/// time and a length leaves the range.
pub const TIME_ABS_MAX_NS: i64 = 1 << 62;
/// Before this (2020-01-01) a clock was never set, and nothing is ahead of it.
pub const CLOCK_SET_NS: i64 = 1_577_836_800 * 1_000_000_000;

/// Most kinds of dead letters that one run tells apart; the others are counted.
pub const LETTERS_MAX: usize = 256;
/// Most steps of a traced device that one run tells; the others are counted.
pub const TRACE_STEPS_MAX: usize = 10_000;
