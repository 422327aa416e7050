//! The parts of the page that tell of the agent: how it is, its sources, pipelines, twins and commands.

use tideline_protocol::time::NS_PER_MS;

use super::View;
use super::asked::TwinShown;
use super::html::{age, bytes, count, cut, put, text, time};
use crate::commands::Known;
use crate::schedule::core::{Run, RunState};
use crate::schedule::driver::ScheduleShown;
use crate::status::{DeviceStatus, SourceState, SourceStatus, Status};

/// Of a spool's quota: from there on somebody should know.
const QUOTA_PERCENT: u64 = 90;
/// Most devices of a source that are shown; those with trouble first.
const DEVICES_MAX: usize = 30;
/// Most silent devices that are named.
const SILENT_MAX: usize = 5;
/// Most commands and most schedules that are shown: of these as many as a configuration may have.
const COMMANDS_MAX: usize = 20;
const SCHEDULES_MAX: usize = 64;
/// Most characters of an error: a device or a program may say what it wants.
const ERROR_CHARS_MAX: usize = 400;

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
        all.push(format!(
            "The configuration is wrong, an older one is in force: {}",
            cut(error, ERROR_CHARS_MAX)
        ));
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
    if let Some(ahead_ns) = view.oldest_ns.flatten().filter(|oldest_ns| *oldest_ns > view.now_ns) {
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

/// How old the oldest reading is that waits. Nothing is said of one that cannot be read or has just been sent.
fn oldest(oldest_ns: Option<Option<i64>>, now_ns: i64) -> String {
    match oldest_ns {
        Some(Some(oldest_ns)) => format!("the oldest of {} ({})", time(oldest_ns), age(now_ns, oldest_ns)),
        Some(None) => String::new(),
        None => "how old they are is not known now".to_owned(),
    }
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
    let oldest = oldest(view.oldest_ns, view.now_ns);
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
        fact(out, "Last error", "", "", &cut(error, ERROR_CHARS_MAX));
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
            put!(out, "<p>Last error: <code>{}</code></p>", text(&cut(error, ERROR_CHARS_MAX)));
        }
        devices(out, source, view.now_ns);
    }
    out.push_str("</section>");
}

