//! OPC UA: variables of a server, which tells their changes by itself.
//!
//! What the server has to tell is asked for only when all that it told before has been handed on: while the spool has no
//! room the server keeps what changes, as long as its queues reach, and then says that they were too short. A connection
//! is made for one attempt; all that was said is null of bad quality when it is lost, once.

mod asks;
mod desk;
pub mod frames;
pub mod line;
pub mod node;
pub(crate) mod survey;
pub mod trust;
pub mod values;
pub mod variables;
pub mod walk;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use opcua_client::services::{CreateMonitoredItems, CreateSubscription};
use opcua_types::{
    AttributeId, DataChangeNotification, ExtensionObject, MonitoredItemCreateRequest, MonitoringMode,
    MonitoringParameters, PublishResponse, ReadValueId, StatusChangeNotification,
    SubscriptionAcknowledgement, TimestampsToReturn,
};
use tideline_profiles::names::Names;

use self::desk::Desk;
use self::line::{Line, Mode, Opening, REQUEST_MAX, Server};
use self::survey::{Facts, Found, Limits, Place};
use self::trust::Folder;
use self::variables::{Memory, Missing, Party, Variables};
use super::introduction::Introduction;
use super::sheets::Sheets;
use super::{Context, Device, Source, SourceError};
use crate::config::DeviceConfig;

/// How often the server tells changes, at most and at least: as often as the one is looked at that is looked at most.
const PUBLISHING_MS: std::ops::RangeInclusive<u32> = 100..=1_000;
/// How long the server is silent before it says that there is nothing to say.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How long it keeps what it has to say while it is not asked, as when the spool is full.
const LIFETIME: Duration = Duration::from_secs(600);
/// Longest that a server which answers may be silent, whatever it makes of [`KEEP_ALIVE`].
const SILENCE_MAX: Duration = Duration::from_secs(300);
/// Values of a variable that the server keeps between two answers. It may keep fewer, and says when they were too few.
const QUEUE: u32 = 128;
/// Values in an answer, so that one of texts is not longer than a message may be.
const NOTIFICATIONS_MAX: u32 = 1_000;

/// Reads variables of a server.
pub struct OpcUaSource {
    server: Server,
    devices: Vec<DeviceConfig>,
    // Outlives an attempt: what was said becomes null when the connection is lost.
    memory: Arc<Mutex<Memory>>,
}

/// What a server has to tell.
struct Subscription {
    id: u32,
    // The number of the next message.
    next: Option<u32>,
    patience: Duration,
    taken: Vec<SubscriptionAcknowledgement>,
}

impl OpcUaSource {
    /// Of the devices of a server.
    #[must_use]
    pub fn new(server: Server, devices: Vec<DeviceConfig>) -> Self {
        Self { server, devices, memory: Arc::default() }
    }

    /// The same for the next attempt.
    #[must_use]
    pub fn again(&self) -> Self {
        Self { server: self.server.clone(), devices: self.devices.clone(), memory: Arc::clone(&self.memory) }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // A panic leaves no more behind than a point that is not taken back.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn parties(&self) -> Result<Vec<Party>, SourceError> {
        let party = |config: &DeviceConfig| {
            let profile = config.family.clone();
            let profile =
                profile.ok_or_else(|| SourceError::failed(format!("{}: it has no profile", config.id)))?;
            let names = Names::of(&profile);
            Ok(Party { device: Device::of(config.id.clone(), profile), stream: config.stream.clone(), names })
        };
        self.devices.iter().map(party).collect()
    }

    /// Connects and reads until that is over.
    async fn converse(&self, context: &Context, parties: &[Party]) -> Result<(), SourceError> {
        let uri = format!("urn:tideline:agent:{}", context.own_device().id);
        if self.server.mode != Mode::None {
            let (folder, uri) = (Folder::new(self.server.certificates.clone()), uri.clone());
            let now_s = context.clock().wall_ns() / 1_000_000_000;
            let prepared = context.blocking("certificate", move || folder.prepare(&uri, now_s)).await?;
            prepared.map_err(SourceError::Failed)?;
        }
        let opening = Opening { server: &self.server, source: context.name(), uri: &uri };
        let line = context.wait(Line::open(opening)).await??;
        let ended = self.read(context, &line, parties).await;
        line.close().await;
        ended
    }

