//! CoAP: resources of devices, which are observed where a device can do that and polled where it cannot.
//!
//! Each device has a socket and a task of its own, so that one that does not answer holds up no other. Nothing is
//! encrypted: DTLS is not spoken.
//!
//! What is written to a device is put at the point's resource, as the whole of it, and is done when the server says so.

pub mod cbor;
pub(crate) mod message;
pub mod peer;
mod put;

use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tideline_profiles::form::protocol::Protocol;
use tideline_profiles::json::{self, Mapping};
use tideline_profiles::{Place, Profile};
use tideline_protocol::model::PointId;
use tideline_protocol::value::Quality;
use tokio::net::{UdpSocket, lookup_host};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use self::peer::{Answer, Body, DATAGRAM_BYTES_MAX, Peer, Trouble};
use self::put::{PUT_BYTES_MAX, PutError};
use super::reads::{self, Ask};
use super::sheets::Sheets;
use super::subject::Subject;
use super::writes::Inbox;
use super::{Context, Device, Source, SourceError, Write};
use crate::config::DeviceConfig;
use crate::resilience::Retry;

/// The rests of a device that does not answer.
const SILENT: Retry = Retry { base_ms: 5_000, factor: 2, max_ms: 300_000 };
/// A resource that tells no change while it is fresh is asked again this long after.
const GRACE: Duration = Duration::from_secs(10);

/// Reads resources of devices.
#[derive(Debug, Clone)]
pub struct CoapSource {
    /// The devices.
    pub devices: Vec<DeviceConfig>,
}

impl Source for CoapSource {
    async fn run(&mut self, context: &mut Context) -> Result<(), SourceError> {
        let mut tasks = JoinSet::new();
        for config in &self.devices {
            let mut server = Server::new(config).map_err(SourceError::Failed)?;
            let context = context.clone();
            tasks.spawn(async move { server.run(&context).await });
        }
        match context.wait(tasks.join_next()).await? {
            Some(ended) => ended.map_err(SourceError::failed)?,
            None => Err(SourceError::failed("it has no device; a [[device]] says where one is")),
        }
    }
}

/// Takes an address apart: `host`, `host:port` or `coap://host:port`; gives host and port.
///
/// # Errors
/// It is none; says what is allowed.
pub fn address(text: &str, usual: u16) -> Result<(String, u16), String> {
    let wrong = || {
        format!(
            "{text:?} is no address of CoAP; allowed are host, host:port and coap://host:port, without DTLS"
        )
    };
    let rest = text.strip_prefix("coap://").unwrap_or(text).trim_end_matches('/');
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !rest.ends_with(']') => (host, port.parse().map_err(|_| wrong())?),
        _ => (rest, usual),
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_name = |host: &str| !host.is_empty() && !host.contains(['/', ':', '[', ']', '@', ' ']);
    match bare {
        Some(v6) if v6.parse::<Ipv6Addr>().is_ok() => Ok((v6.to_owned(), port)),
        None if is_name(host) => Ok((host.to_owned(), port)),
        _ => Err(wrong()),
    }
}

/// A resource of a device.
#[derive(Debug)]
struct Resource {
    path: String,
    points: Vec<PointId>,
    interval: Duration,
    due: Instant,
}

/// A device.
struct Server {
    host: String,
    port: u16,
    observe: bool,
    subject: Subject,
    mapping: Mapping,
    resources: Vec<Resource>,
    failures: u32,
    rests_until: Option<Instant>,
    // What is being put, and where.
    writing: Option<(Write, String)>,
    // What somebody wants to know, and where that stands.
    asking: Option<(Ask, String)>,
}

/// What others want of a device.
struct Wishes {
    writes: Inbox,
    asks: reads::Inbox,
}

/// What a device's task waits for.
enum Wake {
    Read(std::io::Result<usize>),
    Write(Write),
    Ask(Ask),
    Due,
}

fn resources(profile: &Profile, mapping: &Mapping) -> Vec<Resource> {
    let of = |path: String| {
        let here = profile
            .points()
            .filter(|(_, point)| matches!(&point.place, Place::Message { topic, .. } if *topic == path));
        let here: Vec<_> = here.collect();
        let interval_ms = here.iter().map(|(_, point)| point.interval_ms).min().unwrap_or(60_000);
        Resource {
            points: here.iter().filter_map(|(id, _)| PointId::parse(id).ok()).collect(),
            path,
            interval: Duration::from_millis(interval_ms.max(10).into()),
            due: Instant::now(),
        }
    };
    mapping.topics(None).into_iter().map(of).collect()
}

