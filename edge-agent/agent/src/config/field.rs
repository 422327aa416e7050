//! Sources of the field: how brokers and lines are told, and which devices fit behind them.

use std::sync::Arc;

use tideline_profiles::Profile;
use tideline_profiles::form::protocol::Protocol;

use super::sources::Check;
use super::{DeviceConfig, Families, SourceKind};
use crate::source::mqtt::line::Broker;

/// Longest name of a session that is sure to be taken: brokers allow more than the 23 that MQTT asks of them.
const CLIENT_ID_BYTES_MAX: usize = 128;

impl Check<'_, '_, '_> {
    /// The broker; none when its URL is none, which is told.
    pub fn broker(&mut self, kind: &str) -> Option<Broker> {
        let (url, ca_file, client_id) = (self.text("url"), self.text("ca_file"), self.text("client_id"));
        if client_id.len() > CLIENT_ID_BYTES_MAX {
            let len = client_id.len();
            self.problem(&format!(
                "source.client_id: is {len} bytes long; allowed are up to {CLIENT_ID_BYTES_MAX}"
            ));
        }
        if url.is_empty() {
            self.problem(&format!("source.url: needed for kind {kind:?}"));
            return None;
        }
        let url: tideline_link::mqtt::BrokerUrl = match url.parse() {
            Ok(url) => url,
            Err(error) => {
                self.problem(&format!("source.url: {error}"));
                return None;
            }
        };
        if url.is_secure() && ca_file.is_empty() {
            self.problem(
                "source.url: mqtts needs source.ca_file, the file with the authorities of its certificate",
            );
        }
        let ca_file = (!ca_file.is_empty()).then(|| ca_file.into());
        Some(Broker { url, ca_file, client_id, keeps_session: self.text("session") != "clean" })
    }

    /// The profiles whose devices appear by themselves.
    pub fn families(&mut self, protocol: &str, families: Families<'_>) -> Vec<Arc<Profile>> {
        let mut found = Vec::new();
        for name in self.list("profiles") {
            let profile = families(&name).and_then(|profile| {
                is_of(&profile, protocol)?;
                Ok(profile)
            });
            match profile {
                Ok(profile) => found.push(Arc::new(profile)),
                Err(error) => self.problem(&format!("source.profiles: {error}")),
            }
        }
        found
    }

    /// Nodes of some groups.
    pub fn sparkplug(&mut self, families: Families<'_>) -> Option<SourceKind> {
        let broker = self.broker("sparkplug");
        let mut found = self.families("sparkplug", families);
        if found.len() > 1 {
            self.problem("source.profiles: kind \"sparkplug\" takes one; those of [[device]] may be others");
        }
        let groups = self.list("groups");
        for group in groups.iter().filter(|group| group.is_empty() || group.contains(['+', '#', '/'])) {
            self.problem(&format!(
                "source.groups: {group:?} is no group; allowed are names without +, # and /"
            ));
        }
        let family = match found.pop() {
            Some(family) => family,
            None => Arc::new(super::shipped("sparkplug-node").ok()?),
        };
        // A session that is kept would give what is no longer true: data of QoS 0 is lost either way.
        let broker = Broker { keeps_session: false, ..broker? };
        Some(SourceKind::Sparkplug { broker, groups, family })
    }
}

/// Whether a source of this kind can find the device and understand it.
pub fn fits(device: &DeviceConfig, kind: &SourceKind) -> Result<(), String> {
    let protocol = match kind {
        SourceKind::Mqtt { .. } => "mqtt",
        SourceKind::Sparkplug { .. } => "sparkplug",
        SourceKind::Serial { .. } => "nmea",
        _ => return Ok(()),
    };
    let Some(profile) = &device.family else {
        return Err(format!("device.profile: needed for kind {:?}", kind.name()));
    };
    is_of(profile, protocol).map_err(|error| format!("device.profile: {error}"))?;
    let is_name = |address: &str| !address.contains(['+', '#']) && !address.starts_with('/');
    if matches!(profile.protocol(), Protocol::Mqtt(_)) && !is_name(&device.address) {
        return Err(format!(
            "device.address: {:?} is no name in topics; allowed is what stands for the device there, without + and #",
            device.address
        ));
    }
    if matches!(kind, SourceKind::Sparkplug { .. }) && !(1..=2).contains(&device.address.matches('/').count())
    {
        return Err(format!(
            "device.address: {:?} is no node; allowed are group/node and group/node/device",
            device.address
        ));
    }
    Ok(())
}

fn is_of(profile: &Profile, protocol: &str) -> Result<(), String> {
    let found = profile.protocol().as_str();
    if found == protocol {
        return Ok(());
    }
    Err(format!("profile {} is of {found}; needed is one of {protocol}", profile.name()))
}
