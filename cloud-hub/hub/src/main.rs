//! The hub's binary: the command line, the log, and the signals that end it.

mod cli;
mod demo;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser as _;
use tideline_link::errln;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let filter = EnvFilter::try_from_env("TIDELINE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    // A log file holds no colours.
    let colours = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours);
    // What cannot be written to stderr is gone: telling that on stderr would panic.
    log.with_writer(std::io::stderr).log_internal_errors(false).init();
    // Without a runtime: it would open files that a worker may not have, and threads that it does not need.
    if let Some(worker) = cli.worker() {
        return match worker.run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                errln!("cloud-hub: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            errln!("cloud-hub: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(cli::run(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            errln!("cloud-hub: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Ctrl-C and SIGTERM, from the moment it is made, and what else was asked for.
struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Option<Signal>,
    // Dropped when stdin ends, where that is a word to stop; else nobody holds the other end back.
    parent: Option<oneshot::Receiver<()>>,
}

impl StopSignals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: None,
            parent: None,
        })
    }

    /// Takes the end of the terminal too. Not for a hub, which `nohup` may have set to outlive it.
    fn and_hangup(self) -> std::io::Result<Self> {
        Ok(Self { hangup: Some(signal(SignalKind::hangup())?), ..self })
    }

    /// Takes the end of stdin for a word to stop too: whoever started this process holds the other
    /// end and closes it by ending, whatever way.
    fn and_end_of_stdin(mut self) -> std::io::Result<Self> {
        let (ended, parent) = oneshot::channel();
        // A thread of its own: the runtime would wait for a read of stdin when it ends.
        std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
            // What is written there is of no interest, and an error is an end as well.
            let _end = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            drop(ended);
        })?;
        self.parent = Some(parent);
        Ok(self)
    }

    /// Resolves at the next one. Cancel safe.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            () = hung_up(&mut self.hangup) => {}
            () = ended(&mut self.parent) => {}
        }
    }
}

async fn hung_up(hangup: &mut Option<Signal>) {
    match hangup {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

async fn ended(parent: &mut Option<oneshot::Receiver<()>>) {
    match parent {
        Some(receiver) => {
            let _ended = receiver.await;
            *parent = None;
        }
        None => std::future::pending().await,
    }
}