impl Server {
    fn new(config: &DeviceConfig) -> Result<Self, String> {
        let profile = config.family.clone().ok_or_else(|| format!("{}: it has no profile", config.id))?;
        let Protocol::Coap(table) = profile.protocol() else {
            return Err(format!("{}: profile {} is not of CoAP", config.id, profile.name()));
        };
        let mapping = Mapping::of(&profile).map_err(|error| format!("{}: {error}", config.id))?;
        let (host, port) =
            address(&config.address, table.port).map_err(|error| format!("{}: {error}", config.id))?;
        Ok(Self {
            host,
            port,
            observe: table.observe,
            resources: resources(&profile, &mapping),
            subject: Subject::new(
                Device::of(config.id.clone(), profile.clone()),
                config.stream.clone(),
                &format!("coap {}", config.address),
            ),
            mapping,
            failures: 0,
            rests_until: None,
            writing: None,
            asking: None,
        })
    }

    /// Asks for ever. A socket that fails, as one whose network is away, is opened anew after a rest.
    async fn run(&mut self, context: &Context) -> Result<(), SourceError> {
        let mut wishes = Wishes { writes: context.writes(), asks: context.reads() };
        wishes.writes.serve(&self.subject.device);
        wishes.asks.serve(&self.subject.device.id);
        loop {
            let problem = match self.connect().await {
                Ok(socket) => self.converse(context, &socket, &mut wishes).await?,
                Err(error) => error,
            };
            if let Some((write, _)) = self.writing.take() {
                write.unknown(&problem);
            }
            if let Some((ask, _)) = self.asking.take() {
                ask.failed(&problem);
            }
            context.statistics().failed(&format!("{}: {problem}", self.subject.device.id));
            let mut sheets = Sheets::new(context);
            self.silent(&mut sheets);
            let heard = sheets.heard(&self.subject.device.id);
            (heard.failures, heard.last_error) = (heard.failures + 1, Some(problem.to_string()));
            sheets.hand_on(context, false).await?;
            context.sleep_until(self.rests_until.unwrap_or_else(Instant::now)).await?;
        }
    }

