//! Simulated devices on the network: servers of Modbus TCP, CoAP and OPC UA, publishers of MQTT and Sparkplug, one that posts over
//! HTTP, lines of NMEA over TCP; and on a serial line Modbus RTU and NMEA.

pub mod coap;
mod http;
#[cfg(feature = "opcua-simulator")]
mod opcua;
mod serial;
mod sparkplug;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use tideline_link::outln;
use tideline_profiles::simulate::registers::Registers;
use tideline_profiles::simulate::{Device, pdu};
use tideline_profiles::{Profile, Protocol, json, nmea};
use tideline_protocol::time::{Clock as _, SystemClock};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, broadcast};
use tokio::task::JoinSet;

use crate::run::{end_of_stdin, ended};

/// Most connections at once: a simulated device has to do with a few masters.
const CONNECTIONS_MAX: usize = 64;
/// Transaction, protocol and length of Modbus TCP, and the unit.
const HEADER_BYTES: usize = 7;
/// What a gateway says of a unit that does not answer.
const NO_SUCH_UNIT: u8 = 11;
/// Most lines that a slow reader may be behind.
const LINES_MAX: usize = 256;
/// Most messages that wait for the broker.
const MESSAGES_MAX: usize = 256;

/// How a device is simulated.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Where a device of Modbus, NMEA, CoAP or OPC UA listens
    #[arg(long, default_value = "127.0.0.1:5020")]
    pub listen: SocketAddr,
    /// A serial line in place of --listen, for a device of Modbus (RTU) or NMEA: a pseudo-terminal, whose path is told
    #[arg(long, conflicts_with = "listen")]
    pub serial: bool,
    /// The unit that a device of Modbus is; it answers as any when left out
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=247))]
    pub unit: Option<u8>,
    /// host:port of the broker that a device of MQTT or a node of Sparkplug publishes to
    #[arg(long, default_value = "127.0.0.1:1883")]
    pub broker: String,
    /// http://host:port that a device of HTTP posts to
    #[arg(long, default_value = "http://127.0.0.1:8091")]
    pub to: String,
    /// What it shows there
    #[arg(long)]
    pub token: Option<String>,
    /// The name that a device of MQTT or HTTP has in its topics or paths; of Sparkplug node, group/node or group/node/device
    #[arg(long, default_value = "simulated-1")]
    pub device: String,
    /// How often values move, in ms
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    pub interval_ms: u64,
    /// The same seed gives the same values
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// End after this many seconds, not at Ctrl-C
    #[arg(long)]
    pub for_s: Option<u64>,
    /// End when stdin does
    #[arg(long, hide = true)]
    pub until_stdin_ends: bool,
}

/// Serves a device until it is to end.
///
/// # Errors
/// There is no simulation for its protocol, or its address cannot be taken.
pub async fn run(profile: &Profile, options: Options) -> anyhow::Result<()> {
    let parent = if options.until_stdin_ends { Some(end_of_stdin()?) } else { None };
    let end = async {
        let over = async {
            match options.for_s {
                Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
                None => drop(tokio::signal::ctrl_c().await),
            }
        };
        tokio::select! {
            () = over => {}
            () = ended(parent) => {}
        }
    };
    let device = Device::new(profile, options.seed);
    check(profile, &options)?;
    let serve = async {
        match profile.protocol() {
            Protocol::Modbus(_) | Protocol::SunSpec(_) if options.serial => {
                serial::modbus(device, &options).await
            }
            Protocol::Nmea(_) if options.serial => serial::lines(device, &options).await,
            Protocol::Modbus(_) | Protocol::SunSpec(_) => modbus(device, &options).await,
            Protocol::Mqtt(_) => mqtt(device, &options).await,
            Protocol::Sparkplug(_) => sparkplug::run(device, &options).await,
            Protocol::Coap(_) => coap::run(device, &options).await,
            #[cfg(feature = "opcua-simulator")]
            Protocol::OpcUa(_) => opcua::run(device, &options).await,
            #[cfg(not(feature = "opcua-simulator"))]
            Protocol::OpcUa(_) => anyhow::bail!(
                "this agent was built without its OPC UA server; one built with the feature opcua-simulator has it"
            ),
            Protocol::Http(_) => http::run(device, &options).await,
            Protocol::Nmea(_) => lines(device, &options).await,
            // Those are refused before.
            Protocol::Host(_) | Protocol::None => Ok(()),
        }
    };
    tokio::select! {
        served = serve => served,
        () = end => Ok(()),
    }
}

/// Whether there is something to be simulated, in the way that is asked for.
fn check(profile: &Profile, options: &Options) -> anyhow::Result<()> {
    let (name, protocol) = (profile.name(), profile.protocol());
    match protocol {
        Protocol::Host(_) => anyhow::bail!(
            "{name}: a device of host cannot be simulated: it is the machine that the agent runs on, which a source of kind \"host\" measures by itself, and nothing \
             stands between them that could be another's; a recording of values is played by a source of kind \"replay\""
        ),
        Protocol::None => anyhow::bail!(
            "{name}: a device without a protocol cannot be simulated: its points are columns of files, which a source of kind \"tail\", \"stdin\" or \
             \"replay\" reads; a profile with one of the tables modbus, sunspec, mqtt, sparkplug, coap, http, nmea, opcua can be"
        ),
        _ => {}
    }
    let is_modbus = matches!(protocol, Protocol::Modbus(_) | Protocol::SunSpec(_));
    anyhow::ensure!(
        !options.serial || is_modbus || matches!(protocol, Protocol::Nmea(_)),
        "--serial: a device of {} has no serial line; allowed are modbus, sunspec, nmea",
        protocol.as_str()
    );
    anyhow::ensure!(
        options.unit.is_none() || is_modbus,
        "--unit: a device of {} is no unit of a bus",
        protocol.as_str()
    );
    Ok(())
}

