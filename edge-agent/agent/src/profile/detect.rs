//! `edge-agent profile detect`: which devices are there, and of which families they are.
//!
//! Only what tells a family is read, and nothing is written. On a bus that an agent polls at the same time, both
//! would get each other's answers: a serial line is for one of them.

pub mod coap;
pub mod mqtt;
pub mod opcua;
pub mod registers;
pub mod serial;
pub mod sparkplug;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::json;
use tideline_link::outln;
use tideline_profiles::form::protocol::Parity;
use tideline_profiles::{Profile, shipped};

use super::load;
use crate::config::{ModbusLine, SerialLine};
use crate::source::directory::device_id;

/// Where devices are looked for.
#[derive(Debug, Subcommand)]
pub enum Where {
    /// Units of Modbus TCP and SunSpec
    ModbusTcp {
        /// host, or host:port where the port is not 502
        address: String,
        /// Which units
        #[command(flatten)]
        units: Units,
    },
    /// Units of Modbus and SunSpec on a serial line
    ModbusRtu {
        /// The port, as /dev/ttyUSB0
        path: PathBuf,
        /// Bits a second
        #[arg(long, default_value_t = 9600)]
        baud: u32,
        /// none, even or odd
        #[arg(long, default_value = "none", value_parser = parity)]
        parity: Parity,
        /// Bits that end a character
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
        stop_bits: u8,
        /// Which units
        #[command(flatten)]
        units: Units,
    },
    /// Devices that publish at a broker
    Mqtt {
        /// As mqtt://host:1883 or mqtts://user:password@host:8883
        url: String,
        /// File (PEM) with the authorities that an mqtts broker's certificate may be of
        #[arg(long)]
        ca_file: Option<PathBuf>,
        /// How long to listen, in s
        #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=86_400))]
        for_s: u64,
    },
    /// A CoAP server, by what it lists at .well-known/core
    Coap {
        /// host, host:port or coap://host:port
        address: String,
        /// Longest wait for an answer, in ms
        #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(10..=60_000))]
        timeout_ms: u64,
    },
    /// Nodes of Sparkplug B that tell something at a broker while it listens; none of them is asked
    Sparkplug {
        /// As mqtt://host:1883 or mqtts://user:password@host:8883
        url: String,
        /// File (PEM) with the authorities that an mqtts broker's certificate may be of
        #[arg(long)]
        ca_file: Option<PathBuf>,
        /// How long to listen, in s
        #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=86_400))]
        for_s: u64,
    },
    /// A device that tells by itself on a serial line, as NMEA 0183 does; for Modbus there is modbus-rtu
    Serial {
        /// The port, as /dev/ttyUSB0
        path: PathBuf,
        /// Bits a second; 4800, 9600, 38400 and 115200 are tried when left out
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=4_000_000))]
        baud: Option<u32>,
        /// How long to listen at each rate, in s
        #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=3_600))]
        for_s: u64,
    },
    /// Says why devices that post over HTTP are not looked for
    Http,
    /// A server of OPC UA: what it has, and what a profile would take of it
    OpcUa {
        /// As opc.tcp://host:4840
        url: String,
        /// How it is spoken to
        #[command(flatten)]
        way: opcua::Way,
    },
}

/// What all kinds of places have in common.
#[derive(Debug, Args)]
pub struct Options {
    /// A profile to look for besides those that ship: a folder or a file; may be given several times
    #[arg(long, global = true)]
    profile: Vec<String>,
    /// As JSON lines
    #[arg(long, global = true)]
    json: bool,
}

/// Units of a bus.
#[derive(Debug, Args)]
pub struct Units {
    /// As 1, 1-10 or 1,3,20-30
    #[arg(long, default_value = "1-10", value_parser = numbers)]
    units: Numbers,
    /// Longest wait for an answer, in ms
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    timeout_ms: u64,
}

/// Numbers of units, in the order in which they are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbers(Vec<u8>);

/// A device that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where, in the words of its protocol.
    pub address: String,
    /// The names of the families that it may be of, the nearest first; none when it answers and no sign is known.
    pub families: Vec<String>,
}

fn parity(text: &str) -> Result<Parity, String> {
    match text {
        "none" => Ok(Parity::None),
        "even" => Ok(Parity::Even),
        "odd" => Ok(Parity::Odd),
        _ => Err(format!("{text:?} is none; allowed are none, even, odd")),
    }
}

fn numbers(text: &str) -> Result<Numbers, String> {
    let wrong =
        || format!("{text:?} names no units; allowed are numbers of 0 to 255, as 1, 1-10 or 1,3,20-30");
    let mut numbers = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u8, u8) =
            (first.trim().parse().map_err(|_| wrong())?, last.trim().parse().map_err(|_| wrong())?);
        if first > last {
            return Err(wrong());
        }
        numbers.extend((first..=last).filter(|number| !numbers.contains(number)).collect::<Vec<_>>());
    }
    Ok(Numbers(numbers))
}

