//! Pipelines: what stands between the agent's sources and its spool. A pure core.
//!
//! Nothing here does I/O: no task is started, no clock read, no file opened. `now` comes in with each call, and a chunk says
//! which clock gave its times; [`Now`] and [`Setting`] say what becomes of one that is set. The same calls give the same
//! outcomes.
//!
//! ```toml
//! [[pipeline]]
//! name = "boiler"
//! from = ["boiler-*/temperature"]        # device/point; `*` stands for any text
//!
//! [[pipeline.stage]]
//! name = "sane"
//! kind = "range"                         # reads what the pipeline takes
//! min = -40
//! max = 150
//!
//! [[pipeline.stage]]
//! name = "hot"
//! kind = "rule"                          # reads the stage before it
//! condition = "above"
//! limit = 90
//! clear = 85                             # hysteresis
//! for_ms = 10_000
//! write = { device = "valve-1", point = "open", fired = true, cleared = false }
//!
//! [[pipeline.stage]]
//! name = "minutes"
//! kind = "window"
//! after = "sane"                         # reads this one; of a branch "stage.port"; "from" is what the pipeline takes
//! length_ms = 60_000
//! aggregates = ["mean", "max"]           # becomes temperature/mean and temperature/max
//! ```
//!
//! What no stage reads leaves the pipeline. Readings of series that no pipeline takes go on as they are, as do those of a
//! pipeline with `keep = true`. Results of one pipeline are not read by another.
//!
//! | kind | a good number | text | null | not good |
//! |---|---|---|---|---|
//! | `range` | judged | dead letter | goes on | goes on |
//! | `deadband` | goes on when it differs by more than the band | when it differs | when it differs | when it differs |
//! | `scale`, `unit` | converted | dead letter | goes on | its number is converted, the quality stays |
//! | `expression` | computed | computed | computed (`value == null`) | null of the same quality |
//! | `filter`, `branch` | tried | tried | tried | tried, as `quality` says what it is |
//! | `window` | counted | dead letter | says nothing | left out, counted as `bad` |
//! | `derive` | an input | an input | an input | an input that makes the result null |
//! | `rule` | judged, goes on | goes on; judged by expressions | goes on | goes on |
//! | `rate_limit`, `output` | goes on | goes on | goes on | goes on |
//! | `write` | written, goes on | written, goes on | goes on | goes on |
//!
//! Truth values are 0 and 1 to what calculates. What a stage cannot take becomes a [`DeadLetter`] that names stage,
//! device, point and reason; it costs that reading.
//!
//! Call order: [`read`] (data) → [`Pipelines::compile`] → perhaps [`Pipelines::restore`] → [`Pipelines::run`] for each chunk
//! and [`Pipelines::tick`] about every second, which give an [`Outcome`].
//!
//! # Chunks
//! Each stage has done its work on a chunk before the next begins, and takes it series by series. What it does with the
//! readings of one series does not depend on how they are spread over chunks. [`derive`](definition::Derive) is the one that reads
//! several series together: it takes the readings of a chunk in the order of their times. A stage that reads several others takes
//! the readings of a chunk and a series in the order of their times, too.
//!
//! # What a restart must not lose
//! Most stages give each reading on at once, and what they remember decides only what later readings become: losing it lets a
//! deadband pass one more reading, or has a rule judge anew. An open window is different: its readings were taken in, and are
//! in nothing that went on. So at a restart each of them must be in the saved state, or be read again:
//!
//! 1. **State with the batch.** The spool makes readings and a source's position durable in one commit, and a position is a
//!    name and bytes. So is a pipeline's state ([`Pipelines::states`]): saved with the very batch that [`Pipelines::run`] gave,
//!    outputs, position and state are those of one moment, whatever is killed. That is some 100 bytes for each open window.
//!    As the same calls give the same outcomes, an older state with all calls since is as good as a new one, and much less to
//!    write: the chunks of [`Pipelines::run`] of which anything is kept ([`Pipelines::keeps`]), and the ticks.
//! 2. **Positions that wait.** A source that can be read again (a file) keeps its position back until
//!    [`Pipeline::open_windows`] is 0 or a state was saved, which then may be rarely. After a restart the older state and
//!    the older position fit together; results that were given in between are given again, so they must be told apart or
//!    be allowed twice.
//! 3. **`keep = true`.** The readings go on as they came, durable as without a pipeline, and a window that a kill took is
//!    missing among its results and not in the data.
//!
//! The first is right for windows of things that are not kept otherwise, and is what the agent does.
//!
//! Invariant: of each stage but windows and derived points, readings in = out + dropped + dead letters (of branches over
//! all ports; of rules and writes all go on).

mod check;
mod clock;
pub mod definition;
mod expression;
pub mod limits;
mod outcome;
mod pattern;
mod pipeline;
mod problem;
mod series;
mod set;
mod stage;
mod state;
mod template;

pub use clock::{Now, STEP_NS, Setting};
pub use definition::{Definition, read};
pub use outcome::{
    Action, Became, Change, Chunk, Counts, DeadLetter, Event, Outcome, Row, SeriesRows, StageStatus, Step,
};
pub use pipeline::Pipeline;
pub use problem::{Problem, Problems};
pub use set::{GivenUp, Pipelines};
pub use state::StateError;
