//! `cloud-hub demo`: a real hub and real agents on this machine, an outage, and the account.

mod account;
mod children;
mod field;
mod relay;

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::{Value, json};
use tideline_link::{err, errln, outln};
use tideline_protocol::time::{Clock as _, SystemClock};

use crate::StopSignals;
use crate::cli::{DemoArgs, HubSocket};
use account::Account;
use children::{Folder, Running, Start, UNTIL_STDIN_ENDS};
use cloud_hub::api::shapes::{DevicePage, DeviceState, Ledger};
use cloud_hub::config::Config;
use cloud_hub::secret;
use relay::Relay;

/// A recording of a machine's own load: three minutes at one row a second.
const RECORDING: &str = include_str!("../demo/recording.csv");
/// Rows a second that a replaying agent reads.
const REPLAY_ROWS_PER_S: u32 = 1;
/// The agent that reads the field devices, when there are so many: not the one that is cut off.
const FIELD_AGENT: u8 = 2;
/// When the outage begins if the demo has no end, and how long it is if nothing else is said.
const OUTAGE: Duration = Duration::from_secs(20);
const START_MAX: Duration = Duration::from_secs(20);
const DRAIN_MAX: Duration = Duration::from_secs(60);
/// Longest wait for agents that have lost the hub: it takes them ten seconds to notice a dead line.
const CONNECT_MAX: Duration = Duration::from_secs(30);

struct Demo {
    folder: Folder,
    socket: HubSocket,
    hub: Running,
    relay: Relay,
    agents: Vec<Running>,
    // Field devices, and what they need.
    field: Vec<Running>,
}

/// When demo-1 is cut off.
#[derive(Debug, PartialEq, Eq)]
struct Outage {
    begin: Duration,
    end: Duration,
    // What was asked for, when it did not fit.
    shortened_from: Option<Duration>,
}

impl Outage {
    /// It begins after a third of the demo and ends before the demo does, so that the refill can be
    /// watched.
    fn plan(wanted: Option<Duration>, all: Option<Duration>) -> Self {
        let Some(all) = all else {
            return Self { begin: OUTAGE, end: OUTAGE + wanted.unwrap_or(OUTAGE), shortened_from: None };
        };
        let third = all / 3;
        match wanted {
            None => Self { begin: third, end: third + OUTAGE.min(third), shortened_from: None },
            Some(wanted) if third + wanted < all => {
                Self { begin: third, end: third + wanted, shortened_from: None }
            }
            Some(wanted) => Self { begin: third, end: third + third, shortened_from: Some(wanted) },
        }
    }
}

/// Runs the demo.
///
/// # Errors
/// Something could not be started, or the account does not balance.
pub async fn run(args: &DemoArgs) -> Result<()> {
    let mut stop = StopSignals::listen()?.and_hangup()?;
    let agent_program = children::agent_binary()?;
    if let Some(path) = &args.csv {
        if args.agents < 2 {
            bail!("--csv needs --agents 2 or more: the first agent measures this machine");
        }
        if !path.is_file() {
            bail!("--csv {}: there is no such file", path.display());
        }
    }
    let outage = Outage::plan(args.outage, args.duration);
    if outage.shortened_from.is_some() {
        let seconds = (outage.end - outage.begin).as_secs_f64();
        errln!("the outage is shortened to {seconds:.1} s, so that it ends before the demo does");
    }
    let folder = Folder {
        path: std::env::temp_dir().join(format!("tideline-demo-{}", secret::random_id()?)),
        keep: false,
    };
    std::fs::create_dir_all(&folder.path)?;
    // Whatever is dropped here takes its processes with it.
    let mut demo = tokio::select! {
        started = start(args, folder, &agent_program) => started?,
        () = stop.next() => bail!("interrupted while it started; there is nothing to account for"),
    };
    let result = match watch(args, &outage, &mut demo, &mut stop).await {
        Ok(()) => tokio::select! {
            accounted = settle(args, &mut demo, &agent_program) => accounted,
            () = stop.next() => Err(anyhow!("interrupted a second time; there is no account")),
        },
        Err(error) => Err(error),
    };
    if result.is_err() {
        demo.folder.keep = true;
        errln!("the demo's files are kept in {}", demo.folder.path.display());
    }
    result
}

