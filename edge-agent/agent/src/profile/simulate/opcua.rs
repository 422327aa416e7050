//! A server of OPC UA whose variables are the points of a device, at the nodes that the profile names. It has no
//! certificate: whoever reaches it may read it, and write what the profile allows to be written.

mod space;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use opcua_server::node_manager::memory::{SimpleNodeManager, simple_node_manager_imports};
use opcua_server::{ANONYMOUS_USER_TOKEN_ID, Server, ServerBuilder, ServerEndpoint, ServerHandle};
use opcua_types::{DataValue, DateTime, NodeId, StatusCode, Variant};
use tideline_profiles::names::Names;
use tideline_profiles::simulate::Device;
use tideline_protocol::time::{Clock as _, SystemClock};
use tokio::sync::Notify;

use self::space::{Space, Variable};
use super::{Options, bind, interval, say};
use crate::source::opcua::values;

/// Values of a variable that wait for a client, as many as the agent's source asks for.
const QUEUE_MAX: usize = 128;
/// Answers of a subscription that wait for a client.
const NOTIFICATIONS_MAX: usize = 1_024;
/// Sessions at once: a simulated device has to do with a few clients.
const SESSIONS_MAX: usize = 16;

/// The device, and how its points are told.
struct Plant {
    device: Device,
    names: Names,
}

/// A folder that goes when the server does: the crate keeps certificates in one, also where it has none.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // It is in the folder for what is temporary: another one may stay there.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Plant {
    fn of(device: Device) -> Arc<Mutex<Self>> {
        let names = Names::of(device.profile());
        Arc::new(Mutex::new(Self { device, names }))
    }

    /// What is told of a point that is read.
    fn variant(&self, variable: &Variable) -> Variant {
        let value = self.device.values().get(&variable.point);
        let told = value.and_then(|value| self.names.write(&variable.point, value).ok());
        told.map_or(Variant::Empty, |(_, raw)| variable.variant(&raw))
    }

    /// Takes what a client writes.
    fn write(&mut self, variable: &Variable, told: &DataValue) -> StatusCode {
        let value = told.value.as_ref().and_then(|variant| values::value(variant).ok());
        let decoded = value.and_then(|value| self.names.read(&variable.name, &value));
        let Some(decoded) = decoded else { return StatusCode::BadTypeMismatch };
        match decoded.outcome {
            Ok((value, _)) => match self.device.set(&decoded.point, value) {
                Ok(()) => StatusCode::Good,
                Err(_) => StatusCode::BadOutOfRange,
            },
            Err(_) => StatusCode::BadOutOfRange,
        }
    }
}

fn lock(plant: &Mutex<Plant>) -> MutexGuard<'_, Plant> {
    // A panic leaves no more behind than a value that is not set.
    plant.lock().unwrap_or_else(PoisonError::into_inner)
}

fn server(space: &Space, host: &str, port: u16, folder: &Folder) -> anyhow::Result<(Server, ServerHandle)> {
    let anonymous = [ANONYMOUS_USER_TOKEN_ID.to_owned()];
    let mut builder = ServerBuilder::new()
        .application_name("simulated")
        .application_uri("urn:tideline:simulated")
        .product_uri("urn:tideline:simulated")
        .host(host)
        .port(port)
        .pki_dir(folder.0.clone())
        .max_sessions(SESSIONS_MAX)
        .discovery_urls(vec!["/".to_owned()])
        .add_endpoint("none", ServerEndpoint::new_none("/", &anonymous))
        .with_node_manager(simple_node_manager_imports(vec![Box::new(space.clone())], "points"));
    let limits = &mut builder.limits_mut().subscriptions;
    (limits.max_monitored_item_queue_size, limits.max_queued_notifications) = (QUEUE_MAX, NOTIFICATIONS_MAX);
    builder.build().map_err(anyhow::Error::msg)
}

/// Tells clients what has changed.
struct Teller {
    plant: Arc<Mutex<Plant>>,
    variables: Vec<Variable>,
    told: BTreeMap<String, Variant>,
    manager: Arc<SimpleNodeManager>,
    clock: SystemClock,
}

impl Teller {
    fn tell(&mut self, handle: &ServerHandle) -> anyhow::Result<()> {
        let now = values::stamp(self.clock.wall_ns()).context("the clock is wrong")?;
        let mut news: Vec<(&NodeId, DataValue)> = Vec::new();
        let plant = lock(&self.plant);
        for variable in &self.variables {
            let variant = plant.variant(variable);
            if self.told.get(&variable.name) != Some(&variant) {
                self.told.insert(variable.name.clone(), variant.clone());
                news.push((&variable.node, of(variant, now)));
            }
        }
        drop(plant);
        let news = news.into_iter().map(|(node, value)| (node, None, value));
        let set = self.manager.set_values(handle.subscriptions(), news);
        set.map_err(|status| anyhow::anyhow!("the server does not take values: {status}"))
    }
}

fn of(variant: Variant, now: DateTime) -> DataValue {
    let status = if variant == Variant::Empty { StatusCode::BadNoData } else { StatusCode::Good };
    DataValue {
        value: Some(variant),
        status: Some(status),
        source_timestamp: Some(now),
        server_timestamp: Some(now),
        ..DataValue::default()
    }
}

/// Serves the device until it is to end.
pub async fn run(device: Device, options: &Options) -> anyhow::Result<()> {
    let listener = bind(options).await?;
    let address = listener.local_addr()?;
    let space = Space::of(&device)?;
    let name = format!("tideline-simulated-{}-{}", std::process::id(), address.port());
    let folder = Folder(std::env::temp_dir().join(name));
    let (server, handle) = server(&space, &address.ip().to_string(), address.port(), &folder)?;
    say(&device, &format!("serves OPC UA at {address}"), options);
    // Connections have tasks of their own, which end with this.
    let _end = handle.token().clone().drop_guard();
    let manager = handle.node_managers().get_of_type::<SimpleNodeManager>().context("it has no nodes")?;
    let (plant, written) = (Plant::of(device), Arc::new(Notify::new()));
    for variable in space.variables().iter().filter(|variable| variable.is_written) {
        let (plant, written, own) = (Arc::clone(&plant), Arc::clone(&written), variable.clone());
        manager.inner().add_write_callback(variable.node.clone(), move |told, range| {
            if range.has_range() {
                return StatusCode::BadWriteNotSupported;
            }
            let status = lock(&plant).write(&own, &told);
            if status.is_good() {
                written.notify_one();
            }
            status
        });
    }
    let (variables, clock) = (space.variables().to_vec(), SystemClock::default());
    let mut teller = Teller { plant, variables, told: BTreeMap::new(), manager, clock };
    teller.tell(&handle)?;
    let mut ticks = interval(options);
    let mut serve = std::pin::pin!(server.run_with(listener));
    loop {
        tokio::select! {
            ended = &mut serve => return ended.map_err(anyhow::Error::msg),
            _ = ticks.tick() => lock(&teller.plant).device.step(),
            () = written.notified() => {}
        }
        teller.tell(&handle)?;
    }
}
