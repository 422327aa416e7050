//! How far something long is, on stderr.

use std::io::{IsTerminal as _, Write as _};

use tideline_protocol::time::{Clock as _, SystemClock};

/// How often it is told on a terminal, and elsewhere, where each time is a line.
const EVERY_NS: [u64; 2] = [500_000_000, 15_000_000_000];

/// Tells every so often.
pub struct Progress {
    clock: SystemClock,
    on_terminal: bool,
    began_ns: u64,
    told_ns: u64,
    // Whether a line of the terminal is begun.
    open: bool,
}

impl Progress {
    /// From now on.
    pub fn new() -> Self {
        let clock = SystemClock::default();
        let now_ns = clock.mono_ns();
        let on_terminal = std::io::stderr().is_terminal();
        Self { clock, on_terminal, began_ns: now_ns, told_ns: now_ns, open: false }
    }

    /// Tells what `text` makes of the seconds since it began, if it is time to.
    pub fn tell(&mut self, text: impl FnOnce(f64) -> String) {
        let now_ns = self.clock.mono_ns();
        let every_ns = if self.on_terminal { EVERY_NS[0] } else { EVERY_NS[1] };
        if now_ns.saturating_sub(self.told_ns) < every_ns {
            return;
        }
        self.told_ns = now_ns;
        #[expect(clippy::cast_precision_loss, reason = "it is for people")]
        let seconds = now_ns.saturating_sub(self.began_ns) as f64 / 1e9;
        let text = text(seconds);
        // Who does not read it need not.
        let mut to = std::io::stderr();
        let _told = if self.on_terminal { write!(to, "\r\x1b[K{text}") } else { writeln!(to, "{text}") };
        self.open = self.on_terminal;
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.open {
            let _told = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

/// Bytes as people read them.
pub fn megabytes(bytes: u64) -> String {
    let tenths = bytes / 100_000;
    format!("{}.{} MB", tenths / 10, tenths % 10)
}

/// So many in so many seconds, per second.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is for people"
)]
pub fn rate(count: u64, seconds: f64) -> u64 {
    if seconds > 0.0 { (count as f64 / seconds) as u64 } else { 0 }
}

/// A part of a whole, in percent.
pub fn percent(part: u64, whole: u64) -> u64 {
    u64::try_from(u128::from(part) * 100 / u128::from(whole.max(1))).unwrap_or(100)
}
