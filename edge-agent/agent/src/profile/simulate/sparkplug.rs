//! A node of Sparkplug B, alone or with one device behind it: births, data, rebirths on command, and a will. The core has
//! no I/O.
//!
//! Call order of [`Node`]: [`Node::will`] before each connection, [`Node::births`] once it stands and when it is asked for
//! them, [`Node::data`] after that. Times are ms since 1970.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use prost::Message as _;
use rumqttc::{AsyncClient, Event, LastWill, MqttOptions, Packet, Publish, QoS};
use tideline_profiles::form::protocol::Protocol;
use tideline_profiles::names::Names;
use tideline_profiles::simulate::Device;
use tideline_profiles::{EncodeError, Profile};
use tideline_protocol::model::PointId;
use tideline_protocol::time::{Clock as _, SystemClock};
use tideline_protocol::value::Value;
use tokio::sync::mpsc;

use super::{MESSAGES_MAX, Options, broker, interval, say};
use crate::source::sparkplug::payload::{BD_SEQ, Metric, MetricValue, Payload, REBIRTH, kind};

/// The group of a node that is named without one.
const GROUP: &str = "simulated";
/// The datatype of numbers of sessions.
const UINT64: u32 = 8;

/// What a node is told to do.
#[derive(Debug, Default, PartialEq)]
pub struct Told {
    /// To give its births again.
    pub rebirth: bool,
    /// To set points.
    pub writes: Vec<(PointId, Value)>,
}

/// A node.
pub struct Node {
    namespace: String,
    group: String,
    node: String,
    device: Option<String>,
    names: Names,
    bd_seq: u64,
    seq: u8,
    // By point: its alias, and what was told last.
    told: BTreeMap<PointId, (u64, Value)>,
}

type Message = (String, Vec<u8>);

impl Node {
    /// `node`, `group/node` or `group/node/device`.
    pub fn new(address: &str, profile: &Profile) -> anyhow::Result<Self> {
        let parts: Vec<&str> = address.split('/').collect();
        let is_name = |part: &&str| !part.is_empty() && !part.contains(['+', '#']);
        let wrong = || {
            anyhow::anyhow!(
                "--device: {address:?} is no node; allowed are node, group/node and group/node/device"
            )
        };
        anyhow::ensure!(parts.iter().all(is_name), wrong());
        let (group, node, device) = match parts.as_slice() {
            [node] => (GROUP, *node, None),
            [group, node] => (*group, *node, None),
            [group, node, device] => (*group, *node, Some((*device).to_owned())),
            _ => return Err(wrong()),
        };
        let Protocol::Sparkplug(table) = profile.protocol() else {
            anyhow::bail!("profile {} is not of sparkplug", profile.name());
        };
        Ok(Self {
            namespace: table.namespace.clone(),
            group: group.to_owned(),
            node: node.to_owned(),
            device,
            names: Names::of(profile),
            // The first will makes it 0.
            bd_seq: u64::MAX,
            seq: 0,
            told: BTreeMap::new(),
        })
    }

    /// As sources name it.
    pub fn address(&self) -> String {
        let node = format!("{}/{}", self.group, self.node);
        self.device.as_ref().map_or(node.clone(), |device| format!("{node}/{device}"))
    }

    /// Begins a session; gives what the broker is to publish when it is lost.
    pub fn will(&mut self, now_ms: u64) -> Message {
        self.bd_seq = self.bd_seq.wrapping_add(1) % 256;
        let payload = Payload { timestamp: Some(now_ms), metrics: vec![self.session()], seq: None };
        (self.topic("NDEATH", None), payload.encode_to_vec())
    }

    /// What tells all of it.
    pub fn births(
        &mut self,
        values: &BTreeMap<PointId, Value>,
        now_ms: u64,
    ) -> Result<Vec<Message>, EncodeError> {
        self.seq = 0;
        self.told.clear();
        let mut metrics = Vec::new();
        for (alias, (id, value)) in (1..).zip(values) {
            let (name, raw) = self.names.write(id, value)?;
            let named = Metric { name: Some(name), alias: Some(alias), ..Metric::of(&raw, now_ms) };
            metrics.push(named);
            self.told.insert(id.clone(), (alias, value.clone()));
        }
        let rebirth = Metric { name: Some(REBIRTH.to_owned()), ..Metric::of(&Value::Bool(false), now_ms) };
        let mut own = vec![self.session(), rebirth];
        let Some(device) = self.device.clone() else {
            own.append(&mut metrics);
            return Ok(vec![self.message("NBIRTH", None, own, now_ms)]);
        };
        let node = self.message("NBIRTH", None, own, now_ms);
        Ok(vec![node, self.message("DBIRTH", Some(&device), metrics, now_ms)])
    }

