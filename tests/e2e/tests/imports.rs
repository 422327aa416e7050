//! Files in and out: what one hub exports, another imports and exports the same; each file once, whoever is killed in
//! the middle; and files that are none cost the hub nothing.
#![allow(clippy::indexing_slicing, reason = "a test may panic")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;
use tideline_e2e::process::{Running, Said};
use tideline_e2e::{Hub, absent, http, process, until};

const LONG: Duration = Duration::from_secs(120);
const DEVICES: [&str; 3] = ["truck-1", "truck-2", "hall"];
const POINTS: [&str; 3] = ["load", "fuel", "oil/temp"];

/// Line protocol whose readings are late, stand at one time, or come twice; with values of all kinds, or floats alone.
async fn filled(hub: &Hub, rows: usize, kinds: bool) -> Result<()> {
    let token = hub.command(&["token", "create", "fill", "--write", "*"]).await?.good()?.trim().to_owned();
    let mut random = StdRng::seed_from_u64(5);
    for _ in 0..4 {
        let mut lines = String::new();
        for _ in 0..rows / 4 {
            let (device, point) = (DEVICES[random.random_range(0..3)], POINTS[random.random_range(0..3)]);
            let second = random.random_range(0..rows as i64 / 6);
            let us = if random.random_bool(0.5) { 0 } else { random.random_range(0..1_000_000_i64) };
            let number = random.random_range(-500_000..500_000_i32);
            let value = match number % 8 {
                _ if !kinds => (f64::from(number) / 64.0).to_string(),
                0 => format!("{number}i"),
                1 => format!("{}i", i64::MAX - i64::from(number)),
                2 => format!("\"state {}, \\\"x\\\"\"", number % 5),
                3 => (number % 16 == 3).to_string(),
                _ => (f64::from(number) / 64.0).to_string(),
            };
            let time = 1_760_000_400_000_000_000 + second * 1_000_000_000 + us * 1_000;
            writeln!(lines, "{point},host={device} value={value} {time}", point = point.replace('/', "."))?;
        }
        let path = "/api/v2/write?precision=ns";
        let told = http::post(hub.http(), path, Some(&token), ("text/plain", lines)).await?;
        ensure!(told.status == 204, "{}: {}", told.status, told.body);
    }
    Ok(())
}

fn in_folder(hub: &Hub, name: &str) -> String {
    hub.folder().join(name).display().to_string()
}

async fn exported(hub: &Hub, name: &str, more: &[&str]) -> Result<String> {
    let file = in_folder(hub, name);
    hub.command(&[&["export", "--out", &file], more].concat()).await?.good()?;
    Ok(file)
}

async fn imported(hub: &Hub, args: &[&str]) -> Result<String> {
    hub.command(&[&["import"], args].concat()).await?.good()
}

/// All that a hub has, as text.
async fn content(hub: &Hub) -> Result<String> {
    Ok(std::fs::read_to_string(exported(hub, "content.csv", &[]).await?)?)
}

/// The ledgers of all imports: readings that are stored.
async fn stored(hub: &Hub) -> Result<Vec<u64>> {
    let fleet: Value = serde_json::from_str(&hub.get("/api/v1/ledger").await?)?;
    let all = fleet["devices"].as_array().context("no devices")?.iter();
    let own = all.filter(|one| one["device"].as_str().is_some_and(|id| id.starts_with("_import.")));
    own.map(|one| {
        ensure!(one["balanced"] == true, "{one}");
        one["stored"].as_u64().context("no stored")
    })
    .collect()
}

