//! Commands beside a running hub.
#![allow(clippy::print_stdout, reason = "a command line speaks on stdout")]

use std::io::BufRead as _;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::socket::{HubSocket, escape};
use super::{DeviceCommand, EnrollTokenCommand, Format, QueryArgs, TokenCommand, UserCommand};
use cloud_hub::secret;
use cloud_hub::when::show_ms;

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or("-")
}

fn number(value: &Value, key: &str) -> i64 {
    value.get(key).and_then(Value::as_i64).unwrap_or(0)
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// `enroll-token create`.
pub async fn enroll_token(hub: &HubSocket, command: &EnrollTokenCommand) -> Result<()> {
    let EnrollTokenCommand::Create { device, ttl } = command;
    let made = hub.post("/api/v1/enroll-tokens", &json!({"device": device, "ttl_s": ttl.as_secs()})).await?;
    println!("{}", text(&made, "token"));
    Ok(())
}

/// `device list|show|revoke`.
pub async fn device(hub: &HubSocket, command: &DeviceCommand) -> Result<()> {
    match command {
        DeviceCommand::List => {
            let mut path = "/api/v1/devices?limit=1000".to_owned();
            println!("{:<24} {:<8} {:>12} {:>12}  last seen", "device", "state", "stored", "pending");
            loop {
                let page = hub.get(&path).await?;
                for device in list(&page, "devices") {
                    let ledger = device.get("ledger").unwrap_or(&Value::Null);
                    let seen = device
                        .get("last_seen_ms")
                        .and_then(Value::as_i64)
                        .map_or_else(|| "-".to_owned(), show_ms);
                    println!(
                        "{:<24} {:<8} {:>12} {:>12}  {seen}",
                        text(device, "id"),
                        text(device, "state"),
                        number(ledger, "stored"),
                        number(ledger, "pending")
                    );
                }
                match page.get("next").and_then(Value::as_str) {
                    Some(next) => path = format!("/api/v1/devices?limit=1000&cursor={}", escape(next)),
                    None => return Ok(()),
                }
            }
        }
        DeviceCommand::Show { id } => {
            println!("{:#}", hub.get(&format!("/api/v1/devices/{}", escape(id))).await?);
        }
        DeviceCommand::Revoke { id } => {
            hub.post(&format!("/api/v1/devices/{}/revoke", escape(id)), &Value::Null).await?;
            println!("{id} is revoked");
        }
    }
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
            println!("made user {name} with role {}", role.as_str());
            if !*password_stdin {
                println!("password: {password}");
            }
        }
        UserCommand::List => {
            for user in list(&hub.get("/api/v1/users").await?, "users") {
                println!(
                    "{:<24} {:<8} {}",
                    text(user, "name"),
                    text(user, "role"),
                    show_ms(number(user, "created_ms"))
                );
            }
        }
        UserCommand::Revoke { name } => {
            hub.delete(&format!("/api/v1/users/{}", escape(name))).await?;
            println!("user {name} is removed");
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
        TokenCommand::Create { name, role } => {
            let made = hub.post("/api/v1/tokens", &json!({"name": name, "role": role})).await?;
            println!("{}", text(&made, "token"));
        }
        TokenCommand::List => {
            for token in list(&hub.get("/api/v1/tokens").await?, "tokens") {
                println!(
                    "{:<20} {:<24} {:<8} {}",
                    text(token, "id"),
                    text(token, "name"),
                    text(token, "role"),
                    show_ms(number(token, "created_ms"))
                );
            }
        }
        TokenCommand::Revoke { id } => {
            hub.delete(&format!("/api/v1/tokens/{}", escape(id))).await?;
            println!("token {id} is removed");
        }
    }
    Ok(())
}

/// `query`: all pages.
pub async fn query(hub: &HubSocket, args: &QueryArgs) -> Result<()> {
    let base = format!(
        "/api/v1/query?series={}&from={}&to={}",
        escape(&args.series),
        escape(&args.from),
        escape(&args.to)
    );
    let shape = args.buckets.map_or_else(|| "&limit=50000".to_owned(), |n| format!("&buckets={n}"));
    let columns: &[&str] =
        if args.buckets.is_some() { &["min", "max", "mean", "last", "count"] } else { &["v"] };
    if let Format::Csv = args.format {
        println!("series,time,{}", columns.join(",").replace('v', "value"));
    }
    let mut path = format!("{base}{shape}");
    loop {
        let page = hub.get(&path).await?;
        for series in list(&page, "series") {
            show_series(series, columns, args.format)?;
        }
        match page.get("next").and_then(Value::as_str) {
            Some(next) => path = format!("{base}{shape}&cursor={}", escape(next)),
            None => return Ok(()),
        }
    }
}

fn show_series(series: &Value, columns: &[&str], format: Format) -> Result<()> {
    if let Format::Json = format {
        println!("{series}");
        return Ok(());
    }
    let name = text(series, "id");
    for (row, time) in list(series, "t").iter().enumerate() {
        let Some(time) = time.as_i64() else { bail!("the answer of the hub has a time that is no number") };
        let cells: Vec<String> = columns
            .iter()
            .map(|c| list(series, c).get(row).map_or_else(String::new, ToString::to_string))
            .collect();
        match format {
            Format::Csv => println!("{name},{},{}", show_ms(time), cells.join(",")),
            _ => println!("{name:<32} {:<24} {}", show_ms(time), cells.join("  ")),
        }
    }
    Ok(())
}
