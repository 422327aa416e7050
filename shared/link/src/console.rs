//! What the command lines of both ends write to stdout and stderr.
//!
//! Whoever reads it may have enough before the end, as `head` has: then the command ends without a word,
//! where `println!` would panic.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};

/// The exit code of a command whose stdout nobody reads: what a shell shows of SIGPIPE.
pub const UNREAD: i32 = 141;

/// Writes to stdout; the macros [`out!`](crate::out) and [`outln!`](crate::outln) call it. The process
/// ends when that cannot be done.
pub fn write_out(text: Arguments<'_>) {
    let _written = io::stdout().lock().write_fmt(text).inspect_err(end);
}

/// Writes to stderr; the macro [`errln!`](crate::errln) calls it, and [`err!`](crate::err). What cannot be
/// written there cannot be told anywhere.
pub fn write_err(text: Arguments<'_>) {
    let _unread = io::stderr().lock().write_fmt(text);
}

/// Stdout, for who writes much to it; the process ends when that cannot be done.
#[derive(Debug)]
pub struct Stdout;

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::stdout().write(bytes).inspect_err(end)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush().inspect_err(end)
    }
}

fn end(error: &io::Error) {
    match error.kind() {
        // It is tried again.
        ErrorKind::Interrupted => {}
        ErrorKind::BrokenPipe => std::process::exit(UNREAD),
        _ => {
            write_err(format_args!("stdout: {error}\n"));
            std::process::exit(1);
        }
    }
}

/// As `print!`, but nobody has to read it.
#[macro_export]
macro_rules! out {
    ($($text:tt)*) => { $crate::console::write_out(format_args!($($text)*)) };
}

/// As `println!`, but nobody has to read it.
#[macro_export]
macro_rules! outln {
    ($($text:tt)*) => { $crate::console::write_out(format_args!("{}\n", format_args!($($text)*))) };
}

/// As `eprint!`, but nobody has to read it.
#[macro_export]
macro_rules! err {
    ($($text:tt)*) => { $crate::console::write_err(format_args!($($text)*)) };
}

/// As `eprintln!`, but nobody has to read it.
#[macro_export]
macro_rules! errln {
    ($($text:tt)*) => { $crate::console::write_err(format_args!("{}\n", format_args!($($text)*))) };
}
