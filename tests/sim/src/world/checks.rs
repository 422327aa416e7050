//! What must hold after every step, and what must have come of everything at the end.

use std::collections::{BTreeMap, BTreeSet};

use tideline_protocol::model::{DropCause, Epoch, Seq};
use tideline_protocol::ranges::RangeSet;

use super::made::Made;
use super::site::Site;
use super::streams::may_drop;
use super::times::Mark;
use super::{Outcome, World};

/// What became of the seqs of one epoch.
#[derive(Debug, Default)]
struct Fates {
    stored: u64,
    dropped: u64,
    lost: u64,
    dropped_seqs: Vec<u64>,
}

/// The values that the hub holds of each seq, in order.
type Found = BTreeMap<((usize, Epoch), u64), Vec<u64>>;

impl World {
    pub(super) fn check(&self) -> Result<(), String> {
        for (agent, site) in self.sites.iter().enumerate() {
            self.check_site(agent, site)?;
        }
        self.hub.check()
    }

    fn check_site(&self, agent: usize, site: &Site) -> Result<(), String> {
        // A spool on a disk that fails is closed.
        let Some(spool) = site.agent.spool() else { return Ok(()) };
        let account = spool.account();
        if !account.balances() {
            return Err(format!("INV-4: the agent's account does not balance: {account:?}"));
        }
        let made = site.agent.made.rows;
        // A copy knows its own part only, and what a lost journal held nobody can count.
        let knows_all = account.produced == made || (site.damaged && account.produced < made);
        if !site.copied && !knows_all {
            let known = account.produced;
            let moved = spool.moved();
            return Err(format!(
                "INV-3: {made} readings were accepted, the spool knows {known} and went on from {moved:?}"
            ));
        }
        // What is before a branch belongs to another epoch.
        let begins = spool.lives().first().map_or(1, |life| life.first.get());
        let claimed = spool.settlement().stored.within(begins, u64::MAX);
        self.check_claim((agent, spool.epoch()), &claimed, spool.known())
    }

    /// What an agent takes for stored is at the hub, but for what the hub was robbed of. Up to `known` it
    /// may have been dropped.
    fn check_claim(&self, of: (usize, Epoch), claimed: &RangeSet, known: Seq) -> Result<(), String> {
        let mut missing = claimed.clone();
        let at_hub = self.hub.settled(of.0, of.1);
        missing.remove_set(&at_hub.stored);
        missing.remove_set(&at_hub.dropped.within(1, known.get()));
        for (forgot, until) in [(&self.hub.forgot, u64::MAX), (&self.hub.forgot_drops, known.get())] {
            missing.remove_set(&forgot.get(&of).map(|seqs| seqs.within(1, until)).unwrap_or_default());
        }
        if missing.is_empty() {
            return Ok(());
        }
        Err(format!("INV-1: acknowledged as stored, but not in the hub's log: {missing:?}"))
    }

    pub(super) fn check_end(mut self) -> Result<Outcome, String> {
        for site in &self.sites {
            if !site.agent.is_drained() {
                let account = site.agent.spool().map(tideline_spool::Spool::account);
                return Err(format!("after quiet the agent still holds {account:?}"));
            }
        }
        // Duplicates are counted in memory, so they are read before the restart forgets them.
        let ledgers = (0..self.sites.len()).flat_map(|agent| self.hub.ledgers(agent));
        self.outcome.duplicates = ledgers.map(|ledger| ledger.duplicates).sum();
        // A last power cut: only what is durable counts.
        self.hub.restart(&mut self.rng)?;
        self.check()?;
        self.outcome.sealed = self.hub.sealed();
        self.check_times()?;
        let found = self.found();
        let values = self.check_twice()?;
        let mut outcome = self.outcome;
        outcome.stored = values.len() as u64;
        outcome.folded = self.hub.folded.values().map(RangeSet::len).sum();
        let marks = |is: fn(Mark) -> bool| self.hub.stored().filter(|stored| is(stored.mark)).count() as u64;
        outcome.restamped = marks(|mark| matches!(mark, Mark::Shift(_)));
        outcome.uncertain = marks(|mark| mark == Mark::Uncertain);
        for (agent, site) in self.sites.iter().enumerate() {
            if site.copied {
                self.check_copied(agent, site, &values, &mut outcome)?;
            } else {
                self.check_epochs(agent, site, &found, &mut outcome)?;
            }
        }
        Ok(outcome)
    }

    fn found(&self) -> Found {
        let mut found = Found::new();
        for stored in self.hub.stored() {
            found.entry((stored.of, stored.seq)).or_default().push(stored.value);
        }
        found.values_mut().for_each(|values| values.sort_unstable());
        found
    }

    /// All values that are stored. None is stored by two batches, nor by one that a policy made of others.
    fn check_twice(&self) -> Result<BTreeSet<u64>, String> {
        let mut all = BTreeSet::new();
        for stored in self.hub.stored() {
            if !all.insert(stored.value) {
                return Err(format!("INV-2: the reading with value {} is stored twice", stored.value));
            }
        }
        Ok(all)
    }

