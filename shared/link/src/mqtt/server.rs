//! Where an MQTT server is and how it is spoken to.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::quic::LinkError;

/// Ports without and with TLS.
const PORTS: (u16, u16) = (1883, 8883);
/// Longest URL of a broker in bytes.
const URL_BYTES_MAX: usize = 1024;

/// An MQTT server to connect to.
#[derive(Clone)]
pub struct Server {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: Option<Arc<rustls::ClientConfig>>,
    pub(super) login: Option<(String, String)>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({})", self.address())
    }
}

impl Server {
    /// The hub's own endpoint at a `host:port`. `tls` checks the hub's certificate against the name
    /// that the agent knows, see [`crate::tls::named_client_config`].
    ///
    /// # Errors
    /// The address is no `host:port`.
    pub fn hub(host_port: &str, tls: rustls::ClientConfig) -> Result<Self, LinkError> {
        let unreachable = || LinkError::Unreachable {
            reason: format!("{host_port:?} is no address; allowed is host:port, as hub.example:8883"),
        };
        let (host, port) = host_and_port(host_port, None).ok_or_else(unreachable)?;
        Ok(Self { host, port, tls: Some(Arc::new(tls)), login: None })
    }

    /// A broker. `tls` is used when the URL asks for it.
    #[must_use]
    pub fn broker(url: &BrokerUrl, tls: rustls::ClientConfig) -> Self {
        let tls = url.secure.then(|| Arc::new(tls));
        Self { host: url.host.clone(), port: url.port, tls, login: url.login.clone() }
    }

    /// `host:port`.
    #[must_use]
    pub fn address(&self) -> String {
        show(&self.host, self.port)
    }
}

fn show(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The URL of a broker: `mqtt://` or `mqtts://`, `user:password@` where it asks for a login, the host,
/// and the port when it is not 1883 or 8883. `Debug` and `Display` leave the password out.
#[derive(Clone, PartialEq, Eq)]
pub struct BrokerUrl {
    host: String,
    port: u16,
    secure: bool,
    login: Option<(String, String)>,
}

/// Why a text is no URL of a broker; it does not repeat the text, which may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no broker; allowed is mqtt://host:1883 or mqtts://user:password@host:8883")]
pub struct BrokerUrlError;

impl BrokerUrl {
    /// Whether it asks for TLS.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// The host's name or address, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// User and password, where it has them.
    #[must_use]
    pub fn login(&self) -> Option<(&str, &str)> {
        self.login.as_ref().map(|(user, password)| (user.as_str(), password.as_str()))
    }
}

impl FromStr for BrokerUrl {
    type Err = BrokerUrlError;

    fn from_str(text: &str) -> Result<Self, BrokerUrlError> {
        if text.len() > URL_BYTES_MAX {
            return Err(BrokerUrlError);
        }
        let (secure, rest) = match text.split_once("://") {
            Some(("mqtt", rest)) => (false, rest),
            Some(("mqtts", rest)) => (true, rest),
            _ => return Err(BrokerUrlError),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        // The last @, because a password may hold one.
        let (login, address) = match rest.rsplit_once('@') {
            Some((login, address)) => {
                let (user, password) = login.split_once(':').unwrap_or((login, ""));
                (Some((user.to_owned(), password.to_owned())), address)
            }
            None => (None, rest),
        };
        let default = if secure { PORTS.1 } else { PORTS.0 };
        let (host, port) = host_and_port(address, Some(default)).ok_or(BrokerUrlError)?;
        Ok(Self { host, port, secure, login })
    }
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, user) =
            (if self.secure { "mqtts" } else { "mqtt" }, self.login.as_ref().map(|(user, _)| user));
        let user = user.map_or_else(String::new, |user| format!("{user}@"));
        write!(f, "{scheme}://{user}{}", show(&self.host, self.port))
    }
}

impl fmt::Debug for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Host without brackets, and port.
fn host_and_port(text: &str, default: Option<u16>) -> Option<(String, u16)> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = match bare {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().ok().map(|_| v6)?,
        None => Some(host).filter(|host| !host.contains(['/', ':', '@', ' ', '[', ']']))?,
    };
    let port = match port {
        Some(port) => port.parse().ok().filter(|port| *port > 0)?,
        None => default?,
    };
    (!host.is_empty()).then(|| (host.to_owned(), port))
}
