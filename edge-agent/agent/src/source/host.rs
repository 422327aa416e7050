//! This machine's own metrics.

use std::time::Duration;

use sysinfo::{Components, Disks, Networks, System};
use tideline_profiles::Profile;
use tideline_protocol::model::{Sample, SeriesDef};
use tideline_protocol::time::Clock;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::{Context, point_id};
use crate::clock::{AgentClock, Ahead};
use crate::intake::Chunk;

/// Longest wait for the first reading.
const FIRST_READ_AFTER: Duration = Duration::from_secs(1);

/// Reads every `interval_ms` until stopped.
pub async fn run(mut context: Context, interval_ms: u64) {
    let profile = match Profile::linux_host() {
        Ok(profile) => profile,
        Err(error) => return context.failed(&error.to_string()),
    };
    let clock = AgentClock::default();
    // Usage and rates are differences: read at once they would be of no time at all.
    let period = Duration::from_millis(interval_ms.max(1));
    let mut ticks = interval_at(Instant::now() + period.min(FIRST_READ_AFTER), period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut host = match Host::new(clock.mono_ns()) {
        Ok(host) => Some(host),
        Err(error) => return context.failed(&error.to_string()),
    };
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = context.stop.wait_for(|stop| *stop) => return,
        }
        // Reading /proc blocks for milliseconds, a hanging disk for longer.
        let Some(mut reader) = host.take() else { return };
        let mono_ns = clock.mono_ns();
        let read = tokio::task::spawn_blocking(move || {
            let values = reader.read(mono_ns);
            (reader, values)
        });
        let Ok((reader, values)) = read.await else {
            return context.failed("reading the machine's metrics panicked");
        };
        host = Some(reader);
        let chunk = check(&context, &profile, &clock, values);
        if context.out.send(chunk).await.is_err() {
            return;
        }
    }
}

fn check(context: &Context, profile: &Profile, clock: &dyn Clock, values: Vec<(String, f64)>) -> Chunk {
    let time_ns = clock.wall_ns();
    let (source, clock) = (context.name.clone(), Some(Ahead::of(clock)));
    let mut chunk = Chunk { source, clock, ..Chunk::default() };
    for (name, value) in values {
        let Some(point) = point_id(&name) else { continue };
        match profile.check(point.as_str(), value) {
            Ok(()) => {
                let unit = profile.unit(point.as_str()).to_owned();
                let def = SeriesDef::new(context.own_device.clone(), point, unit);
                chunk.rows.push((def, vec![Sample { time_ns, value }]));
            }
            Err(error) => context.rejected(&error.to_string()),
        }
    }
    chunk
}

struct Host {
    system: System,
    disks: Option<Disks>,
    networks: Option<Networks>,
    components: Option<Components>,
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
            read_ns: now_ns,
        })
    }

    #[expect(clippy::cast_precision_loss, reason = "bytes beyond 2^53 need no exactness")]
    fn read(&mut self, now_ns: u64) -> Vec<(String, f64)> {
        let seconds = (now_ns.saturating_sub(self.read_ns) as f64 / 1e9).max(1e-3);
        self.read_ns = now_ns;
        self.system.refresh_cpu_usage();
        self.system.refresh_memory();
        let mut out = vec![
            ("cpu/total".to_owned(), tenths(self.system.global_cpu_usage())),
            ("memory/used".to_owned(), self.system.used_memory() as f64),
            ("memory/available".to_owned(), self.system.available_memory() as f64),
            ("swap/used".to_owned(), self.system.used_swap() as f64),
        ];
        out.extend(
            self.system.cpus().iter().enumerate().map(|(n, cpu)| (format!("cpu/{n}"), tenths(cpu.usage()))),
        );
        if let Ok(load) = System::load_average() {
            out.extend(
                [("load/1", load.one), ("load/5", load.five), ("load/15", load.fifteen)]
                    .map(|(n, v)| (n.to_owned(), v)),
            );
        }
        out.extend(System::uptime().ok().map(|uptime| ("uptime".to_owned(), uptime as f64)));
        self.read_devices(seconds, &mut out);
        out
    }

    #[expect(clippy::cast_precision_loss, reason = "bytes beyond 2^53 need no exactness")]
    fn read_devices(&mut self, seconds: f64, out: &mut Vec<(String, f64)>) {
        if let Some(disks) = &mut self.disks {
            disks.refresh(true);
            for disk in disks.iter() {
                let mount = disk.mount_point().to_string_lossy().trim_matches('/').replace('/', "-");
                let mount = if mount.is_empty() { "root".to_owned() } else { mount };
                let (total, free) = (disk.total_space(), disk.available_space());
                out.push((format!("disk/{mount}/free"), free as f64));
                out.push((format!("disk/{mount}/used"), total.saturating_sub(free) as f64));
            }
        }
        if let Some(networks) = &mut self.networks {
            networks.refresh(true);
            for (name, data) in networks.iter() {
                let name = name.to_string_lossy();
                // The time between two readings is known less well than a byte matters.
                out.push((format!("network/{name}/rx"), (data.received() as f64 / seconds).round()));
                out.push((format!("network/{name}/tx"), (data.transmitted() as f64 / seconds).round()));
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
fn tenths(value: f32) -> f64 {
    (f64::from(value) * 10.0).round() / 10.0
}