    /// Each seq that a spool gave out is stored with all its values, or dropped and counted, or was
    /// taken from the hub when the agent did not hold it any more.
    fn check_epochs(
        &self,
        agent: usize,
        site: &Site,
        found: &Found,
        outcome: &mut Outcome,
    ) -> Result<(), String> {
        for wiped in &site.wiped {
            self.check_claim((agent, wiped.epoch), &wiped.stored, wiped.known)?;
            let known = RangeSet::of(1, u64::MAX);
            let fates = self.fates((agent, wiped.epoch), &wiped.made, found, &wiped.dropped, &known)?;
            outcome.produced += wiped.made.values.len();
            outcome.dropped += fates.dropped;
            outcome.gone += fates.lost;
        }
        let Some(spool) = site.agent.spool() else { return Err("the spool is closed".to_owned()) };
        let (epoch, account) = (spool.epoch(), spool.account());
        let of = (agent, epoch);
        let mut robbed = self.hub.forgot.get(&of).cloned().unwrap_or_default();
        robbed.insert_set(self.hub.forgot_drops.get(&of).unwrap_or(&RangeSet::new()));
        // What the agent holds it has sent again.
        robbed.remove_set(spool.held());
        let made = &site.agent.made;
        let fates = self.fates(of, made, found, &spool.settlement().dropped, &robbed)?;
        outcome.produced += made.values.len();
        outcome.dropped += fates.dropped;
        outcome.lost += fates.lost;
        let ledger = self.hub.ledgers(agent).into_iter().find(|ledger| ledger.epoch == epoch);
        let told = ledger.map_or((0, 0), |ledger| (ledger.stored, ledger.dropped));
        let harmed = self.hub.forgot.contains_key(&of);
        let knows_all = !harmed && !site.damaged;
        if knows_all && (account.stored, account.dropped) != (fates.stored, fates.dropped) {
            return Err(format!("INV-4: {fates:?}, but the agent says {account:?}"));
        }
        if told.0 != fates.stored || (knows_all && told.1 != fates.dropped) {
            return Err(format!("INV-4: {fates:?}, but the hub's ledger says (stored, dropped) {told:?}"));
        }
        if knows_all && !self.hub.forgot_drops.contains_key(&of) {
            return self.check_gaps(of, site, &fates);
        }
        Ok(())
    }

    fn fates(
        &self,
        of: (usize, Epoch),
        made: &Made,
        found: &Found,
        dropped: &RangeSet,
        robbed: &RangeSet,
    ) -> Result<Fates, String> {
        let settled = self.hub.settled(of.0, of.1);
        let folded = self.hub.folded.get(&of).cloned().unwrap_or_default();
        let mut fates = Fates::default();
        for (seq, batch) in &made.seqs {
            let rows = batch.values.len() as u64;
            let given_up = folded.contains(*seq) && !found.contains_key(&(of, *seq));
            if settled.stored.contains(*seq) && !given_up {
                let stored = found.get(&(of, *seq)).map_or(&[][..], Vec::as_slice);
                let mut wanted = batch.values.clone();
                wanted.sort_unstable();
                if stored != wanted {
                    return Err(format!("INV-3: seq {seq} was {wanted:?} and is stored as {stored:?}"));
                }
                fates.stored += rows;
            } else if given_up && robbed.contains(*seq) {
                fates.lost += rows;
            } else if given_up || settled.dropped.contains(*seq) || dropped.contains(*seq) {
                fates.dropped += rows;
                fates.dropped_seqs.push(*seq);
            } else if robbed.contains(*seq) {
                fates.lost += rows;
            } else {
                return Err(format!("INV-3: seq {seq} is neither stored nor counted as dropped"));
            }
        }
        Ok(fates)
    }

    /// What was given up is in a gap, with its cause and count.
    fn check_gaps(&self, of: (usize, Epoch), site: &Site, fates: &Fates) -> Result<(), String> {
        let Some(ledger) = self.hub.ledgers(of.0).into_iter().find(|ledger| ledger.epoch == of.1) else {
            return if fates.dropped_seqs.is_empty() { Ok(()) } else { Err("INV-4: no ledger".to_owned()) };
        };
        let mut told: BTreeMap<u64, (u64, DropCause)> = BTreeMap::new();
        for gap in &ledger.gaps {
            let rows = (gap.first.get()..).zip(gap.rows.iter());
            told.extend(
                rows.filter(|(_, rows)| *rows > 0).map(|(seq, rows)| (seq, (rows.into(), gap.cause))),
            );
        }
        for seq in &fates.dropped_seqs {
            let Some(batch) = site.agent.made.seqs.get(seq) else { continue };
            let rows = batch.values.len() as u64;
            let policy = site.agent.streams.get(batch.stream).map(|stream| stream.policy).unwrap_or_default();
            match told.get(seq) {
                Some((counted, cause)) if *counted == rows && may_drop(policy, *cause) => {}
                other => {
                    return Err(format!(
                        "INV-4: seq {seq}, {batch:?} by {policy:?}, was given up as {other:?}"
                    ));
                }
            }
        }
        let by_cause: u64 = ledger.dropped_by.iter().map(|(_, rows)| rows).sum();
        if by_cause == fates.dropped {
            return Ok(());
        }
        Err(format!("INV-4: {} were given up, by cause {:?}", fates.dropped, ledger.dropped_by))
    }

    /// With several copies of a spool no single account tells the whole; the values do.
    fn check_copied(
        &self,
        agent: usize,
        site: &Site,
        values: &BTreeSet<u64>,
        outcome: &mut Outcome,
    ) -> Result<(), String> {
        let mut made = site.agent.made.values.clone();
        made.insert_set(&site.accepted);
        let all = made.iter().flat_map(|(first, last)| first..=last);
        let missing =
            all.filter(|value| !values.contains(value) && !site.gone.contains(*value)).count() as u64;
        let dropped = self.hub.ledgers(agent).iter().map(|ledger| ledger.dropped).sum();
        outcome.produced += made.len();
        outcome.dropped += dropped;
        if missing > dropped {
            return Err(format!("INV-3: {missing} readings are missing, {dropped} were dropped and counted"));
        }
        Ok(())
    }
}
