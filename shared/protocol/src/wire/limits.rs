//! What the types of the messages cannot say: list lengths and sums against their limits.

use super::{
    ADDRESS_BYTES_MAX, GAP_RUNS_MAX, GAP_SEQS_MAX, KIND_GAP, KIND_RUN, Message, NAMES_MAX,
    RESTAMPS_PER_RUN_MAX, RUN_ROWS_MAX, RUN_SEQS_MAX, RunEnvelope, SERIES_PER_MESSAGE_MAX, TEXT_BYTES_MAX,
    WAYS_MAX, WireError, audit, commands, config, devices, twin,
};
use crate::lives::LIVES_MAX;
use crate::model::{Gap, SERIES_PER_EPOCH_MAX};
use crate::ranges::RangeSet;

/// Checks a message that was decoded.
pub(super) fn check(message: &Message) -> Result<(), WireError> {
    let over = |what, found: usize, max| WireError::TooLong { what, found, max };
    match message {
        Message::Series(series) => {
            if series.defs.len() > SERIES_PER_MESSAGE_MAX {
                return Err(over("series list", series.defs.len(), SERIES_PER_MESSAGE_MAX));
            }
            let end = series.first as usize + series.defs.len();
            if end > SERIES_PER_EPOCH_MAX as usize {
                return Err(over("series dictionary", end, SERIES_PER_EPOCH_MAX as usize));
            }
            let unit = series.defs.iter().map(|def| def.unit.len()).max().unwrap_or(0);
            if unit > crate::model::UNIT_BYTES_MAX {
                return Err(over("unit", unit, crate::model::UNIT_BYTES_MAX));
            }
            let name = series.defs.iter().map(|def| def.name().len()).max().unwrap_or(0);
            if name > crate::model::NAME_BYTES_MAX {
                return Err(over("name of a series", name, crate::model::NAME_BYTES_MAX));
            }
        }
        Message::Run(run) => {
            let (rows, seqs) = (run.envelope.rows.total(), run.envelope.rows.seqs());
            if rows > RUN_ROWS_MAX || seqs > RUN_SEQS_MAX {
                let found = usize::try_from(rows.max(seqs)).unwrap_or(usize::MAX);
                return Err(over("run of rows", found, usize::try_from(RUN_ROWS_MAX).unwrap_or(usize::MAX)));
            }
            if rows == 0
                || run.envelope.first.get() == 0
                || run.envelope.first.get().checked_add(seqs).is_none()
            {
                return Err(WireError::Malformed { kind: KIND_RUN, reason: "it names no valid seqs".into() });
            }
            check_restamps(&run.envelope)?;
        }
        Message::Gap(gap) => check_gap(gap)?,
        Message::Hello(hello) if hello.versions.len().max(hello.capabilities.len()) > NAMES_MAX => {
            let found = hello.versions.len().max(hello.capabilities.len());
            return Err(over("list of versions or abilities", found, NAMES_MAX));
        }
        Message::Hello(hello) if hello.lives.len() > LIVES_MAX => {
            return Err(over("list of lives", hello.lives.len(), LIVES_MAX));
        }
        Message::Hello(hello) if hello.software.len() > TEXT_BYTES_MAX => {
            return Err(over("software name", hello.software.len(), TEXT_BYTES_MAX));
        }
        Message::Health(health) if health.ways.len() > WAYS_MAX => {
            return Err(over("list of ways", health.ways.len(), WAYS_MAX));
        }
        Message::Health(health) => {
            let longest = health.ways.iter().map(|way| way.address.len()).max().unwrap_or(0);
            if longest > ADDRESS_BYTES_MAX {
                return Err(over("address", longest, ADDRESS_BYTES_MAX));
            }
        }
        Message::Refuse(refuse) if refuse.reason.len() > TEXT_BYTES_MAX * 4 => {
            return Err(over("reason", refuse.reason.len(), TEXT_BYTES_MAX * 4));
        }
        Message::Audit(asked) => audit::check_audit(asked)?,
        Message::Agreement(found) => audit::check_agreement(found)?,
        Message::Devices(told) => devices::check_devices(told)?,
        Message::Twin(sync) => twin::check_twin(sync)?,
        Message::Command(command) => commands::check_command(command)?,
        Message::Progress(progress) => commands::check_progress(progress)?,
        Message::Config(told) => config::check_config(told)?,
        _ => {}
    }
    Ok(())
}

/// A seq that is corrected twice would have two times.
fn check_restamps(run: &RunEnvelope) -> Result<(), WireError> {
    let found = run.restamps.len();
    if found > RESTAMPS_PER_RUN_MAX {
        let what = "list of corrections of a run";
        return Err(WireError::TooLong { what, found, max: RESTAMPS_PER_RUN_MAX });
    }
    let mut left = if found == 0 { RangeSet::new() } else { run.seqs() };
    for restamp in &run.restamps {
        if restamp.seqs.is_empty() || left.intersect(&restamp.seqs) != restamp.seqs {
            let reason = "it corrects seqs twice, or such that it does not have";
            return Err(WireError::Malformed { kind: KIND_RUN, reason: reason.into() });
        }
        left.remove_set(&restamp.seqs);
    }
    Ok(())
}

fn check_gap(gap: &Gap) -> Result<(), WireError> {
    let (seqs, first) = (gap.rows.seqs(), gap.first.get());
    if seqs == 0 || first == 0 || first.checked_add(seqs).is_none() {
        return Err(WireError::Malformed { kind: KIND_GAP, reason: "it names no valid seqs".into() });
    }
    let runs = gap.rows.runs().len();
    if runs > GAP_RUNS_MAX {
        return Err(WireError::TooLong { what: "gap of row counts", found: runs, max: GAP_RUNS_MAX });
    }
    let most = gap.rows.runs().iter().map(|(_, each)| u64::from(*each)).max().unwrap_or(0);
    for (what, found, max) in
        [("gap of seqs", seqs, GAP_SEQS_MAX), ("batch of rows in a gap", most, RUN_ROWS_MAX)]
    {
        if found > max {
            let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
            return Err(WireError::TooLong { what, found: number(found), max: number(max) });
        }
    }
    Ok(())
}