    /// What has changed since it was told last, under aliases; none when nothing has.
    pub fn data(
        &mut self,
        values: &BTreeMap<PointId, Value>,
        now_ms: u64,
    ) -> Result<Option<Message>, EncodeError> {
        let mut metrics = Vec::new();
        for (id, value) in values {
            let Some((alias, told)) = self.told.get_mut(id).filter(|(_, told)| told != value) else {
                continue;
            };
            let (_, raw) = self.names.write(id, value)?;
            metrics.push(Metric { alias: Some(*alias), ..Metric::of(&raw, now_ms) });
            told.clone_from(value);
        }
        if metrics.is_empty() {
            return Ok(None);
        }
        let device = self.device.clone();
        let verb = if device.is_some() { "DDATA" } else { "NDATA" };
        Ok(Some(self.message(verb, device.as_deref(), metrics, now_ms)))
    }

    /// Where it is told what to do.
    pub fn filters(&self) -> Vec<String> {
        let of_device = self.device.as_deref().map(|device| self.topic("DCMD", Some(device)));
        std::iter::once(self.topic("NCMD", None)).chain(of_device).collect()
    }

    /// What a message at one of its filters tells it; what is none of it is left out.
    pub fn hear(&self, topic: &str, bytes: &[u8]) -> Told {
        let mut heard = Told::default();
        if !self.filters().iter().any(|filter| filter == topic) {
            return heard;
        }
        let Ok(payload) = Payload::read(bytes) else { return heard };
        for metric in payload.metrics {
            let by_alias = |alias: u64| self.told.iter().find(|(_, (known, _))| *known == alias);
            let known =
                metric.alias.and_then(by_alias).and_then(|(id, (_, value))| self.names.write(id, value).ok());
            let Some(name) = metric.name.clone().or(known.map(|(name, _)| name)) else { continue };
            if name == REBIRTH {
                heard.rebirth |= metric.value == Some(MetricValue::Boolean(true));
                continue;
            }
            let datatype = metric.datatype.filter(|datatype| kind(*datatype).is_some());
            let value = datatype.and_then(|datatype| metric.read(datatype).ok());
            let Some(decoded) = value.and_then(|value| self.names.read(&name, &value)) else { continue };
            let writes =
                self.names.profile().point(decoded.point.as_str()).is_some_and(|point| point.access.writes());
            if let (true, Ok((value, _))) = (writes, decoded.outcome) {
                heard.writes.push((decoded.point, value));
            }
        }
        heard
    }

    fn session(&self) -> Metric {
        Metric {
            name: Some(BD_SEQ.to_owned()),
            datatype: Some(UINT64),
            value: Some(MetricValue::Long(self.bd_seq)),
            ..Metric::default()
        }
    }

    fn topic(&self, verb: &str, device: Option<&str>) -> String {
        let node = format!("{}/{}/{verb}/{}", self.namespace, self.group, self.node);
        device.map_or(node.clone(), |device| format!("{node}/{device}"))
    }

    fn message(&mut self, verb: &str, device: Option<&str>, metrics: Vec<Metric>, now_ms: u64) -> Message {
        let payload = Payload { timestamp: Some(now_ms), metrics, seq: Some(self.seq.into()) };
        self.seq = self.seq.wrapping_add(1);
        (self.topic(verb, device), payload.encode_to_vec())
    }
}

