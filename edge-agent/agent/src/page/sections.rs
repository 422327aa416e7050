//! The parts of the page that tell of the agent: how it is, its sources, pipelines, twins and commands.

use serde_json::Value;
use tideline_protocol::time::NS_PER_MS;

use super::View;
use super::html::{age, bytes, count, put, text, time};
use crate::status::{DeviceStatus, SourceState, SourceStatus, Status};

/// Of a spool's quota: from there on somebody should know.
const QUOTA_PERCENT: u64 = 90;
/// Most devices of a source that are shown; those with trouble first.
const DEVICES_MAX: usize = 30;
/// Most silent devices that are named.
const SILENT_MAX: usize = 5;
/// Most differences of a twin that are shown.
const DELTA_MAX: usize = 20;

/// What needs somebody's attention, the worst first.
fn troubles(view: &View) -> Vec<String> {
    let (status, mut all) = (&view.status, Vec::new());
    let spool = &status.spool;
    if status.epoch.is_empty() {
        all.push("The spool is not open: no readings can be kept.".to_owned());
    }
    if spool.disk_full {
        all.push("The disk is full: less is kept than the quota allows.".to_owned());
    }
    if is_nearly_full(status) {
        all.push("The spool is nearly full: what comes beyond it is given up or has to wait.".to_owned());
    }
    if spool.flash_pace == "spent" {
        all.push("The day's budget of flash is spent: only alarms are kept.".to_owned());
    }
    for source in status.sources.values() {
        if matches!(class(source.state), "bad" | "warn") {
            all.push(format!("Source {} is {}.", source.name, source.state.name()));
        }
    }
    if let Some(error) = &status.config.error {
        all.push(format!("The configuration is wrong, an older one is in force: {error}"));
    }
    if !status.config.needs_restart.is_empty() {
        all.push(format!("Needs a restart to change: {}.", status.config.needs_restart.join(", ")));
    }
    for device in status
        .sources
        .values()
        .flat_map(|source| &source.devices)
        .filter(|it| it.state == "silent")
        .take(SILENT_MAX)
    {
        all.push(format!("Device {} is silent.", device.id));
    }
    if !status.connected {
        all.push("The hub is not reached: readings are kept here and sent later.".to_owned());
    }
    if status.clock.offset_ms.is_some() && !status.clock.trusted {
        all.push("The clock of this machine is wrong: times of readings are corrected.".to_owned());
    }
    if let Some(ahead_ns) = view.oldest_ns.filter(|oldest_ns| *oldest_ns > view.now_ns) {
        all.push(format!("Readings have times that are ahead of the clock: {}.", time(ahead_ns)));
    }
    all
}

fn is_nearly_full(status: &Status) -> bool {
    let (held, quota) = (status.spool.bytes, status.spool.quota_bytes);
    quota > 0 && status.backlog_rows > 0 && held.saturating_mul(100) >= quota.saturating_mul(QUOTA_PERCENT)
}

fn fact(out: &mut String, name: &str, class: &str, told: &str, more: &str) {
    let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
    put!(out, "<div{class}><dt>{name}</dt><dd><b>{}</b> {}</dd></div>", text(told), text(more));
}

/// How it is.
pub fn now(out: &mut String, view: &View) {
    let status = &view.status;
    out.push_str("<section id=\"now\"><h2>Now</h2>");
    let troubles = troubles(view);
    if troubles.is_empty() {
        out.push_str("<p class=\"good\"><b>All is well.</b></p>");
    } else {
        out.push_str("<ul class=\"troubles\">");
        troubles.iter().for_each(|trouble| put!(out, "<li>{}</li>", text(trouble)));
        out.push_str("</ul>");
    }
    out.push_str("<dl class=\"facts\">");
    hub(out, status);
    let waiting = format!("{} readings", count(status.backlog_rows));
    let oldest = view.oldest_ns.map_or_else(String::new, |oldest_ns| {
        format!("the oldest of {} ({})", time(oldest_ns), age(view.now_ns, oldest_ns))
    });
    fact(out, "Waiting to be sent", "", &waiting, &oldest);
    clock(out, status);
    storage(out, status);
    let a = &status.account;
    let ledger = format!(
        "produced = {} stored + {} pending + {} dropped + {} refused",
        count(a.stored),
        count(a.pending),
        count(a.dropped),
        count(a.refused)
    );
    fact(out, "Ledger", "", &count(a.produced), &ledger);
    for (cause, rows) in &status.drops {
        fact(out, "Given up", "warn", &format!("{} readings", count(*rows)), cause);
    }
    let file = status.config.file.as_deref().unwrap_or("defaults, environment and flags");
    fact(out, "Configuration", if status.config.error.is_some() { "bad" } else { "" }, "", file);
    out.push_str("</dl>");
    ways(out, status);
    out.push_str("</section>");
}

