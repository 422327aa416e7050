//! A campaign in processes of its own, for seeds that may end theirs: redb panics over a flipped bit, and
//! where that panic meets a second one on its way out nothing can be caught.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use tideline_sim::{Canary, Outcome, Violation, campaign};

/// The argument with which this program is a worker.
pub const WORKER: &str = "worker";
/// Seeds that a worker is given at once.
const CHUNK: u64 = 50;
/// How a second panic on the way out of the first ends a process.
const SIGABRT: i32 = 6;
/// Of a thousand seeds, most that may end their process.
const ENDED_PER_THOUSAND_MAX: u64 = 1;

type Done = Result<Outcome, Violation>;

struct Worker {
    process: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Worker {
    fn start() -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut command = Command::new(program);
        command.arg(WORKER).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().map_err(|error| error.to_string())?;
        let (Some(orders), Some(answers)) = (process.stdin.take(), process.stdout.take()) else {
            return Err("a worker has no pipes".to_owned());
        };
        Ok(Self { process, orders, answers: BufReader::new(answers).lines() })
    }

    /// `None` when the seeds ended the process.
    fn run(&mut self, from: u64, to: u64) -> Result<Option<Done>, String> {
        writeln!(self.orders, "{from} {to}").map_err(|error| error.to_string())?;
        let Some(Ok(line)) = self.answers.next() else {
            let status = self.process.wait().map_err(|error| error.to_string())?;
            // Not what a lack of memory ends, or an overflow of the stack in our own code.
            return if status.signal() == Some(SIGABRT) {
                Ok(None)
            } else {
                Err(format!("a worker: {status}"))
            };
        };
        serde_json::from_str(&line).map(Some).map_err(|error| format!("{error}: {line}"))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _gone = self.process.wait();
    }
}

/// Runs the seeds that it is told to, until nobody tells it any.
pub fn work() -> Result<(), String> {
    for line in std::io::stdin().lines() {
        let line = line.map_err(|error| error.to_string())?;
        let seeds = line.split_once(' ').and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
        let done = campaign(seeds.ok_or("no seeds")?, 1, Canary::None, |_| {});
        println!("{}", serde_json::to_string(&done).map_err(|error| error.to_string())?);
    }
    Ok(())
}

/// Whether the first panic of a seed is redb's.
fn ends_in_redb(seed: u64) -> bool {
    let Ok(program) = std::env::current_exe() else { return false };
    let said = Command::new(program).env("SEED", seed.to_string()).output().map(|output| output.stderr);
    let said = String::from_utf8_lossy(&said.unwrap_or_default()).into_owned();
    // A flipped bit may have made others before it, which were caught; the last is that of a drop in its way.
    let own = |line: &&str| line.contains("panicked at") && !line.contains("library/");
    said.lines().rfind(own).is_some_and(|line| line.contains("/redb-"))
}

/// What the seeds came to.
#[derive(Debug, Default)]
pub struct Sum {
    /// What they did.
    pub outcome: Outcome,
    /// Those that ended their process.
    pub ended: Vec<u64>,
}

/// Runs the seeds in so many processes and tells `each` how many more are done.
pub fn run(from: u64, seeds: u64, threads: usize, each: impl Fn(u64) + Sync) -> Result<Sum, String> {
    let (next, end) = (AtomicU64::new(from), from.saturating_add(seeds));
    let (sum, failed) = (Mutex::new(Sum::default()), Mutex::new(None::<String>));
    let fail = |reason: String| *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
    let take = |seed: u64, done: Option<Done>| {
        let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
        match done {
            Some(Ok(outcome)) => sum.outcome.add(&outcome),
            Some(Err(violation)) => {
                fail(format!("FAILED: {violation}\nto run it again: make sim SEED={}", violation.seed))
            }
            None => sum.ended.push(seed),
        }
    };
    let seeds_of = |worker: &mut Worker, from: u64, to: u64| -> Result<(), String> {
        match worker.run(from, to)? {
            None => {
                for seed in from..to {
                    *worker = Worker::start()?;
                    take(seed, worker.run(seed, seed + 1)?);
                }
                *worker = Worker::start()?;
            }
            done => take(from, done),
        }
        Ok(())
    };
    let work = || {
        let mut worker = Worker::start()?;
        loop {
            let first = next.fetch_add(CHUNK, Ordering::Relaxed);
            if first >= end || failed.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
                return Ok::<(), String>(());
            }
            let last = end.min(first + CHUNK);
            seeds_of(&mut worker, first, last)?;
            each(last - first);
        }
    };
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| work().unwrap_or_else(fail));
        }
    });
    if let Some(reason) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(reason);
    }
    let sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(seed) = sum.ended.iter().find(|seed| !ends_in_redb(**seed)) {
        return Err(format!("FAILED: seed {seed} ends its process\nto run it again: make sim SEED={seed}"));
    }
    if sum.ended.len() as u64 > seeds * ENDED_PER_THOUSAND_MAX / 1_000 + 1 {
        return Err(format!("FAILED: seeds that ended their process: {:?}", sum.ended));
    }
    Ok(sum)
}
