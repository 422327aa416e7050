//! `edge-agent twin`: twins on the command line, through the running agent; no hub is needed.

use std::io::Write;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use axum::http::Method;
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};
use tideline_protocol::model::AgentId;
use tideline_protocol::wire::DocumentId;
use tideline_twin::{Inexact, Key, Section, escape, exact};

use crate::serve;

/// Longest wait for the agent's answer.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// What can be done with twins. Without a device it is the agent's own host.
#[derive(Debug, clap::Subcommand)]
pub enum TwinCommand {
    /// Show a twin: what is desired, what is reported, what is not so yet
    Get {
        /// The device, or site/NAME or group/NAME for what devices share [default: the agent's own host]
        device: Option<DocumentId>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Change a twin, also without a hub
    Set {
        /// The path of a leaf, such as motor/speed
        #[arg(required_unless_present = "patch", conflicts_with = "patch", requires = "value")]
        key: Option<String>,
        /// JSON, or a text; null removes the leaf
        #[arg(allow_hyphen_values = true)]
        value: Option<String>,
        /// In place of key and value: a JSON merge patch of the section
        #[arg(long)]
        patch: Option<String>,
        /// The device, or site/NAME or group/NAME for what devices share [default: the agent's own host]
        #[arg(long)]
        device: Option<DocumentId>,
        /// desired, tags or notes
        #[arg(long, default_value = "desired", value_parser = section)]
        section: Section,
        /// Who says so [default: the name of the user]
        #[arg(long)]
        author: Option<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what was changed, by whom and when, the newest first; back to where the hub cut history off
    History {
        /// The device, or site/NAME or group/NAME for what devices share [default: the agent's own host]
        device: Option<DocumentId>,
        /// Of this leaf only
        #[arg(long)]
        key: Option<String>,
        /// So many at most
        #[arg(long, default_value_t = 100)]
        limit: usize,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show leaves that were written at several ends at once, with all values; a write resolves them
    Conflicts {
        /// The device, or site/NAME or group/NAME for what devices share [default: the agent's own host]
        device: Option<DocumentId>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

fn section(text: &str) -> Result<Section, String> {
    let section = Section::parse(text).filter(|section| *section != Section::Reported);
    section.ok_or_else(|| format!("{text:?} is not written by people; allowed are desired, tags and notes"))
}

/// Does what a command says, by the agent that runs on `data`.
///
/// # Errors
/// No agent runs there, or it refuses.
pub async fn carry_out(command: TwinCommand, data: &Path, out: &mut impl Write) -> anyhow::Result<()> {
    match command {
        TwinCommand::Get { device, json } => {
            let found = ask(data, Method::GET, &path(data, device, "").await?, Vec::new()).await?;
            if json { writeln!(out, "{found}")? } else { print_state(&found, out)? }
        }
        TwinCommand::Set { key, value, patch, device, section, author, json } => {
            let patch = wanted(section, key.as_deref(), value.as_deref(), patch.as_deref())?;
            let author = percent(&author.unwrap_or_else(user));
            let path = path(data, device, &format!("?author={author}")).await?;
            let body = serde_json::to_vec(&json!({ section.name(): patch }))?;
            let said = ask(data, Method::PATCH, &path, body).await?;
            if json {
                writeln!(out, "{said}")?;
            } else if said.get("changed") == Some(&Value::Bool(true)) {
                writeln!(out, "changed here; the hub is told when it is there")?;
            } else {
                writeln!(out, "it was so already")?;
            }
            if !json {
                list(&said, "warnings")
                    .try_for_each(|told| writeln!(out, "warning: {}", told.as_str().unwrap_or_default()))?;
            }
        }
        TwinCommand::History { device, key, limit, json } => {
            let key = key.map_or(String::new(), |key| format!("&key={}", percent(&key)));
            let path = path(data, device, &format!("/history?limit={limit}{key}")).await?;
            let found = ask(data, Method::GET, &path, Vec::new()).await?;
            if json { writeln!(out, "{found}")? } else { print_history(&found, out)? }
        }
        TwinCommand::Conflicts { device, json } => {
            let found = ask(data, Method::GET, &path(data, device, "/conflicts").await?, Vec::new()).await?;
            if json { writeln!(out, "{found}")? } else { print_conflicts(&found, out)? }
        }
    }
    Ok(())
}

/// The merge patch of a section.
pub(crate) fn wanted(
    section: Section,
    key: Option<&str>,
    value: Option<&str>,
    patch: Option<&str>,
) -> anyhow::Result<Value> {
    // What is no JSON is a text, whatever digits it has.
    if let Some(text) = patch.or(value).filter(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
        && let Err(Inexact { at, error }) = exact(text)
    {
        let key = key.map_or_else(String::new, |key| format!("/{key}"));
        anyhow::bail!("/{section}{key}{at}: {error}");
    }
    if let Some(patch) = patch {
        return serde_json::from_str(patch).context("--patch is no JSON");
    }
    let key = key.unwrap_or_default();
    let key = Key::parse(key).map_err(|error| anyhow::anyhow!("/{section}/{key}: {error}"))?;
    let text = value.unwrap_or_default();
    let value = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
    let names: Vec<String> = key.names().collect();
    let nest = |inner: Value, name: String| Value::Object(Map::from_iter([(name, inner)]));
    Ok(names.into_iter().rev().fold(value, nest))
}

async fn path(data: &Path, document: Option<DocumentId>, rest: &str) -> anyhow::Result<String> {
    let document = match document {
        Some(document) => document,
        None => DocumentId::Device(AgentId::parse(&serve::ask_status(data).await?.agent)?.own_device()),
    };
    Ok(format!("/twin/{}{rest}", percent(&document.to_string())))
}

async fn ask(data: &Path, method: Method, path: &str, body: Vec<u8>) -> anyhow::Result<Value> {
    let asked = async {
        let (response, _connection) = serve::send(data, method, path, body).await?;
        let status = response.status();
        let bytes = serve::read(response.into_body()).await?;
        anyhow::ensure!(status.is_success(), "{}", String::from_utf8_lossy(&bytes));
        serde_json::from_slice(&bytes).context("the agent's answer is not as expected")
    };
    tokio::time::timeout(ANSWER_MAX, asked).await.context("the agent does not answer")?
}

/// A text as a part of an address.
pub(crate) fn percent(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    text.bytes().map(|b| if plain(&b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// The name of the user that this process runs as.
fn user() -> String {
    let Ok(own) = std::fs::metadata("/proc/self") else { return String::new() };
    let uid = own.uid().to_string();
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| format!("user {uid}"))
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value.get(name).and_then(Value::as_array).into_iter().flatten()
}

fn time(value: &Value, name: &str) -> String {
    let unix_ms = value.get(name).and_then(Value::as_i64);
    let stamp = unix_ms.and_then(|unix_ms| jiff::Timestamp::from_millisecond(unix_ms).ok());
    stamp.map_or_else(|| "-".to_owned(), |stamp| stamp.to_string())
}

fn print_state(found: &Value, out: &mut impl Write) -> anyhow::Result<()> {
    for section in Section::ALL {
        for (key, value) in leaves(found.get(section.name()).unwrap_or(&Value::Null)) {
            writeln!(out, "{:<9}{key} = {value}", section.name())?;
        }
    }
    for of in list(found, "delta") {
        let (desired, reported) = (of.get("desired").unwrap_or(&Value::Null), of.get("reported"));
        let reported = reported.unwrap_or(&Value::Null);
        let (key, since) = (text(of, "key"), time(of, "since"));
        writeln!(out, "delta    {key}: {desired} is desired, {reported} reported, since {since}")?;
    }
    let count = |name: &str| found.get(name).and_then(Value::as_u64).unwrap_or(0);
    if count("conflicts") > 0 {
        writeln!(out, "conflict {} leaves; see `edge-agent twin conflicts`", count("conflicts"))?;
    }
    writeln!(out, "state    {}; {} changes wait for the hub", text(found, "etag"), count("unconfirmed"))?;
    Ok(())
}

/// Paths and values; what merges stands as one value.
pub(crate) fn leaves(section: &Value) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    let mut open = vec![(String::new(), section)];
    while let Some((path, value)) = open.pop() {
        match value {
            Value::Object(members) if members.keys().any(|name| !name.starts_with('$')) => {
                for (name, value) in members.iter().rev() {
                    let name = escape(name);
                    let path = if path.is_empty() { name } else { format!("{path}/{name}") };
                    open.push((path, value));
                }
            }
            Value::Null => {}
            // The section itself is no leaf.
            Value::Object(members) if members.is_empty() && path.is_empty() => {}
            value => found.push((path, value.clone())),
        }
    }
    found
}

fn print_history(found: &Value, out: &mut impl Write) -> anyhow::Result<()> {
    for step in list(found, "steps") {
        let value = step.get("value").unwrap_or(&Value::Null);
        let (when, who, at) = (time(step, "time"), text(step, "author"), text(step, "side"));
        writeln!(out, "{when} {who} ({at}): {}/{} = {value}", text(step, "section"), text(step, "key"))?;
    }
    Ok(())
}

fn print_conflicts(found: &Value, out: &mut impl Write) -> anyhow::Result<()> {
    for conflict in list(found, "conflicts") {
        writeln!(out, "{}/{}", text(conflict, "section"), text(conflict, "key"))?;
        for leaf in list(conflict, "values") {
            let value = leaf.get("value").unwrap_or(&Value::Null);
            writeln!(
                out,
                "    {value} by {} ({}) {}",
                text(leaf, "author"),
                text(leaf, "side"),
                time(leaf, "time")
            )?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_and_a_value_are_a_patch_of_one_leaf() {
        for (key, value, expected) in [
            ("mode", "eco", json!({"mode": "eco"})),
            ("motor/speed", "-1.5", json!({"motor": {"speed": -1.5}})),
            ("a~1b", "[1, 2]", json!({"a/b": [1, 2]})),
            ("gone", "null", json!({"gone": null})),
            ("text", "\"12\"", json!({"text": "12"})),
        ] {
            assert_eq!(wanted(Section::Tags, Some(key), Some(value), None).unwrap(), expected);
        }
        let error = wanted(Section::Tags, Some("a//b"), Some("1"), None).unwrap_err();
        assert!(error.to_string().starts_with("/tags/a//b: a name in the key"), "{error}");
        assert!(wanted(Section::Tags, None, None, Some("{")).is_err());
        let text = "is no signed whole number of 64 bits and no double";
        for (key, value, patch, at) in [
            (Some("a/b"), Some("18446744073709551616"), None, "/tags/a/b"),
            (Some("a"), Some("[1, -9223372036854775809]"), None, "/tags/a/1"),
            (None, None, Some(r#"{"a": {"b": 18446744073709551616}}"#), "/tags/a/b"),
        ] {
            let error = wanted(Section::Tags, key, value, patch).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{at}: the number")) && error.ends_with(text), "{error}");
        }
        let texts = wanted(Section::Tags, Some("a"), Some("18446744073709551616 bottles"), None).unwrap();
        assert_eq!(texts, json!({"a": "18446744073709551616 bottles"}));
    }

    #[test]
    fn names_go_into_addresses_whatever_they_hold() {
        assert_eq!(percent("Ünal & co"), "%C3%9Cnal%20%26%20co");
    }

    #[test]
    fn leaves_are_told_by_their_paths() {
        assert_eq!(leaves(&json!({})), []);
        let section = json!({"a": {"b/c": 1, "d": {"$set": [1]}}, "e": [], "o": {}});
        let told: Vec<_> =
            leaves(&section).into_iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(told, ["a/b~1c=1", "a/d={\"$set\":[1]}", "e=[]", "o={}"]);
    }
}
