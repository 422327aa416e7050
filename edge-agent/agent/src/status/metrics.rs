//! The status as Prometheus' text form. What stands in labels is bounded in number and length.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use tideline_protocol::invariants::Invariant;

use super::{ClockStatus, CommandsStatus, PathStatus, SourceStatus, StageFigures, Status};
use crate::resilience::BreakerState;

/// Most sources with counters of their own; the rest is counted together.
const SOURCES_MAX: usize = 100;
/// The same of stages of pipelines.
const STAGES_MAX: usize = 500;
/// Most characters of a label's value.
const LABEL_CHARS_MAX: usize = 64;
/// The label of what is counted together.
const OTHERS: &str = "(others)";

pub fn text(status: &Status) -> String {
    let (a, mut out) = (&status.account, String::new());
    for (name, value) in [
        ("tideline_agent_rows_produced_total", a.produced),
        ("tideline_agent_rows_stored_total", a.stored),
        ("tideline_agent_rows_dropped_total", a.dropped),
        ("tideline_agent_rows_refused_total", a.refused),
        ("tideline_agent_rows_pending", a.pending),
        ("tideline_agent_connected", u64::from(status.connected)),
        ("tideline_agent_breaker_failures", u64::from(status.breaker.failures)),
        ("tideline_agent_path_switches_total", status.switches),
        ("tideline_agent_config_wrong", u64::from(status.config.error.is_some())),
        ("tideline_agent_spool_bytes", status.spool.bytes),
        ("tideline_agent_spool_quota_bytes", status.spool.quota_bytes),
        ("tideline_agent_flash_written_bytes_total", status.spool.flash_bytes),
        ("tideline_agent_flash_day_bytes", status.spool.flash_day_bytes),
        ("tideline_agent_flash_budget_bytes", status.spool.flash_bytes_per_day),
        ("tideline_agent_spool_disk_full", u64::from(status.spool.disk_full)),
    ] {
        family(&mut out, name, &[(String::new(), value)]);
    }
    for (name, value) in status.twins.figures() {
        family(&mut out, &format!("tideline_agent_twin_{name}"), &[(String::new(), value)]);
    }
    commands(&mut out, &status.commands);
    clock(&mut out, &status.clock);
    let state = |state: BreakerState| {
        (labels(&[("state", state.name())]), u64::from(state.name() == status.breaker.state))
    };
    family(&mut out, "tideline_agent_breaker_state", &BreakerState::ALL.map(state));
    paths(&mut out, &status.paths);
    let drops: Vec<_> = status.drops.iter().map(|(cause, rows)| (label("cause", cause), *rows)).collect();
    family(&mut out, "tideline_agent_rows_given_up", &drops);
    // A former stream may have had the same name.
    let mut held: BTreeMap<String, u64> = BTreeMap::new();
    for stream in &status.streams {
        *held.entry(label("stream", &stream.name)).or_default() += stream.bytes;
    }
    family(&mut out, "tideline_agent_stream_bytes", &held.into_iter().collect::<Vec<_>>());
    sources(&mut out, status);
    pipelines(&mut out, status);
    let breach = |invariant: Invariant| (label("invariant", invariant.name()), invariant.breaches());
    family(&mut out, "tideline_invariant_breaches_total", &Invariant::ALL.map(breach));
    out
}

fn family(out: &mut String, name: &str, values: &[(String, u64)]) {
    if values.is_empty() {
        return;
    }
    let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
    // Writing to a text cannot fail.
    let _ = writeln!(out, "# TYPE {name} {kind}");
    for (labels, value) in values {
        let _ = writeln!(out, "{name}{labels} {value}");
    }
}

/// The hub's commands.
fn commands(out: &mut String, commands: &CommandsStatus) {
    let by_state = |(state, count): (&str, u64)| (label("state", state), count);
    family(out, "tideline_agent_commands_open", &commands.open().map(by_state));
    family(out, "tideline_agent_commands_ended_total", &commands.ended().map(by_state));
    family(out, "tideline_agent_commands_declined_total", &[(String::new(), commands.declined)]);
    let seconds = Duration::from_millis(commands.run_ms).as_secs_f64();
    // Writing to a text cannot fail.
    let _ = writeln!(out, "# TYPE tideline_agent_commands_run_seconds_total counter");
    let _ = writeln!(out, "tideline_agent_commands_run_seconds_total {seconds}");
}

