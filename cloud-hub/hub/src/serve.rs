//! The wiring of a running hub.

use std::fs;
use std::future::Future;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tideline_link::identity::KeyAndCert;
use tideline_link::link::Link;
use tideline_link::mqtt::BrokerUrl;
use tideline_link::quic::{self, LinkOptions, ServerEndpoint};
use tideline_link::tls;
use tideline_protocol::time::{Clock, SystemClock};
use tideline_store::{Store, StoreConfig};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::backup::{REGISTRY, UNFINISHED};
use crate::config::Config;
use crate::descriptors::Descriptors;
use crate::doors::{GRACE, SOCKET};
use crate::hub::{Addresses, App, Hub};
use crate::metadata::{Metadata, UserRecord};
use crate::twins::{self, TWINS, Twins};
use crate::{commands, doors, ingest, jobs, live, mqtt, pki, presence, pulse};

/// The store's folder in the data folder.
pub const STORE: &str = "store";
const QUIC_CLOSE_CODE: u32 = 0;

/// Runs a hub until `stop` resolves; everything acknowledged is on disk when it returns.
///
/// # Errors
/// Something needed at the start cannot be had; the text names it.
pub async fn run(config: Config, stop: impl Future<Output = ()>) -> Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let descriptors = Descriptors::raised();
    let now_s = clock.wall_ns() / 1_000_000_000;
    let data = prepare_data(&config)?;
    // The metadata is opened first: its lock keeps a second hub off the folder.
    let metadata = open_registry(&data)?;
    let twins = open_twins(&data)?;
    let authority = pki::authority(&data.join("pki"), now_s).context("the certificate authority")?;
    let server = authority.issue_server(&certificate_names(&config), now_s)?;
    let http = bind(config.http_listen, "http.listen")?;
    let https = bind(config.https_listen, "https.listen")?;
    let quic_tls = tls::server_config(&server, authority.cert_pem(), true, &[quic::ALPN])?;
    let secret = authority.secret("quic");
    let endpoint = ServerEndpoint::bind_known(config.quic_listen, quic_tls, &LinkOptions::default(), &secret)
        .with_context(|| format!("quic.listen = {} cannot be bound", config.quic_listen))?;
    let endpoint = Arc::new(endpoint);
    let mqtt_doors =
        mqtt::listen(config.mqtt_listen_tls, config.mqtt_listen_plain, &server, descriptors).await?;
    let broker = broker(&config, &server, Arc::clone(&clock))?;
    let store = open_store(&config, &data, Arc::clone(&clock))?;
    let addresses = Addresses {
        https: at(&config.public_address, https.local_addr()?.port()),
        quic: at(&config.public_address, endpoint.local_addr()?.port()),
        mqtt: secure_port(&mqtt_doors)?.map(|port| at(&config.public_address, port)),
        server_name: config.public_address.clone(),
    };
    tracing::info!(http = %http.local_addr()?, https = %https.local_addr()?, quic = %endpoint.local_addr()?, data = %data.display(), "hub is up");
    if is_loopback(&config.public_address) {
        tracing::info!(
            address = addresses.https,
            "enrolment tokens name this address, which only this machine reaches: set hub.public_address for devices elsewhere"
        );
    }
    let hub = Hub::new(config, clock, metadata, twins, store, authority, addresses)?;
    look_for_users(&hub)?;
    let swept = tokio::spawn(twins::past::sweep_daily(Arc::clone(&hub)));
    jobs::start(&hub).await.context("the stream jobs")?;
    let commanding = commands::begin(&hub).await.context("the commands")?;
    let held = tokio::spawn(jobs::watch(Arc::clone(&hub)));
    let doors = doors::open(&hub, http, https, &server, &data, descriptors.web())?;
    let feed = tokio::spawn(live::feed(Arc::clone(&hub)));
    let refused = tokio::spawn(ingest::watch_refused(Arc::clone(&hub)));
    let presences = tokio::spawn(presence::watch(Arc::clone(&hub)));
    let pulse = tokio::spawn(pulse::watch::watch(Arc::clone(&hub)));
    let (links, arrived) = mpsc::channel(ingest::ARRIVED_MAX);
    let mut mqtt_tasks = open_mqtt(&hub, mqtt_doors, broker, &links)?;
    let sessions = tokio::spawn(ingest::accept(Arc::clone(&hub), Arc::clone(&endpoint), arrived));
    stop.await;
    tracing::info!("hub is stopping");
    hub.stopping.send_replace(true);
    // Sessions say goodbye before their endpoint goes.
    let _late = tokio::time::timeout(GRACE, sessions).await;
    endpoint.close(QUIC_CLOSE_CODE, "the hub is shutting down");
    let _late = tokio::time::timeout(GRACE, async { while mqtt_tasks.join_next().await.is_some() {} }).await;
    for door in doors {
        let _late = tokio::time::timeout(GRACE, door).await;
    }
    let _late = tokio::time::timeout(GRACE, presences).await;
    let _late = tokio::time::timeout(GRACE, jobs::stop(&hub)).await;
    let _late = tokio::time::timeout(GRACE, commanding).await;
    swept.abort();
    feed.abort();
    refused.abort();
    pulse.abort();
    held.abort();
    let _gone = fs::remove_file(data.join(SOCKET));
    close(&hub).await
}