fn hub(out: &mut String, status: &Status) {
    if status.connected {
        let rtt = status.rtt_ms.map_or_else(String::new, |ms| format!(", round trip {ms:.1} ms"));
        let transport = status.transport.as_deref().unwrap_or("an unknown way");
        fact(out, "Hub", "good", "reached", &format!("{} over {transport}{rtt}", status.hub));
        return;
    }
    let breaker = &status.breaker;
    let state = if breaker.state.is_empty() { "closed" } else { &breaker.state };
    let tried = format!("{}: breaker {state}, {} failures", status.hub, breaker.failures);
    fact(out, "Hub", "warn", "not reached", &tried);
    if let Some(error) = &status.last_error {
        fact(out, "Last error", "", "", error);
    }
}

fn clock(out: &mut String, status: &Status) {
    let clock = &status.clock;
    let (class, told, more) = match (clock.offset_ms, clock.uncertainty_ms) {
        (Some(offset_ms), Some(uncertainty_ms)) => {
            let more = format!("the hub's is ahead by {offset_ms:.1} ± {uncertainty_ms:.1} ms");
            if clock.trusted { ("good", "trusted", more) } else { ("warn", "wrong", more) }
        }
        _ => ("", "unknown", "not compared with a hub's since the start".to_owned()),
    };
    fact(out, "Clock", class, told, &more);
}

fn storage(out: &mut String, status: &Status) {
    let spool = &status.spool;
    let class = if spool.disk_full || is_nearly_full(status) { "bad" } else { "" };
    let of = if spool.quota_bytes > 0 { format!("of {}", bytes(spool.quota_bytes)) } else { String::new() };
    fact(out, "Storage", class, &bytes(spool.bytes), &of);
    if spool.flash_bytes_per_day > 0 {
        let of = format!("of {} this day ({})", bytes(spool.flash_bytes_per_day), spool.flash_pace);
        let class = if spool.flash_pace == "plenty" { "" } else { "warn" };
        fact(out, "Written to flash", class, &bytes(spool.flash_day_bytes), &of);
    }
}

fn ways(out: &mut String, status: &Status) {
    if status.paths.len() < 2 {
        return;
    }
    out.push_str("<details id=\"ways\"><summary>Ways to the hub</summary><table><thead><tr>");
    out.push_str("<th scope=\"col\">Way</th><th scope=\"col\">Breaker</th><th scope=\"col\">Round trip</th>");
    out.push_str("<th scope=\"col\">Lost</th></tr></thead><tbody>");
    for path in &status.paths {
        let carries = if path.carries { " (in use)" } else { "" };
        let rtt = path.rtt_ms.map_or_else(String::new, |ms| format!("{ms:.1} ms"));
        put!(out, "<tr><th scope=\"row\">{} {}{carries}</th>", text(&path.transport), text(&path.hub));
        put!(out, "<td>{}, {} failures</td>", text(&path.breaker.state), path.breaker.failures);
        put!(out, "<td>{rtt}</td><td>{:.1} %</td></tr>", path.loss * 100.0);
    }
    out.push_str("</tbody></table></details>");
}

const fn class(state: SourceState) -> &'static str {
    match state {
        SourceState::Running => "good",
        SourceState::Starting | SourceState::Ended => "",
        SourceState::Waiting | SourceState::Retrying => "warn",
        SourceState::Degraded | SourceState::Stalled => "bad",
    }
}

/// The sources with the devices behind them.
pub fn sources(out: &mut String, view: &View) {
    out.push_str("<section id=\"sources\"><h2>Sources</h2>");
    if view.status.sources.is_empty() {
        out.push_str("<p>There is none.</p>");
    }
    for source in view.status.sources.values() {
        put!(out, "<h3>{} <span class=\"chip {}\">", text(&source.name), class(source.state));
        put!(out, "{}</span></h3><p>{} readings", source.state.name(), count(source.accepted));
        if let Some((_, rate)) = view.rates.iter().find(|(name, _)| *name == source.name) {
            put!(out, ", {rate:.1} a second");
        }
        counted(out, source);
        out.push_str("</p>");
        if let Some(error) = &source.last_error {
            put!(out, "<p>Last error: <code>{}</code></p>", text(error));
        }
        devices(out, source, view.now_ns);
    }
    out.push_str("</section>");
}

fn counted(out: &mut String, source: &SourceStatus) {
    for (number, what) in [
        (source.polls, "polls"),
        (source.rejected, "rejected"),
        (source.failures, "failures"),
        (source.timeouts, "time-outs"),
        (source.restarts, "restarts"),
        (source.stalls, "stalls"),
    ] {
        if number > 0 {
            put!(out, ", {} {what}", count(number));
        }
    }
    if let Some(ms) = source.last_poll_ms {
        put!(out, ", last poll {ms:.0} ms");
    }
}

