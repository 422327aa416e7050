//! `cloud-hub demo`: a real hub and real agents on this machine, an outage, and the account.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line speaks on stdout and stderr")]

mod account;
mod children;
mod relay;

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tideline_protocol::time::{Clock as _, SystemClock};

use crate::cli::{DemoArgs, HubSocket};
use account::Account;
use children::{Folder, Running};
use cloud_hub::config::Config;
use cloud_hub::secret;
use relay::Relay;

/// A recording of a machine's own load: three minutes at one row a second.
const RECORDING: &str = include_str!("../demo/recording.csv");
/// Rows a second that a replaying agent reads.
const REPLAY_ROWS_PER_S: u32 = 1;
/// When the outage begins if the demo has no end.
const OUTAGE_AT: Duration = Duration::from_secs(20);
const START_MAX: Duration = Duration::from_secs(20);
const DRAIN_MAX: Duration = Duration::from_secs(60);

struct Demo {
    folder: Folder,
    socket: HubSocket,
    hub: Running,
    relay: Relay,
    agents: Vec<(String, Running)>,
}

/// Runs the demo.
///
/// # Errors
/// Something could not be started, or the account does not balance.
pub async fn run(args: &DemoArgs) -> Result<()> {
    let agent_program = children::agent_binary()?;
    let folder = Folder {
        path: std::env::temp_dir().join(format!("tideline-demo-{}", secret::random_id()?)),
        keep: false,
    };
    std::fs::create_dir_all(&folder.path)?;
    let mut demo = start(args, folder, &agent_program).await?;
    let result = play(args, &mut demo, &agent_program).await;
    if result.is_err() {
        demo.folder.keep = true;
        eprintln!("the demo's files are kept in {}", demo.folder.path.display());
    }
    result
}

async fn play(args: &DemoArgs, demo: &mut Demo, agent_program: &Path) -> Result<()> {
    watch(args, demo).await?;
    demo.relay.set_cut(false);
    eprintln!("ending: the agents send what they still hold");
    let mut names = Vec::new();
    for (name, agent) in demo.agents.drain(..) {
        agent.terminate(DRAIN_MAX).await?;
        names.push(name);
    }
    let mut entries = Vec::new();
    for name in names {
        let data = agent_dir(&demo.folder.path, &name);
        let inspect = ["store", "inspect", "--json", "--data"]
            .map(str::to_owned)
            .into_iter()
            .chain([data.display().to_string()]);
        let said = children::finish(&name, agent_program, &inspect.collect::<Vec<_>>()).await?;
        entries.push(account::entry(&demo.socket, &name, &said).await?);
    }
    demo.hub.check()?;
    let account = Account::of(entries);
    eprint!("{}", account.words());
    if args.json {
        println!("{}", serde_json::to_string(&account)?);
    }
    if account.good() { Ok(()) } else { bail!("the account is not good") }
}

async fn start(args: &DemoArgs, folder: Folder, agent_program: &Path) -> Result<Demo> {
    let data = folder.path.join("hub");
    std::fs::create_dir_all(&data)?;
    let (http, https, quic) = (free_tcp(args.port)?, free_tcp(8443)?, free_udp(4433)?);
    let local = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port)).to_string();
    let env = [
        ("TIDELINE_HTTP_LISTEN", local(http)),
        ("TIDELINE_HTTPS_LISTEN", local(https)),
        ("TIDELINE_QUIC_LISTEN", local(quic)),
        ("TIDELINE_HUB_PUBLIC_ADDRESS", "127.0.0.1".to_owned()),
    ];
    let serve = ["serve".to_owned(), "--data".to_owned(), data.display().to_string()];
    let mut hub =
        children::start("the hub", &std::env::current_exe()?, &serve, &env, &folder.path.join("hub.log"))?;
    let socket = HubSocket::of(&Config { data_dir: data, ..Config::default() });
    if let Err(error) = until_up(&socket, &mut hub).await {
        let log = std::fs::read_to_string(folder.path.join("hub.log")).unwrap_or_default();
        bail!("the hub did not come up: {error:#}\n{log}");
    }
    let password = secret::random()?.chars().filter(char::is_ascii_alphanumeric).take(16).collect::<String>();
    socket.post("/api/v1/users", &json!({"name": "demo", "password": password, "role": "admin"})).await?;
    eprintln!("dashboard: http://{}/  user: demo  password: {password}", local(http));
    let relay = Relay::start(SocketAddr::from((Ipv4Addr::LOCALHOST, quic))).await?;
    let recording = match &args.csv {
        Some(path) => std::fs::canonicalize(path).with_context(|| format!("--csv {}", path.display()))?,
        None => {
            let path = folder.path.join("recording.csv");
            std::fs::write(&path, RECORDING)?;
            path
        }
    };
    let mut agents = Vec::new();
    for number in 1..=args.agents {
        let name = format!("demo-{number}");
        let through = (number == 1).then_some(relay.address);
        let source = if number % 2 == 1 { Source::Host } else { Source::Replay(recording.clone()) };
        let running = start_agent(&socket, agent_program, &folder.path, &name, through, &source).await?;
        agents.push((name, running));
    }
    Ok(Demo { folder, socket, hub, relay, agents })
}

/// What an agent reads.
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
    source: &Source,
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
    std::fs::write(&config, agent_config(source))?;
    let mut run =
        vec!["run".to_owned(), "--data".to_owned(), dir, "--config".to_owned(), config.display().to_string()];
    if let Some(address) = through {
        run.extend(["--hub".to_owned(), address.to_string()]);
    }
    children::start(name, program, &run, &[], &folder.join(format!("{name}.log")))
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

/// Shows progress each second and cuts the line of demo-1 once, until the end.
async fn watch(args: &DemoArgs, demo: &mut Demo) -> Result<()> {
    let clock = SystemClock::default();
    let begin = args.duration.map_or(OUTAGE_AT, |all| all / 3);
    let stop = crate::stop_signal();
    tokio::pin!(stop);
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    let mut was_cut = false;
    loop {
        tokio::select! {
            () = &mut stop => return Ok(()),
            _ = ticks.tick() => {}
        }
        let elapsed = Duration::from_nanos(clock.mono_ns());
        if args.duration.is_some_and(|all| elapsed >= all) {
            return Ok(());
        }
        let cut = elapsed >= begin && elapsed < begin + args.outage;
        if cut != was_cut {
            was_cut = cut;
            demo.relay.set_cut(cut);
            eprintln!("{}", if cut { "demo-1 is cut off" } else { "demo-1 is connected again" });
        }
        demo.hub.check()?;
        demo.agents.iter_mut().try_for_each(|(_, agent)| agent.check())?;
        progress(&demo.socket, elapsed).await?;
    }
}

async fn progress(socket: &HubSocket, elapsed: Duration) -> Result<()> {
    let page = socket.get("/api/v1/devices").await?;
    let devices = page.get("devices").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let parts: Vec<String> = devices
        .iter()
        .map(|device| {
            let number = |path: &str| device.pointer(path).and_then(Value::as_u64).unwrap_or(0);
            let text = |path: &str| device.pointer(path).and_then(Value::as_str).unwrap_or("?").to_owned();
            format!(
                "{} {} produced {} stored {} pending {}",
                text("/id"),
                text("/state"),
                number("/ledger/produced"),
                number("/ledger/stored"),
                number("/ledger/pending")
            )
        })
        .collect();
    eprintln!("{:>4} s  {}", elapsed.as_secs(), parts.join(" | "));
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
