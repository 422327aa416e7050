//! The hub's doors for people and programs: HTTP, HTTPS and the command socket.
//!
//! Every door has a limit that follows from the [descriptors](crate::descriptors), every address has
//! one, and a connection that asks nothing within a time is closed.

use std::fs;
use std::future::{Future, Ready, ready};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum_server::accept::Accept;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use axum_server::{Handle, Server};
use hyper_util::rt::TokioTimer;
use tideline_link::{identity::KeyAndCert, tls};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixListener};
use tokio::task::JoinHandle;

use crate::api::{Door, router};
use crate::bucket::party;
use crate::hub::App;
use crate::places::{Full, Limits, Place, Places};
use crate::telemetry::Metric;

/// The command socket's name in the data folder.
pub const SOCKET: &str = "hub.sock";
/// How long open requests may take to end at shutdown.
pub const GRACE: Duration = Duration::from_secs(3);
/// Longest TLS handshake: three round trips, also of a bad radio.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Longest wait for a whole request header, and so also how long a connection may lie idle between
/// two requests; a browser opens another without anybody noticing.
const HEADER_MAX: Duration = Duration::from_secs(10);
/// Opens all doors; each ends when the hub stops.
///
/// # Errors
/// A listener, the socket or the TLS configuration cannot be made.
pub fn open(
    hub: &App,
    http: TcpListener,
    https: TcpListener,
    server: &KeyAndCert,
    data: &Path,
    limits: Limits,
) -> Result<Vec<JoinHandle<()>>> {
    let socket = open_socket(data)?;
    let tls = tls::server_config(server, &server.ca_pem, false, &["http/1.1"])?;
    // Behind a proxy on this machine all come from loopback, and the plain door is where it knocks.
    let plain = Counted::new(hub, limits, "http", Loopback::NotByAddress);
    let secure = Counted::new(hub, limits, "https", Loopback::ByAddress);
    let rustls = RustlsAcceptor::new(RustlsConfig::from_config(Arc::new(tls)));
    let rustls = rustls.handshake_timeout(HANDSHAKE_MAX).acceptor(secure);
    let plain = axum_server::from_tcp(http)?.acceptor(plain);
    let secure = axum_server::from_tcp(https)?.acceptor(rustls);
    let local = router(Arc::clone(hub), Door::Socket);
    let stopping = Arc::clone(hub);
    let local = async move {
        axum::serve(socket, local).with_graceful_shutdown(async move { stopping.stopped().await }).await
    };
    let routes = |door| router(Arc::clone(hub), door).into_make_service_with_connect_info::<SocketAddr>();
    let plain = bounded(hub, plain).serve(routes(Door::Plain));
    let secure = bounded(hub, secure).serve(routes(Door::Tls));
    Ok(vec![
        tokio::spawn(watched("http", plain)),
        tokio::spawn(watched("https", secure)),
        tokio::spawn(watched("socket", local)),
    ])
}

/// A door that does not wait for ever for a request, and that ends with the hub.
fn bounded<A>(hub: &App, mut server: Server<SocketAddr, A>) -> Server<SocketAddr, A> {
    // HTTP/1 is named, or the first bytes are waited for without a time to tell the versions apart.
    server = server.http1_only();
    server.http_builder().http1().timer(TokioTimer::new()).header_read_timeout(HEADER_MAX);
    let (hub, handle) = (Arc::clone(hub), Handle::new());
    let ending = handle.clone();
    tokio::spawn(async move {
        hub.stopped().await;
        ending.graceful_shutdown(Some(GRACE));
    });
    server.handle(handle)
}

async fn watched(name: &'static str, door: impl Future<Output = io::Result<()>>) {
    if let Err(error) = door.await {
        tracing::error!(door = name, %error, "a listener ended");
    }
}

/// Makes the socket for its owner alone. It gets its name last: nobody can knock before.
fn open_socket(data: &Path) -> Result<UnixListener> {
    let path = data.join(SOCKET);
    let part = data.join(".sock");
    // The lock on the metadata says that no hub lives here: what is left behind is dead.
    let _none = (fs::remove_file(&path), fs::remove_dir_all(&part));
    let made = || -> io::Result<UnixListener> {
        fs::DirBuilder::new().mode(0o700).create(&part)?;
        let socket = UnixListener::bind(part.join("s"))?;
        fs::set_permissions(part.join("s"), fs::Permissions::from_mode(0o600))?;
        fs::rename(part.join("s"), &path)?;
        fs::remove_dir(&part)?;
        Ok(socket)
    };
    made().with_context(|| format!("command socket {}", path.display()))
}

/// Whether connections of this machine to itself count by their address too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loopback {
    ByAddress,
    NotByAddress,
}

/// Counts the connections of a door and lets no more in than there are places.
#[derive(Clone)]
struct Counted {
    hub: App,
    places: Arc<Places<IpAddr>>,
    door: &'static str,
    loopback: Loopback,
}

impl Counted {
    fn new(hub: &App, limits: Limits, door: &'static str, loopback: Loopback) -> Self {
        Self { hub: Arc::clone(hub), places: Arc::new(Places::new(limits)), door, loopback }
    }

    fn take(&self, address: IpAddr) -> io::Result<Place<IpAddr>> {
        let party = party(address);
        let counted = !(party.is_loopback() && self.loopback == Loopback::NotByAddress);
        self.places.take(counted.then_some(party)).map_err(|full| {
            self.hub.counters.add(Metric::ConnectionsRefused, 1);
            if self.hub.complaints.take(address, self.hub.clock.mono_ns()).is_ok() {
                let whose = if full == Full::All { "the door" } else { "the address" };
                tracing::warn!(door = self.door, %address, "connection closed: {whose} has as many as it may have");
            }
            io::Error::other("too many connections")
        })
    }
}

impl<S> Accept<TcpStream, S> for Counted {
    type Stream = Seated;
    type Service = S;
    type Future = Ready<io::Result<(Seated, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let place = stream.peer_addr().and_then(|address| self.take(address.ip()));
        ready(place.map(|place| (Seated { stream, _place: place }, service)))
    }
}

/// A connection with its place.
struct Seated {
    stream: TcpStream,
    _place: Place<IpAddr>,
}

impl AsyncRead for Seated {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Seated {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_socket_is_its_owners_alone_and_replaces_a_dead_one() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let _socket = open_socket(dir.path()).unwrap();
            let mode = fs::metadata(dir.path().join(SOCKET)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            tokio::net::UnixStream::connect(dir.path().join(SOCKET)).await.unwrap();
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        }
    }
}