/// Looks for devices and tells what was found, with the configuration that reads them.
///
/// # Errors
/// The place cannot be reached, or a profile is wrong.
pub async fn run(place: Where, options: Options) -> anyhow::Result<()> {
    let (families, paths) = families(&options)?;
    let named = |name: &str| {
        let at = families.iter().position(|family| family.name() == name);
        at.and_then(|at| paths.get(at)?.clone()).unwrap_or_else(|| name.to_owned())
    };
    let (source, found, is_wide) = match place {
        Where::Sparkplug { url, ca_file, for_s } => {
            return of_nodes(&url, ca_file, for_s, options.json).await;
        }
        Where::Serial { path, baud, for_s } => {
            return of_line(&path, baud, for_s, &families, (options.json, &named)).await;
        }
        Where::Http => anyhow::bail!(
            "devices that post over HTTP cannot be looked for: they call, and nobody hears them before an agent listens; a source of kind \"http\" \
             with profiles = [\"json-http\"] takes whoever posts to it, and `edge-agent status` names them"
        ),
        Where::OpcUa { url, way } => {
            let seen = opcua::look(&url, way, &families).await?;
            opcua::tell(&url, &seen, options.json, named);
            return Ok(());
        }
        Where::Coap { address, timeout_ms } => {
            let limit = Duration::from_millis(timeout_ms);
            let (found, resources) = coap::look(&address, limit, &families).await?;
            if !options.json {
                resources.iter().for_each(|path| outln!("/{path}"));
            }
            ("kind = \"coap\"\nname = \"bus\"\n".to_owned(), vec![found], false)
        }
        Where::ModbusTcp { address, units } => {
            let address = if address.contains(':') { address } else { format!("{address}:502") };
            let source = format!("kind = \"modbus-tcp\"\nname = \"bus\"\naddress = {address:?}\n");
            (source, of_bus(ModbusLine::Tcp { address }, &units, &families).await?, false)
        }
        Where::ModbusRtu { path, baud, parity, stop_bits, units } => {
            let spoken = match parity {
                Parity::None => "none",
                Parity::Even => "even",
                Parity::Odd => "odd",
            };
            let source = format!(
                "kind = \"modbus-rtu\"\nname = \"bus\"\npath = {:?}\nbaud = {baud}\nparity = \"{spoken}\"\n\
                 stop_bits = {stop_bits}\n",
                path.display().to_string()
            );
            let given = SerialLine {
                baud: Some(baud),
                data_bits: Some(8),
                parity: Some(parity),
                stop_bits: Some(stop_bits),
            };
            (source, of_bus(ModbusLine::Rtu { path, given }, &units, &families).await?, false)
        }
        Where::Mqtt { url, ca_file, for_s } => {
            let ca = ca_file
                .as_ref()
                .map_or_else(String::new, |file| format!("ca_file = {:?}\n", file.display().to_string()));
            let source = format!("kind = \"mqtt\"\nname = \"broker\"\nurl = {url:?}\n{ca}");
            let found = mqtt::look(&url, ca_file, Duration::from_secs(for_s), &families).await?;
            (source, found, true)
        }
    };
    tell(&found, options.json, |known| configuration(&source, known, is_wide, named));
    Ok(())
}

/// Shows what was found, and the configuration that reads what is known of it.
fn tell(found: &[Found], json: bool, configured: impl FnOnce(&[&Found]) -> String) {
    if json {
        for one in found {
            outln!("{}", json!({ "address": one.address, "families": one.families }));
        }
        return;
    }
    show(found);
    let known: Vec<&Found> = found.iter().filter(|one| !one.families.is_empty()).collect();
    if !known.is_empty() {
        outln!("\n# For the agent's configuration:");
        outln!("{}", configured(&known));
    }
}

/// Nodes of Sparkplug, which appear by themselves once a source listens.
async fn of_nodes(url: &str, ca_file: Option<PathBuf>, for_s: u64, json: bool) -> anyhow::Result<()> {
    let ca = ca_file
        .as_ref()
        .map_or_else(String::new, |file| format!("ca_file = {:?}\n", file.display().to_string()));
    let nodes = sparkplug::look(url, ca_file, Duration::from_secs(for_s)).await?;
    for (address, heard) in &nodes.0 {
        let sparkplug::Heard { metrics, told } = heard;
        if json {
            outln!(
                "{}",
                json!({ "address": address, "families": ["sparkplug-node"], "metrics": metrics, "told": told })
            );
            continue;
        }
        let birth = metrics.map_or_else(
            || format!("no birth within {for_s} s, which an agent asks it for"),
            |metrics| format!("born with {metrics} metrics"),
        );
        outln!("{address}: sparkplug-node, {birth}, told {told} times");
    }
    if json {
        return Ok(());
    }
    if nodes.0.is_empty() {
        outln!(
            "no node told anything within {for_s} s; one that only tells changes may be there all the same"
        );
    } else {
        outln!("\n# For the agent's configuration; nodes and their devices appear by themselves:");
        outln!(
            "[[source]]\nkind = \"sparkplug\"\nname = \"broker\"\nurl = {url:?}\n{ca}groups = {:?}",
            nodes.groups()
        );
    }
    Ok(())
}