/// Ends the agents and makes the account of every device, whatever went wrong with one of them.
async fn settle(args: &DemoArgs, demo: &mut Demo, agent_program: &Path) -> Result<()> {
    demo.relay.set_cut(false);
    errln!("ending: the agents send what they still hold; Ctrl-C again ends at once");
    let mut faults = Vec::new();
    let names: Vec<String> = demo.agents.iter().map(|agent| agent.name().to_owned()).collect();
    if let Err(error) = until_online(demo, &names).await {
        faults.push(format!("{error:#}"));
    }
    for (n, name) in names.iter().enumerate() {
        if let Err(error) = end_agent(demo, n, name).await {
            faults.push(format!("{error:#}"));
        }
    }
    let mut entries = Vec::new();
    for agent in &demo.agents {
        let data = agent_dir(&demo.folder.path, agent.name()).display().to_string();
        let inspect = ["store", "inspect", "--json", "--data", &data].map(str::to_owned);
        let said = children::finish(agent.name(), agent_program, &inspect).await?;
        entries.push(account::entry(&demo.socket, agent.name(), &said).await?);
    }
    let account = Account::of(entries);
    err!("{}", account.words());
    if args.json {
        outln!("{}", serde_json::to_string(&account)?);
    }
    if !account.good() {
        faults.push("the account is not good".to_owned());
    }
    if faults.is_empty() { Ok(()) } else { bail!("{}", faults.join("; ")) }
}

/// Ends an agent. One that was killed on its last way, or that lost the hub there, is started once
/// more, to send what it still holds.
async fn end_agent(demo: &mut Demo, n: usize, name: &String) -> Result<()> {
    let Some(agent) = demo.agents.get_mut(n) else { return Ok(()) };
    let ended = agent.terminate(DRAIN_MAX).await;
    let hub_lived = demo.hub.check().is_ok();
    match &ended {
        Ok(()) if hub_lived => return Ok(()),
        Ok(()) => errln!("the hub ended while {name} sent its rest"),
        Err(error) => errln!("{error:#}"),
    }
    if let Some(agent) = demo.agents.get_mut(n) {
        agent.revive()?;
    }
    until_online(demo, std::slice::from_ref(name)).await?;
    let Some(agent) = demo.agents.get_mut(n) else { return ended };
    agent.terminate(DRAIN_MAX).await
}

async fn start(args: &DemoArgs, folder: Folder, agent_program: &Path) -> Result<Demo> {
    let data = folder.path.join("hub");
    let (http, https, quic) = (free_tcp(args.port)?, free_tcp(8443)?, free_udp(4433)?);
    if http != args.port && args.port != 0 {
        errln!("port {} is taken", args.port);
    }
    let local = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port)).to_string();
    let env = vec![
        ("TIDELINE_HTTP_LISTEN", local(http)),
        ("TIDELINE_HTTPS_LISTEN", local(https)),
        ("TIDELINE_QUIC_LISTEN", local(quic)),
        // Or the agent that is cut off would find another way.
        ("TIDELINE_MQTT_LISTEN_TLS", String::new()),
        ("TIDELINE_HUB_PUBLIC_ADDRESS", "127.0.0.1".to_owned()),
    ];
    let mut hub = children::start(Start {
        name: "the hub".to_owned(),
        program: std::env::current_exe()?,
        args: ["serve", UNTIL_STDIN_ENDS, "--data", &data.display().to_string()].map(str::to_owned).to_vec(),
        env,
        log: folder.path.join("hub.log"),
    })?;
    let socket = HubSocket::of(&Config { data_dir: data, ..Config::default() });
    if let Err(error) = until_up(&socket, &mut hub).await {
        let log = std::fs::read_to_string(folder.path.join("hub.log")).unwrap_or_default();
        bail!("the hub did not come up: {error:#}\n{log}");
    }
    let password = secret::random()?.chars().filter(char::is_ascii_alphanumeric).take(16).collect::<String>();
    socket.post("/api/v1/users", &json!({"name": "demo", "password": password, "role": "admin"})).await?;
    errln!("dashboard: http://{}/  user: demo  password: {password}", local(http));
    let relay = Relay::start(SocketAddr::from((Ipv4Addr::LOCALHOST, quic))).await?;
    let recording = match &args.csv {
        Some(path) => std::fs::canonicalize(path).with_context(|| format!("--csv {}", path.display()))?,
        None => {
            let path = folder.path.join("recording.csv");
            std::fs::write(&path, RECORDING)?;
            path
        }
    };
    let field = field::start(agent_program, &folder.path, || free_tcp(0))?;
    field.missing.iter().for_each(|missing| errln!("{missing}"));
    let mut agents = Vec::new();
    for number in 1..=args.agents {
        let name = format!("demo-{number}");
        let through = (number == 1).then_some(relay.address);
        let source = if number % 2 == 1 { Source::Host } else { Source::Replay(recording.clone()) };
        let mut config = agent_config(&source);
        if number == args.agents.min(FIELD_AGENT) {
            config.push_str(&field.config);
        }
        let running = start_agent(&socket, agent_program, &folder.path, &name, through, &config).await?;
        agents.push(running);
    }
    Ok(Demo { folder, socket, hub, relay, agents, field: field.running })
}

