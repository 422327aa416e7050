//! Fuzz targets: each is one function of bytes that panics when something is wrong, and returns for
//! every input that was rightly taken or rightly refused.
//!
//! libFuzzer runs them from `fuzz/` (nightly Rust, `make fuzz`), `tests/short.rs` on stable from what
//! is kept: seeds made by our own code ([`Target::seeds`]), `corpus/` with what libFuzzer found beyond
//! them, and `crashers/`, inputs that once broke something and are kept for ever.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_sign_loss,
    reason = "a panic is how a target says that something is wrong"
)]

mod block;
#[cfg(feature = "agent")]
mod cbor;
#[cfg(feature = "agent")]
mod coap;
mod config;
mod formats;
mod input;
pub mod kept;
#[cfg(feature = "agent")]
mod lines;
pub mod mutate;
#[cfg(feature = "agent")]
mod opcua;
mod pipeline;
mod profiles;
#[cfg(feature = "agent")]
mod push;
mod registers;
#[cfg(feature = "agent")]
mod rows;
mod session;
#[cfg(feature = "agent")]
mod sparkplug;
mod spool;
mod streams;
mod twin;
mod wire;

use std::io::Write as _;
use std::sync::{Mutex, Once, PoisonError};

use tideline_protocol::invariants::Invariant;

/// What stands for the agent's own targets where they are not built.
#[cfg(not(feature = "agent"))]
mod without {
    pub fn seeds() -> Vec<Vec<u8>> {
        Vec::new()
    }

    pub const fn run(_: &[u8]) {}
}
#[cfg(not(feature = "agent"))]
use without as cbor;
#[cfg(not(feature = "agent"))]
use without as coap;
#[cfg(not(feature = "agent"))]
use without as lines;
#[cfg(not(feature = "agent"))]
use without as opcua;
#[cfg(not(feature = "agent"))]
use without as push;
#[cfg(not(feature = "agent"))]
use without as rows;
#[cfg(not(feature = "agent"))]
use without as sparkplug;

/// A fuzz target.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name: of its folders here and of its binary in `fuzz/`.
    pub name: &'static str,
    run: fn(&[u8]),
    seeds: fn() -> Vec<Vec<u8>>,
    /// Mutated inputs of the short run: about two seconds' worth in a debug build.
    pub short_runs: u32,
    /// Longest input worth trying, in bytes.
    pub bytes_max: usize,
}

/// All targets.
pub const TARGETS: [Target; 19] = [
    Target { name: "wire", run: wire::run, seeds: wire::seeds, short_runs: 20_000, bytes_max: 4096 },
    Target { name: "block", run: block::run, seeds: block::seeds, short_runs: 10_000, bytes_max: 4096 },
    Target { name: "session", run: session::run, seeds: session::seeds, short_runs: 4_000, bytes_max: 512 },
    Target { name: "config", run: config::run, seeds: config::seeds, short_runs: 4_000, bytes_max: 4096 },
    Target { name: "formats", run: formats::run, seeds: formats::seeds, short_runs: 20_000, bytes_max: 2048 },
    Target {
        name: "registers",
        run: registers::run,
        seeds: registers::seeds,
        short_runs: 4_000,
        bytes_max: 1024,
    },
    Target { name: "streams", run: streams::run, seeds: streams::seeds, short_runs: 4_000, bytes_max: 2048 },
    Target {
        name: "messages",
        run: profiles::run_message,
        seeds: profiles::seeds_of_messages,
        short_runs: 4_000,
        bytes_max: 2048,
    },
    Target {
        name: "profile",
        run: profiles::run_profile,
        seeds: profiles::seeds_of_profiles,
        short_runs: 1_000,
        bytes_max: 16_384,
    },
    Target { name: "coap", run: coap::run, seeds: coap::seeds, short_runs: 4_000, bytes_max: 512 },
    Target {
        name: "sparkplug",
        run: sparkplug::run,
        seeds: sparkplug::seeds,
        short_runs: 2_000,
        bytes_max: 512,
    },
    Target { name: "opcua", run: opcua::run, seeds: opcua::seeds, short_runs: 4_000, bytes_max: 1024 },
    Target { name: "push", run: push::run, seeds: push::seeds, short_runs: 10_000, bytes_max: 2048 },
    Target { name: "rows", run: rows::run, seeds: rows::seeds, short_runs: 10_000, bytes_max: 2048 },
    Target { name: "cbor", run: cbor::run, seeds: cbor::seeds, short_runs: 20_000, bytes_max: 1024 },
    Target { name: "lines", run: lines::run, seeds: lines::seeds, short_runs: 2_000, bytes_max: 1024 },
    Target { name: "twin_message", run: twin::run, seeds: twin::seeds, short_runs: 1_000, bytes_max: 8192 },
    Target {
        name: "pipeline",
        run: pipeline::run,
        seeds: pipeline::seeds,
        short_runs: 4_000,
        bytes_max: 2048,
    },
    Target { name: "spool", run: spool::run, seeds: spool::seeds, short_runs: 150, bytes_max: 128 },
];

impl Target {
    /// The target of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        TARGETS.iter().find(|target| target.name == name)
    }

    /// Inputs to begin with.
    #[must_use]
    pub fn seeds(&self) -> Vec<Vec<u8>> {
        (self.seeds)()
    }

    /// Runs one input.
    ///
    /// # Panics
    /// Something is wrong with what was fuzzed: a bug.
    pub fn run(&self, data: &[u8]) {
        let before = breaches();
        (self.run)(data);
        // The spool takes a panic for a damaged file; a broken invariant is none.
        assert!(breaches() == before, "an invariant was broken and the panic was caught");
    }
}

fn breaches() -> u64 {
    Invariant::ALL.iter().map(|invariant| invariant.breaches()).sum()
}

/// For libFuzzer, which ends the process at a panic: also at one that the code under test catches, as
/// the spool does with redb's. Here only one that nobody caught ends it, and is told.
pub fn run_for_libfuzzer(name: &str, data: &[u8]) {
    static HOOK: Once = Once::new();
    static LAST: Mutex<String> = Mutex::new(String::new());
    HOOK.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            // Without a backtrace: writing those takes more time than the runs.
            *LAST.lock().unwrap_or_else(PoisonError::into_inner) = info.to_string();
        }));
    });
    let Some(target) = Target::named(name) else { return };
    if std::panic::catch_unwind(|| target.run(data)).is_err() {
        let last = LAST.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let _unheard = writeln!(std::io::stderr(), "{last}");
        std::process::abort();
    }
}
