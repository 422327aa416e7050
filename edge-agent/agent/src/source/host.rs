//! This machine's own metrics.

mod rare;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sysinfo::{Components, Disks, Networks, System};
use tideline_profiles::Profile;
use tideline_protocol::model::PointId;
use tideline_protocol::value::Value;
use tideline_protocol::wire::DeviceCard;
use tokio::time::Instant;

use self::rare::Rare;
use super::introduction::keeps;
use super::reads::Ask;
use super::{Context, Device, Source, SourceError, Ticks, point_id, reads};

/// Longest wait for the first reading.
const FIRST_READ_AFTER: Duration = Duration::from_secs(1);

/// What is done on a thread of its own: reading /proc blocks for milliseconds, a disk that hangs for longer.
const READING: &str = "reading this machine";

/// Usage and rates of less time say nothing.
const APART_MIN: Duration = sysinfo::MINIMUM_CPU_UPDATE_INTERVAL;

/// Reads every `interval_ms`.
pub struct HostSource {
    /// Time between two readings.
    pub interval_ms: u64,
}

impl Source for HostSource {
    async fn run(&mut self, context: &mut Context) -> Result<(), SourceError> {
        let profile = Profile::linux_host().map_err(SourceError::failed)?;
        let device = Device { profile: Some(Arc::new(profile)), ..context.own_device() };
        context.tell(card(&device));
        // Usage and rates are differences: read at once they would be of no time at all.
        let period = Duration::from_millis(self.interval_ms.max(1));
        let mut ticks = Ticks::new(Instant::now() + period.min(FIRST_READ_AFTER), period);
        let mono_ns = context.clock().mono_ns();
        let made = context.blocking(READING, move || Host::new(mono_ns));
        let mut host = made.await?.map_err(SourceError::failed)?;
        let mut asks = context.reads();
        asks.serve(&device.id);
        let mut last = Instant::now();
        loop {
            let asked = wake(context, &mut ticks, &mut asks, last + APART_MIN).await?;
            last = Instant::now();
            let mono_ns = context.clock().mono_ns();
            let wanted = asked.as_ref().map(|ask| ask.point.clone());
            let read = context.blocking(READING, move || {
                let values = host.read(mono_ns, wanted.as_ref());
                (host, values)
            });
            let values;
            (host, values) = read.await?;
            let mut readings = context.readings();
            for (point, value) in values {
                if let Some(point) = point_id(&point) {
                    readings.add(&device, point.as_str(), value);
                }
            }
            if let Some(ask) = asked {
                let found = readings.newest(&device.id, &ask.point);
                let profile = device.profile.as_ref();
                let is_known = profile.is_some_and(|profile| profile.point(ask.point.as_str()).is_some());
                // A machine has not all that the profile knows, as a battery.
                if found.is_some() || is_known { ask.answer(found) } else { ask.no_point() }
            }
            context.emit(readings).await?;
        }
    }
}

/// Waits for the next reading's time, or until somebody wants to know now, but not before `soonest`.
async fn wake(
    context: &Context,
    ticks: &mut Ticks,
    asks: &mut reads::Inbox,
    soonest: Instant,
) -> Result<Option<Ask>, SourceError> {
    let due = ticks.next();
    let wish = async {
        tokio::select! {
            biased;
            () = tokio::time::sleep_until(due) => None,
            ask = asks.next() => Some(ask),
        }
    };
    match context.wait(wish).await? {
        Some(ask) => {
            context.sleep_until(soonest).await?;
            Ok(Some(ask))
        }
        None => {
            context.tick(ticks).await?;
            Ok(None)
        }
    }
}

/// The machine, as the registry shows it.
fn card(device: &Device) -> DeviceCard {
    DeviceCard {
        profile: device.profile.as_ref().map_or_else(String::new, |profile| profile.name().to_owned()),
        firmware: System::kernel_version().unwrap_or_default(),
        model: System::long_os_version().unwrap_or_default(),
        via: "host".to_owned(),
        keeps: device.profile.as_ref().and_then(|profile| keeps(profile)),
        profile_digest: device.profile.as_ref().map(|profile| profile.digest()),
        ..DeviceCard::new(device.id.clone())
    }
}

struct Host {
    system: System,
    disks: Option<Disks>,
    networks: Option<Networks>,
    components: Option<Components>,
    rare: Rare,
    read_ns: u64,
}

impl Host {
    fn new(now_ns: u64) -> Result<Self, sysinfo::Error> {
        let mut system = System::new()?;
        system.refresh_cpu_usage();
        Ok(Self {
            system,
            disks: Disks::new_with_refreshed_list().ok(),
            networks: Networks::new_with_refreshed_list().ok(),
            components: Components::new_with_refreshed_list().ok(),
            rare: Rare::default(),
            read_ns: now_ns,
        })
    }