#[tokio::test]
async fn what_one_hub_exports_another_imports_and_exports_the_same() -> Result<()> {
    const ROWS: usize = 24_000;
    let first = Hub::start_with(vec![("TIDELINE_STORE_HOT_ROWS_MAX", "10000".to_owned())]).await?;
    filled(&first, ROWS, true).await?;
    let want = content(&first).await?;
    ensure!(want.lines().count() == ROWS + 1, "{} lines", want.lines().count());
    for ending in ["parquet", "csv"] {
        let file = exported(&first, &format!("fleet.{ending}"), &[]).await?;
        let second = Hub::start().await?;
        let told = imported(&second, &[&file]).await?;
        ensure!(told.contains("24000 readings are stored; the ledger of _import."), "{told}");
        ensure!(content(&second).await? == want, "{ending}: another content");
        ensure!(stored(&second).await? == [ROWS as u64], "{ending}");
        // A second time, also by another name, nothing is stored; unless it is asked for.
        let copy = in_folder(&second, &format!("copy.{ending}"));
        std::fs::copy(&file, &copy)?;
        for path in [&file, &copy] {
            let told = imported(&second, &[path]).await?;
            ensure!(told.contains("stored already, as fleet."), "{told}");
        }
        ensure!(content(&second).await? == want, "{ending}: twice is not once");
        imported(&second, &["--again", &file]).await?;
        ensure!(stored(&second).await? == [ROWS as u64; 2], "{ending}");
    }
    // Device by device, which is another order of series: the rows of each are the same.
    let third = Hub::start().await?;
    let mut files = Vec::new();
    for device in DEVICES {
        files.push(exported(&first, &format!("{device}.parquet"), &["--device", device]).await?);
    }
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    imported(&third, &files).await?;
    for device in DEVICES {
        let of = async |hub: &Hub| -> Result<String> {
            Ok(std::fs::read_to_string(exported(hub, "one.csv", &["--device", device]).await?)?)
        };
        let sorted = |text: String| {
            let mut series: Vec<String> = text.lines().map(str::to_owned).collect();
            // By series; within one the order stays.
            series.sort_by_key(|line| line.split(',').nth(1).map(str::to_owned));
            series
        };
        ensure!(sorted(of(&third).await?) == sorted(of(&first).await?), "{device}");
    }
    Ok(())
}

#[tokio::test]
async fn files_of_duckdb_are_imported_too() -> Result<()> {
    let Some(python) = absent::python("duckdb")? else { return Ok(()) };
    let first = Hub::start().await?;
    filled(&first, 6_000, false).await?;
    let want = content(&first).await?;
    let export = exported(&first, "fleet.parquet", &[]).await?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/tables.py");
    let folder = first.folder().display().to_string();
    let said = process::run_system(&python, &[script, &export, &folder]).await?.good()?;
    let wide: u64 = said.trim().parse()?;
    for name in ["duckdb.parquet", "duckdb.csv"] {
        let hub = Hub::start().await?;
        imported(&hub, &[&in_folder(&first, name)]).await?;
        let found = content(&hub).await?;
        let differs = found.lines().zip(want.lines()).find(|(found, want)| found != want);
        ensure!(found == want, "{name}: another content: {differs:?}");
    }
    // Of other names and types, by a mapping.
    let hub = Hub::start().await?;
    let map = in_folder(&hub, "map.toml");
    std::fs::write(&map, "time.column = \"when\"\n")?;
    imported(&hub, &["--map", &map, &in_folder(&first, "pandas.parquet")]).await?;
    let narrow = content(&hub).await?;
    let cut = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.rsplit_once(',').map_or(line, |(rest, _)| rest).to_owned()).collect()
    };
    ensure!(cut(&narrow) == cut(&want), "other times or series");
    let text = "time = { column = \"ms\", format = \"ms\" }\n[[point]]\ncolumn = \"load\"\nunit = \"kg\"\nscale = 1000\n[[point]]\ncolumn = \"fuel\"\n";
    std::fs::write(&map, text)?;
    let told =
        imported(&hub, &["--map", &map, "--device", "wide", &in_folder(&first, "wide.parquet")]).await?;
    ensure!(told.contains(&format!("{wide} readings are stored")), "{told}");
    let series: Value = serde_json::from_str(&hub.get("/api/v1/series?device=wide").await?)?;
    let units =
        [&series["series"][0], &series["series"][1]].map(|one| (one["id"].as_str(), one["unit"].as_str()));
    ensure!(units == [(Some("wide/fuel"), Some("")), (Some("wide/load"), Some("kg"))], "{series}");
    Ok(())
}

/// A long file of one device, as CSV.
fn long_file(path: &Path, rows: u64) -> Result<()> {
    let mut text = String::from("time,a,b\n");
    for at in 0..rows {
        let (time, a, b) = (1_700_000_000_000 + at * 250, at % 1_000, (at * 7) % 4_096);
        writeln!(text, "{time},{}.{:02},{b}", a / 10, a % 100)?;
    }
    Ok(std::fs::write(path, text)?)
}