/// A device that tells by itself on a serial line.
async fn of_line(
    path: &Path,
    baud: Option<u32>,
    for_s: u64,
    families: &[Profile],
    (json, named): (bool, &impl Fn(&str) -> String),
) -> anyhow::Result<()> {
    let bauds = baud.map_or_else(|| serial::BAUDS.to_vec(), |baud| vec![baud]);
    let (baud, heard) = serial::look(path, &bauds, Duration::from_secs(for_s), families).await?;
    let shown = path.display().to_string();
    if json {
        let serial::Heard { bytes, sentences, names, families, .. } = &heard;
        outln!(
            "{}",
            json!({ "address": shown, "baud": baud, "bytes": bytes, "sentences": sentences, "names": names, "families": families })
        );
        return Ok(());
    }
    let names: Vec<&str> = heard.names.iter().map(String::as_str).collect();
    match (heard.families.first(), heard.sentences, heard.bytes) {
        (Some(family), ..) => {
            outln!("{shown}: {family}, tells {} at {baud} bits a second", names.join(", "));
            outln!("\n# For the agent's configuration:");
            outln!("[[source]]\nkind = \"serial\"\nname = \"line\"\npath = {shown:?}\nbaud = {baud}\n");
            outln!("[[device]]\nid = \"{family}\"\nsource = \"line\"\nprofile = {:?}", named(family));
        }
        (None, 1.., _) => {
            outln!("{shown}: tells {} at {baud} bits a second, which no profile reads", names.join(", "))
        }
        (None, 0, 1..) => {
            outln!("{shown}: something tells, and no sentence of NMEA is among it; --baud names another rate")
        }
        (None, 0, 0) => outln!(
            "{shown}: nobody tells anything; a device of Modbus is found by `detect modbus-rtu`, as it only answers"
        ),
    }
    Ok(())
}

/// The profiles that are looked for, each with the path that it was given by.
fn families(options: &Options) -> anyhow::Result<(Vec<Profile>, Vec<Option<String>>)> {
    let mut families =
        shipped::ALL.iter().map(|shipped| Ok(shipped.profile()?)).collect::<anyhow::Result<Vec<_>>>()?;
    let mut paths = vec![None; families.len()];
    for name in &options.profile {
        let profile = load(name)?.profile;
        // One of the same name is meant in place of the one that ships.
        if let Some(at) = families.iter().position(|family| family.name() == profile.name()) {
            families.remove(at);
            paths.remove(at);
        }
        families.push(profile);
        paths.push(Some(name.clone()));
    }
    Ok((families, paths))
}

async fn of_bus(line: ModbusLine, units: &Units, families: &[Profile]) -> anyhow::Result<Vec<Found>> {
    let limit = Duration::from_millis(units.timeout_ms);
    registers::look(line, &units.units.0, limit, families).await.context("no device can be asked")
}

fn show(found: &[Found]) {
    if found.is_empty() {
        outln!("nobody answers");
    }
    for Found { address, families } in found {
        match families.split_first() {
            None => outln!("{address}: answers, and is of no family that is known"),
            Some((first, [])) => outln!("{address}: {first}"),
            Some((first, others)) => outln!("{address}: {first} (or {})", others.join(", ")),
        }
    }
}

/// What reads the devices: with a section for each, or where they appear by themselves with the names of their families.
fn configuration(source: &str, known: &[&Found], is_wide: bool, named: impl Fn(&str) -> String) -> String {
    let mut text = format!("[[source]]\n{source}");
    let first = |one: &Found| one.families.first().cloned().unwrap_or_default();
    if is_wide {
        let mut names: Vec<String> = known.iter().map(|one| named(&first(one))).collect();
        names.sort();
        names.dedup();
        text.push_str(&format!("profiles = {names:?}\n"));
        return text;
    }
    for one in known {
        let (family, address) = (first(one), &one.address);
        let id = device_id(&format!("{family}-{address}")).map(|id| id.to_string()).unwrap_or_default();
        text.push_str(&format!(
            "\n[[device]]\nid = \"{id}\"\nsource = \"bus\"\nprofile = {:?}\naddress = \"{address}\"\n",
            named(&family)
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_numbers_and_ranges() {
        assert_eq!(numbers("1"), Ok(Numbers(vec![1])));
        assert_eq!(numbers("3, 1-4,255"), Ok(Numbers(vec![3, 1, 2, 4, 255])));
        for text in ["", "a", "4-1", "256", "1-", "1..3"] {
            assert!(numbers(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_found_can_be_pasted_into_a_configuration() {
        let found = Found { address: "3".to_owned(), families: vec!["eastron-sdm630".to_owned()] };
        let source = "kind = \"modbus-tcp\"\nname = \"bus\"\naddress = \"10.0.0.5:502\"\n";
        let text = configuration(source, &[&found], false, str::to_owned);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("agent.toml");
        std::fs::write(&file, text).unwrap();
        let config =
            crate::config::Layers { file: Some(file), ..crate::config::Layers::default() }.load().unwrap();
        let devices: Vec<_> = config.sources.iter().flat_map(|source| &source.devices).collect();
        assert_eq!(
            (devices[0].id.as_str(), devices[0].profile.as_str()),
            ("eastron-sdm630-3", "eastron-sdm630")
        );
    }
}