async fn bind(options: &Options) -> anyhow::Result<TcpListener> {
    TcpListener::bind(options.listen).await.with_context(|| format!("listen at {}", options.listen))
}

/// The broker's host and port.
fn broker(options: &Options) -> anyhow::Result<(&str, u16)> {
    let parts = options.broker.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    parts.context("--broker: must be host:port")
}

/// The first tick is an interval away: until then the device is as it was made.
fn interval(options: &Options) -> tokio::time::Interval {
    let interval = Duration::from_millis(options.interval_ms);
    tokio::time::interval_at(tokio::time::Instant::now() + interval, interval)
}

fn say(device: &Device, what: &str, options: &Options) {
    outln!("{} {what} (seed {})", device.profile().name(), options.seed);
}

async fn modbus(device: Device, options: &Options) -> anyhow::Result<()> {
    let listener = bind(options).await?;
    say(&device, &format!("answers Modbus TCP at {}", listener.local_addr()?), options);
    let registers = Arc::new(Mutex::new(Registers::new(device)?));
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut ticks = interval(options);
    loop {
        tokio::select! {
            _ = ticks.tick() => registers.lock().unwrap_or_else(PoisonError::into_inner).step(),
            accepted = listener.accept() => {
                let Ok((stream, peer)) = accepted else { continue };
                let Ok(place) = room.clone().try_acquire_owned() else {
                    tracing::warn!(%peer, "more connections than {CONNECTIONS_MAX}: closed");
                    continue;
                };
                let (registers, own) = (registers.clone(), options.unit);
                tokio::spawn(async move {
                    if let Err(error) = answer(stream, &registers, own).await {
                        tracing::debug!(%peer, %error, "connection ends");
                    }
                    drop(place);
                });
            }
        }
    }
}

/// Answers the requests of one connection, for its own unit or for any.
async fn answer(mut stream: TcpStream, registers: &Mutex<Registers>, own: Option<u8>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let mut header = [0; HEADER_BYTES];
        stream.read_exact(&mut header).await?;
        let [t0, t1, p0, p1, l0, l1, unit] = header;
        // The length counts the unit.
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        if (p0, p1) != (0, 0) || !(2..=pdu::PDU_BYTES_MAX + 1).contains(&length) {
            return Err(std::io::Error::other(format!("no Modbus TCP: protocol {p0}.{p1}, length {length}")));
        }
        let mut request = vec![0; length - 1];
        stream.read_exact(&mut request).await?;
        let answer = if own.is_some_and(|own| own != unit) {
            vec![request.first().copied().unwrap_or_default() | 0x80, NO_SUCH_UNIT]
        } else {
            pdu::answer(&mut registers.lock().unwrap_or_else(PoisonError::into_inner), &request)
        };
        let length = u16::try_from(answer.len() + 1).map_err(std::io::Error::other)?.to_be_bytes();
        let mut frame = vec![t0, t1, 0, 0, length[0], length[1], unit];
        frame.extend(answer);
        stream.write_all(&frame).await?;
    }
}

async fn lines(mut device: Device, options: &Options) -> anyhow::Result<()> {
    let mapping = nmea::Mapping::of(device.profile())?;
    let listener = bind(options).await?;
    say(&device, &format!("tells its lines at {}", listener.local_addr()?), options);
    let (out, _) = broadcast::channel::<String>(LINES_MAX);
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut ticks = interval(options);
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                device.step();
                for line in mapping.lines(device.values())? {
                    // Nobody has to listen.
                    let _ = out.send(line);
                }
            }
            accepted = listener.accept() => {
                let Ok((mut stream, _)) = accepted else { continue };
                let Ok(place) = room.clone().try_acquire_owned() else { continue };
                let mut lines = out.subscribe();
                tokio::spawn(async move {
                    let _place = place;
                    loop {
                        match lines.recv().await {
                            Ok(line) if stream.write_all(line.as_bytes()).await.is_ok() => {}
                            Err(broadcast::error::RecvError::Lagged(_)) => {}
                            _ => return,
                        }
                    }
                });
            }
        }
    }
}

async fn mqtt(mut device: Device, options: &Options) -> anyhow::Result<()> {
    let mapping = json::Mapping::of(device.profile())?;
    let (host, port) = broker(options)?;
    let mut settings = MqttOptions::new(format!("tideline-simulate-{}", options.device), host, port);
    settings.set_keep_alive(Duration::from_secs(15));
    let (client, mut connection) = AsyncClient::new(settings, MESSAGES_MAX);
    say(&device, &format!("publishes as {} to {}", options.device, options.broker), options);
    let broker = options.broker.clone();
    let retry = Duration::from_millis(options.interval_ms.max(500));
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            match connection.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(_))) => tracing::info!(broker, "connected"),
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(broker, %error, "no broker");
                    tokio::time::sleep(retry).await;
                }
            }
        }
    });
    let (clock, mut ticks) = (SystemClock::default(), interval(options));
    loop {
        ticks.tick().await;
        device.step();
        for (topic, payload) in mapping.messages(&options.device, device.values(), clock.wall_ns())? {
            // A broker that is away for long gets what is then.
            if let Err(error) = client.try_publish(topic, QoS::AtMostOnce, false, payload) {
                tracing::debug!(%error, "not published");
            }
        }
    }
}