    /// All that is to be sent now, and what is `wanted` besides.
    fn read(&mut self, now_ns: u64, wanted: Option<&PointId>) -> Vec<(String, Value)> {
        let mut out = self.read_numbers(now_ns);
        let mut rare = rare::system();
        rare.extend(rare::power(Path::new(rare::POWER_SUPPLY)));
        out.extend(self.rare.due(rare, now_ns, wanted));
        out
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate needs no exactness")]
    fn read_numbers(&mut self, now_ns: u64) -> Vec<(String, Value)> {
        let seconds = (now_ns.saturating_sub(self.read_ns) as f64 / 1e9).max(1e-3);
        self.read_ns = now_ns;
        self.system.refresh_cpu_usage();
        self.system.refresh_memory();
        let mut out = vec![
            ("cpu/total".to_owned(), tenths(self.system.global_cpu_usage())),
            ("memory/used".to_owned(), count(self.system.used_memory())),
            ("memory/available".to_owned(), count(self.system.available_memory())),
            ("swap/used".to_owned(), count(self.system.used_swap())),
        ];
        out.extend(
            self.system.cpus().iter().enumerate().map(|(n, cpu)| (format!("cpu/{n}"), tenths(cpu.usage()))),
        );
        if let Ok(load) = System::load_average() {
            out.extend(
                [("load/1", load.one), ("load/5", load.five), ("load/15", load.fifteen)]
                    .map(|(n, v)| (n.to_owned(), Value::Float(v))),
            );
        }
        out.extend(System::uptime().ok().map(|uptime| ("uptime".to_owned(), count(uptime))));
        out.extend(tasks(&std::fs::read_to_string("/proc/loadavg").unwrap_or_default()));
        self.read_devices(seconds, &mut out);
        out
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate needs no exactness")]
    fn read_devices(&mut self, seconds: f64, out: &mut Vec<(String, Value)>) {
        if let Some(disks) = &mut self.disks {
            disks.refresh(true);
            for disk in disks.iter() {
                let mount = disk.mount_point().to_string_lossy().trim_matches('/').replace('/', "-");
                let mount = if mount.is_empty() { "root".to_owned() } else { mount };
                let (total, free) = (disk.total_space(), disk.available_space());
                out.push((format!("disk/{mount}/free"), count(free)));
                out.push((format!("disk/{mount}/used"), count(total.saturating_sub(free))));
            }
        }
        if let Some(networks) = &mut self.networks {
            networks.refresh(true);
            for (name, data) in networks.iter() {
                let name = name.to_string_lossy();
                // The time between two readings is known less well than a byte matters.
                let rate = |bytes: u64| Value::Float((bytes as f64 / seconds).round());
                out.push((format!("network/{name}/rx"), rate(data.received())));
                out.push((format!("network/{name}/tx"), rate(data.transmitted())));
            }
        }
        if let Some(components) = &mut self.components {
            components.refresh(true);
            let warm = components.iter().filter_map(|part| Some((part.label(), part.temperature()?)));
            out.extend(warm.map(|(label, value)| (format!("temperature/{label}"), tenths(value))));
        }
    }
}

/// Percent and degrees are measured no finer than a tenth, and so they pack far better.
fn tenths(value: f32) -> Value {
    Value::Float((f64::from(value) * 10.0).round() / 10.0)
}

/// Bytes and seconds are counted; no machine has as many as an integer has not.
fn count(value: u64) -> Value {
    Value::Int(i64::try_from(value).unwrap_or(i64::MAX))
}

/// What runs now and all that could, processes and threads alike, from /proc/loadavg.
fn tasks(loadavg: &str) -> Vec<(String, Value)> {
    let counts = loadavg.split_whitespace().nth(3).and_then(|counts| counts.split_once('/'));
    let Some((running, total)) = counts else { return Vec::new() };
    let named = [("tasks/running", running), ("tasks/total", total)];
    let read = named.into_iter().filter_map(|(point, text)| Some((point.to_owned(), text.parse().ok()?)));
    read.map(|(point, number)| (point, Value::Int(number))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_counted_where_the_kernel_says_how_many() {
        let wanted = [("tasks/running", 2), ("tasks/total", 345)];
        let wanted = wanted.map(|(point, number)| (point.to_owned(), Value::Int(number)));
        assert_eq!(tasks("0.10 0.20 0.30 2/345 6789\n"), wanted);
        assert_eq!(tasks(""), []);
        assert_eq!(tasks("0.10 0.20 0.30 soon 6789"), []);
    }

    #[test]
    fn what_this_machine_shows_is_what_the_profile_allows() {
        let (mut host, profile) = (Host::new(0).unwrap(), Profile::linux_host().unwrap());
        let first = host.read(1_000_000_000, None);
        assert!(first.iter().any(|(point, _)| point == "os/kernel"));
        for (point, value) in &first {
            let point = point_id(point).unwrap();
            let taken = profile.check(point.as_str(), value.clone());
            assert_eq!(taken.as_ref(), Ok(value), "{point}");
            assert!(!profile.point(point.as_str()).unwrap().name.is_empty());
        }
        let second = host.read(2_000_000_000, None);
        assert!(!second.iter().any(|(point, _)| point == "os/kernel"), "it did not change");
        assert!(second.iter().any(|(point, _)| point == "uptime"));
        let third = host.read(3_000_000_000, point_id("os/kernel").as_ref());
        assert!(third.iter().any(|(point, _)| point == "os/kernel"), "somebody asks for it");
        assert!(!third.iter().any(|(point, _)| point == "os/name"));
    }
}
