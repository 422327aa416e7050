//! `cloud-hub device`: the registry beside a running hub.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tideline_link::{out, outln};

use super::socket::{HubSocket, escape};
use super::{show, templates};
use cloud_hub::api::shapes::{Device, DevicePage, DeviceProfile, StrangerList};
use cloud_hub::when::show_ms;

#[derive(Debug, Subcommand)]
pub enum DeviceCommand {
    /// All devices, or those that fit all that is given.
    List(Wanted),
    /// One device with its ledger.
    Show {
        /// The device's id.
        id: String,
        /// All that is known, every gap included, as JSON.
        #[arg(long)]
        json: bool,
    },
    /// What is in force at an agent, with where each value comes from, and what is wanted of it.
    Config {
        /// The agent, as a device.
        id: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Register a field device, so that the agent may write for it.
    Add {
        /// The device's id.
        id: String,
        /// The enrolled agent that it is behind.
        #[arg(long, value_name = "AGENT")]
        behind: String,
    },
    /// Say what a device is called, where it is and what it belongs to, or move it behind another agent.
    Set {
        /// The device's id.
        id: String,
        #[command(flatten)]
        marks: Marked,
    },
    /// Register agents again that enrolled after the backup that the hub was restored from.
    Adopt {
        /// Their ids.
        #[arg(required_unless_present = "all")]
        ids: Vec<String>,
        /// All that have asked since the hub started.
        #[arg(long, conflicts_with = "ids")]
        all: bool,
    },
    /// Shut an agent and all devices behind it out for good.
    Revoke {
        /// The id of the agent's own device.
        id: String,
    },
}

/// Which devices are listed.
#[derive(Debug, Args)]
pub struct Wanted {
    /// Those behind this agent, and its own.
    #[arg(long, value_name = "AGENT")]
    behind: Option<String>,
    /// Those of this site.
    #[arg(long)]
    site: Option<String>,
    /// Those in this group.
    #[arg(long)]
    group: Option<String>,
    /// Those of this profile.
    #[arg(long)]
    profile: Option<String>,
    /// Those with this tag; may stand several times.
    #[arg(long, value_name = "KEY[=VALUE]")]
    tag: Vec<String>,
    /// Those with this text in their id, title, maker or model.
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
}

impl Wanted {
    fn path(&self) -> String {
        let tags = self.tag.join(",");
        let tags = Some(&tags).filter(|tags| !tags.is_empty());
        let mut path = "/api/v1/devices?limit=1000".to_owned();
        for (key, value) in [
            ("agent", self.behind.as_ref()),
            ("site", self.site.as_ref()),
            ("group", self.group.as_ref()),
            ("profile", self.profile.as_ref()),
            ("tag", tags),
            ("q", self.search.as_ref()),
        ] {
            if let Some(value) = value {
                path.push_str(&format!("&{key}={}", escape(value)));
            }
        }
        path
    }
}

/// What is said of a device.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct Marked {
    /// A name for people; empty for none.
    #[arg(long)]
    title: Option<String>,
    /// Where it is; empty for nowhere.
    #[arg(long)]
    site: Option<String>,
    /// A group that it is in from now on; may stand several times.
    #[arg(long)]
    group: Vec<String>,
    /// A group that it leaves.
    #[arg(long, value_name = "GROUP")]
    no_group: Vec<String>,
    /// A tag that it has from now on; may stand several times.
    #[arg(long, value_name = "KEY=VALUE")]
    tag: Vec<String>,
    /// A tag that it loses.
    #[arg(long, value_name = "KEY")]
    no_tag: Vec<String>,
    /// Where it is on Earth, in degrees of WGS 84 and metres; empty to leave that to its own readings.
    #[arg(long, value_name = "LAT,LON[,ALT]", allow_hyphen_values = true)]
    position: Option<String>,
    /// Where it is on the plan of its site, as shares of its width and height; empty for nowhere.
    #[arg(long, value_name = "X,Y")]
    spot: Option<String>,
    /// The enrolled agent that it is behind from now on; its history stays.
    #[arg(long, value_name = "AGENT")]
    behind: Option<String>,
}

/// Numbers with commas as an object; null for an empty text.
fn numbers(option: &str, text: &str, names: &[&str], least: usize) -> Result<Value> {
    if text.trim().is_empty() {
        return Ok(Value::Null);
    }
    let given: Result<Vec<f64>, _> = text.split(',').map(|part| part.trim().parse::<f64>()).collect();
    let given = given.ok().filter(|given| (least..=names.len()).contains(&given.len()));
    let given = given.with_context(|| {
        format!("{option} {text}: it is {} as numbers with commas, or empty", names.join(","))
    })?;
    Ok(names.iter().zip(given).map(|(name, number)| ((*name).to_owned(), json!(number))).collect())
}

