//! Stream jobs: readings in, windows by event time, results out. A pure core.
//!
//! Nothing here does I/O: no task is started, no clock read, no file opened. `now` comes in with each event.
//! The same events in the same order give the same outputs with the same numbers, also when the state was saved
//! and restored in between.
//!
//! Call order: [`JobSpec`] (data; of JSON by [`read`]) → [`Job::check`] → [`Engine::new`] or [`Engine::restore`] → for each event
//! [`Engine::handle`], which gives the outputs → now and then [`Engine::save`]. [`Life`] says whether a job is to be
//! given events at all.
//!
//! ```text
//!             stages          join                    window
//! readings ─▶ filter, scale ─▶ pairs ─▶ slices, sessions, rows ─▶ results ─▶ sinks
//!    │                                                  ▲ closes                  numbered
//!    └─▶ watermark of the device ───────────────────────┘
//!    └─▶ side output: late, ahead, unusable, no room
//! ```
//!
//! # Time
//! - A window holds the times from its start up to, and without, its end.
//! - **Watermark**: for each device the newest time of its readings less `time.out_of_orderness_ms` (Flink's bounded
//!   out-of-orderness, without its -1 ms: here a watermark W says that no reading *before* W is expected). It is
//!   taken before the filters, moves at the end of an event, and never back. Devices do not wait for each other, as
//!   they would by Flink's minimum over all inputs, or Kafka Streams' one stream time for all keys.
//! - **Idle**: a device without a reading for `time.idle_timeout_ms` of the hub's clock has its watermark moved to that
//!   clock less the time-out and the out-of-orderness, as Beam's `CustomTimestampPolicyWithLimitedDelay` does.
//!   Flink's idle sources are left out of the minimum instead, which closes nothing where there is no other input.
//!   Without a time-out the windows of a device wait for it however long it is away.
//! - A reading further than `time.ahead_max_ms` ahead of the hub's clock moves nothing and goes to the side output.
//!
//! # Windows
//! - A window fires once the watermark is at or past its end (Flink's event-time trigger), if it has a reading.
//! - **Tumbling**, **hopping**: aligned to 1970; a length is a multiple of the hop, as for `HOP` of Flink SQL. State is one
//!   partial aggregate per hop (slices, as in Arroyo and RisingWave).
//! - **Sliding**: one window for each time that has readings, looking back from it, both ends in it: SQL's `RANGE`
//!   frame, as Flink's `OVER` and the backward windows of Kafka Streams' `SlidingWindows`.
//! - **Session**: readings less than the gap apart. The window is `[first, last + gap)`. As in Beam, two readings exactly
//!   the gap apart are in two sessions; in Flink and Kafka Streams in one. Only so is a session final when the
//!   watermark is at its end.
//!
//! # Late readings
//! A reading before its device's watermark is *late*, and counted. While a window is kept, for `late.allowed_ms` after the
//! watermark has passed its end (Flink's and Beam's allowed lateness, Kafka Streams' grace), it takes late readings
//! and is given again (late firing, panes accumulating), but once per event and not once per reading, with a higher
//! revision. A session that a late reading joins to an earlier one is withdrawn, which Flink leaves to the reader.
//! A reading that no kept window takes is *too late*. `late.then` says what becomes of it:
//! - `side`: it goes to the side output.
//! - `update`: its windows are asked for by [`Engine::wanted`], aggregated again from the history that
//!   [`Event::Refill`] brings, and given with a higher revision. The others have no history at hand; a hub does. Of sliding windows these are the ones
//!   that look back on it. Of sessions it is known for a named number of them where they were: those that it joins are
//!   withdrawn, and one is given in their place; one that is still open is given from the history when it ends.
//!
//! # Joins
//! The two series of a join are of one device, or of two that are named. Pairs of two devices are final by the lesser of both
//! watermarks, and a reading is late for them behind that. The other device is waited for from the first reading of either
//! on, and counts as silent until it is heard.
//!
//! # Statements
//! A job may have a statement of SQL in the place of aggregates. The engine does not run it: [`Engine::asked`] names the
//! windows that it is to be run for, and [`Event::Answered`] brings what came of it. Such a window is of all devices
//! together, so it is closed by the job's watermark: the least of those of its devices, which for that may not be without
//! an idle time-out. A late reading has its windows asked for again, but no others; what is later than is allowed goes to
//! the side output, or with `update` has its windows asked for as well. A run that fails is tried again, a named number
//! of times, and then told as given up.
//!
//! # Limits
//! Devices, open windows and bytes are limited by `limits`. A reading for which there is no room is counted as
//! refused and goes to the side output with the limit as the cause; what is held already goes on. Nothing is ever
//! dropped without both.

mod aggregate;
mod check;
mod engine;
mod event;
mod form;
mod life;
pub mod limits;
pub mod spec;
mod sum;
mod template;

pub use check::{Derived, FieldError, Job, SpecError};
pub use engine::{Counts, DeviceView, Engine, FailedWindow, StateError, StatementView, Totals};
pub use event::{
    Answered, Asked, Came, Cause, Column, Event, Field, Key, Output, Refill, SideRow, StatementRow, Wanted,
    What, WindowResult,
};
pub use form::read;
pub use life::{Command, Life, LifeError, Phase, Transition};
pub use spec::JobSpec;
pub use sum::ExactSum;