    async fn read(&self, context: &Context, line: &Line, parties: &[Party]) -> Result<(), SourceError> {
        let facts = context.wait(survey::facts(line)).await??;
        let place = |(party, config)| Place { party, address: config };
        let addresses = self.devices.iter().map(|config| config.address.as_str());
        let places: Vec<Place<'_>> = parties.iter().zip(addresses).map(place).collect();
        let found = context.wait(survey::find(line, &facts, &places)).await??;
        let Found { variables, mut missing, left_out } = found;
        let mut variables = Variables::new(variables);
        self.memory().keep(&variables);
        let mut subscription = context.wait(subscribe(line, &variables)).await??;
        missing.extend(context.wait(monitor(line, &subscription, &variables, facts.limits)).await??);
        let mut sheets = Sheets::new(context);
        self.memory().introduce(self.introductions(&facts, parties), &mut sheets);
        self.hear_version(&facts, parties, context);
        left_out.into_iter().for_each(|reason| sheets.reject(reason));
        missing.iter().for_each(|missing| self.memory().miss(missing, parties, &mut sheets));
        sheets.hand_on(context, false).await?;
        let (count, missing) = (variables.all().len(), missing.len());
        tracing::info!(
            source = context.name(),
            server = self.server.url,
            variables = count,
            missing,
            "subscribed"
        );
        if count == 0 {
            return Err(SourceError::failed(format!(
                "{}: it has no variable that is taken",
                self.server.url
            )));
        }
        let mut desk = Desk::new(line, parties, context);
        loop {
            let taken = std::mem::take(&mut subscription.taken);
            let published = line.publish(taken, subscription.patience);
            let told = context.wait(desk.beside(variables.all(), published)).await??;
            let mut sheets = Sheets::new(context);
            self.take(told, &mut subscription, &mut variables, parties, &mut sheets)?;
            desk.beside(variables.all(), sheets.hand_on(context, false)).await?;
        }
    }

    /// What is known of the devices. What the server says of itself is said of one that is the server, but for the
    /// firmware of one that has a point for that.
    fn introductions(&self, facts: &Facts, parties: &[Party]) -> Vec<Introduction> {
        let of = |(party, config): (&Party, &DeviceConfig)| {
            let (url, address) = (&self.server.url, &config.address);
            let via = format!("opc-ua {url} {address}");
            let mut introduction = Introduction::new(&party.device, via.trim_end());
            let has_firmware = party.names.profile().identity().firmware_point.is_some();
            introduction.learn(|card| {
                card.firmware = config.firmware.clone().unwrap_or_default();
                let version = if has_firmware { "" } else { facts.version.as_str() };
                let told = [facts.vendor.as_str(), facts.model.as_str(), version];
                let known = [&mut card.vendor, &mut card.model, &mut card.firmware].into_iter().zip(told);
                for (known, told) in known.filter(|(known, _)| address.is_empty() && known.is_empty()) {
                    told.clone_into(known);
                }
            });
            introduction
        };
        parties.iter().zip(&self.devices).map(of).collect()
    }

    /// The software of a server is the firmware of a device that is the server, but where the configuration or a point of the
    /// device says it.
    fn hear_version(&self, facts: &Facts, parties: &[Party], context: &Context) {
        for (party, config) in parties.iter().zip(&self.devices) {
            let has_point = party.names.profile().identity().firmware_point.is_some();
            let is_told = config.firmware.is_some() || !config.address.is_empty() || facts.version.is_empty();
            if !has_point && !is_told {
                context.editions().hear(context.name(), &party.device, &facts.version);
            }
        }
    }