/// What an agent reads by itself.
enum Source {
    Host,
    Replay(PathBuf),
}

async fn start_agent(
    socket: &HubSocket,
    program: &Path,
    folder: &Path,
    name: &str,
    through: Option<SocketAddr>,
    text: &str,
) -> Result<Running> {
    let data = agent_dir(folder, name);
    std::fs::create_dir_all(&data)?;
    let made = socket.post("/api/v1/enroll-tokens", &json!({"device": name, "ttl_s": 3600})).await?;
    let token = made.get("token").and_then(Value::as_str).context("the hub gave no token")?;
    let dir = data.display().to_string();
    children::finish(
        name,
        program,
        &["enroll".to_owned(), token.to_owned(), "--data".to_owned(), dir.clone()],
    )
    .await?;
    let config = data.join("agent.toml");
    std::fs::write(&config, text)?;
    let mut run = ["run", UNTIL_STDIN_ENDS, "--data", &dir, "--config", &config.display().to_string()]
        .map(str::to_owned)
        .to_vec();
    if let Some(address) = through {
        run.extend(["--hub".to_owned(), address.to_string()]);
    }
    children::start(Start {
        name: name.to_owned(),
        program: program.to_owned(),
        args: run,
        env: Vec::new(),
        log: folder.join(format!("{name}.log")),
    })
}

/// The agent's configuration as the demo writes it.
fn agent_config(source: &Source) -> String {
    match source {
        Source::Host => {
            "[http]\nlisten = \"\"\n\n[[source]]\nkind = \"host\"\ninterval_ms = 1000\n".to_owned()
        }
        Source::Replay(path) => {
            // A JSON string is a TOML string too.
            let path = Value::from(path.display().to_string());
            format!(
                "[http]\nlisten = \"\"\n\n[[source]]\nkind = \"replay\"\npath = {path}\ntimestamps = \"now\"\nrate = {REPLAY_ROWS_PER_S}\n"
            )
        }
    }
}

fn agent_dir(folder: &Path, name: &str) -> PathBuf {
    folder.join(name)
}

async fn until_up(socket: &HubSocket, hub: &mut Running) -> Result<()> {
    let up = async {
        while socket.get("/api/v1/session").await.is_err() {
            hub.check()?;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(START_MAX, up).await.context("it did not answer in time")?
}

/// Returns when the hub has a session with each of these agents, or after a time: an agent that ends
/// without one keeps what it holds for its next start. What has died is started again.
async fn until_online(demo: &mut Demo, names: &[String]) -> Result<()> {
    let wait = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(200));
        loop {
            ticks.tick().await;
            revive_hub(demo).await?;
            for agent in demo.agents.iter_mut().filter(|agent| names.iter().any(|name| name == agent.name()))
            {
                revive_agent(agent)?;
            }
            let page: Result<DevicePage> = demo.socket.get_as("/api/v1/devices").await;
            let online = |name: &String, page: &DevicePage| {
                page.devices.iter().any(|d| d.id == *name && d.connected_ms.is_some())
            };
            if page.is_ok_and(|page| names.iter().all(|name| online(name, &page))) {
                return anyhow::Ok(());
            }
        }
    };
    match tokio::time::timeout(CONNECT_MAX, wait).await {
        Ok(done) => done,
        Err(_late) => {
            errln!("not every agent is connected after {} s", CONNECT_MAX.as_secs());
            Ok(())
        }
    }
}

