//! Clients of other systems write to a hub, and every value that they have sent is found there.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tideline_e2e::prometheus::{Prometheus, Series};
use tideline_e2e::{Hub, absent, http, process, until};

const LONG: Duration = Duration::from_secs(60);
/// Series of one query of the hub.
const SERIES_PER_QUERY: usize = 64;

async fn write_token(hub: &Hub, name: &str, devices: &[&str]) -> Result<String> {
    let writes = devices.iter().flat_map(|device| ["--write", *device]);
    let args: Vec<&str> = ["token", "create", name].into_iter().chain(writes).collect();
    Ok(hub.command(&args).await?.good()?.trim().to_owned())
}

/// A value with its time in ns; what JSON has no number for is none.
type Reading = (i64, Option<u64>);

fn reading(time_ns: i64, value: f64) -> Reading {
    (time_ns, value.is_finite().then(|| value.to_bits()))
}

/// All readings of a device at the hub by point, sorted.
async fn readings(hub: &Hub, device: &str) -> Result<BTreeMap<String, Vec<Reading>>> {
    let mut names = Vec::new();
    let mut path = format!("/api/v1/series?device={device}&limit=1000");
    loop {
        let page: Value = serde_json::from_str(&hub.get(&path).await?)?;
        let all = page.get("series").and_then(Value::as_array).context("no series")?;
        names.extend(all.iter().filter_map(|one| Some(one.get("id")?.as_str()?.to_owned())));
        match page.get("next").and_then(Value::as_str) {
            Some(next) => path = format!("/api/v1/series?device={device}&limit=1000&cursor={next}"),
            None => break,
        }
    }
    let mut found = BTreeMap::new();
    for names in names.chunks(SERIES_PER_QUERY) {
        let body = hub.get(&format!("/api/v1/query?series={}&from=0&limit=100000", names.join(","))).await?;
        let page: Value = serde_json::from_str(&body)?;
        ensure!(page.get("next").is_none_or(Value::is_null), "more than one page");
        let series = page.get("series").and_then(Value::as_array).context("no series")?;
        // `serde_json` rounds some numbers to a neighbour; the values are compared bit for bit.
        let values = body.split("\"v\":[").skip(1).map(|rest| rest.split(']').next().unwrap_or_default());
        for (one, values) in series.iter().zip(values) {
            let id = one.get("id").and_then(Value::as_str).context("a series without id")?;
            let times = one.get("t_ns").and_then(Value::as_array).context("no times")?;
            let values = values
                .split(',')
                .filter(|text| !text.is_empty())
                .map(|text| text.parse().unwrap_or(f64::NAN));
            let time = |time: &Value| time.as_str().and_then(|text| text.parse().ok());
            let mut rows: Vec<Reading> = times
                .iter()
                .zip(values)
                .map(|(t, v)| Some(reading(time(t)?, v)))
                .collect::<Option<_>>()
                .context("a time that is no number")?;
            rows.sort_unstable();
            let point = id.strip_prefix(&format!("{device}/")).context("a series of another device")?;
            found.insert(point.to_owned(), rows);
        }
    }
    Ok(found)
}

/// The point of a series, as README.md says, where nothing in it is escaped or cut.
fn plain_point(series: &Series, port: u16) -> Option<String> {
    let name = series.labels.get("__name__")?;
    let labels = series.labels.iter().filter(|(name, _)| !["__name__", "instance"].contains(&name.as_str()));
    let labels: String = labels.map(|(name, value)| format!("/{name}.{value}")).collect();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/');
    let slashes = series.labels.iter().any(|(name, value)| name != "instance" && value.contains('/'));
    let point = format!("{name}{labels}/{port}");
    (point.len() <= 64 && !slashes && point.chars().all(plain)).then_some(point)
}

