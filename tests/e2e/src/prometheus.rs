//! Debian's Prometheus: one that scrapes itself and sends what it has to a hub, or one that answers over
//! samples that are given to it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::process::{Running, run_system};
use crate::{free_port, http, until};

/// Longest wait for it to be ready.
const START_MAX: Duration = Duration::from_secs(60);

/// A Prometheus with a data folder of its own.
#[derive(Debug)]
pub struct Prometheus {
    port: u16,
    running: Running,
}

/// One of its series.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its labels, the name among them.
    pub labels: BTreeMap<String, String>,
    /// Times in ms, and values.
    pub samples: Vec<(i64, f64)>,
}

/// Where a program of Prometheus is.
///
/// # Errors
/// It is not installed; the text says how to.
pub fn program(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.with_context(|| {
        format!("{name} is missing: `make setup` as root, or sudo apt-get install prometheus")
    })
}

impl Prometheus {
    /// Starts one on a free port of loopback, with its files in `folder`. It scrapes itself each second and
    /// sends what it has to `hub` with a token.
    ///
    /// # Errors
    /// It is not installed, or is not ready in time.
    pub async fn start(folder: &Path, hub: SocketAddr, token: &str) -> Result<Self> {
        let port = free_port()?;
        let config = folder.join("prometheus.yml");
        let text = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\n\
             scrape_configs: [{{job_name: self, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}]\n\
             remote_write: [{{url: 'http://{hub}/api/v1/write', authorization: {{credentials: '{token}'}}}}]\n"
        );
        std::fs::write(&config, text)?;
        Self::launch(folder, port, &config, &folder.join("prometheus"), "1d").await
    }

    /// Starts one over samples in the OpenMetrics format and without targets, with its files in `folder`.
    ///
    /// # Errors
    /// It is not installed, cannot read the samples, or is not ready in time.
    pub async fn over(folder: &Path, samples: &str) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let (file, data) = (folder.join("samples.om"), folder.join("prometheus"));
        std::fs::write(&file, samples)?;
        let config = folder.join("prometheus.yml");
        std::fs::write(&config, "")?;
        let text = |path: &Path| path.display().to_string();
        let made = ["tsdb", "create-blocks-from", "openmetrics", &text(&file), &text(&data)];
        run_system(&program("promtool")?, &made).await?.good()?;
        // The samples are as old as the test says.
        Self::launch(folder, free_port()?, &config, &data, "50y").await
    }

    async fn launch(folder: &Path, port: u16, config: &Path, data: &Path, retention: &str) -> Result<Self> {
        let args = [
            format!("--config.file={}", config.display()),
            format!("--storage.tsdb.path={}", data.display()),
            format!("--storage.tsdb.retention.time={retention}"),
            format!("--web.listen-address=127.0.0.1:{port}"),
        ];
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let running = Running::start_system(&program("prometheus")?, &args, &folder.join("prometheus.log"))?;
        let mut prometheus = Self { port, running };
        let address = prometheus.address();
        until("Prometheus", START_MAX, || async {
            let ready = http::get(address, "/-/ready", None).await;
            Ok(ready.is_ok_and(|answer| answer.status == 200).then_some(()))
        })
        .await?;
        prometheus.running.check()?;
        Ok(prometheus)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Its port, which is a part of the points that it writes.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// All that it has scraped of itself up to `time_ms`; what came later is not among it.
    ///
    /// # Errors
    /// It does not answer as it should.
    pub async fn scraped(&self, time_ms: i64) -> Result<Vec<Series>> {
        // `{job="self"}[1h]`
        let path = format!(
            "/api/v1/query?query=%7Bjob%3D%22self%22%7D%5B1h%5D&time={}.{:03}",
            time_ms / 1000,
            time_ms % 1000
        );
        let answer = http::get(self.address(), &path, None).await?;
        ensure!(answer.status == 200, "Prometheus answers with {}: {}", answer.status, answer.body);
        let body: Value = serde_json::from_str(&answer.body)?;
        let all =
            body.pointer("/data/result").and_then(Value::as_array).context("an answer without a result")?;
        all.iter().map(series).collect()
    }
}

fn series(value: &Value) -> Result<Series> {
    let labels = value.get("metric").and_then(Value::as_object).context("a series without labels")?;
    let label = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
    let samples = value.get("values").and_then(Value::as_array).context("a series without samples")?;
    Ok(Series {
        labels: labels.iter().map(label).collect::<Option<_>>().context("a label that is no text")?,
        samples: samples.iter().map(sample).collect::<Option<_>>().context("a sample of another shape")?,
    })
}

fn sample(value: &Value) -> Option<(i64, f64)> {
    // Seconds with up to three places.
    let time = value.get(0)?.to_string();
    let (seconds, places) = time.split_once('.').unwrap_or((&time, ""));
    let millis: i64 = format!("{places:0<3}").parse().ok()?;
    let text = value.get(1)?.as_str()?;
    Some((seconds.parse::<i64>().ok()? * 1000 + millis, text.parse().ok()?))
}
