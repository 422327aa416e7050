//! The status of the running agent, as people read it.

use std::path::Path;
use std::time::Duration;

use edge_agent::serve;
use tideline_link::outln;

/// Shows the status, and what one has to know to write on the local page: that is told to the agent's owner alone.
pub async fn command(data: &Path, json: bool) -> anyhow::Result<()> {
    let (status, page) = (serve::ask_status(data).await?, serve::ask_page_key(data).await?);
    if json {
        let mut shown = serde_json::to_value(&status)?;
        if let Some(members) = shown.as_object_mut() {
            members.insert("page".to_owned(), serde_json::to_value(&page)?);
        }
        outln!("{shown}");
        return Ok(());
    }
    print_status(&status);
    if let Some(address) = page.address {
        outln!("page     http://{address}, token for writes {}", page.token);
    }
    Ok(())
}

fn clock_text(clock: &edge_agent::status::ClockStatus) -> String {
    let (Some(offset_ms), Some(uncertainty_ms)) = (clock.offset_ms, clock.uncertainty_ms) else {
        return "not compared with a hub's yet".to_owned();
    };
    let judged = if clock.trusted { "trusted" } else { "wrong: times of readings are corrected" };
    format!("{judged}, the hub's is ahead by {offset_ms:.1} ± {uncertainty_ms:.1} ms")
}

fn print_status(status: &edge_agent::status::Status) {
    let a = &status.account;
    let state = if status.connected { "connected" } else { "not connected" };
    outln!("agent    {} ({state} to {}, breaker {})", status.agent, status.hub, status.breaker.state);
    for path in &status.paths {
        let breaker = &path.breaker;
        let sign = if path.carries { "*" } else { " " };
        let rtt = path.rtt_ms.map_or_else(String::new, |ms| format!(", {ms:.1} ms"));
        outln!(
            "path    {sign}{} {}: breaker {}, {} failures, back-off {} ms{rtt}, {:.1} % lost",
            path.transport,
            path.hub,
            breaker.state,
            breaker.failures,
            breaker.wait_ms,
            path.loss * 100.0
        );
    }
    outln!("clock    {}", clock_text(&status.clock));
    outln!("epoch    {} at seq {}", status.epoch, status.head);
    outln!(
        "rows     {} produced = {} stored + {} pending + {} dropped + {} refused",
        a.produced,
        a.stored,
        a.pending,
        a.dropped,
        a.refused
    );
    let s = &status.spool;
    outln!("spool    {} of {} bytes, {} written to flash", s.bytes, s.quota_bytes, s.flash_bytes);
    if s.flash_bytes_per_day > 0 {
        let (used, budget) = (s.flash_day_bytes, s.flash_bytes_per_day);
        outln!("flash    {used} of {budget} bytes written this day ({})", s.flash_pace);
    }
    if s.disk_full {
        outln!("spool    the disk was full: it makes do with the room that it has");
    }
    for stream in &status.streams {
        let quota =
            if stream.quota_bytes > 0 { format!(" of {}", stream.quota_bytes) } else { String::new() };
        outln!("stream   {} ({}): {}{quota} bytes", stream.name, stream.class, stream.bytes);
    }
    for (cause, rows) in &status.drops {
        outln!("dropped  {rows} rows: {cause}");
    }
    if status.uncounted_batches > 0 {
        let batches = status.uncounted_batches;
        outln!("dropped  up to {batches} batches, nobody knows of how many rows: damaged");
    }
    status.sources.values().for_each(print_source);
    status.pipelines.iter().for_each(print_pipeline);
    print_config(&status.config);
    let twins = &status.twins;
    let (kept, waiting, refused) = (twins.documents, twins.unconfirmed, twins.refused);
    outln!("twins    {kept} kept, {waiting} changes wait for the hub, {refused} messages of the hub refused");
    if let Some(lost) = &twins.last_lost {
        outln!("twins    {} changes went with what is shared no more; the last: {lost}", twins.lost);
    }
    print_commands(&status.commands);
    if let Some(error) = &status.last_error {
        outln!("error    {error}");
    }
}

fn print_commands(commands: &edge_agent::status::CommandsStatus) {
    let text = |figures: &[(&str, u64)]| {
        figures.iter().map(|(name, count)| format!("{count} {name}")).collect::<Vec<_>>().join(", ")
    };
    let run_s = Duration::from_millis(commands.run_ms).as_secs_f64();
    outln!(
        "commands {}; since the start {}, {} declined, {run_s:.1} s spent",
        text(&commands.open()),
        text(&commands.ended()),
        commands.declined
    );
}

fn print_source(source: &edge_agent::status::SourceStatus) {
    let (name, state) = (&source.name, source.state.name());
    let polls = match source.jitter {
        Some(jitter) => format!(", {} polls (late by {:.1} ms, p99)", source.polls, jitter.p99_ms),
        None => String::new(),
    };
    let mut troubles = String::new();
    for (count, what) in [
        (source.unchanged, "unchanged"),
        (source.failures, "failures"),
        (source.timeouts, "time-outs"),
        (source.restarts, "restarts"),
        (source.stalls, "stalls"),
    ] {
        if count > 0 {
            troubles.push_str(&format!(", {count} {what}"));
        }
    }
    outln!(
        "source   {name} ({state}): {} accepted, {} rejected{polls}{troubles}",
        source.accepted,
        source.rejected
    );
    if let Some(error) = &source.last_error {
        outln!("source   {name}: {error}");
    }
}

fn print_pipeline(pipeline: &edge_agent::status::PipelineStatus) {
    for stage in &pipeline.stages {
        let mut more = String::new();
        for (count, what) in [
            (stage.dead_letters, "dead letters"),
            (stage.events, "events"),
            (stage.actions, "writes"),
            (stage.skipped, "not judged"),
            (stage.cut, "windows cut off"),
            (stage.open_windows, "open windows"),
        ] {
            if count > 0 {
                more.push_str(&format!(", {count} {what}"));
            }
        }
        outln!(
            "pipeline {}.{} ({}): {} in, {} out, {} dropped{more}",
            pipeline.name,
            stage.stage,
            stage.kind,
            stage.taken,
            stage.given,
            stage.dropped
        );
    }
}

fn print_config(config: &edge_agent::status::ConfigStatus) {
    let file = config.file.as_deref().unwrap_or("no file: defaults, environment and flags");
    outln!("config   {file}");
    if let Some(error) = &config.error {
        outln!("config   an older one is in force, as the file is wrong: {error}");
    }
    if !config.needs_restart.is_empty() {
        outln!("config   needs a restart to change: {}", config.needs_restart.join(", "));
    }
}