fn start_import(hub: &Hub, file: &str, map: &str) -> Result<Running> {
    let data = hub.folder().join("hub").display().to_string();
    let args = ["import", "--data", &data, "--device", "dam-7", "--map", map, file];
    Running::start("cloud-hub", &args, &[], &hub.folder().join("import.log"))
}

async fn once_stored(hub: &Hub, least: u64) -> Result<u64> {
    until("a part of the import", LONG, || async {
        Ok(stored(hub).await?.first().copied().filter(|rows| *rows >= least))
    })
    .await
}

#[tokio::test]
async fn an_import_that_was_killed_goes_on_and_stores_each_reading_once() -> Result<()> {
    const ROWS: u64 = 1_000_000;
    let mut hub = Hub::start().await?;
    let (file, map) = (in_folder(&hub, "long.csv"), in_folder(&hub, "map.toml"));
    long_file(Path::new(&file), ROWS)?;
    std::fs::write(&map, "[time]\nformat = \"ms\"\n")?;
    // The client.
    let mut client = start_import(&hub, &file, &map)?;
    let before = once_stored(&hub, 1).await?;
    client.kill().await.context("the import was over too soon")?;
    ensure!(before < 2 * ROWS, "all of {before} was stored");
    // The hub: the client says that the same command goes on.
    let client = start_import(&hub, &file, &map)?;
    once_stored(&hub, before + 200_000).await?;
    hub.kill().await?;
    drop(client);
    hub.start_again().await?;
    let after = stored(&hub).await?;
    ensure!(after.len() == 1 && after[0] > before && after[0] < 2 * ROWS, "{before}, {after:?}");
    let told = imported(&hub, &["--device", "dam-7", "--map", &map, &file]).await?;
    ensure!(told.contains("2000000 readings are stored"), "{told}");
    ensure!(stored(&hub).await? == [2 * ROWS], "{:?}", stored(&hub).await?);
    let body = r#"{"select":{"devices":["dam-7"]},"group_by":"series","functions":["count","sum","min","max"],"from":"0","to":"now"}"#;
    let told =
        http::post(hub.http(), "/api/v1/aggregate", Some(hub.token()), ("application/json", body)).await?;
    let groups: Value = serde_json::from_str(&told.body)?;
    let a: f64 = (0..ROWS)
        .map(|at| at % 1_000)
        .map(|a| format!("{}.{:02}", a / 10, a % 100))
        .map(|a| a.parse().unwrap_or(0.0))
        .sum();
    let b: f64 = (0..ROWS).map(|at| ((at * 7) % 4_096) as f64).sum();
    for (at, want) in [a, b].into_iter().enumerate() {
        let one = &groups["groups"][at];
        let sum = one["sum"][0].as_f64().context("no sum")?;
        ensure!(one["count"][0] == ROWS && (sum - want).abs() < 1e-6 * want, "{one} {want}");
    }
    Ok(())
}