/// What is not measured yet is left out.
fn clock(out: &mut String, clock: &ClockStatus) {
    family(out, "tideline_agent_clock_trusted", &[(String::new(), u64::from(clock.trusted))]);
    let measured = [("offset", clock.offset_ms), ("uncertainty", clock.uncertainty_ms)];
    for (name, ms) in measured.into_iter().filter_map(|(name, ms)| Some((name, ms?))) {
        // Writing to a text cannot fail.
        let _ = writeln!(out, "# TYPE tideline_agent_clock_{name}_seconds gauge");
        let _ = writeln!(out, "tideline_agent_clock_{name}_seconds {}", ms / 1_000.0);
    }
}

/// The ways to the hub; their number is bounded by the configuration.
fn paths(out: &mut String, paths: &[PathStatus]) {
    let of = |path: &PathStatus, more: &[(&str, &str)]| {
        labels(&[&[("hub", path.hub.as_str()), ("transport", &path.transport)], more].concat())
    };
    let each = |figure: fn(&PathStatus) -> u64| -> Vec<(String, u64)> {
        paths.iter().map(|path| (of(path, &[]), figure(path))).collect()
    };
    family(out, "tideline_agent_path_carries", &each(|path| u64::from(path.carries)));
    family(out, "tideline_agent_path_failures", &each(|path| u64::from(path.breaker.failures)));
    family(out, "tideline_agent_path_back_off_ms", &each(|path| path.breaker.wait_ms));
    let states: Vec<_> = paths
        .iter()
        .flat_map(|path| {
            BreakerState::ALL.map(|state| {
                let is = state.name() == path.breaker.state;
                (of(path, &[("state", state.name())]), u64::from(is))
            })
        })
        .collect();
    family(out, "tideline_agent_path_breaker_state", &states);
}

/// A counter of a source.
type Figure = fn(&SourceStatus) -> u64;

/// The counters of the sources.
fn sources(out: &mut String, status: &Status) {
    let counters: [(&str, Figure); 8] = [
        ("accepted", |source| source.accepted),
        ("rejected", |source| source.rejected),
        ("unchanged", |source| source.unchanged),
        ("polls", |source| source.polls),
        ("failures", |source| source.failures),
        ("timeouts", |source| source.timeouts),
        ("restarts", |source| source.restarts),
        ("stalls", |source| source.stalls),
    ];
    for (name, figure) in counters {
        family(out, &format!("tideline_agent_source_{name}_total"), &by_source(status, figure));
    }
    let (mut states, mut jitters) = (BTreeMap::new(), Vec::new());
    for (at, source) in status.sources.values().enumerate() {
        let name = if at < SOURCES_MAX { &source.name } else { OTHERS };
        *states.entry(labels(&[("source", name), ("state", source.state.name())])).or_default() += 1;
        if let (Some(jitter), true) = (source.jitter, at < SOURCES_MAX) {
            jitters.push((label("source", name), jitter.p99_ms / 1_000.0));
        }
    }
    // How many there are in each state: of a name alone it is one in one.
    family(out, "tideline_agent_source_state", &states.into_iter().collect::<Vec<_>>());
    if !jitters.is_empty() {
        // Writing to a text cannot fail.
        let _ = writeln!(out, "# TYPE tideline_agent_source_poll_late_seconds gauge");
    }
    for (labels, seconds) in jitters {
        let _ = writeln!(out, "tideline_agent_source_poll_late_seconds{labels} {seconds}");
    }
}

/// A figure of a stage.
type StageFigure = fn(&StageFigures) -> u64;

