//! What the service manager is told of the agent, over systemd's notification protocol. Without a service
//! manager that wants to hear it, nothing is told to anybody.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{interval, timeout};

use crate::spooler::SpoolHandle;

/// Longest wait for a service manager that has no room for a message.
const PATIENCE: Duration = Duration::from_secs(1);

/// The agent has started.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The agent reads its configuration again; [`ready`] ends that.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "no monotonic clock for the service manager"),
    }
}

/// The agent ends.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Tells the service manager again and again that the agent is alive, if it wants to know. Alive is who can run a
/// task and gets an answer of the spool's thread: without these no reading is kept. One source is not the
/// agent, and has a watchdog of its own.
pub async fn keep_alive(spool: SpoolHandle) {
    let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) else { return };
    // As sd_watchdog_enabled(3) recommends: twice in the time that it may take.
    let period = (limit / 2).max(Duration::from_millis(1));
    let mut ticks = interval(period);
    loop {
        ticks.tick().await;
        match timeout(limit, spool.cursor("")).await {
            // One whose disk fails answers, and is opened again: a restart of the agent would not help it.
            Ok(_) => tell(&[NotifyState::Watchdog]),
            Err(_) => tracing::error!(
                "the spool's thread does not answer; the service manager is not told that all is well"
            ),
        }
    }
}

/// Tells the service manager, if there is one. One that does not read takes only as much as its queue has room for, and a
/// thread of the runtime that waited for it would wait for ever, and the agent's end with it.
fn tell(state: &[NotifyState<'_>]) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()) else { return };
    let text: String = state.iter().map(|state| format!("{state}\n")).collect();
    // It comes again by itself.
    let patience = if matches!(state, [NotifyState::Watchdog]) { None } else { Some(PATIENCE) };
    if let Err(error) = send(&socket, text.as_bytes(), patience) {
        tracing::debug!(%error, "the service manager cannot be told");
    }
}

/// Sends a message to the socket with a path, or with an abstract name after an `@` as sd_notify(3) has it. Without room it
/// waits so long at most.
fn send(socket: &OsStr, message: &[u8], patience: Option<Duration>) -> io::Result<()> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        #[cfg(target_os = "linux")]
        Some(name) => <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    let sender = UnixDatagram::unbound()?;
    match patience {
        Some(_) => sender.set_write_timeout(patience)?,
        None => sender.set_nonblocking(true)?,
    }
    sender.send_to_addr(message, &address).map(drop)
}