#[tokio::test]
async fn files_that_are_none_are_told_apart_and_the_hub_lives_on() -> Result<()> {
    let hub = Hub::start().await?;
    filled(&hub, 400, false).await?;
    let good = std::fs::read(exported(&hub, "good.parquet", &[]).await?)?;
    let want = content(&hub).await?;
    let write = |name: &str, bytes: &[u8]| -> Result<String> {
        let path: PathBuf = hub.folder().join(name);
        std::fs::write(&path, bytes)?;
        Ok(path.display().to_string())
    };
    let mut wrong_magic = good.clone();
    wrong_magic[0..4].copy_from_slice(b"PARX");
    let len = wrong_magic.len();
    wrong_magic[len - 4..].copy_from_slice(b"PARX");
    let refused = async |name: &str, bytes: &[u8], word: &str| -> Result<()> {
        let Said { code, err, out } = hub.command(&["import", &write(name, bytes)?]).await?;
        ensure!(code == Some(1) && err.contains(word), "{name}: {code:?} {out} {err}");
        Ok(())
    };
    refused("cut.parquet", &good[..good.len() / 2], "no Parquet file").await?;
    refused("magic.parquet", &wrong_magic, "no Parquet file").await?;
    refused("empty.parquet", b"", "empty").await?;
    refused("tiny.parquet", b"PAR1PAR1", "no Parquet file").await?;
    refused("empty.csv", b"", "empty").await?;
    refused("utf16.csv", b"\xff\xfet\0i\0", "UTF-16").await?;
    refused("other.csv", b"when,what\n1,2\n", "no column \"time\"").await?;
    refused("parquet.csv", &good, "Parquet").await?;
    // Each byte of a footer that is wrong somewhere: told or taken, never worse.
    let footer = usize::try_from(u32::from_le_bytes(good[len - 8..len - 4].try_into()?))?;
    for at in (len - 8 - footer..len).step_by(footer / 24) {
        let mut bent = good.clone();
        bent[at] ^= 0x55;
        let Said { code, .. } = hub.command(&["import", "--dry-run", &write("bent.parquet", &bent)?]).await?;
        ensure!(matches!(code, Some(0 | 1)), "{at}: {code:?}");
    }
    // Lines that are none among those that are.
    let mut lines = b"device,point,unit,time,value\n".to_vec();
    lines.extend(b"x".repeat(100_000_000));
    lines.extend(b"\na,t,,2025-11-21T12:00:00Z,1.5\na,\xff\xfe,,2025-11-21T12:00:00Z,1\n\0\0\0\na,t,,2025-11-21T12:00:00Z,1\0\n");
    // A decimal comma makes two fields of a number; empty ones at the end are none.
    lines
        .extend(b"a,t,,2025-11-21T12:00:01Z,1,5\na,t,,2025-11-21T12:00:02Z\na,t,,2025-11-21T12:00:03Z,7,,\n");
    let file = write("lines.csv", &lines)?;
    let Said { code, err, .. } = hub.command(&["import", "--strict", &file]).await?;
    ensure!(code == Some(1) && err.contains("nothing was stored"), "{err}");
    let told = imported(&hub, &["--dry-run", &file]).await?;
    for word in [
        "2 readings of 1 series",
        "6 values or rows",
        "line 2: it has more than 1048576 bytes",
        "line 4, column \"point\"",
        "line 5",
        "line 6, column \"value\"",
        "line 7: it has 6 fields; the first line has 5",
        "line 8: it has 4 fields",
        "nothing was stored",
    ] {
        ensure!(told.contains(word), "{word}: {told}");
    }
    ensure!(content(&hub).await? == want, "something was stored");
    imported(&hub, &[&file]).await?;
    ensure!(stored(&hub).await? == [2], "{:?}", stored(&hub).await?);
    // Units that differ are not mixed.
    let unit = write("unit.csv", b"device,point,unit,time,value\nb,t,Cel,2025-11-21T12:00:00Z,1\n")?;
    imported(&hub, &[&unit]).await?;
    refused("degf.csv", b"device,point,unit,time,value\nb,t,[degF],2025-11-21T12:00:00Z,1\n", "\"[degF]\"")
        .await?;
    Ok(())
}

#[tokio::test]
async fn rows_of_names_that_are_the_hub_s_own_are_told_and_the_rest_is_stored() -> Result<()> {
    let hub = Hub::start().await?;
    let write = |name: &str, row: &str| -> Result<String> {
        let file = in_folder(&hub, name);
        std::fs::write(
            &file,
            format!("device,point,unit,time,value\n_import.x,t,,2025-11-21T12:00:00Z,1\n{row}"),
        )?;
        Ok(file)
    };
    let some = write("some.csv", "a,t,,2025-11-21T12:00:09Z,2\n")?;
    let told = imported(&hub, &[&some]).await?;
    let line =
        "line 2, column \"device\": \"_import.x\": ids that begin with \"_write.\" are those of tokens";
    ensure!(told.contains(line), "{told}");
    ensure!(stored(&hub).await? == [1], "{:?}", stored(&hub).await?);
    // A file of which nothing can be stored was not imported.
    let none = write("none.csv", "")?;
    let Said { code, err, .. } = hub.command(&["import", &none]).await?;
    ensure!(code == Some(1) && err.contains("not one of its readings can be taken"), "{code:?} {err}");
    ensure!(stored(&hub).await? == [1], "{:?}", stored(&hub).await?);
    Ok(())
}
