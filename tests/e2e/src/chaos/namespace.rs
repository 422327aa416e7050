//! An agent in a network namespace of its own, over a virtual cable: what the kernel does to a device
//! whose link, address or route is taken away. Needs root and `ip`.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::Instant;

use super::fleet::{Feed, Fleet};
use super::{Outcome, Scale, pass, seconds};

const RATE: u32 = 200;

/// A namespace with a cable to the host; gone when dropped.
struct Namespace {
    name: String,
    host: String,
    inside: String,
    net: String,
}

fn ip(args: &[&str]) -> Result<()> {
    let done = Command::new("ip").args(args).stdin(Stdio::null()).output()?;
    ensure!(done.status.success(), "ip {}: {}", args.join(" "), String::from_utf8_lossy(&done.stderr).trim());
    Ok(())
}

impl Namespace {
    fn new() -> Result<Self> {
        // Names and addresses of our own, also beside another run.
        let id = std::process::id();
        let name = format!("tideline-{id}");
        let (host, inside) = (format!("tlh{}", id % 100_000), format!("tla{}", id % 100_000));
        let net = format!("10.213.{}", id % 250);
        let made = Self { name, host, inside, net };
        ip(&["netns", "add", &made.name])?;
        ip(&["link", "add", &made.host, "type", "veth", "peer", "name", &made.inside, "netns", &made.name])?;
        ip(&["addr", "add", &format!("{}.1/24", made.net), "dev", &made.host])?;
        ip(&["link", "set", &made.host, "up"])?;
        made.ip(&["link", "set", "lo", "up"])?;
        made.ip(&["link", "set", &made.inside, "up"])?;
        made.address(2)?;
        Ok(made)
    }

    fn ip(&self, args: &[&str]) -> Result<()> {
        ip(&[&["-n", self.name.as_str()], args].concat())
    }

    /// The device has this address from now on, and no other.
    fn address(&self, last: u32) -> Result<()> {
        self.ip(&["addr", "flush", "dev", &self.inside])?;
        self.ip(&["addr", "add", &format!("{}.{last}/24", self.net), "dev", &self.inside])
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The cable goes with either end.
        let _gone = ip(&["link", "del", &self.host]);
        let _gone = ip(&["netns", "del", &self.name]);
    }
}

/// Takes link, address and routes away, one after the other.
///
/// # Errors
/// As [`super::run`].
pub async fn run(scale: Scale) -> Result<Outcome> {
    let start = Instant::now();
    let namespace = match Namespace::new() {
        Ok(namespace) => namespace,
        Err(error) => return Ok(Outcome::NotAllowed(format!("no network namespace: {error:#}"))),
    };
    let hub_at = format!("{}.1", namespace.net);
    let names = vec![("TIDELINE_HUB_NAMES", format!("localhost,127.0.0.1,{hub_at}"))];
    let mut fleet = Fleet::start(names, |_| Ok(())).await?;
    let uplink = Some(format!("hub = \"{hub_at}:{}\"", fleet.hub.quic().port()));
    let lasting = scale.hold * 8 + Duration::from_secs(20);
    fleet.add(&Feed { uplink, ..Feed::lasting(RATE, lasting) }, Some(&namespace.name)).await?;
    let mut stored = fleet.moves_beyond(0, "the start").await?;

    namespace.ip(&["link", "set", &namespace.inside, "down"])?;
    pass(scale.hold).await;
    namespace.ip(&["link", "set", &namespace.inside, "up"])?;
    stored = fleet.moves_beyond(stored, "the link was down").await?;
    let sessions = |fleet: &Fleet| anyhow::Ok(fleet.hub.log()?.matches("session opened").count());
    let before = sessions(&fleet)?;
    for last in 3..6 {
        namespace.address(last)?;
        pass(scale.hold / 3).await;
        stored = fleet.moves_beyond(stored, "a new address").await?;
    }
    ensure!(sessions(&fleet)? == before, "a new address cost a session");
    let device = format!("{}.5/32", namespace.net);
    let to_hub = format!("{hub_at}/32");
    ip(&["route", "add", "blackhole", &device])?;
    pass(scale.hold).await;
    ip(&["route", "del", "blackhole", &device])?;
    stored = fleet.moves_beyond(stored, "answers were lost").await?;
    namespace.ip(&["route", "add", "blackhole", &to_hub])?;
    pass(scale.hold).await;
    namespace.ip(&["route", "del", "blackhole", &to_hub])?;
    stored = fleet.moves_beyond(stored, "there was no route").await?;
    namespace.ip(&["link", "set", &namespace.inside, "mtu", "1300"])?;
    ip(&["link", "set", &namespace.host, "mtu", "1300"])?;
    pass(scale.hold).await;
    fleet.moves_beyond(stored, "a narrower path").await?;
    let proof = fleet.prove().await?;
    Ok(Outcome::Proved(format!(
        "an agent in a namespace: link down {hold:?}, three new addresses within one session, answers lost {hold:?}, no route {hold:?}, \
         path of 1300 bytes, in {}; readings moved on each time; {proof}",
        seconds(start),
        hold = scale.hold
    )))
}
