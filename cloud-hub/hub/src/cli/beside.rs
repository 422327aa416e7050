//! Commands beside a running hub.

use std::io::BufRead as _;

use anyhow::Result;
use serde_json::{Value, json};
use tideline_link::outln;

use super::socket::{HubSocket, escape};
use super::{DeviceTokenCommand, EnrollTokenCommand, TokenCommand, UserCommand};
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