fn devices(out: &mut String, source: &SourceStatus, now_ns: i64) {
    if source.devices.is_empty() {
        return;
    }
    let mut all: Vec<&DeviceStatus> = source.devices.iter().collect();
    all.sort_by_key(|device| (device.state != "silent", device.state != "refuses"));
    out.push_str("<table><thead><tr><th scope=\"col\">Device</th><th scope=\"col\">State</th>");
    out.push_str("<th scope=\"col\">Last value</th><th scope=\"col\">Last error</th></tr></thead><tbody>");
    for device in all.iter().take(DEVICES_MAX) {
        let class = match device.state.as_str() {
            "silent" => " class=\"bad\"",
            "refuses" => " class=\"warn\"",
            _ => "",
        };
        let state = if device.state.is_empty() { "unknown" } else { &device.state };
        let last =
            device.last_reading_ms.map_or_else(String::new, |ms| age(now_ns, ms.saturating_mul(NS_PER_MS)));
        put!(out, "<tr{class}><th scope=\"row\">{}</th><td>{}</td>", text(&device.id), text(state));
        put!(
            out,
            "<td>{last}</td><td class=\"t\">{}</td></tr>",
            text(device.last_error.as_deref().unwrap_or_default())
        );
    }
    out.push_str("</tbody></table>");
    if all.len() > DEVICES_MAX {
        put!(out, "<p>{} more devices; all are in the status.</p>", all.len() - DEVICES_MAX);
    }
}

/// The stages of pipelines.
pub fn pipelines(out: &mut String, view: &View) {
    if view.status.pipelines.is_empty() {
        return;
    }
    out.push_str("<section id=\"pipelines\"><h2>Pipelines</h2>");
    for pipeline in &view.status.pipelines {
        put!(out, "<h3>{}</h3><table><thead><tr><th scope=\"col\">Stage</th>", text(&pipeline.name));
        out.push_str("<th scope=\"col\">In</th><th scope=\"col\">Out</th><th scope=\"col\">Left out</th>");
        out.push_str("<th scope=\"col\">Dead letters</th></tr></thead><tbody>");
        for stage in &pipeline.stages {
            let class = if stage.dead_letters > 0 { " class=\"warn\"" } else { "" };
            put!(out, "<tr{class}><th scope=\"row\">{} ({})</th>", text(&stage.stage), text(&stage.kind));
            for number in [stage.taken, stage.given, stage.dropped, stage.dead_letters] {
                put!(out, "<td>{}</td>", count(number));
            }
            out.push_str("</tr>");
        }
        out.push_str("</tbody></table>");
    }
    out.push_str("</section>");
}

/// The twins: what is wanted and is not so yet.
pub fn twins(out: &mut String, view: &View) {
    if view.twins.is_empty() {
        return;
    }
    out.push_str("<section id=\"twins\"><h2>Twins</h2>");
    for twin in &view.twins {
        let name = twin.get("device").and_then(Value::as_str).unwrap_or_default();
        let number = |key: &str| twin.get(key).and_then(Value::as_u64).unwrap_or_default();
        put!(
            out,
            "<h3>{}</h3><p><a href=\"/twin/{}\">As JSON</a>",
            text(name),
            text(&name.replace('/', "%2F"))
        );
        match number("unconfirmed") {
            0 => out.push_str(", all changes made here are known to the hub"),
            changes => put!(out, ", {} changes made here wait for the hub", count(changes)),
        }
        if number("conflicts") > 0 {
            put!(out, ", <b>{} conflicts</b>", count(number("conflicts")));
        }
        out.push_str("</p>");
        let delta: &[Value] = twin.get("delta").and_then(Value::as_array).map_or(&[], Vec::as_slice);
        if delta.is_empty() {
            continue;
        }
        out.push_str("<table><thead><tr><th scope=\"col\">Differs</th><th scope=\"col\">Wanted</th>");
        out.push_str("<th scope=\"col\">Reported</th></tr></thead><tbody>");
        for of in delta.iter().take(DELTA_MAX) {
            let shown = |key: &str| match of.get(key) {
                None | Some(Value::Null) => String::new(),
                Some(Value::String(text)) => text.clone(),
                Some(value) => value.to_string(),
            };
            put!(out, "<tr><th scope=\"row\">{}</th>", text(&shown("key")));
            let (wanted, reported) = (shown("desired"), shown("reported"));
            put!(out, "<td class=\"t\">{}</td><td class=\"t\">{}</td></tr>", text(&wanted), text(&reported));
        }
        out.push_str("</tbody></table>");
    }
    if view.twins_more > 0 {
        put!(out, "<p>{} more twins; all are in the list.</p>", view.twins_more);
    }
    out.push_str("</section>");
}

/// Commands of the hub.
pub fn commands(out: &mut String, view: &View) {
    if view.commands.is_empty() {
        return;
    }
    out.push_str(
        "<section id=\"commands\"><h2>Commands</h2><table><thead><tr><th scope=\"col\">Command</th>",
    );
    out.push_str(
        "<th scope=\"col\">For</th><th scope=\"col\">By</th><th scope=\"col\">State</th></tr></thead><tbody>",
    );
    for command in &view.commands {
        let class = if command.error.is_some() { " class=\"bad\"" } else { "" };
        put!(
            out,
            "<tr{class}><th scope=\"row\">{}</th><td>{}</td>",
            text(&command.kind),
            text(&command.device)
        );
        put!(out, "<td class=\"t\">{}</td><td class=\"t\">{}", text(&command.author), text(&command.state));
        if let Some(error) = &command.error {
            put!(out, ": {}", text(error));
        }
        out.push_str("</td></tr>");
    }
    out.push_str("</tbody></table></section>");
}
