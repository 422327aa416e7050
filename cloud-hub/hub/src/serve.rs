//! The wiring of a running hub.

use std::fs;
use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum_server::tls_rustls::RustlsConfig;
use tideline_link::quic::{self, ServerEndpoint};
use tideline_link::{identity::KeyAndCert, tls};
use tideline_protocol::time::{Clock, SystemClock};
use tideline_store::{Store, StoreConfig};
use tokio::net::UnixListener;

use crate::api::{Door, router};
use crate::config::Config;
use crate::hub::{Addresses, App, Hub};
use crate::metadata::{Metadata, UserRecord};
use crate::{ingest, live, pki};

/// The command socket's name in the data folder.
pub const SOCKET: &str = "hub.sock";
/// The store's folder in the data folder.
pub const STORE: &str = "store";
/// How long open requests may take to end at shutdown.
const GRACE: Duration = Duration::from_secs(3);
const QUIC_CLOSE_CODE: u32 = 0;

/// Runs a hub until `stop` resolves; everything acknowledged is on disk when it returns.
///
/// # Errors
/// Something needed at the start cannot be had; the text names it.
pub async fn run(config: Config, stop: impl Future<Output = ()>) -> Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let now_s = clock.wall_ns() / 1_000_000_000;
    let data = prepare_data(&config)?;
    // The metadata is opened first: its lock keeps a second hub off the folder.
    let metadata =
        Metadata::open(&data.join("hub.redb")).with_context(|| format!("{}/hub.redb", data.display()))?;
    let authority = pki::authority(&data.join("pki"), now_s).context("the certificate authority")?;
    let server = authority.issue_server(&certificate_names(&config), now_s)?;
    let http = bind(config.http_listen, "http.listen")?;
    let https = bind(config.https_listen, "https.listen")?;
    let quic_tls = tls::server_config(&server, authority.cert_pem(), true, &[quic::ALPN])?;
    let endpoint = ServerEndpoint::bind(config.quic_listen, quic_tls)
        .with_context(|| format!("quic.listen = {} cannot be bound", config.quic_listen))?;
    let endpoint = Arc::new(endpoint);
    let store = open_store(&config, &data, Arc::clone(&clock))?;
    let addresses = Addresses {
        https: at(&config.public_address, https.local_addr()?.port()),
        quic: at(&config.public_address, endpoint.local_addr()?.port()),
        server_name: config.public_address.clone(),
    };
    tracing::info!(http = %http.local_addr()?, https = %https.local_addr()?, quic = %endpoint.local_addr()?, data = %data.display(), "hub is up");
    let hub = Hub::new(config, clock, metadata, store, authority, addresses)?;
    if hub.metadata.list::<UserRecord>()?.is_empty() {
        tracing::info!("there is no user yet: make one with `cloud-hub user create NAME` beside this hub");
    }
    let doors = open_doors(&hub, http, https, &server, &data)?;
    let feed = tokio::spawn(live::feed(Arc::clone(&hub)));
    let sessions = tokio::spawn(ingest::accept(Arc::clone(&hub), Arc::clone(&endpoint)));
    stop.await;
    tracing::info!("hub is stopping");
    hub.stopping.send_replace(true);
    // Sessions say goodbye before their endpoint goes.
    let _late = tokio::time::timeout(GRACE, sessions).await;
    endpoint.close(QUIC_CLOSE_CODE, "the hub is shutting down");
    for door in doors {
        let _late = tokio::time::timeout(GRACE, door).await;
    }
    feed.abort();
    let _gone = fs::remove_file(data.join(SOCKET));
    let store = hub.store.clone();
    tokio::task::spawn_blocking(move || store.close()).await?.context("the store did not close well")?;
    Ok(())
}

fn prepare_data(config: &Config) -> Result<PathBuf> {
    let data = &config.data_dir;
    fs::create_dir_all(data).with_context(|| format!("data folder {}", data.display()))?;
    // Keys and the command socket are in it: nobody else has business there.
    fs::set_permissions(data, fs::Permissions::from_mode(0o700))
        .with_context(|| format!("data folder {}", data.display()))?;
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

fn at(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The store's configuration for a data folder.
#[must_use]
pub fn store_config(config: &Config, data: &Path) -> StoreConfig {
    let mut store = StoreConfig::new(data.join(STORE));
    store.flush_interval = Duration::from_secs(config.flush_interval_s);
    store.hot_rows_max = usize::try_from(config.hot_rows_max).unwrap_or(usize::MAX);
    store
}

fn open_store(config: &Config, data: &Path, clock: Arc<dyn Clock>) -> Result<Store> {
    let (store, report) =
        Store::open(store_config(config, data), clock).context("the store cannot be opened")?;
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

fn open_doors(
    hub: &App,
    http: TcpListener,
    https: TcpListener,
    server: &KeyAndCert,
    data: &Path,
) -> Result<Vec<tokio::task::JoinHandle<()>>> {
    let socket = open_socket(&data.join(SOCKET))?;
    let tls = tls::server_config(server, &server.ca_pem, false, &["http/1.1"])?;
    let http = tokio::net::TcpListener::from_std(http)?;
    let plain = router(Arc::clone(hub), Door::Plain).into_make_service_with_connect_info::<SocketAddr>();
    let secure = router(Arc::clone(hub), Door::Tls).into_make_service_with_connect_info::<SocketAddr>();
    let local = router(Arc::clone(hub), Door::Socket);
    let (one, two, three) = (Arc::clone(hub), Arc::clone(hub), Arc::clone(hub));
    let plain = async move {
        axum::serve(http, plain).with_graceful_shutdown(async move { one.stopped().await }).await
    };
    let local = async move {
        axum::serve(socket, local).with_graceful_shutdown(async move { two.stopped().await }).await
    };
    let handle = axum_server::Handle::new();
    let tls_server =
        axum_server::from_tcp_rustls(https, RustlsConfig::from_config(Arc::new(tls)))?.handle(handle.clone());
    tokio::spawn(async move {
        three.stopped().await;
        handle.graceful_shutdown(Some(GRACE));
    });
    Ok(vec![
        tokio::spawn(watched("http", plain)),
        tokio::spawn(watched("https", tls_server.serve(secure))),
        tokio::spawn(watched("socket", local)),
    ])
}

async fn watched(name: &'static str, door: impl Future<Output = std::io::Result<()>>) {
    if let Err(error) = door.await {
        tracing::error!(door = name, %error, "a listener ended");
    }
}

fn open_socket(path: &Path) -> Result<UnixListener> {
    // The lock on the metadata says that no hub lives here: a socket left behind is dead.
    let _none = fs::remove_file(path);
    let socket = UnixListener::bind(path).with_context(|| format!("command socket {}", path.display()))?;
    // The folder is 0700, so that nobody gets in between the two steps.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(socket)
}