    async fn connect(&self) -> Result<UdpSocket, std::io::Error> {
        let found = lookup_host((self.host.as_str(), self.port)).await?.next();
        let to = found.ok_or_else(|| std::io::Error::other(format!("{} has no address", self.host)))?;
        let from: SocketAddr = match to {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(from).await?;
        socket.connect(to).await?;
        Ok(socket)
    }

    /// Asks and listens until the socket fails; gives why.
    async fn converse(
        &mut self,
        context: &Context,
        socket: &UdpSocket,
        wishes: &mut Wishes,
    ) -> Result<std::io::Error, SourceError> {
        let name = if self.host.parse::<std::net::IpAddr>().is_ok() { "" } else { &self.host };
        let mut peer = Peer::new(name, entropy());
        self.resources.iter_mut().for_each(|resource| resource.due = Instant::now());
        let base = Instant::now();
        let now_ns = || u64::try_from(base.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let mut datagram = vec![0; DATAGRAM_BYTES_MAX + 1];
        loop {
            // A write goes before polls; requests follow each other.
            if !peer.is_busy()
                && let Some(write) = wishes.writes.try_next()
            {
                self.put(write, &mut peer, now_ns());
            }
            if !peer.is_busy()
                && let Some(ask) = wishes.asks.try_next()
            {
                self.ask_now(ask, &mut peer, now_ns());
            }
            let next = self.ask(&mut peer, now_ns());
            while let Some(datagram) = peer.transmit() {
                match socket.send(&datagram).await {
                    Ok(_) => {}
                    // So was one before it.
                    Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {}
                    Err(error) => return Ok(error),
                }
            }
            let wakes = peer.wakes_ns().map(|ns| base + Duration::from_nanos(ns));
            let wakes = [wakes, next].into_iter().flatten().min();
            let is_free = !peer.is_busy();
            let wait = async {
                tokio::select! {
                    read = socket.recv(&mut datagram) => Wake::Read(read),
                    write = wishes.writes.next(), if is_free => Wake::Write(write),
                    ask = wishes.asks.next(), if is_free => Wake::Ask(ask),
                    () = sleep_until(wakes.unwrap_or(base)), if wakes.is_some() => Wake::Due,
                }
            };
            match context.wait(wait).await? {
                Wake::Read(Ok(count)) => {
                    peer.handle(now_ns(), datagram.get(..count).unwrap_or_default(), entropy());
                }
                // Nobody listens there: it may later.
                Wake::Read(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                    peer.give_up();
                }
                Wake::Read(Err(error)) => return Ok(error),
                Wake::Write(write) => self.put(write, &mut peer, now_ns()),
                Wake::Ask(ask) => self.ask_now(ask, &mut peer, now_ns()),
                Wake::Due => peer.wake(now_ns()),
            }
            let mut sheets = Sheets::new(context);
            while let Some(answer) = peer.answer() {
                let said = (answer.path.clone(), answer.outcome.as_ref().err().map(ToString::to_string));
                self.take(answer, context, &mut sheets);
                sheets.judge(context);
                self.tell(said, &sheets);
            }
            if let Some(outcome) = peer.settled() {
                self.settle(outcome);
            }
            sheets.hand_on(context, false).await?;
        }
    }

    /// Asks for what is due, one after the other; gives when the next is.
    fn ask(&mut self, peer: &mut Peer, now_ns: u64) -> Option<Instant> {
        if peer.is_busy() {
            return None;
        }
        let now = Instant::now();
        let next = self.resources.iter_mut().min_by_key(|resource| resource.due)?;
        let due = self.rests_until.map_or(next.due, |until| until.max(next.due));
        if due > now {
            return Some(due);
        }
        peer.ask(now_ns, &next.path, self.observe, entropy());
        None
    }

    /// Asks for the resource that a point stands in, or says why not.
    fn ask_now(&mut self, ask: Ask, peer: &mut Peer, now_ns: u64) {
        if let Some(why) = self.bars() {
            return ask.failed(why);
        }
        let resource = self.resources.iter().find(|resource| resource.points.contains(&ask.point));
        let Some(resource) = resource else { return ask.no_point() };
        peer.ask(now_ns, &resource.path, self.observe, entropy());
        self.asking = Some((ask, resource.path.clone()));
    }

    /// Says to who wanted to know what a resource has said, or why it has not.
    fn tell(&mut self, (path, problem): (String, Option<String>), sheets: &Sheets<'_>) {
        if let Some((ask, _)) = self.asking.take_if(|(_, of)| *of == path) {
            match problem {
                Some(problem) => ask.failed(problem),
                None => {
                    let found = sheets.newest(&ask.device, &ask.point);
                    ask.answer(found);
                }
            }
        }
    }

    /// Why it is not asked now; none when it is.
    fn bars(&self) -> Option<String> {
        let wait = self.rests_until?.saturating_duration_since(Instant::now());
        let wait_ms = wait.as_millis();
        (!wait.is_zero()).then(|| format!("it does not answer, and is asked again in {wait_ms} ms"))
    }

    /// Puts a value where its point stands, or says why not.
    fn put(&mut self, write: Write, peer: &mut Peer, now_ns: u64) {
        if let Some(why) = self.bars() {
            return write.not_done(why);
        }
        let profile = self.mapping.profile();
        let (path, body) = match json::write(profile, write.point.as_str(), &write.value) {
            Ok((_, body)) if body.len() > PUT_BYTES_MAX => {
                return write.not_done(format!("it has {} bytes; allowed are {PUT_BYTES_MAX}", body.len()));
            }
            Ok(written) => written,
            Err(error) => return write.not_done(error),
        };
        let place = profile.point(write.point.as_str()).map(|point| &point.place);
        let is_json = matches!(place, Some(Place::Message { pointer: Some(_), .. }));
        let format = if is_json { put::JSON } else { put::TEXT };
        peer.put(now_ns, &path, (body, format), entropy());
        self.writing = Some((write, path));
    }

    /// Says how a write ended, and has its resource read so that it shows.
    fn settle(&mut self, outcome: Result<(), PutError>) {
        let Some((write, path)) = self.writing.take() else { return };
        match outcome {
            Ok(()) => write.done(),
            Err(PutError::Refused(why)) => write.not_done(why),
            Err(PutError::Unknown(why)) => write.unknown(why),
        }
        if let Some(resource) = self.resources.iter_mut().find(|resource| resource.path == path) {
            resource.due = Instant::now();
        }
    }

    fn take(&mut self, answer: Answer, context: &Context, sheets: &mut Sheets<'_>) {
        let now = Instant::now();
        let Some(resource) = self.resources.iter_mut().find(|resource| resource.path == answer.path) else {
            return;
        };
        resource.due = match answer.is_observed {
            true => now + Duration::from_secs(answer.max_age_s.into()) + GRACE,
            false => now + resource.interval,
        };
        let at = format!("{}/{}", self.subject.device.id, answer.path);
        let body = match answer.outcome {
            Ok(body) => body,
            Err(Trouble::Silent) => {
                let error = format!("{at}: {}", Trouble::Silent);
                context.statistics().timed_out(&error);
                let heard = sheets.heard(&self.subject.device.id);
                (heard.timeouts, heard.last_error) = (heard.timeouts + 1, Some(error));
                return self.silent(sheets);
            }
            Err(trouble) => {
                (self.failures, self.rests_until) = (0, None);
                let points = resource.points.clone();
                self.fail(format!("{at}: {trouble}"), sheets);
                return self.subject.silence(|point| points.contains(point), sheets);
            }
        };
        (self.failures, self.rests_until) = (0, None);
        if let Err(error) = read(&self.mapping, &answer.path, &body, &mut self.subject, sheets) {
            self.fail(format!("{at}: {error}"), sheets);
        }
    }

    /// Something that it says is no reading.
    fn fail(&self, reason: String, sheets: &mut Sheets<'_>) {
        let id = &self.subject.device.id;
        sheets.heard(id).failures += 1;
        sheets.reject_of(id, reason);
    }

    /// It does not answer, and is left alone for a while.
    fn silent(&mut self, sheets: &mut Sheets<'_>) {
        let rest = Duration::from_millis(SILENT.wait_ms(self.failures, entropy()).max(SILENT.base_ms));
        self.failures = self.failures.saturating_add(1);
        self.rests_until = Some(Instant::now() + rest);
        self.subject.silence(|_| true, sheets);
        sheets.heard(&self.subject.device.id).is_silent = true;
    }
}

/// What a resource says, as a text or JSON.
///
/// # Errors
/// It is of another format, or not of its own.
pub(crate) fn json_of(body: &Body) -> Result<Cow<'_, [u8]>, String> {
    // By the registry of content formats: texts, JSON, SenML of JSON; CBOR, SenML of CBOR.
    match body.format {
        None | Some(0 | 50 | 110) => Ok(Cow::Borrowed(&body.bytes)),
        Some(60 | 112) => {
            let json = cbor::json(&body.bytes).map_err(|error| format!("no CBOR: {error}"))?;
            Ok(Cow::Owned(json.to_string().into_bytes()))
        }
        Some(other) => Err(format!("content format {other} is not read; texts, JSON and CBOR are")),
    }
}

/// Adds what a resource says.
fn read(
    mapping: &Mapping,
    path: &str,
    body: &Body,
    subject: &mut Subject,
    sheets: &mut Sheets<'_>,
) -> Result<(), String> {
    let bytes = json_of(body)?;
    let Some(message) = mapping.read(path, &bytes).map_err(|error| error.to_string())? else { return Ok(()) };
    if let Some(problem) = message.time_problem {
        sheets.reject_of(&subject.device.id, format!("{}/{path}: {problem}", subject.device.id));
    }
    for decoded in &message.readings {
        subject.say(decoded, message.time_ns, Quality::Good, sheets);
    }
    Ok(())
}

fn entropy() -> u64 {
    let mut bytes = [0; 8];
    // Without entropy devices are asked in step, which is no fault.
    let _ = getrandom::fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        let good = [
            ("sensor.local", ("sensor.local", 5683)),
            ("10.0.0.7:5700", ("10.0.0.7", 5700)),
            ("coap://10.0.0.7/", ("10.0.0.7", 5683)),
            ("coap://[fd00::7]:61616", ("fd00::7", 61_616)),
            ("[fd00::7]", ("fd00::7", 5683)),
        ];
        for (text, (host, port)) in good {
            assert_eq!(address(text, 5683), Ok((host.to_owned(), port)), "{text}");
        }
        for text in ["", "coaps://a", "a:b", "a/b", "fd00::7:x", "[a]", "a@b"] {
            assert!(address(text, 5683).is_err(), "{text}");
        }
    }
}
