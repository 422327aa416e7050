//! What may be written to a device: the range of a point, and the commands that say more of it.
//!
//! A point that commands name takes what one of them allows, and only while that command's interlocks hold. A
//! point that no command names takes whatever its own range allows.

use std::time::Duration;

use tideline_protocol::value::Value;

use crate::Profile;
use crate::allowed::RejectedValue;
use crate::form::section::{Command, Interlock};

/// Why a value is not written.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RefusedWrite {
    /// The value is none of the point's.
    #[error("{0}")]
    Value(#[from] RejectedValue),
    /// The profile does not allow it.
    #[error("{point} is not writable by profile {profile}")]
    NotWritable {
        /// The point.
        point: String,
        /// Which profile.
        profile: String,
    },
    /// There is no value to write.
    #[error("{point} cannot be written as null")]
    Null {
        /// The point.
        point: String,
    },
    /// No command of the point takes it.
    #[error("{point} cannot be written as {value}; the commands of profile {profile} allow {allowed}")]
    NoCommand {
        /// The point.
        point: String,
        /// The value.
        value: String,
        /// Which profile.
        profile: String,
        /// What its commands allow.
        allowed: String,
    },
    /// Something that has to hold before does not.
    #[error("{command} is locked: {why}")]
    Locked {
        /// The command.
        command: String,
        /// What does not hold.
        why: String,
    },
}

/// A value that may be written.
#[derive(Debug, Clone, PartialEq)]
pub struct Granted {
    /// Of the point's type.
    pub value: Value,
    /// Longest time until the device has it, where the command that takes it says so.
    pub timeout: Option<Duration>,
}

impl Profile {
    /// Judges a value that somebody wants to write, and gives it as one of the point's type. `newest` gives the
    /// newest value of a point of the device; none when nobody knows it now, and then no interlock on it holds.
    ///
    /// # Errors
    /// The value, the point or an interlock rules it out.
    pub fn check_write(
        &self,
        point: &str,
        value: Value,
        newest: impl Fn(&str) -> Option<Value>,
    ) -> Result<Granted, RefusedWrite> {
        let value = self.check(point, value)?;
        if !self.point(point).is_some_and(|point| point.access.writes()) {
            let (point, profile) = (point.to_owned(), self.name().to_owned());
            return Err(RefusedWrite::NotWritable { point, profile });
        }
        if value == Value::Null {
            return Err(RefusedWrite::Null { point: point.to_owned() });
        }
        let commands: Vec<_> = self.commands().iter().filter(|(_, command)| command.point == point).collect();
        let mut locked = None;
        for (name, command) in &commands {
            if !self.takes(command, &value) {
                continue;
            }
            match command.interlocks.iter().find_map(|interlock| broken(interlock, &newest)) {
                None => {
                    let timeout = command.timeout_ms.map(|ms| Duration::from_millis(ms.into()));
                    return Ok(Granted { value, timeout });
                }
                Some(why) => locked = locked.or(Some((name.to_owned(), why))),
            }
        }
        if commands.is_empty() {
            return Ok(Granted { value, timeout: None });
        }
        Err(match locked {
            Some((command, why)) => RefusedWrite::Locked { command: command.clone(), why },
            None => RefusedWrite::NoCommand {
                point: point.to_owned(),
                value: value.to_string(),
                profile: self.name().to_owned(),
                allowed: commands
                    .iter()
                    .map(|(name, command)| range(name, command))
                    .collect::<Vec<_>>()
                    .join(", "),
            },
        })
    }

    /// The points that interlocks look at, some of them more than once.
    pub fn interlock_points(&self) -> impl Iterator<Item = &str> {
        self.commands()
            .values()
            .flat_map(|command| command.interlocks.iter().map(|interlock| interlock.point.as_str()))
    }

    /// Whether a command is for this value, which is one of its point's type.
    fn takes(&self, command: &Command, value: &Value) -> bool {
        if let Some(only) = &command.value {
            return self.check(&command.point, only.value()).is_ok_and(|only| only == *value);
        }
        let within = |number: f64| {
            command.min.is_none_or(|min| number >= min.float())
                && command.max.is_none_or(|max| number <= max.float())
        };
        number(value).is_none_or(within)
    }
}

/// Why an interlock does not hold; none when it does.
fn broken(interlock: &Interlock, newest: &impl Fn(&str) -> Option<Value>) -> Option<String> {
    let point = &interlock.point;
    let why = match newest(point) {
        None => format!("nobody knows {point} now"),
        Some(value) => {
            let is_listed = interlock.values.is_empty()
                || interlock.values.iter().any(|listed| is_same(&listed.value(), &value));
            let number = number(&value);
            let is_within = |limit: Option<f64>, holds: fn(f64, f64) -> bool| {
                limit.is_none_or(|limit| number.is_some_and(|number| holds(number, limit)))
            };
            if is_listed
                && is_within(interlock.min, |n, min| n >= min)
                && is_within(interlock.max, |n, max| n <= max)
            {
                return None;
            }
            format!("{point} is {value}")
        }
    };
    Some(if interlock.title.is_empty() { why } else { format!("{} ({why})", interlock.title) })
}

/// Whether a value of a file and one of a device are the same, in whatever type they came.
fn is_same(listed: &Value, value: &Value) -> bool {
    listed == value || number(listed).zip(number(value)).is_some_and(|(one, other)| one == other)
}

