//! A device and its ledger, for people.

use std::fmt::Write as _;

use cloud_hub::api::shapes::{
    About, Device, DevicePosition, DeviceProfile, DeviceState, Ledger, PlanSpot, PositionSource,
    ProfileAgreement, ProfileOrigin, SessionView,
};
use cloud_hub::when::show_ms;

/// How many gaps are shown; a lossy link may have left thousands.
const GAPS_MAX: usize = 5;

/// What is known of a device, in a few lines.
pub fn device(device: &Device) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ok = head(&mut out, device).and_then(|()| ledger(&mut out, device));
    out
}

fn at(ms: Option<i64>) -> String {
    ms.map_or_else(|| "never".to_owned(), show_ms)
}

fn head(out: &mut String, device: &Device) -> std::fmt::Result {
    let state = if device.revoked { "revoked" } else { device.state.as_str() };
    let since = device.state_since_ms.map_or_else(String::new, |ms| format!(" since {}", show_ms(ms)));
    // A session whose line is cut ends later than its agent is told as offline.
    let over = if device.state == DeviceState::Offline { "last over" } else { "over" };
    let way = device.transport.as_ref().map_or_else(String::new, |way| format!(", {over} {way}"));
    let software = device.software.as_ref().map_or_else(String::new, |name| format!(", {name}"));
    writeln!(out, "device    {} ({state}{since}{way}{software})", device.id)?;
    if device.agent != device.id {
        writeln!(out, "behind    {}, whose ledger this is", device.agent)?;
    }
    if let Some(About { profile, firmware, vendor, model, via }) = &device.about {
        let known = [("profile", profile), ("firmware", firmware), ("made by", vendor), ("model", model)];
        let known = known.iter().filter(|(_, text)| !text.is_empty());
        let known: Vec<String> = known.map(|(what, text)| format!("{what} {text}")).collect();
        writeln!(out, "about     {}", known.join(", "))?;
        if !via.is_empty() {
            writeln!(out, "read by   {via}")?;
        }
    }
    session(out, device)?;
    marks(out, device)?;
    writeln!(out, "seen      {}, newest reading {}", at(device.last_seen_ms), at(device.last_reading_ms))?;
    let (readings, late, rate) = (device.readings, device.late, device.rate);
    writeln!(out, "readings  {readings} of this device, {late} of them came late, {rate:.1} a second")
}

fn session(out: &mut String, device: &Device) -> std::fmt::Result {
    let Some(SessionView { remote, certificate, waiting_bytes, waiting_batches, credit_bytes, .. }) =
        &device.session
    else {
        return Ok(());
    };
    writeln!(
        out,
        "session   from {remote}; {waiting_batches} batches ({waiting_bytes} bytes) on their way to the disk, {credit_bytes} more bytes may come before"
    )?;
    match certificate {
        Some(shown) => {
            writeln!(
                out,
                "key       certificate until {}, SHA-256 {}",
                show_ms(shown.not_after_ms),
                shown.sha256
            )
        }
        None => writeln!(out, "key       a token"),
    }
}

fn marks(out: &mut String, device: &Device) -> std::fmt::Result {
    let tags: Vec<String> = device.tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let (groups, tags) = (device.groups.join(", "), tags.join(", "));
    for (what, text) in
        [("title", &device.title), ("site", &device.site), ("groups", &groups), ("tags", &tags)]
    {
        if !text.is_empty() {
            writeln!(out, "{what:<9} {text}")?;
        }
    }
    if let Some(DevicePosition { lat, lon, alt_m, source, as_of_ms }) = &device.position {
        let high = alt_m.map_or_else(String::new, |alt| format!(", {alt} m"));
        let said = match source {
            PositionSource::Set => "as operators say".to_owned(),
            PositionSource::Measured => format!("as it measured, {}", at(*as_of_ms)),
        };
        writeln!(out, "position  {lat}, {lon}{high} ({said})")?;
    }
    if let Some(PlanSpot { x, y }) = &device.spot {
        writeln!(out, "spot      {x}, {y} of the plan of its site")?;
    }
    Ok(())
}

fn ledger(out: &mut String, device: &Device) -> std::fmt::Result {
    let Ledger { produced, stored, pending, dropped, refused, lost, .. } = &device.ledger;
    writeln!(
        out,
        "ledger    {produced} produced = {stored} stored + {pending} pending + {dropped} dropped + {refused} refused + {lost} lost"
    )?;
    let Ledger { duplicates, restamped, uncertain, balanced, as_of_ms, gaps, .. } = &device.ledger;
    let judged = if *balanced { "it balances" } else { "IT DOES NOT BALANCE" };
    writeln!(out, "          {judged}; the agent last reported {}", at(*as_of_ms))?;
    writeln!(
        out,
        "          {duplicates} came again, {restamped} have a corrected time, {uncertain} an uncertain one"
    )?;
    for (cause, rows) in &device.ledger.dropped_by {
        writeln!(out, "dropped   {rows} readings: {cause}")?;
    }
    let mut newest: Vec<_> = gaps.iter().collect();
    newest.sort_by_key(|gap| std::cmp::Reverse((gap.to_ms, gap.last)));
    for gap in newest.iter().take(GAPS_MAX) {
        let (from, to) = (show_ms(gap.from_ms), show_ms(gap.to_ms));
        writeln!(out, "gap       {from} to {to}: {} readings, {}", gap.rows, gap.cause)?;
    }
    match newest.len().saturating_sub(GAPS_MAX) {
        0 => Ok(()),
        more => writeln!(out, "          and {more} older gaps, which `--json` lists"),
    }
}

