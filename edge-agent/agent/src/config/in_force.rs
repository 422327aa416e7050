//! What the hub is told of the configuration: all values in force, as [`Layers::effective`](super::Layers::effective) has them.

use ring::digest::{SHA256, digest};
use tideline_protocol::wire::{CONFIG_VALUE_BYTES_MAX, ConfigInForce, ConfigOption, ConfigSource};
use tokio::sync::watch;

use super::Effective;
use super::effective::Origin;

/// The configuration in force, for who tells of it; a clone is of the same one.
#[derive(Debug, Clone)]
pub struct InForce(watch::Sender<Option<ConfigInForce>>);

impl Default for InForce {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl InForce {
    /// These values are in force from now on.
    pub fn set(&self, all: &[Effective]) {
        let now = told(all);
        self.0.send_if_modified(|told| {
            let changes = told.as_ref() != Some(&now);
            *told = Some(now);
            changes
        });
    }

    /// Follows the changes; what is in force counts as the first.
    #[must_use]
    pub fn follow(&self) -> Followed {
        let mut told = self.0.subscribe();
        told.mark_changed();
        Followed(told)
    }
}

/// What one session tells of it.
#[derive(Debug, Clone)]
pub struct Followed(watch::Receiver<Option<ConfigInForce>>);

impl Followed {
    /// What names it, where it has changed since the last call.
    pub fn news(&mut self) -> Option<ConfigInForce> {
        // Without a sender nothing changes any more.
        let changed = self.0.has_changed().unwrap_or(false);
        if changed { self.0.borrow_and_update().as_ref().map(ConfigInForce::named) } else { None }
    }

    /// All of it.
    #[must_use]
    pub fn all(&self) -> Option<ConfigInForce> {
        self.0.borrow().clone()
    }
}

fn told(all: &[Effective]) -> ConfigInForce {
    let mut bytes = Vec::new();
    let options: Vec<ConfigOption> = all.iter().map(option).collect();
    for option in &options {
        // A Vec takes all bytes.
        let _ = minicbor::encode(option, &mut bytes);
    }
    let mut name = [0; 16];
    name.iter_mut().zip(digest(&SHA256, &bytes).as_ref()).for_each(|(to, from)| *to = *from);
    ConfigInForce::of(name, options)
}

fn option(one: &Effective) -> ConfigOption {
    let Effective { section, name, value, source } = one;
    let mut value = value.to_string();
    if value.len() > CONFIG_VALUE_BYTES_MAX {
        value = format!("\"({} bytes, too many to be told)\"", value.len());
    }
    let (source, from) = match source {
        Origin::Default => (ConfigSource::Default, ""),
        Origin::File => (ConfigSource::File, ""),
        Origin::Environment(variable) => (ConfigSource::Environment, variable.as_str()),
        Origin::Hub => (ConfigSource::Hub, ""),
        Origin::Flag(flag) => (ConfigSource::Flag, *flag),
    };
    ConfigOption { section: section.clone(), name: name.clone(), value, source, from: from.to_owned() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(rows_max: u64, stages: usize) -> Vec<Effective> {
        let one = |section: &str, name: &str, value, source| Effective {
            section: section.to_owned(),
            name: name.to_owned(),
            value,
            source,
        };
        vec![
            one("batch", "rows_max", json!(rows_max), Origin::Environment("TIDELINE_X".into())),
            one("pipeline/hot", "stage", json!(vec!["x"; stages]), Origin::Hub),
        ]
    }

    #[test]
    fn each_session_hears_once_of_what_is_in_force_and_then_of_what_changes() {
        let now = InForce::default();
        let mut session = now.follow();
        assert_eq!(session.news(), None);
        now.set(&of(5, 1));
        let first = session.news().unwrap();
        assert_eq!((first.options.as_ref(), session.news()), (None, None));
        now.set(&of(5, 1));
        assert_eq!(session.news(), None);
        now.set(&of(6, 1));
        let second = session.news().unwrap();
        assert_ne!(first.digest, second.digest);
        assert_eq!(now.follow().news().as_ref(), Some(&second));
        let all = session.all().unwrap();
        assert_eq!((all.digest, all.left_out), (second.digest, 0));
        let option = all.options.unwrap().remove(0);
        assert_eq!(
            (option.section.as_str(), option.name.as_str(), option.value.as_str()),
            ("batch", "rows_max", "6")
        );
        assert_eq!((option.source, option.from.as_str()), (ConfigSource::Environment, "TIDELINE_X"));
    }

    #[test]
    fn a_value_that_is_too_long_is_told_as_such_and_its_changes_are_still_seen() {
        let (long, longer) = (told(&of(5, 2000)), told(&of(5, 2001)));
        let value = &long.options.as_ref().unwrap()[1].value;
        assert_eq!(value, "\"(8001 bytes, too many to be told)\"");
        assert_ne!(long.digest, longer.digest);
    }
}
