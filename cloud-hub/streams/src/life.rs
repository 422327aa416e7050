//! The life of a job as a state machine; who runs jobs asks it before it does anything.
//!
//! ```text
//!            start            pause
//! created ──────────▶ running ─────▶ paused
//!    │                 │ ▲  ◀─────     │
//!    │            fail │ │    resume   │ fail
//!    │                 ▼ │ resume      │
//!    │               failed ◀──────────┘
//!    └────────▶ stopped ◀── from every other state
//!      stop
//! ```
//! State and position in the stream are kept while a job is running, paused or failed, and are let go when
//! it is stopped, which is final.

use serde::{Deserialize, Serialize};

use crate::limits::REASON_CHARS_MAX;

/// What a job is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It is defined and was never started.
    Created,
    /// It takes events.
    Running,
    /// It takes no events, and keeps its state.
    Paused,
    /// It has ended for good.
    Stopped,
    /// It cannot go on by itself, and keeps its state.
    Failed,
}

/// What is asked of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Begin with an empty state.
    Start,
    /// Take no more events.
    Pause,
    /// Go on from the state that was kept.
    Resume,
    /// End for good.
    Stop,
    /// It cannot go on, for this reason.
    Fail(String),
}

impl Command {
    const fn name(&self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Stop => "stop",
            Self::Fail(_) => "fail",
        }
    }
}

/// A command that the phase does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a job that is {phase} cannot {command}; allowed are {allowed}")]
pub struct LifeError {
    /// What it is at.
    pub phase: &'static str,
    /// What was asked.
    pub command: &'static str,
    /// What may be asked.
    pub allowed: &'static str,
}

/// A change of phase, for the log of events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    /// When, in ns since 1970.
    pub at_ns: i64,
    /// From what.
    pub from: Phase,
    /// To what.
    pub to: Phase,
    /// Why, if it failed.
    pub reason: Option<String>,
}

/// Where a job is in its life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    phase: Phase,
    since_ns: i64,
    reason: Option<String>,
}

impl Life {
    /// A job that was just defined.
    #[must_use]
    pub const fn created(now_ns: i64) -> Self {
        Self { phase: Phase::Created, since_ns: now_ns, reason: None }
    }

    /// What it is at.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// Since when, in ns since 1970.
    #[must_use]
    pub const fn since_ns(&self) -> i64 {
        self.since_ns
    }

    /// Why it failed, while it is failed.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Whether it is to be given events.
    #[must_use]
    pub fn takes_events(&self) -> bool {
        self.phase == Phase::Running
    }

    /// Whether its state and position must be kept.
    #[must_use]
    pub fn keeps_state(&self) -> bool {
        matches!(self.phase, Phase::Running | Phase::Paused | Phase::Failed)
    }

    /// Carries a command out.
    ///
    /// # Errors
    /// The phase does not allow it; nothing has changed.
    pub fn handle(&mut self, now_ns: i64, command: Command) -> Result<Transition, LifeError> {
        let to = match (self.phase, &command) {
            (Phase::Created, Command::Start) | (Phase::Paused | Phase::Failed, Command::Resume) => {
                Phase::Running
            }
            (Phase::Running, Command::Pause) => Phase::Paused,
            (Phase::Running | Phase::Paused, Command::Fail(_)) => Phase::Failed,
            (Phase::Created | Phase::Running | Phase::Paused | Phase::Failed, Command::Stop) => {
                Phase::Stopped
            }
            _ => return Err(self.refuse(&command)),
        };
        let from = std::mem::replace(&mut self.phase, to);
        self.since_ns = now_ns;
        self.reason = match command {
            Command::Fail(reason) => Some(reason.chars().take(REASON_CHARS_MAX).collect()),
            _ => None,
        };
        Ok(Transition { at_ns: now_ns, from, to, reason: self.reason.clone() })
    }

    fn refuse(&self, command: &Command) -> LifeError {
        let (phase, allowed) = match self.phase {
            Phase::Created => ("created", "start and stop"),
            Phase::Running => ("running", "pause, stop and fail"),
            Phase::Paused => ("paused", "resume, stop and fail"),
            Phase::Stopped => ("stopped", "none"),
            Phase::Failed => ("failed", "resume and stop"),
        };
        LifeError { phase, command: command.name(), allowed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commands() -> [Command; 5] {
        [
            Command::Start,
            Command::Pause,
            Command::Resume,
            Command::Stop,
            Command::Fail("state is damaged".to_owned()),
        ]
    }

    #[test]
    fn a_job_is_started_paused_resumed_failed_and_stopped() {
        let mut life = Life::created(1);
        assert!(!life.takes_events() && !life.keeps_state());
        life.handle(2, Command::Start).unwrap();
        assert!(life.takes_events() && life.keeps_state());
        life.handle(3, Command::Pause).unwrap();
        assert!(!life.takes_events() && life.keeps_state(), "a pause keeps the state");
        life.handle(4, Command::Resume).unwrap();
        let failed = life.handle(5, Command::Fail("no room".to_owned())).unwrap();
        let wanted =
            Transition { at_ns: 5, from: Phase::Running, to: Phase::Failed, reason: Some("no room".into()) };
        assert_eq!(failed, wanted);
        assert_eq!((life.reason(), life.since_ns(), life.keeps_state()), (Some("no room"), 5, true));
        life.handle(6, Command::Resume).unwrap();
        assert_eq!((life.phase(), life.reason()), (Phase::Running, None));
        life.handle(7, Command::Stop).unwrap();
        assert!(!life.keeps_state());
    }

    #[test]
    fn every_phase_refuses_what_it_does_not_allow_and_stays_as_it_is() {
        use Phase::{Created, Failed, Paused, Running, Stopped};
        let to = |phase, command: &Command| match (phase, command.name()) {
            (Created, "start") | (Paused | Failed, "resume") => Some(Running),
            (Running, "pause") => Some(Paused),
            (Running | Paused, "fail") => Some(Failed),
            (Created | Running | Paused | Failed, "stop") => Some(Stopped),
            _ => None,
        };
        for phase in [Created, Running, Paused, Stopped, Failed] {
            for command in commands() {
                let mut life = Life { phase, since_ns: 1, reason: None };
                let before = life.clone();
                match (to(phase, &command), life.handle(9, command.clone())) {
                    (Some(wanted), Ok(change)) => {
                        assert_eq!((change.from, change.to, life.phase()), (phase, wanted, wanted));
                    }
                    (None, Err(error)) => {
                        assert_eq!(life, before);
                        assert!(error.to_string().contains(command.name()), "{error}");
                    }
                    (wanted, found) => panic!("{phase:?} {command:?}: {wanted:?} {found:?}"),
                }
            }
        }
        let mut stopped = Life { phase: Stopped, since_ns: 1, reason: None };
        assert_eq!(
            stopped.handle(2, Command::Resume).unwrap_err().to_string(),
            "a job that is stopped cannot resume; allowed are none"
        );
    }
}