/// `device list|show|config|add|set|adopt|revoke`.
pub async fn device(hub: &HubSocket, command: &DeviceCommand) -> Result<()> {
    match command {
        DeviceCommand::List(wanted) => list_devices(hub, wanted).await?,
        DeviceCommand::Show { id, json } => {
            let path = format!("/api/v1/devices/{}", escape(id));
            if *json {
                outln!("{:#}", hub.get(&path).await?);
            } else {
                let device: Device = hub.get_as(&path).await?;
                out!("{}", show::device(&device));
                if device.about.is_some_and(|about| !about.profile.is_empty()) {
                    let told: DeviceProfile = hub.get_as(&format!("{path}/profile")).await?;
                    show::strange(&told).into_iter().for_each(|what| outln!("profile   {what}"));
                }
            }
        }
        DeviceCommand::Config { id, json } => templates::show_device(hub, id, *json).await?,
        DeviceCommand::Add { id, behind } => {
            hub.post("/api/v1/devices", &json!({"id": id, "agent": behind})).await?;
            outln!("{id} is registered behind {behind}");
        }
        DeviceCommand::Set { id, marks } => set(hub, id, marks).await?,
        DeviceCommand::Adopt { ids, all } => adopt(hub, ids, *all).await?,
        DeviceCommand::Revoke { id } => {
            hub.post(&format!("/api/v1/devices/{}/revoke", escape(id)), &Value::Null).await?;
            outln!("{id} is revoked");
        }
    }
    Ok(())
}

async fn adopt(hub: &HubSocket, ids: &[String], all: bool) -> Result<()> {
    let mut ids = ids.to_vec();
    if all {
        let asked: StrangerList = hub.get_as("/api/v1/strangers").await?;
        ids = asked.strangers.into_iter().map(|stranger| stranger.agent).collect();
        if ids.is_empty() {
            outln!("no agent that is not registered has asked since the hub started");
        }
    }
    for id in ids {
        hub.post(&format!("/api/v1/devices/{}/adopt", escape(&id)), &Value::Null).await?;
        outln!("{id} is registered again");
    }
    Ok(())
}

async fn list_devices(hub: &HubSocket, wanted: &Wanted) -> Result<()> {
    let path = wanted.path();
    let mut page: DevicePage = hub.get_as(&path).await?;
    outln!(
        "{:<24} {:<24} {:<8} {:>12} {:>12}  last seen",
        "device",
        "behind",
        "state",
        "readings",
        "pending"
    );
    loop {
        for device in &page.devices {
            let state = match device.state {
                _ if device.revoked => "revoked",
                state => state.as_str(),
            };
            // What is pending is known of an agent and not of each device behind it.
            let (behind, pending) = if device.agent == device.id {
                ("-", device.backlog.to_string())
            } else {
                (device.agent.as_str(), "-".to_owned())
            };
            let seen = device.last_seen_ms.map_or_else(|| "-".to_owned(), show_ms);
            let (id, readings) = (&device.id, device.readings);
            outln!("{id:<24} {behind:<24} {state:<8} {readings:>12} {pending:>12}  {seen}");
        }
        let Some(next) = page.next else { return Ok(()) };
        page = hub.get_as(&format!("{path}&cursor={}", escape(&next))).await?;
    }
}

async fn set(hub: &HubSocket, id: &str, marked: &Marked) -> Result<()> {
    let path = format!("/api/v1/devices/{}", escape(id));
    let mut patch = serde_json::Map::new();
    for (key, value) in [("title", &marked.title), ("site", &marked.site), ("agent", &marked.behind)] {
        if let Some(value) = value {
            patch.insert(key.to_owned(), json!(value));
        }
    }
    if let Some(position) = &marked.position {
        let position = numbers("--position", position, &["lat", "lon", "alt_m"], 2)?;
        patch.insert("position".to_owned(), position);
    }
    if let Some(spot) = &marked.spot {
        patch.insert("spot".to_owned(), numbers("--spot", spot, &["x", "y"], 2)?);
    }
    if !marked.group.is_empty() || !marked.no_group.is_empty() {
        let device: Device = hub.get_as(&path).await?;
        let mut groups: BTreeSet<String> = device.groups.into_iter().collect();
        groups.extend(marked.group.iter().cloned());
        groups.retain(|group| !marked.no_group.contains(group));
        patch.insert("groups".to_owned(), json!(groups));
    }
    let mut tags = serde_json::Map::new();
    for tag in &marked.tag {
        let (key, value) =
            tag.split_once('=').with_context(|| format!("--tag {tag}: a tag is KEY=VALUE, as floor=2"))?;
        tags.insert(key.to_owned(), json!(value));
    }
    tags.extend(marked.no_tag.iter().map(|key| (key.clone(), Value::Null)));
    if !tags.is_empty() {
        patch.insert("tags".to_owned(), Value::Object(tags));
    }
    let device: Device = serde_json::from_value(hub.patch(&path, &Value::Object(patch)).await?)?;
    out!("{}", show::device(&device));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_two_numbers_or_three_or_none() {
        let position = |text| numbers("--position", text, &["lat", "lon", "alt_m"], 2);
        assert_eq!(position("-33.9, 151.2").unwrap(), json!({"lat": -33.9, "lon": 151.2}));
        assert_eq!(position("1,2,3.5").unwrap(), json!({"lat": 1.0, "lon": 2.0, "alt_m": 3.5}));
        assert_eq!(position(" ").unwrap(), Value::Null);
        for text in ["1", "1,2,3,4", "north", "1;2"] {
            assert!(position(text).unwrap_err().to_string().contains("lat,lon,alt_m as numbers"), "{text}");
        }
    }
}
