//! Names to addresses. A name server is one more party that hangs or is away: each name has a circuit
//! of its own, at most one look-up of it is on its way (the system's cannot be broken off), and while
//! none succeeds the addresses that were last found are tried.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tideline_protocol::time::Clock;
use tokio::task::JoinHandle;

use crate::resilience::{CallError, Caller, Pace};

/// Longest wait for an answer; the look-up goes on, and the next call waits for it.
const RESOLVE_MAX: Duration = Duration::from_secs(3);
/// Most names that are remembered (INV-6); beyond them all are forgotten.
const NAMES_MAX: usize = 64;

type Found = io::Result<Vec<SocketAddr>>;
type LookUp = dyn Fn(String) -> Pin<Box<dyn Future<Output = Found> + Send>> + Send + Sync;

struct Name {
    caller: Caller,
    look_up: tokio::sync::Mutex<Option<JoinHandle<Found>>>,
    known: Mutex<Vec<SocketAddr>>,
}

/// Looks names up, and remembers.
pub struct Resolver {
    clock: Arc<dyn Clock>,
    ask: Box<LookUp>,
    names: Mutex<HashMap<String, Arc<Name>>>,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}

/// Why a name gave no address.
#[derive(Debug, thiserror::Error)]
#[error("{host_port} is not resolved")]
pub struct ResolveError {
    host_port: String,
    source: CallError<io::Error>,
}

impl Resolver {
    /// The system's resolver.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self::with(clock, |name| async move { Ok(tokio::net::lookup_host(name).await?.collect()) })
    }

    /// With a look-up of the caller's own.
    pub fn with<F: Future<Output = Found> + Send + 'static>(
        clock: Arc<dyn Clock>,
        ask: impl Fn(String) -> F + Send + Sync + 'static,
    ) -> Self {
        Self { clock, ask: Box::new(move |name| Box::pin(ask(name))), names: Mutex::default() }
    }

    /// The addresses of a `host:port`, in the system's order of preference; never none.
    ///
    /// # Errors
    /// The name is not known, and never was.
    pub async fn resolve(&self, host_port: &str) -> Result<Vec<SocketAddr>, ResolveError> {
        if let Ok(address) = host_port.parse() {
            return Ok(vec![address]);
        }
        let name = self.name(host_port);
        let error = match name.caller.call(Pace::Urgent, RESOLVE_MAX, self.look_up(host_port, &name)).await {
            Ok(found) => {
                name.known.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&found);
                return Ok(found);
            }
            Err(error) => error,
        };
        let known = name.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if known.is_empty() {
            return Err(ResolveError { host_port: host_port.to_owned(), source: error });
        }
        tracing::debug!(host_port, %error, "not resolved; the addresses last found are used");
        Ok(known)
    }

    fn name(&self, host_port: &str) -> Arc<Name> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() >= NAMES_MAX && !names.contains_key(host_port) {
            names.clear();
        }
        let fresh = || Name {
            caller: Caller::new(Arc::clone(&self.clock)),
            look_up: tokio::sync::Mutex::default(),
            known: Mutex::default(),
        };
        Arc::clone(names.entry(host_port.to_owned()).or_insert_with(|| Arc::new(fresh())))
    }

    /// Begins a look-up, or waits for the one that an earlier call has given up.
    async fn look_up(&self, host_port: &str, name: &Name) -> Found {
        let mut place = name.look_up.lock().await;
        let look_up = place.get_or_insert_with(|| tokio::spawn((self.ask)(host_port.to_owned())));
        let found = look_up.await;
        *place = None;
        let found = found.map_err(io::Error::other)??;
        if found.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        }
        Ok(found)
    }
}
