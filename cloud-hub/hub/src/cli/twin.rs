//! `twin get|set|history|conflicts`: the twins of devices beside a running hub.

use anyhow::{Context as _, Result, anyhow, bail};
use clap::{Args, Subcommand, ValueEnum};
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};
use tideline_link::outln;
use tideline_twin::{Inexact, Key, exact};

use super::socket::{HubSocket, escape};
use cloud_hub::api::shapes::{TwinAnswer, TwinConflicts, TwinDifference, TwinHistory};
use cloud_hub::when::show_ms;

#[derive(Debug, Subcommand)]
pub enum TwinCommand {
    /// What is wanted of a device, what it reports, and what differs.
    Get {
        /// The device's id, or site/NAME or group/NAME for what the devices of a site or a group share.
        device: String,
        /// As it was at this time: RFC 3339, Unix ms, or relative as -6h.
        #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
        at: Option<String>,
        /// All of it as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Change what is wanted of a device, its tags or its notes; on disk when the command ends.
    Set(SetArgs),
    /// What was done, by whom and when, since history was last cut off.
    History {
        /// The device's id, or site/NAME or group/NAME for what the devices of a site or a group share.
        device: String,
        /// From when on: RFC 3339, Unix ms, or relative as -6h.
        #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
        from: Option<String>,
        /// Until when.
        #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
        to: Option<String>,
        /// Of this leaf or those below it, as desired/motor/speed, or of a section.
        #[arg(long)]
        key: Option<String>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Leaves that were written at both ends at once, with all values; `set` resolves them.
    Conflicts {
        /// The device's id, or site/NAME or group/NAME for what the devices of a site or a group share.
        device: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

/// What is changed.
#[derive(Debug, Args)]
pub struct SetArgs {
    /// The device's id, or site/NAME or group/NAME for what the devices of a site or a group share.
    device: String,
    /// The leaf, as motor/speed.
    #[arg(required_unless_present = "patch", requires = "value")]
    key: Option<String>,
    /// Its value: JSON, or else a text; null takes the leaf away.
    #[arg(allow_hyphen_values = true)]
    value: Option<String>,
    /// Of which section the leaf or the patch is.
    #[arg(long, value_enum, default_value_t = Written::Desired)]
    section: Written,
    /// A JSON merge patch of the section, in the place of a leaf.
    #[arg(long, value_name = "JSON", conflicts_with_all = ["key", "value"])]
    patch: Option<String>,
}

/// Sections that are written here.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Written {
    /// What is wanted.
    Desired,
    /// What the device is known by.
    Tags,
    /// What people say of it.
    Notes,
}

impl Written {
    const fn name(self) -> &'static str {
        match self {
            Self::Desired => "desired",
            Self::Tags => "tags",
            Self::Notes => "notes",
        }
    }
}

impl SetArgs {
    /// The patch of the whole twin.
    fn patch(&self) -> Result<Value> {
        let text = self.patch.as_ref().or(self.value.as_ref());
        // What is no JSON is a text, whatever digits it has.
        if let Some(text) = text.filter(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
            && let Err(Inexact { at, error }) = exact(text)
        {
            let key = self.key.as_ref().map_or_else(String::new, |key| format!("/{key}"));
            bail!("/{}{key}{at}: {error}", self.section.name());
        }
        let of_section = match (&self.patch, &self.key, &self.value) {
            (Some(patch), _, _) => serde_json::from_str(patch).context("--patch is no JSON")?,
            (None, Some(key), Some(value)) => leaf(self.section, key, value)?,
            _ => bail!("name a leaf and its value, or --patch"),
        };
        Ok(json!({ self.section.name(): of_section }))
    }
}

/// The patch that sets one leaf.
fn leaf(section: Written, key: &str, value: &str) -> Result<Value> {
    let key = Key::parse(key).map_err(|error| anyhow!("/{}/{key}: {error}", section.name()))?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
    let names: Vec<_> = key.names().collect();
    Ok(names.into_iter().rev().fold(value, |value, name| Value::Object(Map::from_iter([(name, value)]))))
}

fn path(device: &str, rest: &str, parts: &[(&str, Option<&String>)]) -> String {
    let (kind, name) = match device.split_once('/') {
        Some(("site", site)) => ("sites", site),
        Some(("group", group)) => ("groups", group),
        _ => ("devices", device),
    };
    let mut path = format!("/api/v1/{kind}/{}/twin{rest}", escape(name));
    let mut mark = '?';
    for (key, value) in parts {
        if let Some(value) = value {
            path.push_str(&format!("{mark}{key}={}", escape(value)));
            mark = '&';
        }
    }
    path
}

/// Carries the command out beside a running hub.
pub async fn twin(hub: &HubSocket, command: &TwinCommand) -> Result<()> {
    match command {
        TwinCommand::Get { device, at, json } => {
            let path = path(device, "", &[("at", at.as_ref())]);
            if *json {
                outln!("{:#}", hub.get(&path).await?);
            } else {
                show(&hub.get_as(&path).await?);
            }
        }
        TwinCommand::Set(args) => {
            let answer = hub.patch(&path(&args.device, "", &[]), &args.patch()?).await?;
            show(&serde_json::from_value(answer)?);
        }
        TwinCommand::History { device, from, to, key, json } => {
            let wanted = [("from", from.as_ref()), ("to", to.as_ref()), ("key", key.as_ref())];
            history(hub, &path(device, "/history", &wanted), *json).await?;
        }
        TwinCommand::Conflicts { device, json } => {
            let path = path(device, "/conflicts", &[]);
            if *json {
                outln!("{:#}", hub.get(&path).await?);
            } else {
                conflicts(&hub.get_as(&path).await?);
            }
        }
    }
    Ok(())
}

fn show(twin: &TwinAnswer) {
    let TwinAnswer { device, etag, generation, changes, leaves, bytes, .. } = twin;
    let whose = if device.contains('/') { "each agent there" } else { "its agent" };
    let arrived = if twin.agreed == Some(true) { "has all of it" } else { "has not all of it yet" };
    match twin.at_ms {
        Some(at_ms) => outln!("{device} at {}", show_ms(at_ms)),
        None => outln!("{device}: {whose} {arrived}"),
    }
    for (name, section) in [
        ("desired", &twin.desired),
        ("reported", &twin.reported),
        ("tags", &twin.tags),
        ("notes", &twin.notes),
    ] {
        outln!("{name}: {section:#}");
    }
    for found in &twin.delta {
        let since = found.since_ms.map_or_else(|| "-".to_owned(), show_ms);
        let at = found.device.as_ref().map_or_else(String::new, |device| format!(" at {device}"));
        let state = found.state.as_ref().map_or_else(String::new, |state| format!(" ({state})"));
        let why = found.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
        let TwinDifference { key, desired, reported, .. } = found;
        outln!("differs{at} since {since}: {key} is to be {desired}, is {reported}{state}{why}");
    }
    if twin.delta_cut {
        outln!("and maybe more: not all devices were looked at");
    }
    for warning in &twin.warnings {
        outln!("warning: {warning}");
    }
    if twin.conflicts > 0 {
        outln!("{} leaves have several values: `cloud-hub twin conflicts {device}`", twin.conflicts);
    }
    let state = etag.as_ref().map_or_else(String::new, |etag| format!("state {etag}, "));
    outln!("{state}{leaves} leaves of {bytes} bytes, {changes} changes in generation {generation}");
}

async fn history(hub: &HubSocket, path: &str, json: bool) -> Result<()> {
    let mark = if path.contains('?') { '&' } else { '?' };
    let first = format!("{path}{mark}limit=1000");
    let mut page: TwinHistory = hub.get_as(&first).await?;
    loop {
        for step in &page.steps {
            if json {
                outln!("{}", serde_json::to_string(step)?);
                continue;
            }
            let who = if step.author.is_empty() { "-" } else { &step.author };
            let (side, section, key, value) = (&step.side, &step.section, &step.key, &step.value);
            outln!("{:<24} {side:<5} {who:<16} {section}/{key} = {value}", show_ms(step.time_ms));
        }
        let Some(next) = page.next else { return Ok(()) };
        page = hub.get_as(&format!("{first}&cursor={}", escape(&next))).await?;
    }
}

fn conflicts(found: &TwinConflicts) {
    if found.conflicts.is_empty() {
        outln!("no leaf has several values");
    }
    for conflict in &found.conflicts {
        outln!("{}/{}", conflict.section, conflict.key);
        for value in &conflict.values {
            let who = value.author.as_deref().filter(|who| !who.is_empty()).unwrap_or("-");
            let when = value.time_ms.map_or_else(|| "-".to_owned(), show_ms);
            outln!("  {} by {who} at the {}, {when}", value.value, value.side.as_deref().unwrap_or("-"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_asked_for_where_they_are() {
        for (name, expected) in [
            ("pump-7", "/api/v1/devices/pump-7/twin/history"),
            ("site/hall-2", "/api/v1/sites/hall-2/twin/history"),
            ("group/pumps", "/api/v1/groups/pumps/twin/history"),
        ] {
            assert_eq!(path(name, "/history", &[]), expected);
        }
    }

    #[test]
    fn a_leaf_becomes_a_patch_of_its_section() {
        let set = |key: &str, value: &str, section| {
            let (key, value) = (Some(key.to_owned()), Some(value.to_owned()));
            SetArgs { device: "d".to_owned(), key, value, section, patch: None }.patch()
        };
        let speed = set("motor/speed", "5.5", Written::Desired).unwrap();
        assert_eq!(speed, json!({"desired": {"motor": {"speed": 5.5}}}));
        assert_eq!(set("a~1b", "wet floor", Written::Notes).unwrap(), json!({"notes": {"a/b": "wet floor"}}));
        assert_eq!(set("floor", "null", Written::Tags).unwrap(), json!({"tags": {"floor": null}}));
        let error = set("a//b", "1", Written::Tags).unwrap_err();
        assert!(error.to_string().starts_with("/tags/a//b: a name in the key"), "{error}");
    }
}