/// Where the hub does not know what the device's agent reads it by.
pub fn strange(told: &DeviceProfile) -> Option<String> {
    let name = &told.profile;
    match (told.origin, told.agreement) {
        (ProfileOrigin::Unknown, _) => Some(format!(
            "the hub has no profile {name}: `cloud-hub profile add FOLDER` gives it that of the agent"
        )),
        (_, Some(ProfileAgreement::Other)) => Some(format!(
            "the agent has another version of {name} than the hub: boards and commands are as the hub's says"
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use cloud_hub::api::shapes::{CertificateView, LedgerGap};

    use super::*;

    fn munich() -> DevicePosition {
        let (lat, lon, alt_m) = (48.1374, 11.5755, Some(519.0));
        DevicePosition { lat, lon, alt_m, source: PositionSource::Set, as_of_ms: None }
    }

    fn session_shown() -> SessionView {
        SessionView {
            remote: "192.0.2.7:50123".to_owned(),
            certificate: Some(CertificateView {
                sha256: "ab".repeat(32),
                not_before_ms: 0,
                not_after_ms: 1_790_000_000_000,
            }),
            waiting_bytes: 4_096,
            waiting_batches: 2,
            credit_bytes: 8_192,
            credit_most_bytes: 12_288,
        }
    }

    fn gap(n: u64) -> LedgerGap {
        LedgerGap {
            epoch: "e".to_owned(),
            first: n,
            last: n,
            rows: n,
            from_ms: 0,
            to_ms: i64::try_from(n).unwrap() * 1_000,
            cause: "quota".to_owned(),
        }
    }

    #[test]
    fn a_device_is_told_in_a_few_lines_however_many_gaps_it_has() {
        let ledger = Ledger {
            produced: 20_000,
            stored: 15_000,
            dropped: 5_000,
            dropped_by: [("quota".to_owned(), 4_000), ("expired".to_owned(), 1_000)].into(),
            // The newest are in the middle.
            gaps: (50..=100).chain(1..50).map(gap).collect(),
            balanced: true,
            ..Ledger::default()
        };
        let shown = Device {
            id: "pump-1".to_owned(),
            agent: "gateway".to_owned(),
            title: "Inlet".to_owned(),
            about: Some(About { vendor: "Eastron".to_owned(), via: "modbus".to_owned(), ..About::default() }),
            site: "north".to_owned(),
            groups: vec!["water".to_owned(), "old".to_owned()],
            tags: [("floor".to_owned(), "2".to_owned())].into(),
            position: Some(munich()),
            spot: Some(PlanSpot { x: 0.5, y: 0.25 }),
            state: DeviceState::Online,
            state_since_ms: None,
            state_reason: None,
            revoked: false,
            transport: Some("mqtt".to_owned()),
            uplink: None,
            session: Some(session_shown()),
            software: None,
            connected_ms: None,
            last_seen_ms: Some(0),
            last_reading_ms: None,
            rate: 2.0,
            readings: 7,
            late: 2,
            backlog: 0,
            ledger,
        };
        let text = device(&shown);
        for part in [
            "device    pump-1 (online, over mqtt)\n",
            "behind    gateway",
            "session   from 192.0.2.7:50123; 2 batches (4096 bytes) on their way to the disk, 8192 more bytes may come before\n",
            "key       certificate until 2026-09-21",
            "about     made by Eastron\n",
            "read by   modbus\n",
            "title     Inlet\n",
            "groups    water, old\ntags      floor=2\n",
            "position  48.1374, 11.5755, 519 m (as operators say)\n",
            "spot      0.5, 0.25 of the plan of its site\n",
            "20000 produced = 15000 stored + 0 pending + 5000 dropped + 0 refused + 0 lost\n",
            "dropped   4000 readings: quota\n",
            "dropped   1000 readings: expired\n",
            "and 95 older gaps",
        ] {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
        let away = device(&Device { state: DeviceState::Offline, ..shown });
        assert!(away.contains("(offline, last over mqtt)"), "{away}");
        let gaps: Vec<&str> = text.lines().filter(|line| line.starts_with("gap ")).collect();
        assert_eq!(gaps.len(), GAPS_MAX, "{text}");
        let newest = gaps.first().unwrap();
        assert!(newest.ends_with(": 100 readings, quota") && newest.contains(&show_ms(100_000)), "{text}");
    }

    #[test]
    fn a_profile_that_agent_and_hub_do_not_have_in_common_is_told() {
        let told = |origin, agreement| DeviceProfile {
            device: "oven-1".into(),
            profile: "oven".into(),
            origin,
            version: None,
            agreement,
            sheet: None,
        };
        let unknown = strange(&told(ProfileOrigin::Unknown, None)).unwrap();
        assert!(unknown.contains("the hub has no profile oven"), "{unknown}");
        let other = strange(&told(ProfileOrigin::Given, Some(ProfileAgreement::Other))).unwrap();
        assert!(other.contains("another version of oven"), "{other}");
        assert_eq!(strange(&told(ProfileOrigin::Shipped, Some(ProfileAgreement::Same))), None);
    }
}
