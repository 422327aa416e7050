//! Commands beside a running hub.

use std::io::BufRead as _;

use anyhow::Result;
use serde_json::{Value, json};
use tideline_link::{out, outln};

use super::show;
use super::socket::{HubSocket, escape};
use super::{DeviceCommand, DeviceTokenCommand, EnrollTokenCommand, TokenCommand, UserCommand};
use cloud_hub::api::shapes::{DevicePage, StrangerList};
use cloud_hub::secret;
use cloud_hub::when::show_ms;

pub(super) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or("-")
}

pub(super) fn number(value: &Value, key: &str) -> i64 {
    value.get(key).and_then(Value::as_i64).unwrap_or(0)
}

pub(super) fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// `enroll-token create`.
pub async fn enroll_token(hub: &HubSocket, command: &EnrollTokenCommand) -> Result<()> {
    let EnrollTokenCommand::Create { device, ttl } = command;
    let made = hub.post("/api/v1/enroll-tokens", &json!({"device": device, "ttl_s": ttl.as_secs()})).await?;
    outln!("{}", text(&made, "token"));
    Ok(())
}

/// `device list|show|add|revoke`.
pub async fn device(hub: &HubSocket, command: &DeviceCommand) -> Result<()> {
    match command {
        DeviceCommand::List => list_devices(hub).await?,
        DeviceCommand::Show { id, json } => {
            let path = format!("/api/v1/devices/{}", escape(id));
            if *json {
                outln!("{:#}", hub.get(&path).await?);
            } else {
                out!("{}", show::device(&hub.get_as(&path).await?));
            }
        }
        DeviceCommand::Add { id, behind } => {
            hub.post("/api/v1/devices", &json!({"id": id, "agent": behind})).await?;
            outln!("{id} is registered behind {behind}");
        }
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

async fn list_devices(hub: &HubSocket) -> Result<()> {
    let mut page: DevicePage = hub.get_as("/api/v1/devices?limit=1000").await?;
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
        page = hub.get_as(&format!("/api/v1/devices?limit=1000&cursor={}", escape(&next))).await?;
    }
}

/// `user create|list|revoke`.
pub async fn user(hub: &HubSocket, command: &UserCommand) -> Result<()> {
    match command {
        UserCommand::Create { name, role, password_stdin } => {
            let password = if *password_stdin {
                let mut line = String::new();
                std::io::stdin().lock().read_line(&mut line)?;
                line.trim_end_matches(['\r', '\n']).to_owned()
            } else {
                generated_password()?
            };
            hub.post("/api/v1/users", &json!({"name": name, "password": password, "role": role})).await?;
            outln!("made user {name} with role {}", role.as_str());
            if !*password_stdin {
                outln!("password: {password}");
            }
        }
        UserCommand::List => {
            let users = hub.get("/api/v1/users").await?;
            outln!("{:<24} {:<8} made", "user", "role");
            for user in list(&users, "users") {
                outln!(
                    "{:<24} {:<8} {}",
                    text(user, "name"),
                    text(user, "role"),
                    show_ms(number(user, "created_ms"))
                );
            }
        }
        UserCommand::Revoke { name } => {
            hub.delete(&format!("/api/v1/users/{}", escape(name))).await?;
            outln!("user {name} is removed");
        }
    }
    Ok(())
}

/// A password with 96 random bits, short enough to type.
pub fn generated_password() -> Result<String> {
    Ok(secret::random()?.chars().filter(char::is_ascii_alphanumeric).take(16).collect())
}

/// `token create|list|revoke`.
pub async fn token(hub: &HubSocket, command: &TokenCommand) -> Result<()> {
    match command {
        TokenCommand::Create { name, role, write, registered_only } => {
            let asked = if write.is_empty() {
                json!({"name": name, "role": role})
            } else {
                json!({"name": name, "role": "writer", "devices": write, "registered_only": registered_only})
            };
            outln!("{}", text(&hub.post("/api/v1/tokens", &asked).await?, "token"));
        }
        TokenCommand::List => {
            let tokens = hub.get("/api/v1/tokens").await?;
            outln!("{:<20} {:<24} {:<8} {:<24}  may write for", "id", "name", "role", "made");
            for token in list(&tokens, "tokens") {
                let devices: Vec<&str> = list(token, "devices").iter().filter_map(Value::as_str).collect();
                let devices = if devices.is_empty() { "-".to_owned() } else { devices.join(" ") };
                let (id, name, role) = (text(token, "id"), text(token, "name"), text(token, "role"));
                let made = show_ms(number(token, "created_ms"));
                outln!("{id:<20} {name:<24} {role:<8} {made:<24}  {devices}");
            }
        }
        TokenCommand::Revoke { id } => {
            hub.delete(&format!("/api/v1/tokens/{}", escape(id))).await?;
            outln!("token {id} is removed");
        }
    }
    Ok(())
}

/// `device-token create|list|revoke`.
pub async fn device_token(hub: &HubSocket, command: &DeviceTokenCommand) -> Result<()> {
    match command {
        DeviceTokenCommand::Create { device } => {
            let made = hub.post("/api/v1/device-tokens", &json!({"device": device})).await?;
            outln!("{}", text(&made, "token"));
        }
        DeviceTokenCommand::List => {
            let tokens = hub.get("/api/v1/device-tokens").await?;
            outln!("{:<20} {:<24} made", "id", "device");
            for token in list(&tokens, "tokens") {
                let (id, device) = (text(token, "id"), text(token, "device"));
                outln!("{id:<20} {device:<24} {}", show_ms(number(token, "created_ms")));
            }
        }
        DeviceTokenCommand::Revoke { id } => {
            hub.delete(&format!("/api/v1/device-tokens/{}", escape(id))).await?;
            outln!("device token {id} is removed");
        }
    }
    Ok(())
}
