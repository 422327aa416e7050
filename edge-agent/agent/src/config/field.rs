//! Sources of the field: how brokers and lines are told, and which devices fit behind them.

use std::sync::Arc;

use tideline_profiles::Profile;
use tideline_profiles::form::protocol::{Parity, Protocol};

use super::sources::Check;
use super::{DeviceConfig, Families, SerialLine, SourceKind};
use crate::source::coap::address;
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

    /// What the line is said to be; nothing and 0 leave it to the profile.
    pub fn serial(&self) -> SerialLine {
        let number = |key| Some(self.number(key)).filter(|number| *number > 0);
        let small = |key| number(key).and_then(|number| u8::try_from(number).ok());
        SerialLine {
            baud: number("baud").and_then(|baud| u32::try_from(baud).ok()),
            data_bits: small("data_bits"),
            parity: match self.text("parity").as_str() {
                "none" => Some(Parity::None),
                "even" => Some(Parity::Even),
                "odd" => Some(Parity::Odd),
                _ => None,
            },
            stop_bits: small("stop_bits"),
        }
    }

    /// host:port, with the usual port where none is given.
    pub fn tcp_address(&mut self, port: u16) -> String {
        let address = self.text("address");
        let given = address.rsplit_once(':').filter(|_| !address.ends_with(']'));
        match given {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => address,
            None if !address.is_empty() => format!("{address}:{port}"),
            _ => {
                self.problem(&format!("source.address: {address:?} is none; allowed is host or host:port"));
                address
            }
        }
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

/// Whether a source of this kind finds devices by topic, node, resource or sentence.
pub const fn is(kind: &SourceKind) -> bool {
    matches!(
        kind,
        SourceKind::Mqtt { .. }
            | SourceKind::Sparkplug { .. }
            | SourceKind::Serial { .. }
            | SourceKind::Coap
            | SourceKind::OpcUa { .. }
    )
}

/// Whether a source of this kind can find the device and understand it.
pub fn fits(device: &DeviceConfig, kind: &SourceKind) -> Result<(), String> {
    let protocol = match kind {
        SourceKind::Mqtt { .. } => "mqtt",
        SourceKind::Sparkplug { .. } => "sparkplug",
        SourceKind::Serial { .. } => "nmea",
        SourceKind::Coap => "coap",
        SourceKind::OpcUa { .. } => "opcua",
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
    if let Protocol::Coap(table) = profile.protocol() {
        address(&device.address, table.port).map_err(|error| format!("device.address: {error}"))?;
    }
    if matches!(kind, SourceKind::OpcUa { .. }) && !device.address.is_empty() {
        tideline_profiles::opcua::check(&device.address)
            .map_err(|error| format!("device.address: {error}; none for all of the server"))?;
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

#[cfg(test)]
mod tests {
    use super::super::{SourceKind, parse};

    #[test]
    fn sources_of_the_field_are_as_they_are_written() {
        let text = "[[source]]\nkind = \"mqtt\"\nurl = \"mqtt://hall:s3cret@10.0.0.7\"\nprofiles = [\"tasmota-plug\"]\n\
            [[source]]\nkind = \"sparkplug\"\nurl = \"mqtts://10.0.0.7\"\nca_file = \"ca.pem\"\ngroups = [\"plant\"]\n\
            [[source]]\nkind = \"serial\"\npath = \"/dev/ttyS0\"\nbaud = 4800\n\
            [[source]]\nkind = \"coap\"\nname = \"site\"\n\
            [[device]]\nid = \"room\"\nsource = \"site\"\nprofile = \"coap-sensor\"\naddress = \"10.0.0.8:5700\"\n";
        let config = parse("a.toml", text, &[]).unwrap();
        let names: Vec<&str> = config.sources.iter().map(|source| source.name.as_str()).collect();
        assert_eq!(names, ["mqtt-1", "sparkplug-2", "serial-3", "site"]);
        let SourceKind::Mqtt { broker, families } = &config.sources[0].kind else { panic!() };
        assert!(broker.keeps_session && families[0].name() == "tasmota-plug");
        assert_eq!(format!("{broker:?}").matches("s3cret").count(), 0, "a password is not shown");
        let SourceKind::Sparkplug { broker, groups, family } = &config.sources[1].kind else { panic!() };
        assert!(!broker.keeps_session && family.name() == "sparkplug-node");
        assert_eq!(groups, &["plant"]);
    }

    #[test]
    fn all_that_is_wrong_with_sources_of_the_field_is_told_at_once() {
        let text = "[[source]]\nkind = \"mqtt\"\n\
            [[source]]\nkind = \"mqtt\"\nurl = \"http://a\"\n\
            [[source]]\nkind = \"mqtt\"\nname = \"a\"\nurl = \"mqtts://a\"\nprofiles = [\"eastron-sdm630\"]\n\
            [[source]]\nkind = \"sparkplug\"\nname = \"b\"\nurl = \"mqtt://a\"\ngroups = [\"a/b\"]\n\
            [[source]]\nkind = \"coap\"\nname = \"c\"\n\
            [[device]]\nid = \"d\"\nsource = \"a\"\n\
            [[device]]\nid = \"e\"\nsource = \"b\"\nprofile = \"sparkplug-node\"\naddress = \"edge\"\n\
            [[device]]\nid = \"f\"\nsource = \"c\"\nprofile = \"coap-sensor\"\naddress = \"coaps://a\"\n\
            [[device]]\nid = \"g\"\nsource = \"a\"\nprofile = \"tasmota-plug\"\naddress = \"a/+\"\n";
        let error = parse("a.toml", text, &[]).unwrap_err();
        let wanted = [
            "a.toml:1: source.url: needed for kind \"mqtt\"",
            "a.toml:3: source.url: this is no broker; allowed is mqtt://",
            "a.toml:6: source.url: mqtts needs source.ca_file",
            "a.toml:6: source.profiles: profile eastron-sdm630 is of modbus; needed is one of mqtt",
            "a.toml:11: source.groups: \"a/b\" is no group; allowed are names without",
            "a.toml:19: device.profile: needed for kind \"mqtt\"",
            "a.toml:22: device.address: \"edge\" is no node; allowed are group/node",
            "a.toml:27: device.address: \"coaps://a\" is no address of CoAP; allowed are host",
            "a.toml:32: device.address: \"a/+\" is no name in topics",
        ];
        assert_eq!(error.problems.len(), wanted.len(), "{error}");
        for (problem, part) in error.problems.iter().zip(wanted) {
            assert!(problem.starts_with(part), "{problem}: {part}");
        }
    }
}