fn look_for_users(hub: &Hub) -> Result<()> {
    if hub.metadata.list::<UserRecord>()?.is_empty() {
        tracing::info!("there is no user yet: make one with `cloud-hub user create NAME` beside this hub");
    }
    Ok(())
}

/// Leaves nothing that waits for the disk.
async fn close(hub: &App) -> Result<()> {
    let flushed = hub.blocking(|hub| {
        twins::flush(hub);
        Ok::<_, twins::TwinError>(())
    });
    flushed.await?;
    let store = hub.store.clone();
    tokio::task::spawn_blocking(move || store.close()).await?.context("the store did not close well")
}

fn open_registry(data: &Path) -> Result<Metadata> {
    let registry = data.join(REGISTRY);
    let metadata = Metadata::open(&registry).with_context(|| format!("data folder {}", data.display()))?;
    // It holds password hashes, and the folder may be open to others.
    fs::set_permissions(&registry, fs::Permissions::from_mode(0o600))
        .with_context(|| registry.display().to_string())?;
    Ok(metadata)
}

fn open_twins(data: &Path) -> Result<Twins> {
    let path = data.join(TWINS);
    let twins = Twins::open(&path).with_context(|| format!("data folder {}", data.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
        .with_context(|| path.display().to_string())?;
    Ok(twins)
}

/// The port of the MQTT door that agents elsewhere may use.
fn secure_port(doors: &[mqtt::Door]) -> Result<Option<u16>> {
    doors.iter().find(|door| door.is_secure()).map(|door| Ok(door.local_addr()?.port())).transpose()
}

fn open_mqtt(
    hub: &App,
    doors: Vec<mqtt::Door>,
    broker: Option<Broker>,
    links: &mpsc::Sender<Link>,
) -> Result<JoinSet<()>> {
    let mut tasks = JoinSet::new();
    for door in doors {
        tracing::info!(mqtt = %door.local_addr()?, "MQTT is open");
        tasks.spawn(door.open(Arc::clone(hub), links.clone()));
    }
    if let Some(Broker { url, tls, quic }) = broker {
        let relay = mqtt::relay(Arc::clone(hub), url, tls, quic, links.clone());
        tasks.spawn(async move {
            if let Err(error) = relay.await {
                tracing::error!(error = format!("{error:#}"), "no agent can come through the broker");
            }
        });
    }
    Ok(tasks)
}

/// A broker of somebody else, and how to speak through it.
struct Broker {
    url: BrokerUrl,
    tls: rustls::ClientConfig,
    quic: rustls::ServerConfig,
}

fn broker(config: &Config, own: &KeyAndCert, clock: Arc<dyn Clock>) -> Result<Option<Broker>> {
    let Some(url) = config.mqtt_broker.clone() else { return Ok(None) };
    let authorities = match &config.mqtt_broker_ca {
        Some(path) => fs::read_to_string(path)
            .with_context(|| format!("mqtt.broker_ca = {} cannot be read", path.display()))?,
        None if url.is_secure() => bail!(
            "mqtt.broker_url = {url} needs mqtt.broker_ca: the file with the authorities that its certificate may be of, as /etc/ssl/certs/ca-certificates.crt"
        ),
        // Not looked at without TLS.
        None => own.ca_pem.clone(),
    };
    let tls = tls::broker_client_config(&authorities, tls::FloorTime::new(clock, 0))
        .with_context(|| "mqtt.broker_ca".to_owned())?;
    let quic = tls::server_config(own, &own.ca_pem, true, &[quic::ALPN])?;
    Ok(Some(Broker { url, tls, quic }))
}

/// What others must not do to the data folder; keys and the registry are in it.
const WRITABLE: u32 = 0o002;
const REACHABLE: u32 = 0o077;

/// Makes the data folder for its owner alone. One that is there already keeps its mode, as others may
/// have business in it, but it must not be one where anybody may write, or whose restore was cut off.
fn prepare_data(config: &Config) -> Result<PathBuf> {
    let data = &config.data_dir;
    let named = || format!("data folder {}", data.display());
    let Ok(found) = fs::metadata(data) else {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(data).with_context(named)?;
        return Ok(data.clone());
    };
    let mode = found.permissions().mode() & 0o777;
    if found.is_dir() && mode & WRITABLE != 0 {
        bail!(
            "{} may be written to by everybody (mode {mode:o}): name a folder of its own, as {}/hub, or `chmod 700` this one",
            named(),
            data.display()
        );
    }
    if mode & REACHABLE != 0 {
        tracing::warn!(
            data = %data.display(),
            mode = format!("{mode:o}"),
            "others than the hub's user may look into the data folder, which holds keys and password hashes: `chmod 700` it"
        );
    }
    if data.join(UNFINISHED).exists() {
        bail!(
            "data folder {}: a restore of a backup was cut off; run `cloud-hub restore` again, which moves aside what is there",
            data.display()
        );
    }
    Ok(data.clone())
}

fn certificate_names(config: &Config) -> Vec<String> {
    let mut names = config.names.clone();
    if !names.contains(&config.public_address) {
        names.push(config.public_address.clone());
    }
    names
}

fn bind(address: SocketAddr, option: &str) -> Result<TcpListener> {
    let listener =
        TcpListener::bind(address).with_context(|| format!("{option} = {address} cannot be bound"))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn at(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The store's configuration for a data folder.
#[must_use]
pub fn store_config(config: &Config, data: &Path) -> StoreConfig {
    let memory = usize::try_from(config.memory_mb).unwrap_or(usize::MAX).saturating_mul(1024 * 1024);
    let mut store = StoreConfig::new(data.join(STORE)).with_memory(memory);
    store.flush_interval = Duration::from_secs(config.flush_interval_s);
    if config.hot_rows_max > 0 {
        store.hot_rows_max = usize::try_from(config.hot_rows_max).unwrap_or(usize::MAX);
    }
    store.retention = config.retention;
    // What a job gives of a window takes the place of what it gave before.
    store.revised_by = Some(jobs::JOB_PREFIX.to_owned());
    store
}

fn open_store(config: &Config, data: &Path, clock: Arc<dyn Clock>) -> Result<Store> {
    let mut options = store_config(config, data);
    options.keep_log_from =
        jobs::oldest_segment(&data.join(jobs::FOLDER)).context("the states of stream jobs")?;
    let (store, report) = Store::open(options, clock).context("the store cannot be opened")?;
    for bad in &report.quarantined {
        tracing::error!(path = %bad.path.display(), reason = bad.reason, "a damaged file was set aside; agents refill what they still hold");
    }
    tracing::info!(
        series = report.series,
        sealed_rows = report.sealed_rows,
        replayed_rows = report.replayed_rows,
        "store is open"
    );
    Ok(store)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_folder_is_made_private_and_one_of_somebody_else_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let prepare = |path: &Path| prepare_data(&Config { data_dir: path.to_owned(), ..Config::default() });
        let (new, open) = (dir.path().join("a/new"), dir.path().join("open"));
        prepare(&new).unwrap();
        assert_eq!(mode(&new), 0o700);
        fs::create_dir(&open).unwrap();
        for (bits, good) in [(0o755, true), (0o777, false), (0o700, true)] {
            fs::set_permissions(&open, fs::Permissions::from_mode(bits)).unwrap();
            assert_eq!(prepare(&open).is_ok(), good, "{bits:o}");
            assert_eq!(mode(&open), bits);
        }
    }
}
