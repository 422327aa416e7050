//! What changes rarely: the system that runs, when it began, its power. Such a reading is sent when it is another
//! than the one before, and from time to time so that a short range shows it too.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use sysinfo::System;
use tideline_protocol::model::PointId;
use tideline_protocol::value::Value;

use crate::source::point_id;

/// So long after a reading the same one is sent again.
const REPEAT_AFTER: Duration = Duration::from_secs(3600);
/// Where Linux shows batteries and mains.
pub const POWER_SUPPLY: &str = "/sys/class/power_supply";

/// What was sent of each point, and when by the monotonic clock.
#[derive(Debug, Default)]
pub struct Rare(BTreeMap<String, (Value, u64)>);

impl Rare {
    /// Those of `readings` that are to be sent, what somebody wants to know now among them.
    pub fn due(
        &mut self,
        readings: Vec<(String, Value)>,
        now_ns: u64,
        wanted: Option<&PointId>,
    ) -> Vec<(String, Value)> {
        let mut due = Vec::new();
        for (point, value) in readings {
            let is_same = |(sent, at_ns): &(Value, u64)| {
                *sent == value && u128::from(now_ns.saturating_sub(*at_ns)) < REPEAT_AFTER.as_nanos()
            };
            let is_wanted = wanted.is_some() && point_id(&point).as_ref() == wanted;
            if is_wanted || !self.0.get(&point).is_some_and(is_same) {
                self.0.insert(point.clone(), (value.clone(), now_ns));
                due.push((point, value));
            }
        }
        due
    }
}

/// What runs, and since when; what cannot be told is left out.
pub fn system() -> Vec<(String, Value)> {
    let text = |text: String| Value::Text(text.trim().into());
    let texts = [("os/name", System::long_os_version()), ("os/kernel", System::kernel_version())];
    let mut out: Vec<_> =
        texts.into_iter().filter_map(|(point, told)| Some((point.to_owned(), text(told.ok()?)))).collect();
    let boot = System::boot_time().ok().and_then(|seconds| i64::try_from(seconds).ok());
    out.extend(boot.filter(|seconds| *seconds > 0).map(|seconds| ("boot".to_owned(), Value::Int(seconds))));
    out
}

/// Mains and batteries, as the kernel shows them in `folder`.
pub fn power(folder: &Path) -> Vec<(String, Value)> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut out = Vec::new();
    for entry in entries.filter_map(Result::ok) {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        let read = |file: &str| Some(std::fs::read_to_string(path.join(file)).ok()?.trim().to_owned());
        match read("type").as_deref() {
            Some("Mains" | "USB") => match read("online").as_deref() {
                Some("0") => out.push((format!("power/{name}"), Value::Bool(false))),
                // 2 stands for a supply whose voltage can be programmed.
                Some("1" | "2") => out.push((format!("power/{name}"), Value::Bool(true))),
                _ => {}
            },
            Some("Battery") => {
                let capacity = read("capacity").and_then(|text| text.parse().ok());
                out.extend(capacity.map(|percent| (format!("battery/{name}"), Value::Int(percent))));
                let status = read("status").filter(|text| !text.is_empty());
                out.extend(
                    status.map(|text| (format!("battery-status/{name}"), Value::Text(text.as_str().into()))),
                );
            }
            _ => {}
        }
    }
    out.sort_by(|one, other| one.0.cmp(&other.0));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::Text(text.into())
    }

    #[test]
    fn a_reading_is_sent_when_it_changed_and_once_an_hour() {
        let mut rare = Rare::default();
        let os = |name: &str| vec![("os/name".to_owned(), text(name)), ("boot".to_owned(), Value::Int(7))];
        let hour_ns = 3600 * 1_000_000_000;
        assert_eq!(rare.due(os("A 1"), 0, None), os("A 1"));
        assert_eq!(rare.due(os("A 1"), 1, None), []);
        assert_eq!(rare.due(os("A 2"), 2, None), [("os/name".to_owned(), text("A 2"))]);
        assert_eq!(rare.due(os("A 2"), hour_ns, None), [("boot".to_owned(), Value::Int(7))]);
        assert_eq!(rare.due(os("A 2"), hour_ns + 2, None), [("os/name".to_owned(), text("A 2"))]);
        let boot = point_id("boot");
        assert_eq!(rare.due(os("A 2"), hour_ns + 3, boot.as_ref()), [("boot".to_owned(), Value::Int(7))]);
        assert_eq!(rare.due(os("A 2"), hour_ns + 4, None), []);
    }

    #[test]
    fn power_is_what_the_kernel_shows_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(power(&folder.path().join("none")), []);
        let supplies: [(&str, &[(&str, &str)]); 5] = [
            ("AC", &[("type", "Mains\n"), ("online", "1\n")]),
            ("AC2", &[("type", "Mains\n"), ("online", "0\n")]),
            ("AC3", &[("type", "Mains\n")]),
            ("BAT0", &[("type", "Battery\n"), ("capacity", "87\n"), ("status", "Not charging\n")]),
            ("BAT1", &[("type", "Battery\n"), ("capacity", "soon\n"), ("status", "\n")]),
        ];
        for (name, files) in supplies {
            let supply = folder.path().join(name);
            std::fs::create_dir(&supply).unwrap();
            files.iter().for_each(|(file, bytes)| std::fs::write(supply.join(file), bytes).unwrap());
        }
        let wanted = [
            ("battery-status/BAT0", text("Not charging")),
            ("battery/BAT0", Value::Int(87)),
            ("power/AC", Value::Bool(true)),
            ("power/AC2", Value::Bool(false)),
        ];
        assert_eq!(power(folder.path()), wanted.map(|(point, value)| (point.to_owned(), value)));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_system_says_what_it_is() {
        let told = system();
        assert!(told.iter().any(|(point, value)| point == "os/kernel" && *value != text("")), "{told:?}");
        assert!(told.iter().any(|(point, value)| point == "boot" && matches!(value, Value::Int(1..))));
    }
}
