//! A CoAP server, known by the resources that it lists at `.well-known/core` (RFC 6690).

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tideline_profiles::Profile;
use tideline_profiles::detect::{Said, Signs};
use tideline_protocol::time::Clock as _;
use tokio::net::{UdpSocket, lookup_host};
use tokio::time::{Instant, timeout_at};

use super::Found;
use crate::clock::AgentClock;
use crate::resilience::entropy;
use crate::source::coap::peer::{Answer, Body, DATAGRAM_BYTES_MAX, Peer};
use crate::source::coap::{address, json_of};

/// Where a server lists its resources.
const CORE: &str = ".well-known/core";
/// The port of CoAP.
const PORT: u16 = 5683;
/// Most resources of a list that are looked at.
const LINKS_MAX: usize = 1_000;

/// Asks a server what it has. Gives it with the families that it may be of, and the paths of its resources.
///
/// # Errors
/// It does not answer, or lists nothing.
pub async fn look(text: &str, limit: Duration, families: &[Profile]) -> anyhow::Result<(Found, Vec<String>)> {
    let (host, port) = address(text, PORT).map_err(anyhow::Error::msg)?;
    let mut asker = Asker::connect(&host, port, limit).await.with_context(|| text.to_owned())?;
    let list = asker
        .read(CORE)
        .await
        .with_context(|| text.to_owned())?
        .with_context(|| format!("{text}: it lists no resources at /{CORE}"))?;
    let paths = links(&String::from_utf8_lossy(&list.bytes));
    let mut found = Vec::new();
    for family in families {
        let Some(Signs::Messages(said)) = Signs::of(family) else { continue };
        // That a device is named in paths is for servers of many.
        if matches!(family.protocol(), tideline_profiles::Protocol::Coap(_))
            && asker.shows(&said, &paths).await?
        {
            found.push((said.len(), family.name().to_owned()));
        }
    }
    found.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    let families = found.into_iter().map(|(_, name)| name).collect();
    Ok((Found { address: text.trim_start_matches("coap://").to_owned(), families }, paths))
}

struct Asker {
    socket: UdpSocket,
    peer: Peer,
    clock: AgentClock,
    limit: Duration,
}

impl Asker {
    async fn connect(host: &str, port: u16, limit: Duration) -> anyhow::Result<Self> {
        let to = lookup_host((host, port)).await?.next().with_context(|| format!("{host} has no address"))?;
        let from: SocketAddr = match to {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(from).await?;
        socket.connect(to).await?;
        let name = if host.parse::<std::net::IpAddr>().is_ok() { "" } else { host };
        Ok(Self { socket, peer: Peer::new(name, entropy()), clock: AgentClock::default(), limit })
    }

    /// What stands there; none when the server has no such resource.
    async fn read(&mut self, path: &str) -> anyhow::Result<Option<Body>> {
        self.peer.ask(self.clock.mono_ns(), path, false, entropy());
        let until = Instant::now() + self.limit;
        let mut datagram = vec![0; DATAGRAM_BYTES_MAX + 1];
        loop {
            while let Some(datagram) = self.peer.transmit() {
                self.socket.send(&datagram).await?;
            }
            if let Some(Answer { outcome, .. }) = self.peer.answer() {
                return Ok(outcome.ok());
            }
            let wakes =
                self.peer.wakes_ns().map(|ns| Duration::from_nanos(ns.saturating_sub(self.clock.mono_ns())));
            let wake = wakes.map_or(until, |wait| until.min(Instant::now() + wait));
            match timeout_at(wake, self.socket.recv(&mut datagram)).await {
                Ok(read) => {
                    let bytes = datagram.get(..read?).unwrap_or_default();
                    self.peer.handle(self.clock.mono_ns(), bytes, entropy());
                }
                Err(_) => {
                    ensure!(Instant::now() < until, "no answer within {} ms", self.limit.as_millis());
                    self.peer.wake(self.clock.mono_ns());
                }
            }
        }
    }

    async fn shows(&mut self, said: &[Said], paths: &[String]) -> anyhow::Result<bool> {
        for sign in said {
            if !paths.iter().any(|path| path == sign.topic()) {
                return Ok(false);
            }
            let Some(body) = self.read(sign.topic()).await? else { return Ok(false) };
            let Ok(json) = json_of(&body) else { return Ok(false) };
            if sign.shown(sign.topic(), &json).is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The paths of a list of links, without the slash before them. Those of other servers are left out.
fn links(text: &str) -> Vec<String> {
    let mut paths = Vec::new();
    let mut rest = text;
    while let Some((_, behind)) = rest.split_once('<') {
        let Some((target, attributes)) = behind.split_once('>') else { break };
        if let Some(path) = target.strip_prefix('/')
            && paths.len() < LINKS_MAX
        {
            paths.push(path.to_owned());
        }
        rest = next_link(attributes);
    }
    paths
}

/// What follows the comma that ends a link: one in quotes does not.
fn next_link(attributes: &str) -> &str {
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, c) in attributes.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => return attributes.get(at..).unwrap_or_default(),
            _ => {}
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_paths_of_the_server_itself() {
        let text = "</sensors/temp>;rt=\"a, <b>\";ct=\"0 50\",</3303/0/5700>;obs,<coap://other/x>;anchor=\"/y\\\"<z>\",</>;if=a";
        assert_eq!(links(text), ["sensors/temp", "3303/0/5700", ""]);
        for none in ["", "no links", "<", "</a", "><", "<b>"] {
            assert_eq!(links(none), [""; 0], "{none}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_list_is_taken_apart(text in ".{0,200}") {
            links(&text);
        }
    }
}