/// The stages of pipelines; their number is bounded by that of pipelines and stages, and what is beyond is counted together.
fn pipelines(out: &mut String, status: &Status) {
    let figures: [(&str, StageFigure); 10] = [
        ("in_total", |stage| stage.taken),
        ("out_total", |stage| stage.given),
        ("dropped_total", |stage| stage.dropped),
        ("dead_letters_total", |stage| stage.dead_letters),
        ("events_total", |stage| stage.events),
        ("actions_total", |stage| stage.actions),
        ("skipped_total", |stage| stage.skipped),
        ("cut_windows_total", |stage| stage.cut),
        ("series", |stage| stage.series),
        ("open_windows", |stage| stage.open_windows),
    ];
    let stages = || {
        status
            .pipelines
            .iter()
            .flat_map(|pipeline| pipeline.stages.iter().map(|stage| (&pipeline.name, stage)))
    };
    for (name, figure) in figures {
        let mut all: BTreeMap<String, u64> = BTreeMap::new();
        for (at, (pipeline, stage)) in stages().enumerate() {
            let (pipeline, name) =
                if at < STAGES_MAX { (pipeline.as_str(), stage.stage.as_str()) } else { (OTHERS, OTHERS) };
            *all.entry(labels(&[("pipeline", pipeline), ("stage", name)])).or_default() += figure(stage);
        }
        family(out, &format!("tideline_agent_stage_{name}"), &all.into_iter().collect::<Vec<_>>());
    }
}

fn by_source(status: &Status, figure: impl Fn(&SourceStatus) -> u64) -> Vec<(String, u64)> {
    // Names that are alike as far as they are shown must not be shown twice.
    let mut all: BTreeMap<String, u64> = BTreeMap::new();
    for (at, source) in status.sources.values().enumerate() {
        let name = if at < SOURCES_MAX { &source.name } else { OTHERS };
        *all.entry(label("source", name)).or_default() += figure(source);
    }
    all.into_iter().collect()
}

fn label(name: &str, value: &str) -> String {
    labels(&[(name, value)])
}

fn labels(all: &[(&str, &str)]) -> String {
    let mut text = String::from("{");
    for (at, (name, value)) in all.iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        // Writing to a text cannot fail.
        let _ = write!(text, "{comma}{name}=\"");
        for c in value.chars().take(LABEL_CHARS_MAX) {
            match c {
                '\\' | '"' => text.extend(['\\', c]),
                '\n' => text.push_str("\\n"),
                c => text.push(c),
            }
        }
        text.push('"');
    }
    text + "}"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Board;

    #[test]
    fn the_clock_is_shown_as_far_as_it_is_known() {
        let mut status = Status::default();
        let text = status.metrics();
        assert!(
            text.contains("tideline_agent_clock_trusted 0\n") && !text.contains("clock_offset"),
            "{text}"
        );
        status.clock = ClockStatus::measured(-2_500_000, 750_000);
        let text = status.metrics();
        for line in ["trusted 1", "offset_seconds -0.0025", "uncertainty_seconds 0.00075"] {
            assert!(text.contains(&format!("tideline_agent_clock_{line}\n")), "{line}: {text}");
        }
        assert!(!ClockStatus::measured(5_000_000_001, 0).trusted, "its times are corrected");
        assert!(!ClockStatus::measured(i64::MIN, 0).trusted);
    }

    #[test]
    fn labels_are_escaped_and_bounded_in_number_and_length() {
        let board = Board::default();
        for n in 0..SOURCES_MAX + 5 {
            board.source(&format!("{n:04}"), |_| {});
            board.accepted(&format!("{n:04}"), 2);
        }
        board.source("\"a\\b\"\nc", |_| {});
        board.rejected("\"a\\b\"\nc", 7, "it is bad");
        board.source(&format!("!{}", "x".repeat(1_000)), |source| source.accepted = 9);
        let text = board.read().metrics();
        let lines = |part: &str| text.lines().filter(|line| line.starts_with(part)).count();
        assert_eq!(lines("tideline_agent_source_accepted_total{"), SOURCES_MAX + 1);
        assert!(text.contains("{source=\"(others)\"} 14\n"), "{text}");
        assert!(text.contains("rejected_total{source=\"\\\"a\\\\b\\\"\\nc\"} 7\n"), "{text}");
        assert!(text.lines().all(|line| line.len() < 150), "{text}");
    }
}