/// Publishes until it is to end. A connection that is lost is opened anew, with another session.
pub async fn run(mut device: Device, options: &Options) -> anyhow::Result<()> {
    let mut node = Node::new(&options.device, device.profile())?;
    let (host, port) = broker(options)?;
    say(&device, &format!("publishes as {} to {}", node.address(), options.broker), options);
    let retry = Duration::from_millis(options.interval_ms.max(500));
    let mut ticks = interval(options);
    loop {
        let mut settings = MqttOptions::new(format!("tideline-simulate-{}", node.address()), host, port);
        settings.set_keep_alive(Duration::from_secs(15));
        let (topic, payload) = node.will(now_ms());
        settings.set_last_will(LastWill::new(topic, payload, QoS::AtLeastOnce, false));
        let Err(error) = session(settings, &mut node, &mut device, &mut ticks).await else { return Ok(()) };
        // A value that its own profile rules out stays so.
        if let Some(error) = error.downcast_ref::<EncodeError>() {
            anyhow::bail!("{error}");
        }
        tracing::warn!(broker = options.broker, %error, "no broker");
        tokio::time::sleep(retry).await;
    }
}

/// Publishes until the connection is lost.
async fn session(
    settings: MqttOptions,
    node: &mut Node,
    device: &mut Device,
    ticks: &mut tokio::time::Interval,
) -> anyhow::Result<()> {
    let (client, mut connection) = AsyncClient::new(settings, MESSAGES_MAX);
    let (out, mut came) = mpsc::channel(MESSAGES_MAX);
    // In a task of its own: half of a packet would be lost with a poll that is dropped.
    let mut pump = tokio::task::JoinSet::new();
    pump.spawn(async move {
        loop {
            let event = connection.poll().await;
            let is_over = event.is_err();
            if out.send(event).await.is_err() || is_over {
                return;
            }
        }
    });
    let mut is_born = false;
    loop {
        tokio::select! {
            event = came.recv() => match event.context("the connection has ended")?? {
                Event::Incoming(Packet::ConnAck(_)) => {
                    node.filters().into_iter().try_for_each(|filter| client.try_subscribe(filter, QoS::AtLeastOnce))?;
                    publish(&client, node.births(device.values(), now_ms())?);
                    is_born = true;
                }
                Event::Incoming(Packet::Publish(Publish { topic, payload, .. })) => {
                    let told = node.hear(&topic, &payload);
                    for (id, value) in told.writes {
                        if let Err(error) = device.set(&id, value) {
                            tracing::warn!(%error, "not written");
                        }
                    }
                    if told.rebirth {
                        publish(&client, node.births(device.values(), now_ms())?);
                    } else {
                        publish(&client, node.data(device.values(), now_ms())?);
                    }
                }
                _ => {}
            },
            _ = ticks.tick(), if is_born => {
                device.step();
                publish(&client, node.data(device.values(), now_ms())?);
            }
        }
    }
}

fn publish(client: &AsyncClient, messages: impl IntoIterator<Item = Message>) {
    for (topic, payload) in messages {
        // A host notices that one is missing, and asks for the births.
        if let Err(error) = client.try_publish(topic, QoS::AtMostOnce, false, payload) {
            tracing::debug!(%error, "not published");
        }
    }
}

