//! A server of OPC UA: what it offers, its namespaces, and the variables that profiles would take of it.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;
use tideline_link::outln;
use tideline_profiles::names::Names;
use tideline_profiles::{Profile, Protocol};
use tideline_protocol::model::DeviceId;
use tideline_protocol::time::Clock as _;

use crate::clock::AgentClock;
use crate::source::Device;
use crate::source::opcua::line::{Line, Login, Mode, Opening, Password, Server, offers};
use crate::source::opcua::survey::{self, Facts, Found, Place};
use crate::source::opcua::trust::{Folder, Trust};
use crate::source::opcua::variables::Party;

/// Most variables that are shown of a profile.
const SHOWN_MAX: usize = 1_000;
/// The name of this end.
const URI: &str = "urn:tideline:agent:detect";

/// How a server is spoken to.
#[derive(Debug, clap::Args)]
pub struct Way {
    /// none, sign or encrypt
    #[arg(long, default_value = "none", value_parser = mode)]
    security: Mode,
    /// The agent's folder of certificates; needed for sign and encrypt
    #[arg(long, required_if_eq_any = [("security", "sign"), ("security", "encrypt")])]
    certificates: Option<PathBuf>,
    /// Who to log in as
    #[arg(long, requires = "password_file")]
    user: Option<String>,
    /// A file with the password
    #[arg(long, requires = "user")]
    password_file: Option<PathBuf>,
}

fn mode(text: &str) -> Result<Mode, String> {
    match text {
        "none" => Ok(Mode::None),
        "sign" => Ok(Mode::Sign),
        "encrypt" => Ok(Mode::Encrypt),
        _ => Err(format!("{text:?} is none; allowed are none, sign, encrypt")),
    }
}

/// What a server has.
#[derive(Debug)]
pub struct Seen {
    /// The servers that it knows, itself among them, each with where it is.
    pub servers: Vec<String>,
    /// How it may be spoken to.
    pub ways: Vec<String>,
    /// Who made it, what it is called and its version.
    pub about: String,
    /// Its namespaces, by their numbers.
    pub namespaces: Vec<String>,
    /// What the profiles of OPC UA would take of it.
    pub taken: Vec<Taken>,
}

impl Seen {
    /// All of it, for programs.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        let taken = self.taken.iter().map(|taken| {
            let points: serde_json::Map<String, serde_json::Value> =
                taken.points.iter().map(|(point, node)| (point.clone(), node.as_str().into())).collect();
            json!({ "profile": taken.profile, "points": points, "missing": taken.missing, "left_out": taken.left_out })
        });
        json!({
            "about": self.about,
            "servers": self.servers,
            "security": self.ways,
            "namespaces": self.namespaces,
            "profiles": taken.collect::<Vec<_>>(),
        })
    }
}

/// What a profile would take of a server.
#[derive(Debug)]
pub struct Taken {
    /// The profile.
    pub profile: String,
    /// Its points, each with the variable's node.
    pub points: Vec<(String, String)>,
    /// What it names and the server has not.
    pub missing: Vec<String>,
    /// What else is left out.
    pub left_out: Vec<String>,
}

/// Asks a server what it has.
///
/// # Errors
/// It is not reached, or refuses.
pub async fn look(url: &str, way: Way, families: &[Profile]) -> anyhow::Result<Seen> {
    let login = way.user.zip(way.password_file);
    let login = login.map(|(user, file)| Login { user, password: Password::File(file) });
    let certificates = way.certificates.unwrap_or_default();
    let server = Server {
        url: url.to_owned(),
        mode: way.security,
        policy: None,
        login,
        certificates,
        trust: Trust::Listed,
    };
    if server.mode != Mode::None {
        let (folder, now_s) = (server.certificates.clone(), AgentClock::default().wall_ns() / 1_000_000_000);
        let prepared = tokio::task::spawn_blocking(move || Folder::new(folder).prepare(URI, now_s)).await?;
        prepared.map_err(anyhow::Error::msg)?;
    }
    let opening = || Opening { server: &server, source: "detect", uri: URI };
    let (servers, ways) =
        offers::offers(&opening()).await.map_err(|error| anyhow::anyhow!("{url}: {error}"))?;
    let line = Line::open(opening()).await?;
    let seen = survey(&line, families).await;
    line.close().await;
    let (facts, taken) = seen?;
    let about: Vec<&str> = [&facts.vendor, &facts.model, &facts.version]
        .into_iter()
        .map(String::as_str)
        .filter(|text| !text.is_empty())
        .collect();
    Ok(Seen { servers, ways, about: about.join(" "), namespaces: facts.namespaces(), taken })
}

async fn survey(line: &Line, families: &[Profile]) -> anyhow::Result<(Facts, Vec<Taken>)> {
    let facts = survey::facts(line).await?;
    let mut all = Vec::new();
    for family in families.iter().filter(|family| matches!(family.protocol(), Protocol::OpcUa(_))) {
        let device = Device::of(DeviceId::parse("detect")?, Arc::new(family.clone()));
        let party = Party { device, stream: None, names: Names::of(family) };
        let Found { variables, missing, left_out } =
            survey::find(line, &facts, &[Place { party: &party, address: "" }]).await?;
        let points = variables.iter().map(|one| (one.point.to_string(), one.node.to_string())).collect();
        let missing = missing.iter().map(|one| format!("{}: {}", one.point, one.reason)).collect();
        all.push(Taken { profile: family.name().to_owned(), points, missing, left_out });
    }
    Ok((facts, all))
}

/// Tells what a server has, with the configuration that reads it; or as JSON.
pub fn tell(url: &str, seen: &Seen, is_json: bool, named: impl Fn(&str) -> String) {
    if is_json {
        return outln!("{}", seen.json());
    }
    outln!("{}", if seen.about.is_empty() { url } else { &seen.about });
    outln!("servers:");
    seen.servers.iter().for_each(|server| outln!("  {server}"));
    outln!("security: {}", seen.ways.join(", "));
    outln!("namespaces:");
    seen.namespaces.iter().enumerate().for_each(|(number, name)| outln!("  {number} {name}"));
    for Taken { profile, points, missing, left_out } in &seen.taken {
        outln!("{profile} takes {} variables:", points.len());
        points.iter().take(SHOWN_MAX).for_each(|(point, node)| outln!("  {point}  {node}"));
        if points.len() > SHOWN_MAX {
            outln!("  and {} more", points.len() - SHOWN_MAX);
        }
        missing.iter().for_each(|what| outln!("  not there: {what}"));
        left_out.iter().for_each(|what| outln!("  left out: {what}"));
    }
    let best =
        seen.taken.iter().filter(|taken| !taken.points.is_empty()).min_by_key(|taken| taken.missing.len());
    if let Some(best) = best {
        let profile = named(&best.profile);
        outln!("\n# For the agent's configuration; [others] of a profile of your own says which are taken:");
        outln!("[[source]]\nkind = \"opc-ua\"\nname = \"server\"\nurl = {url:?}\n");
        outln!("[[device]]\nid = \"server-1\"\nsource = \"server\"\nprofile = {profile:?}");
    }
}