/// A value as a number; truth values count as 0 and 1.
#[expect(clippy::cast_precision_loss, reason = "limits are doubles: what none holds is beside them anyway")]
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Float(number) => Some(*number),
        Value::Int(whole) => Some(*whole as f64),
        Value::Bool(yes) => Some(f64::from(u8::from(*yes))),
        Value::Text(_) | Value::Null => None,
    }
}

fn range(name: &str, command: &Command) -> String {
    if let Some(only) = &command.value {
        return format!("{} ({name})", only.value());
    }
    match (command.min, command.max) {
        (None, None) => format!("all of the point's ({name})"),
        (Some(min), None) => format!("{min} and more ({name})"),
        (None, Some(max)) => format!("{max} and less ({name})"),
        (Some(min), Some(max)) => format!("{min} to {max} ({name})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "name = \"pump\"\n[modbus]\nfunction = \"holding\"\n[points]\n\
        speed = { unit = \"Hz\", min = 0, max = 50, address = \"0\", encoding = \"u16\", access = \"read-write\" }\n\
        on = { type = \"bool\", address = \"coil:0\", access = \"write\" }\n\
        mode = { type = \"int\", unit = \"1\", min = 0, max = 9, address = \"1\", encoding = \"u16\" }\n\
        level = { type = \"int\", unit = \"1\", min = 0, max = 9, address = \"2\", encoding = \"u16\", access = \"read-write\" }\n\
        [commands.speed]\npoint = \"speed\"\nmin = 10\nmax = 40\n\
        interlocks = [{ point = \"mode\", values = [2, 3], title = \"only in automatic\" }]\n\
        [commands.stop]\npoint = \"on\"\nvalue = false\n\
        [commands.start]\npoint = \"on\"\nvalue = true\ninterlocks = [{ point = \"level\", min = 1 }]\n";

    fn write(point: &str, value: Value, newest: &[(&str, Value)]) -> Result<Value, String> {
        let profile = Profile::parse("pump.toml", FILE).unwrap();
        let known =
            |point: &str| newest.iter().find(|(name, _)| *name == point).map(|(_, value)| value.clone());
        profile
            .check_write(point, value, known)
            .map(|granted| granted.value)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_write_is_judged_by_range_commands_and_interlocks() {
        let automatic = [("mode", Value::Int(2)), ("level", Value::Float(3.0))];
        assert_eq!(write("speed", Value::Int(20), &automatic), Ok(Value::Float(20.0)));
        assert_eq!(write("level", Value::Int(9), &[]), Ok(Value::Int(9)));
        assert_eq!(write("on", Value::Bool(true), &automatic), Ok(Value::Bool(true)));
        assert_eq!(write("on", Value::Bool(false), &[]), Ok(Value::Bool(false)));
        for (point, value, newest, expected) in [
            (
                "speed",
                Value::Int(5),
                &automatic[..],
                "speed cannot be written as 5; the commands of profile pump allow 10 to 40 (speed)",
            ),
            ("speed", Value::Int(51), &automatic[..], "speed is 51 Hz; profile pump allows 0 to 50"),
            (
                "speed",
                Value::Int(20),
                &[("mode", Value::Int(1))][..],
                "speed is locked: only in automatic (mode is 1)",
            ),
            ("speed", Value::Int(20), &[][..], "speed is locked: only in automatic (nobody knows mode now)"),
            ("on", Value::Bool(true), &[("level", Value::Int(0))][..], "start is locked: level is 0"),
            ("mode", Value::Int(2), &[][..], "mode is not writable by profile pump"),
            ("level", Value::Null, &[][..], "level cannot be written as null"),
            ("depth", Value::Int(2), &[][..], "profile pump has no point depth"),
        ] {
            assert_eq!(write(point, value, newest), Err(expected.to_owned()), "{point}");
        }
    }

    #[test]
    fn the_command_that_takes_a_value_says_how_long_it_may_take() {
        let text = "name = \"valve\"\n[modbus]\nfunction = \"coil\"\n[points]\n\
            open = { type = \"bool\", address = \"0\", access = \"write\" }\nlamp = { type = \"bool\", address = \"1\", access = \"write\" }\n\
            [commands.open]\npoint = \"open\"\nvalue = true\ntimeout_ms = 45000\n[commands.shut]\npoint = \"open\"\nvalue = false\n";
        let valve = Profile::parse("valve.toml", text).unwrap();
        let timeout = |point: &str, on| valve.check_write(point, Value::Bool(on), |_| None).unwrap().timeout;
        assert_eq!(timeout("open", true), Some(Duration::from_secs(45)));
        assert_eq!((timeout("open", false), timeout("lamp", true)), (None, None));
        for (ms, is_right) in [(9, false), (10, true), (3_600_000, true), (3_600_001, false)] {
            let parsed = Profile::parse("valve.toml", &text.replace("45000", &ms.to_string()));
            assert_eq!(parsed.is_ok(), is_right, "{ms}");
        }
    }

    #[test]
    fn interlocks_name_their_points() {
        let profile = Profile::parse("pump.toml", FILE).unwrap();
        assert_eq!(profile.interlock_points().collect::<Vec<_>>(), ["mode", "level"]);
    }
}