fn counted(out: &mut String, source: &SourceStatus) {
    for (number, what) in [
        (source.polls, "polls"),
        (source.rejected, "rejected"),
        (source.unchanged, "unchanged"),
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
            text(&cut(device.last_error.as_deref().unwrap_or_default(), ERROR_CHARS_MAX))
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
    let Some((twins, more)) = &view.twins else {
        unknown(out, "twins", "Twins");
        return;
    };
    if twins.is_empty() {
        return;
    }
    out.push_str("<section id=\"twins\"><h2>Twins</h2>");
    twins.iter().for_each(|shown| twin(out, shown));
    if *more > 0 {
        put!(out, "<p>{more} more twins; all are in the list.</p>");
    }
    out.push_str("</section>");
}

fn twin(out: &mut String, shown: &TwinShown) {
    let path = shown.name.replace('/', "%2F");
    put!(
        out,
        "<h3>{}</h3><p><a href=\"/twin/{}/page\">Show and change</a>, ",
        text(&shown.name),
        text(&path)
    );
    put!(out, "<a href=\"/twin/{}\">as JSON</a>", text(&path));
    match shown.unconfirmed {
        0 => out.push_str(", all changes made here are known to the hub"),
        changes => put!(out, ", {} changes made here wait for the hub", count(changes)),
    }
    if shown.conflicts > 0 {
        put!(out, ", <b>{} conflicts</b>", shown.conflicts);
    }
    out.push_str("</p>");
    if shown.delta.is_empty() {
        return;
    }
    out.push_str("<table><thead><tr><th scope=\"col\">Differs</th><th scope=\"col\">Wanted</th>");
    out.push_str("<th scope=\"col\">Reported</th></tr></thead><tbody>");
    for [key, wanted, reported] in &shown.delta {
        put!(out, "<tr><th scope=\"row\">{}</th>", text(key));
        put!(out, "<td class=\"t\">{}</td><td class=\"t\">{}</td></tr>", text(wanted), text(reported));
    }
    out.push_str("</tbody></table>");
    if shown.delta_more > 0 {
        put!(out, "<p>{} more differ; all are in the JSON.</p>", shown.delta_more);
    }
}

/// What cannot be told in time.
fn unknown(out: &mut String, id: &str, name: &str) {
    put!(out, "<section id=\"{id}\"><h2>{name}</h2><p class=\"warn\"><b>Not known now:</b> ");
    out.push_str(
        "the part of the agent that knows does not answer. Its disk may fail; the log tells.</p></section>",
    );
}

/// The schedules with their last runs, those that failed first.
pub fn schedules(out: &mut String, schedules: &[(String, ScheduleShown)], now_ns: i64) {
    if schedules.is_empty() {
        return;
    }
    out.push_str("<section id=\"schedules\"><h2>Schedules</h2><table><thead><tr>");
    out.push_str("<th scope=\"col\">Schedule</th><th scope=\"col\">Does</th>");
    out.push_str("<th scope=\"col\">Next</th><th scope=\"col\">Last run</th></tr></thead><tbody>");
    let has_failed = |last: &Run| matches!(last.state, RunState::Failed | RunState::Interrupted);
    let mut all: Vec<_> = schedules.iter().collect();
    all.sort_by_key(|(_, shown)| !shown.last.as_ref().is_some_and(has_failed));
    for (name, shown) in all.iter().take(SCHEDULES_MAX) {
        let class = if shown.last.as_ref().is_some_and(has_failed) { " class=\"bad\"" } else { "" };
        let next = shown.next_ms.map_or_else(|| "–".to_owned(), |ms| time(ns(ms)));
        put!(out, "<tr{class}><th scope=\"row\">{}</th><td>{}</td>", text(name), text(&shown.kind));
        put!(out, "<td>{next}</td><td class=\"t\">");
        match &shown.last {
            Some(last) => {
                put!(
                    out,
                    "{}, {}",
                    last.state.name(),
                    age(now_ns, ns(last.ended_ms.unwrap_or(last.began_ms)))
                );
                if let Some(error) = &last.error {
                    put!(out, ": {}", text(&cut(error, ERROR_CHARS_MAX)));
                }
            }
            None => out.push_str("none yet"),
        }
        out.push_str("</td></tr>");
    }
    out.push_str("</tbody></table>");
    if all.len() > SCHEDULES_MAX {
        put!(out, "<p>{} more schedules.</p>", all.len() - SCHEDULES_MAX);
    }
    out.push_str("</section>");
}

const fn ns(ms: i64) -> i64 {
    ms.saturating_mul(NS_PER_MS)
}

/// Commands of the hub.
pub fn commands(out: &mut String, view: &View) {
    let Some(Known { commands, .. }) = &view.commands else {
        unknown(out, "commands", "Commands");
        return;
    };
    if commands.is_empty() {
        return;
    }
    out.push_str(
        "<section id=\"commands\"><h2>Commands</h2><table><thead><tr><th scope=\"col\">Command</th>",
    );
    out.push_str(
        "<th scope=\"col\">For</th><th scope=\"col\">By</th><th scope=\"col\">State</th></tr></thead><tbody>",
    );
    for command in commands.iter().take(COMMANDS_MAX) {
        let class = if command.error.is_some() { " class=\"bad\"" } else { "" };
        put!(
            out,
            "<tr{class}><th scope=\"row\">{}</th><td>{}</td>",
            text(&command.kind),
            text(&command.device)
        );
        put!(out, "<td class=\"t\">{}</td><td class=\"t\">{}", text(&command.author), text(&command.state));
        if let Some(error) = &command.error {
            put!(out, ": {}", text(&cut(error, ERROR_CHARS_MAX)));
        }
        out.push_str("</td></tr>");
    }
    out.push_str("</tbody></table>");
    if commands.len() > COMMANDS_MAX {
        let more = commands.len() - COMMANDS_MAX;
        put!(out, "<p>{more} more; <code>edge-agent command list</code> shows them.</p>");
    }
    out.push_str("</section>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_spool_that_does_not_answer_is_told_as_one_of_which_nothing_is_known() {
        assert_eq!(oldest(None, 0), "how old they are is not known now");
        assert_eq!(oldest(Some(None), 0), "");
        let told = oldest(Some(Some(1_000_000_000)), 61_000_000_000);
        assert_eq!(told, "the oldest of 1970-01-01T00:00:01Z (60 s)");
    }

    #[test]
    fn schedules_are_told_with_their_last_runs_and_those_that_failed_first() {
        let run = |state, error: Option<&str>| Run {
            schedule: "any".to_owned(),
            kind: "sync".to_owned(),
            due_ms: 0,
            began_ms: 1_000,
            ended_ms: Some(61_000),
            state,
            error: error.map(str::to_owned),
            result: None,
        };
        let shown = |next_ms, last| ScheduleShown { kind: "sync".to_owned(), next_ms, last, ended: None };
        let long = format!("<b>{}", "x".repeat(9_000));
        let mut all = vec![
            ("a".to_owned(), shown(Some(1_769_860_800_000), Some(run(RunState::Succeeded, None)))),
            ("b".to_owned(), shown(None, None)),
            ("c".to_owned(), shown(None, Some(run(RunState::Failed, Some(&long))))),
        ];
        let mut out = String::new();
        schedules(&mut out, &all, 91_000 * NS_PER_MS);
        for part in [
            ">a</th><td>sync</td><td>2026-01-31T12:00:00Z</td><td class=\"t\">succeeded, 30 s<",
            ">b</th><td>sync</td><td>–</td><td class=\"t\">none yet<",
            ">failed, 30 s: &lt;b&gt;xx",
        ] {
            assert!(out.contains(part), "{part} is not in {out}");
        }
        assert!(out.find(">c</th>").unwrap() < out.find(">a</th>").unwrap() && out.len() < 3_000, "{out}");
        all.extend((0..SCHEDULES_MAX).map(|n| (format!("s{n}"), shown(None, None))));
        out.clear();
        schedules(&mut out, &all, 0);
        assert!(out.contains("<p>3 more schedules.</p>"));
    }
}