    /// Adds what the server tells.
    fn take(
        &self,
        told: PublishResponse,
        subscription: &mut Subscription,
        variables: &mut Variables,
        parties: &[Party],
        sheets: &mut Sheets<'_>,
    ) -> Result<(), SourceError> {
        let message = told.notification_message;
        if told.subscription_id != subscription.id {
            return Ok(());
        }
        if let Some(server_ns) = values::stamp_ns(&message.publish_time) {
            self.memory().compare(server_ns, sheets.now_ns());
        }
        let data: Vec<ExtensionObject> = message.notification_data.unwrap_or_default();
        let (number, is_news) = (message.sequence_number, !data.is_empty());
        if subscription.next.is_some_and(|next| next != number) {
            sheets.reject(format!("messages before the server's number {number} are lost"));
        }
        // A message without news has the number that the next one with news will have (Part 4, "Publish").
        subscription.next = Some(if is_news { number.checked_add(1).unwrap_or(1) } else { number });
        if is_news {
            let (subscription_id, sequence_number) = (subscription.id, number);
            subscription.taken.push(SubscriptionAcknowledgement { subscription_id, sequence_number });
        }
        for news in &data {
            if let Some(change) = news.inner_as::<DataChangeNotification>() {
                variables.take(change, parties, &mut self.memory(), sheets);
            } else if let Some(change) = news.inner_as::<StatusChangeNotification>() {
                let (url, status) = (&self.server.url, change.status);
                return Err(SourceError::failed(format!("{url}: the server ends its reports: {status}")));
            }
        }
        Ok(())
    }
}

impl Source for OpcUaSource {
    async fn run(&mut self, context: &mut Context) -> Result<(), SourceError> {
        let parties = self.parties()?;
        if parties.is_empty() {
            return Err(SourceError::failed("it has no device; a [[device]] says what the server is"));
        }
        context.can_ask();
        let ended = self.converse(context, &parties).await;
        if !context.is_stopped() {
            let mut sheets = Sheets::new(context);
            self.memory().silence(&parties, &mut sheets);
            sheets.hand_on(context, false).await?;
        }
        ended
    }
}

/// Asks the server to tell changes.
async fn subscribe(line: &Line, variables: &Variables) -> Result<Subscription, SourceError> {
    let fastest = variables.all().iter().map(|variable| variable.sampling_ms).min().unwrap_or(1_000);
    let interval_ms = fastest.clamp(*PUBLISHING_MS.start(), *PUBLISHING_MS.end());
    let turns = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX) / interval_ms;
    let request = CreateSubscription::new(line.session())
        .publishing_interval(Duration::from_millis(interval_ms.into()))
        .max_keep_alive_count(turns(KEEP_ALIVE).max(1))
        .max_lifetime_count(turns(LIFETIME).max(3))
        .max_notifications_per_publish(NOTIFICATIONS_MAX)
        .publishing_enabled(true);
    let made = line.ask("create subscription", request).await?;
    let silence_ms = made.revised_publishing_interval * f64::from(made.revised_max_keep_alive_count);
    let silence =
        Duration::try_from_secs_f64(silence_ms / 1e3).unwrap_or(KEEP_ALIVE).clamp(KEEP_ALIVE, SILENCE_MAX);
    Ok(Subscription {
        id: made.subscription_id,
        next: None,
        patience: silence + REQUEST_MAX,
        taken: Vec::new(),
    })
}

/// Asks the server to watch the variables; gives those that it does not watch.
async fn monitor(
    line: &Line,
    subscription: &Subscription,
    variables: &Variables,
    limits: Limits,
) -> Result<Vec<Missing>, SourceError> {
    let mut missing = Vec::new();
    let all: Vec<_> = (0_u32..).zip(variables.all()).filter(|(_, variable)| variable.is_read).collect();
    for chunk in all.chunks(limits.monitor) {
        let item = |(handle, variable): &(u32, &variables::Variable)| MonitoredItemCreateRequest {
            item_to_monitor: ReadValueId {
                node_id: variable.node.clone(),
                attribute_id: AttributeId::Value as u32,
                ..ReadValueId::default()
            },
            monitoring_mode: MonitoringMode::Reporting,
            requested_parameters: MonitoringParameters {
                // The crate takes 0 for none.
                client_handle: handle + 1,
                sampling_interval: f64::from(variable.sampling_ms),
                queue_size: QUEUE,
                discard_oldest: true,
                ..MonitoringParameters::default()
            },
        };
        let request = CreateMonitoredItems::new(subscription.id, line.session())
            .timestamps_to_return(TimestampsToReturn::Both)
            .items_to_create(chunk.iter().map(item).collect());
        let answers = line.ask("create monitored items", request).await?.results;
        for ((_, variable), answer) in chunk.iter().zip(answers) {
            let status = answer.result.status_code;
            if status.is_bad() {
                let (party, point) = (variable.party, variable.point.clone());
                missing.push(Missing {
                    party,
                    point,
                    reason: format!("the server does not watch {}: {status}", variable.node),
                });
            }
        }
    }
    Ok(missing)
}
