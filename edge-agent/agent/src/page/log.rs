//! Lines of the log by their level.

use crate::logs::Recent;

/// Most lines that are looked at, and most that are shown.
const LOOKED_AT_MAX: usize = 2_000;
const SHOWN_MAX: usize = 60;

/// How urgent a line is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Of each item.
    Trace,
    /// Of each batch.
    Debug,
    /// Of what begins and ends.
    #[default]
    Info,
    /// Unexpected and handled.
    Warn,
    /// Somebody has to act.
    Error,
}

impl Level {
    /// All, the most urgent first.
    pub const ALL: [Self; 5] = [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }

    /// The level of a name.
    pub fn named(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.name().eq_ignore_ascii_case(text))
    }
}

/// A line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its level; none of what goes on from a line before it.
    pub level: Option<Level>,
    /// When, as the log has it.
    pub time: String,
    /// The rest.
    pub text: String,
    /// How many lines before it say the same.
    pub before: usize,
}

/// The newest lines of a level and above, the newest first.
pub fn lines(logs: &Recent, least: Level) -> Vec<Line> {
    let all = logs.tail(LOOKED_AT_MAX);
    let wanted =
        all.iter().rev().map(|text| read(text)).filter(|line| line.level.is_none_or(|level| level >= least));
    let mut shown: Vec<Line> = Vec::new();
    for line in wanted {
        let count = shown.len();
        match shown.last_mut().filter(|last| (&last.text, last.level) == (&line.text, line.level)) {
            Some(last) => last.before += 1,
            None if count == SHOWN_MAX => break,
            None => shown.push(line),
        }
    }
    shown
}

/// Time, level, and the rest, as the log writes them.
fn read(text: &str) -> Line {
    let parted = text.split_once(' ').and_then(|(time, rest)| {
        let (level, rest) = rest.trim_start().split_once(' ')?;
        Some((time, Level::named(level)?, rest))
    });
    match parted {
        Some((time, level, rest)) => {
            Line { level: Some(level), time: time.to_owned(), text: rest.trim_start().to_owned(), before: 0 }
        }
        None => Line { level: None, time: String::new(), text: text.to_owned(), before: 0 },
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn lines_are_taken_apart_and_chosen_by_their_level() {
        let mut logs = Recent::default();
        for line in [
            "2026-11-22T23:00:00.000001Z  INFO edge_agent::run: agent runs",
            "2026-11-22T23:00:01.000001Z ERROR edge_agent: it is broken",
            "odd",
            "odd",
            "2026-11-22T23:00:02.000001Z DEBUG edge_agent: detail",
        ] {
            logs.write_all(format!("{line}\n").as_bytes()).unwrap();
        }
        let texts = |level| lines(&logs, level).into_iter().map(|line| line.text).collect::<Vec<_>>();
        assert_eq!(texts(Level::Warn), ["odd", "edge_agent: it is broken"]);
        assert_eq!(texts(Level::Info), ["odd", "edge_agent: it is broken", "edge_agent::run: agent runs"]);
        assert_eq!(texts(Level::Trace).len(), 4);
        assert_eq!(lines(&logs, Level::Error)[0].before, 1, "what is said again is shown once");
        assert_eq!(lines(&logs, Level::Error)[1].time, "2026-11-22T23:00:01.000001Z");
        assert_eq!((Level::named("WARN"), Level::named("loud")), (Some(Level::Warn), None));
    }
}
