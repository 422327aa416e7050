//! The listener: HTTP, or HTTPS with a certificate from files. What asks for nothing is closed after a time, and no more
//! connections are held than a small device can bear.

use std::future::{Ready, ready};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::middleware::AddExtension;
use axum::{Extension, Router};
use axum_server::accept::Accept;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use axum_server::{Handle, Server};
use hyper_util::rt::TokioTimer;
use tideline_link::identity::KeyAndCert;
use tideline_link::tls::{ALPN_HTTP, server_config};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::Layer as _;

use crate::config::{CertificateFiles, PushDoor};
use crate::files;
use crate::source::{Context, SourceError};

/// Most connections at once (INV-6): each takes some KiB, and devices may keep theirs open.
const CONNECTIONS_MAX: usize = 256;
/// Most connections at once of the local page: a few people look at it.
const LOCAL_CONNECTIONS_MAX: usize = 32;
/// Longest TLS handshake: three round trips, also of a bad radio.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Longest wait for a whole request header, and so how long a connection may lie idle.
const HEADER_MAX: Duration = Duration::from_secs(60);
/// Between two looks whether the certificate was renewed.
const RENEWAL: Duration = Duration::from_secs(60);

/// Serves until it is to stop.
pub async fn serve(door: &PushDoor, router: Router, context: &Context) -> Result<(), SourceError> {
    let failed = |error: io::Error| SourceError::failed(format!("{}: {error}", door.listen));
    let pair =
        door.certificate.as_ref().map(|files| Pair::read(files).map(|pair| (files, pair))).transpose()?;
    let listener = TcpListener::bind(&door.listen).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let server = axum_server::from_tcp(listener).map_err(failed)?;
    let seats = Seats(Arc::new(Semaphore::new(CONNECTIONS_MAX)));
    let handle = Handle::new();
    let _ends = Ends(handle.clone());
    tracing::info!(source = context.name(), %address, tls = pair.is_some(), "listens");
    let Some((files, pair)) = pair else {
        let server = bounded(server.acceptor(seats), handle).serve(router.into_make_service());
        return context.wait(server).await?.map_err(failed);
    };
    let config = RustlsConfig::from_config(Arc::new(pair.config()?));
    let acceptor = RustlsAcceptor::new(config.clone()).handshake_timeout(HANDSHAKE_MAX).acceptor(seats);
    let server = bounded(server.acceptor(acceptor), handle).serve(router.into_make_service());
    tokio::select! {
        ended = context.wait(server) => ended?.map_err(failed),
        stopped = renew(files, pair, &config, context) => stopped,
    }
}

/// Serves people on site without TLS, until it is dropped.
///
/// # Errors
/// The listener fails.
pub async fn local(listener: TcpListener, router: Router) -> io::Result<()> {
    let seats = Seats(Arc::new(Semaphore::new(LOCAL_CONNECTIONS_MAX)));
    let handle = Handle::new();
    let _ends = Ends(handle.clone());
    let server = axum_server::from_tcp(listener)?.acceptor(seats);
    bounded(server, handle).serve(router.into_make_service()).await
}

/// A door that does not wait for ever for a request.
fn bounded<A>(server: Server<SocketAddr, A>, handle: Handle<SocketAddr>) -> Server<SocketAddr, A> {
    // HTTP/1 is named, or the first bytes are waited for without a time to tell the versions apart.
    let mut server = server.http1_only().handle(handle);
    server.http_builder().http1().timer(TokioTimer::new()).header_read_timeout(HEADER_MAX);
    server
}

/// Closes the connections of an attempt with it.
struct Ends(Handle<SocketAddr>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.shutdown();
    }
}

/// A certificate and its key, as they stand in files.
#[derive(PartialEq, Eq)]
struct Pair {
    certificate: String,
    key: String,
}

impl Pair {
    fn read(files: &CertificateFiles) -> Result<Self, SourceError> {
        let read = |what: &str, path: &std::path::Path| {
            let failed = |error| SourceError::failed(format!("source.{what} = {}: {error}", path.display()));
            files::text(path).map_err(failed)
        };
        Ok(Self { certificate: read("cert_file", &files.certificate)?, key: read("key_file", &files.key)? })
    }

    fn config(&self) -> Result<rustls::ServerConfig, SourceError> {
        let (key_pem, chain_pem) = (self.key.clone(), self.certificate.clone());
        let server = KeyAndCert { key_pem, chain_pem, ca_pem: String::new() };
        let failed = |error| SourceError::failed(format!("source.cert_file and source.key_file: {error}"));
        server_config(&server, "", false, &[ALPN_HTTP]).map_err(failed)
    }
}

/// Takes over a certificate that is renewed; ends when it is to stop. A new one that is none costs a line: the old one
/// is shown until there is a better one.
async fn renew(
    files: &CertificateFiles,
    mut shown: Pair,
    config: &RustlsConfig,
    context: &Context,
) -> Result<(), SourceError> {
    loop {
        context.sleep_until(tokio::time::Instant::now() + RENEWAL).await?;
        let read = Pair::read(files).and_then(|pair| {
            if pair == shown {
                return Ok(());
            }
            config.reload_from_config(Arc::new(pair.config()?));
            tracing::info!(source = context.name(), "shows another certificate");
            shown = pair;
            Ok(())
        });
        if let Err(error) = read {
            context.statistics().failed(&error.to_string());
        }
    }
}

/// Lets no more connections in than there are seats.
#[derive(Clone)]
struct Seats(Arc<Semaphore>);

/// A connection's seat, which its service holds.
type Seat = Arc<OwnedSemaphorePermit>;

impl<S> Accept<TcpStream, S> for Seats {
    type Stream = TcpStream;
    type Service = AddExtension<S, Seat>;
    type Future = Ready<io::Result<(TcpStream, Self::Service)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let full = |_| io::Error::other("too many connections");
        let seat = Arc::clone(&self.0).try_acquire_owned().map(Arc::new).map_err(full);
        ready(seat.map(|seat| (stream, Extension(seat).layer(service))))
    }
}