fn revive_agent(agent: &mut Running) -> Result<()> {
    if let Some(status) = agent.revive()? {
        errln!("{} ended ({status}) and is started again", agent.name());
    }
    Ok(())
}

/// Shows progress each second and cuts the line of demo-1 once, until the end. What ends by itself
/// is started again: it must cost no reading.
async fn watch(args: &DemoArgs, outage: &Outage, demo: &mut Demo, stop: &mut StopSignals) -> Result<()> {
    let clock = SystemClock::default();
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    let mut was_cut = false;
    loop {
        tokio::select! {
            () = stop.next() => return Ok(()),
            _ = ticks.tick() => {}
        }
        let elapsed = Duration::from_nanos(clock.mono_ns());
        if args.duration.is_some_and(|all| elapsed >= all) {
            return Ok(());
        }
        let cut = elapsed >= outage.begin && elapsed < outage.end;
        if cut != was_cut {
            was_cut = cut;
            demo.relay.set_cut(cut);
            errln!("{}", if cut { "demo-1 is cut off" } else { "demo-1 is connected again" });
        }
        revive_hub(demo).await?;
        demo.agents.iter_mut().chain(&mut demo.field).try_for_each(revive_agent)?;
        if let Err(error) = progress(&demo.socket, elapsed, cut).await {
            // The next look finds a hub that has ended; one that runs must answer.
            if demo.hub.check().is_ok() {
                return Err(error);
            }
        }
    }
}

async fn revive_hub(demo: &mut Demo) -> Result<()> {
    if let Some(status) = demo.hub.revive()? {
        errln!("the hub ended ({status}) and is started again");
        until_up(&demo.socket, &mut demo.hub).await?;
    }
    Ok(())
}

async fn progress(socket: &HubSocket, elapsed: Duration, cut: bool) -> Result<()> {
    let page: DevicePage = socket.get_as("/api/v1/devices").await?;
    // What is behind an agent is in its account.
    let agents = page.devices.iter().filter(|device| device.id == device.agent);
    let parts = agents.map(|device| {
        // The hub takes a while to notice that a line is dead.
        let state = match device.state {
            _ if cut && device.id == "demo-1" => "cut off",
            DeviceState::Never => "not there yet",
            state => state.as_str(),
        };
        let Ledger { produced, stored, pending, .. } = device.ledger;
        format!("{} {state} produced {produced} stored {stored} pending {pending}", device.id)
    });
    errln!("{:>4} s  {}", elapsed.as_secs(), parts.collect::<Vec<_>>().join(" | "));
    Ok(())
}

/// The wanted port of loopback, or a free one when it is taken.
fn free_tcp(wanted: u16) -> Result<u16> {
    let local = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    Ok(local(wanted).or_else(|_| local(0))?.local_addr()?.port())
}

fn free_udp(wanted: u16) -> Result<u16> {
    let local = |port| UdpSocket::bind((Ipv4Addr::LOCALHOST, port));
    Ok(local(wanted).or_else(|_| local(0))?.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outage_ends_before_the_demo_does() {
        let s = Duration::from_secs;
        let plan = |wanted: Option<u64>, all: Option<u64>| {
            let outage = Outage::plan(wanted.map(s), all.map(s));
            (outage.begin.as_secs(), outage.end.as_secs(), outage.shortened_from.map(|d| d.as_secs()))
        };
        assert_eq!(plan(None, None), (20, 40, None));
        assert_eq!(plan(Some(90), None), (20, 110, None));
        assert_eq!(plan(None, Some(60)), (20, 40, None));
        assert_eq!(plan(None, Some(9)), (3, 6, None));
        assert_eq!(plan(Some(30), Some(60)), (20, 50, None));
        assert_eq!(plan(Some(40), Some(60)), (20, 40, Some(40)));
        assert_eq!(plan(Some(0), Some(60)), (20, 20, None));
    }
}