fn now_ms() -> u64 {
    u64::try_from(SystemClock::default().wall_ns() / 1_000_000).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use tideline_profiles::shipped;
    use tideline_protocol::time::ManualClock;
    use tideline_protocol::value::Quality;

    use super::*;
    use crate::source::directory::Message as Came;
    use crate::source::mqtt::Speech as _;
    use crate::source::sheets::{Seen, Sheets};
    use crate::source::sparkplug::nodes::Nodes;

    fn tank() -> Profile {
        let text = "name = \"tank\"\n[sparkplug]\n[points]\n\
            level = { unit = \"m\", min = 0, max = 9, address = \"Tank/Level (mm)\", scale = 0.001, simulate = { low = 1, high = 8 } }\n\
            valve = { type = \"bool\", access = \"read-write\", address = \"Valve\" }\n\
            mode = { type = \"text\", values = [\"auto\", \"hand\"], address = \"Mode\" }\n\
            starts = { type = \"int\", unit = \"1\", min = 0, max = 100000, address = \"Starts\", simulate = { counts = true } }\n";
        Profile::parse("tank.toml", text).unwrap()
    }

    /// What a source makes of messages.
    fn take(nodes: &mut Nodes, messages: &[Message]) -> (BTreeMap<String, Value>, Vec<String>) {
        let clock = ManualClock::at(5_000_000_000);
        let mut sheets = Sheets::of(&clock);
        for (topic, payload) in messages {
            nodes.take(0, Came { topic, payload, retained: false }, &mut sheets);
        }
        let (seen, rejected) = sheets.seen();
        let good = |(device, point, _, value, quality): Seen| {
            assert!(quality == Quality::Good || value == Value::Null, "{point} is {value}, {quality:?}");
            (format!("{device}/{point}"), value)
        };
        (seen.into_iter().map(good).collect(), rejected)
    }

    /// Whether this is what a device has, as far as what is scaled there and back is the same.
    fn is_of(have: &BTreeMap<String, Value>, device: &Device, id: &str) -> bool {
        let is_same = |(point, value): (&PointId, &Value)| match (have.get(&format!("{id}/{point}")), value) {
            (Some(Value::Float(have)), Value::Float(value)) => (have - value).abs() < 1e-9,
            (have, value) => have == Some(value),
        };
        have.len() == device.values().len() && device.values().iter().all(is_same)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn what_a_node_tells_is_what_it_has(seed: u64, steps in 1_usize..300, behind: bool) {
            for profile in [tank(), shipped::named("sparkplug-node").unwrap().profile().unwrap()] {
                let mut device = Device::new(&profile, seed);
                prop_assert!(!device.values().is_empty());
                let (address, id) = if behind { ("hall/edge/pump", "hall.edge.pump") } else { ("edge", "simulated.edge") };
                let mut node = Node::new(address, &profile).unwrap();
                let mut nodes = Nodes::new(Vec::new(), &[], &Arc::new(profile.clone())).unwrap();
                let will = node.will(1);
                let (mut have, rejected) = take(&mut nodes, &node.births(device.values(), 2).unwrap());
                prop_assert_eq!(rejected, [""; 0]);
                have.retain(|name, _| !name.contains("Node-Control") && !name.contains("bdSeq"));
                prop_assert!(is_of(&have, &device, id), "{have:?}");
                for _ in 0..steps {
                    device.step();
                    let data: Vec<Message> = node.data(device.values(), 3).unwrap().into_iter().collect();
                    let (news, rejected) = take(&mut nodes, &data);
                    prop_assert_eq!(rejected, [""; 0]);
                    have.extend(news);
                    prop_assert!(is_of(&have, &device, id), "{have:?}");
                }
                let (dead, _) = take(&mut nodes, &[will]);
                prop_assert!(dead.values().all(|value| *value == Value::Null) && dead.len() >= have.len());
            }
        }

        #[test]
        fn no_command_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let node = Node::new("g/n", &tank()).unwrap();
            let _ = node.hear("spBv1.0/g/NCMD/n", &bytes);
        }
    }

    #[test]
    fn a_node_is_told_to_give_births_and_to_set_what_can_be_written() {
        let profile = tank();
        let mut node = Node::new("g/n/d", &profile).unwrap();
        assert_eq!(node.filters(), ["spBv1.0/g/NCMD/n", "spBv1.0/g/DCMD/n/d"]);
        node.births(Device::new(&profile, 1).values(), 0).unwrap();
        let told = node.hear("spBv1.0/g/NCMD/n", &Payload::rebirth(1).encode_to_vec());
        assert_eq!(told, Told { rebirth: true, writes: Vec::new() });
        let metric = |name: &str, value: Value| Metric { name: Some(name.into()), ..Metric::of(&value, 1) };
        let metrics = vec![metric("Valve", Value::Bool(true)), metric("Mode", Value::Text("hand".into()))];
        let payload = Payload { timestamp: None, metrics, seq: None }.encode_to_vec();
        let told = node.hear("spBv1.0/g/DCMD/n/d", &payload);
        assert_eq!(told.writes, [("valve".parse().unwrap(), Value::Bool(true))]);
        assert_eq!(node.hear("spBv1.0/g/NCMD/other", &payload), Told::default());
        for wrong in ["", "a//b", "a/b/c/d", "a/+"] {
            assert!(Node::new(wrong, &profile).is_err(), "{wrong}");
        }
    }
}
