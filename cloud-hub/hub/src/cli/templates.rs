//! `config-template list|show|set|remove`: what all agents of a group or at a site are to have, beside a running hub.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Subcommand;
use cloud_hub::api::shapes::{
    ConfigOption, ConfigTemplate, ConfigTemplateApplied, ConfigTemplates, DeviceConfig, TwinPatched,
    TwinsPatched,
};
use cloud_hub::templates::Name;
use cloud_hub::when::show_ms;
use serde_json::{Value, json};
use tideline_link::outln;

use super::socket::{HubSocket, escape};

/// What to do with templates.
#[derive(Debug, Subcommand)]
pub enum TemplateCommand {
    /// All templates.
    List,
    /// A template with its members and earlier versions.
    Show {
        /// As group/pumps or site/hall-2.
        name: Name,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Set a template; its members have it at once, or when they are back.
    Set {
        /// As group/pumps or site/hall-2.
        name: Name,
        /// The options by section, as JSON or TOML, as an agent's configuration has them; of sections that may stand several times
        /// each item by its name, or false in its place to take away that of the agent's file.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Remove a template, and from its members what came of it.
    Remove {
        /// As group/pumps or site/hall-2.
        name: Name,
    },
    /// What is in force at one agent and what is wanted of it, where each value comes from, and what it says to that.
    Device {
        /// The agent, as a device.
        device: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

fn path(name: &Name) -> String {
    let text = name.to_string();
    let (kind, name) = text.split_once('/').unwrap_or((&text, ""));
    format!("/api/v1/config-templates/{kind}/{}", escape(name))
}

/// Carries the command out beside a running hub.
pub async fn template(hub: &HubSocket, command: &TemplateCommand) -> Result<()> {
    match command {
        TemplateCommand::List => {
            let all: ConfigTemplates = hub.get_as("/api/v1/config-templates").await?;
            for ConfigTemplate { name, current, members, .. } in all.templates {
                let (version, by, at) = (current.version, current.by, show_ms(current.at_ms));
                outln!("{name:<24} version {version} by {by}, {at}, for {} agents", members.len());
            }
        }
        TemplateCommand::Show { name, json } => {
            let found = hub.get(&path(name)).await?;
            if *json {
                outln!("{found:#}");
            } else {
                show(&serde_json::from_value(found)?);
            }
        }
        TemplateCommand::Set { name, file } => {
            let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
            let body = json!({ "layer": layer(&text).with_context(|| file.display().to_string())? });
            let done: ConfigTemplateApplied = serde_json::from_value(hub.put(&path(name), &body).await?)?;
            outln!("{} is at version {}", done.template.name, done.template.current.version);
            results(&done.results);
            done.warnings.iter().for_each(|warning| outln!("{warning}"));
        }
        TemplateCommand::Remove { name } => {
            let done: TwinsPatched = serde_json::from_value(hub.delete(&path(name)).await?)?;
            outln!("{name} is removed");
            results(&done.results);
        }
        TemplateCommand::Device { device, json } => {
            show_device(hub, device, *json).await?;
        }
    }
    Ok(())
}

/// Of JSON, or else of TOML.
fn layer(text: &str) -> Result<Value> {
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(text).context("this is no JSON");
    }
    toml::from_str(text).context("this is neither JSON nor TOML")
}

fn show(found: &ConfigTemplate) {
    let ConfigTemplate { name, current, earlier, members } = found;
    outln!("{name}, version {} by {}, {}", current.version, current.by, show_ms(current.at_ms));
    outln!("{:#}", current.layer.as_ref().unwrap_or(&Value::Null));
    outln!("for {}", if members.is_empty() { "no agent yet".to_owned() } else { members.join(", ") });
    for version in earlier {
        outln!("before: version {} by {}, {}", version.version, version.by, show_ms(version.at_ms));
    }
}

fn results(results: &[TwinPatched]) {
    for TwinPatched { device, code, detail, warnings, .. } in results {
        match (code, detail) {
            (Some(code), Some(detail)) => outln!("{device}: {code}: {detail}"),
            _ => outln!("{device}: is told"),
        }
        warnings.iter().for_each(|warning| outln!("{device}: {warning}"));
    }
}

/// Shows all that is known of an agent's configuration.
pub async fn show_device(hub: &HubSocket, device: &str, json: bool) -> Result<()> {
    let found = hub.get(&format!("/api/v1/devices/{}/config", escape(device))).await?;
    if json {
        outln!("{found:#}");
    } else {
        configured(&serde_json::from_value(found)?);
    }
    Ok(())
}

fn configured(found: &DeviceConfig) {
    if let Some(in_force) = &found.in_force {
        let (told, since) = (show_ms(in_force.told_ms), show_ms(in_force.since_ms));
        outln!("in force, as the agent has said since {since}; it was last heard at {told}:");
        for ConfigOption { option, value, source, from } in &in_force.options {
            let from = from.as_ref().map_or_else(String::new, |from| format!(" ({from})"));
            outln!("{option} = {value}  # {source}{from}");
        }
        if in_force.left_out > 0 {
            outln!("and {} more, which are too many to be told", in_force.left_out);
        }
    }
    if !found.values.is_empty() {
        outln!("wanted by the hub:");
    }
    for value in &found.values {
        outln!("{} = {}  # {}", value.option, value.value, value.source);
    }
    let state = found.state.as_deref().unwrap_or("the agent has said nothing yet");
    outln!("state: {state}{}", if found.agreed { "" } else { ", and it has not all of it yet" });
    if let Some(reason) = &found.reason {
        outln!("not in force: {reason}");
    }
    found.unwell.iter().for_each(|one| outln!("does not work: {one}"));
    if !found.needs_restart.is_empty() {
        outln!("after a restart: {}", found.needs_restart.join(", "));
    }
}