#[tokio::test]
async fn prometheus_sends_all_that_it_has_scraped_also_over_a_hub_that_is_killed() -> Result<()> {
    let mut hub = Hub::start().await?;
    let token = write_token(&hub, "prometheus", &["127.0.0.1"]).await?;
    let prometheus = Prometheus::start(hub.folder(), hub.http(), &token).await?;
    let up = format!("up/job.self/{}", prometheus.port());
    let scrapes = async |hub: &Hub, more: usize| {
        until("scrapes at the hub", LONG, || async {
            let found = readings(hub, "127.0.0.1").await?;
            Ok(found.get(&up).and_then(|rows| rows.get(more)).map(|(ns, _)| ns / 1_000_000))
        })
        .await
    };
    scrapes(&hub, 1).await?;
    hub.kill_and_restart().await?;
    // What it could not send meanwhile it sends again.
    let before = readings(&hub, "127.0.0.1").await?.get(&up).map_or(0, Vec::len);
    let until_ms = scrapes(&hub, before + 1).await?;
    let scraped = prometheus.scraped(until_ms).await?;
    ensure!(scraped.len() > 300, "it has {} series of itself", scraped.len());
    let wanted = |series: &Series| {
        let mut rows: Vec<Reading> =
            series.samples.iter().map(|(ms, value)| reading(ms * 1_000_000, *value)).collect();
        rows.sort_unstable();
        rows
    };
    let sent: usize = scraped.iter().map(|series| series.samples.len()).sum();
    let found = until("all that was scraped", LONG, || async {
        let found: BTreeMap<String, Vec<Reading>> = readings(&hub, "127.0.0.1")
            .await?
            .into_iter()
            .map(|(point, mut rows)| {
                rows.retain(|(ns, _)| *ns <= until_ms * 1_000_000);
                // A request whose answer the kill cut off is sent again, and stored again.
                rows.dedup();
                (point, rows)
            })
            .collect();
        let here: usize = found.values().map(Vec::len).sum();
        Ok((here >= sent).then_some(found))
    })
    .await?;
    let mut named = 0;
    for series in &scraped {
        if let Some(point) = plain_point(series, prometheus.port()) {
            named += 1;
            ensure!(
                found.get(&point) == Some(&wanted(series)),
                "{point}: {:?}, sent was {series:?}",
                found.get(&point)
            );
        }
    }
    ensure!(named > 100, "{named} series have a plain name");
    // The others by what they hold.
    let mut all: Vec<Vec<Reading>> = scraped.iter().map(wanted).collect();
    let mut here: Vec<Vec<Reading>> = found.into_values().filter(|rows| !rows.is_empty()).collect();
    all.sort();
    here.sort();
    ensure!(
        all == here,
        "{} series are at the hub, {} were sent, or their readings differ",
        here.len(),
        all.len()
    );
    let ledger = hub.ledger("127.0.0.1").await?.context("a ledger")?;
    ensure!(ledger.balanced && ledger.lost == 0, "{ledger:?}");
    let refused = http::get(hub.http(), "/api/v1/devices", Some(&token)).await?;
    ensure!(refused.status == 403, "{}: {}", refused.status, refused.body);
    Ok(())
}

#[tokio::test]
async fn what_the_influx_client_writes_is_found_and_what_it_is_refused_it_says() -> Result<()> {
    let Some(python) = absent::python("influxdb_client")? else { return Ok(()) };
    let hub = Hub::start().await?;
    let token = write_token(&hub, "influx", &["roof", "pump-*"]).await?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/influx.py");
    let said = process::run_system(&python, &[script, &format!("http://{}", hub.http()), &token]).await?;
    let sent: Value = serde_json::from_str(said.good()?.trim())?;
    let sent = sent.as_object().context("what was sent")?;
    ensure!(sent.len() > 5, "{} series were sent", sent.len());
    let mut rows = 0;
    for (series, all) in sent {
        let all = all.as_array().context("readings")?;
        let wanted: Option<Vec<Reading>> = all
            .iter()
            .map(|pair| {
                let text = |at| pair.get(at)?.as_str();
                Some(reading(text(0)?.parse().ok()?, text(1)?.parse().ok()?))
            })
            .collect();
        let mut wanted = wanted.context("a reading of another shape")?;
        wanted.sort_unstable();
        rows += wanted.len();
        let mut found: Vec<Reading> =
            hub.readings(series, 50_000).await?.into_iter().map(|(ns, v)| reading(ns, v)).collect();
        found.sort_unstable();
        ensure!(found == wanted, "{series}: found {} readings, sent were {}", found.len(), wanted.len());
    }
    let ledger = hub.ledger("roof").await?.context("a ledger")?;
    ensure!(
        ledger.balanced && ledger.stored == u64::try_from(rows)?,
        "{rows} readings were sent: {ledger:?}"
    );
    Ok(())
}
