//! Which way the data takes: the first path that gets through, and back to a better one when that is
//! measured to work again. Pure: it reads no clock, draws no randomness and dials nothing itself.
//!
//! Paths stand in order of preference: each hub by QUIC, then by MQTT. Call order: `handle_*` with
//! what happened, then [`Chooser::poll`] until it gives `None`, doing what it says; no later than
//! [`Chooser::due_ns`] again.
//!
//! ```text
//!              nothing carries                             a path carries
//!  race: dial the first that its circuit       ┌─ heard ─▶ probe the better ones every 30 s;
//!  admits, the next 3 s later or once it ─────▶│           three answers in a row: take it
//!  has failed; take the first that answers,    │
//!  a better one if it does so within 1 s  ◀────┴─ silent for 4 s with readings to send: race, this
//!                                                 path among the others, and keep what answers first
//! ```
//!
//! Nothing is lost by a change: a session is begun anew from what the hub says that it holds.
//! - A circuit admits one probe at a time once it is open; a race is urgent while readings wait, and
//!   so its back-off alone holds it; while another path carries, its probes are 30 s apart.
//! - Hysteresis: a better path is taken after three answers in a row, when it costs no more than half as much
//!   again, or 50 ms more; and one that was left in trouble soon after it was taken, not before a hold that
//!   doubles each time.
//! - A worse path is taken only when the one that carries loses packets or answers late, and the worse
//!   one costs less than half.

use super::routes::Path;
use crate::resilience::{Circuit, CircuitStatus, Pace, Permit, Refusal};

/// How long a dial may take before the next path is dialled too.
pub const STAGGER_NS: u64 = 3_000_000_000;
/// How long an answer waits for that of a better path which is being dialled.
const GRACE_NS: u64 = 1_000_000_000;
/// After how much silence of a hub that has something to answer another way is looked for. Pings are
/// 3 s apart then.
const SILENCE_NS: u64 = 4_000_000_000;
/// Between the first packets of one dial of a way that carried a moment ago, and of one that is silent
/// for long: a line that comes back waits for the next, and each is a datagram of 1,200 bytes.
const KNOCK_NS: (u64, u64) = (250_000_000, 900_000_000);
/// The part of the time since a way was last heard that lies between two of them.
const KNOCK_PART: u64 = 120;
/// Between the probes of a row.
const CONFIRM_GAP_NS: u64 = 1_000_000_000;
/// Answers in a row after which a path is trusted.
const CONFIRMATIONS: u32 = 3;
/// A path that was left in trouble so soon after it was taken is held back.
const FLAP_NS: u64 = 300_000_000_000;
/// The longest hold; the first is as long as the time between two probes.
const HOLD_MAX_NS: u64 = 600_000_000_000;
/// Loss from which on a worse path is looked at, in millionths.
const BAD_LOSS_PPM: u32 = 100_000;
/// Round trip from which on a worse path is looked at, in microseconds.
const BAD_RTT_US: u64 = 2_000_000;
/// What a better path that loses next to nothing may cost more: near a hub round trips differ by factors.
const NEAR_US: u64 = 50_000;

/// What the driver is to do. A path is named by its place in the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// Dial it, and tell by [`Chooser::handle_dialled`] or [`Chooser::handle_dial_failed`].
    Dial(usize),
    /// Begin a session on the link that its dial gave, in place of the one that there is.
    Take(usize),
    /// Close the link that its dial gave.
    Drop(usize),
}

/// What is shown of a path.
#[derive(Debug, Clone, Copy)]
pub struct PathView<'c> {
    /// The path.
    pub path: &'c Path,
    /// Whether the session is on it.
    pub carries: bool,
    /// Back-off and breaker.
    pub circuit: CircuitStatus,
    /// The last round trip, in microseconds.
    pub rtt_us: Option<u64>,
    /// Lost packets in millionths, smoothed.
    pub loss_ppm: u32,
}

#[derive(Debug)]
enum Step {
    Resting,
    Dialling { permit: Permit, since_ns: u64, racing: bool },
    Dialled { permit: Permit, at_ns: u64, racing: bool },
}

#[derive(Debug)]
struct Way {
    path: Path,
    circuit: Circuit,
    step: Step,
    confirmations: u32,
    probe_ns: u64,
    rtt_us: Option<u64>,
    loss_ppm: u32,
    // When the hub was last heard on it.
    heard_ns: Option<u64>,
    taken_ns: u64,
    hold_ns: u64,
    free_ns: u64,
}

impl Way {
    fn new(path: Path) -> Self {
        Self {
            path,
            circuit: Circuit::default(),
            step: Step::Resting,
            confirmations: 0,
            probe_ns: 0,
            rtt_us: None,
            loss_ppm: 0,
            heard_ns: None,
            taken_ns: 0,
            hold_ns: 0,
            free_ns: 0,
        }
    }

    /// What sending over it costs: the round trip, and more where packets are lost.
    fn cost(&self) -> Option<u64> {
        let loss = 1_000_000 + 20 * u64::from(self.loss_ppm);
        self.rtt_us.map(|rtt_us| rtt_us.saturating_mul(loss) / 1_000_000)
    }

    fn is_bad(&self) -> bool {
        self.loss_ppm >= BAD_LOSS_PPM || self.rtt_us.is_some_and(|rtt_us| rtt_us >= BAD_RTT_US)
    }

    fn measured(&mut self, rtt_us: u64) {
        self.rtt_us = Some(self.rtt_us.map_or(rtt_us, |old| (old * 3).saturating_add(rtt_us) / 4));
    }

    fn left_in_trouble(&mut self, now_ns: u64, hold_ns: u64) {
        let soon = now_ns.saturating_sub(self.taken_ns) < FLAP_NS;
        self.hold_ns = if soon { (self.hold_ns * 2).max(hold_ns).min(HOLD_MAX_NS) } else { 0 };
        self.free_ns = now_ns.saturating_add(self.hold_ns);
        self.confirmations = 0;
    }

    /// Ends what its dial had come to.
    fn rest(&mut self) {
        match std::mem::replace(&mut self.step, Step::Resting) {
            Step::Dialling { permit, .. } | Step::Dialled { permit, .. } => self.circuit.release(permit),
            Step::Resting => {}
        }
    }
}

#[derive(Debug)]
struct Carrying {
    way: usize,
    // None once the silence was counted as a failure.
    permit: Option<Permit>,
    heard_ns: u64,
    silent: bool,
}

/// See the module's text.
#[derive(Debug)]
pub struct Chooser {
    ways: Vec<Way>,
    carrying: Option<Carrying>,
    pending: bool,
    probe_every_ns: u64,
    switches: u64,
}

impl Chooser {
    /// Of these paths, the best first.
    #[must_use]
    pub fn new(paths: Vec<Path>, probe_every_ns: u64) -> Self {
        let ways = paths.into_iter().map(Way::new).collect();
        Self { ways, carrying: None, pending: false, probe_every_ns, switches: 0 }
    }

    /// The paths have changed. What is known of those that stay is kept, dials are forgotten; the
    /// answer is whether the session may go on, as its path is still there.
    pub fn set_paths(&mut self, paths: Vec<Path>, probe_every_ns: u64) -> bool {
        self.probe_every_ns = probe_every_ns;
        let mut old = std::mem::take(&mut self.ways);
        old.iter_mut().for_each(Way::rest);
        let carrying = self.carrying.take();
        let path = carrying.as_ref().and_then(|carrying| old.get(carrying.way)).map(|way| way.path.clone());
        for path in paths {
            let known = old.iter().position(|way| way.path == path);
            self.ways.push(known.map_or_else(|| Way::new(path), |at| old.swap_remove(at)));
        }
        let stays = path.and_then(|path| self.ways.iter().position(|way| way.path == path));
        self.carrying = carrying.zip(stays).map(|(carrying, way)| Carrying { way, ..carrying });
        self.carrying.is_some()
    }

    /// The paths as they are shown.
    pub fn view(&self) -> impl Iterator<Item = PathView<'_>> {
        self.ways.iter().enumerate().map(|(at, way)| PathView {
            path: &way.path,
            carries: self.carries() == Some(at),
            circuit: way.circuit.status(),
            rtt_us: way.rtt_us,
            loss_ppm: way.loss_ppm,
        })
    }

    /// The path at this place.
    #[must_use]
    pub fn path(&self, at: usize) -> Option<&Path> {
        self.ways.get(at).map(|way| &way.path)
    }

    /// Between the first packets of a dial of this path: the longer it is silent, the longer.
    #[must_use]
    pub fn knock_every_ns(&self, now_ns: u64, at: usize) -> u64 {
        let heard_ns = self.ways.get(at).and_then(|way| way.heard_ns);
        let silent_ns = heard_ns.map_or(u64::MAX, |heard_ns| now_ns.saturating_sub(heard_ns));
        (silent_ns / KNOCK_PART).clamp(KNOCK_NS.0, KNOCK_NS.1)
    }

    /// Whether the session hears nothing from a hub that has something to answer.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.carrying.as_ref().is_some_and(|carrying| carrying.silent)
    }

    /// The path that the session is on.
    #[must_use]
    pub fn carries(&self) -> Option<usize> {
        self.carrying.as_ref().map(|carrying| carrying.way)
    }

    /// Whether any path is being dialled.
    #[must_use]
    pub fn is_dialling(&self) -> bool {
        self.ways.iter().any(|way| !matches!(way.step, Step::Resting))
    }

    /// How often another path was taken than the session before was on.
    #[must_use]
    pub const fn switches(&self) -> u64 {
        self.switches
    }

    /// Whether readings wait for the hub.
    pub fn handle_pending(&mut self, now_ns: u64, pending: bool) {
        // Nothing was to be heard before.
        if pending
            && !self.pending
            && let Some(carrying) = &mut self.carrying
        {
            carrying.heard_ns = carrying.heard_ns.max(now_ns);
        }
        self.pending = pending;
    }

    /// Somebody asks for an attempt now.
    pub fn hurry(&mut self) {
        self.ways.iter_mut().for_each(|way| way.circuit.hurry());
    }

    /// A dial gave a link; `rtt_us` is the round trip as measured on the way.
    pub fn handle_dialled(&mut self, now_ns: u64, at: usize, rtt_us: u64) {
        let Some(way) = self.ways.get_mut(at) else { return };
        if let Step::Dialling { permit, racing, .. } = std::mem::replace(&mut way.step, Step::Resting) {
            way.step = Step::Dialled { permit, at_ns: now_ns, racing };
            way.measured(rtt_us);
            way.heard_ns = Some(now_ns);
            // What was lost once is not held against it for ever.
            way.loss_ppm = way.loss_ppm / 4 * 3;
        }
    }

    /// A dial failed, and with this refusal if there was one.
    pub fn handle_dial_failed(&mut self, now_ns: u64, at: usize, refused: Option<Refusal>, entropy: u64) {
        let probe_ns = now_ns.saturating_add(self.probe_every_ns);
        let Some(way) = self.ways.get_mut(at) else { return };
        if let Step::Dialling { permit, since_ns, .. } = std::mem::replace(&mut way.step, Step::Resting) {
            way.circuit.fail_since(permit, since_ns, now_ns, refused, entropy);
            way.confirmations = 0;
            way.probe_ns = probe_ns;
        }
    }

    /// Bytes came from the hub.
    pub fn handle_heard(&mut self, now_ns: u64) {
        let Some(carrying) = &mut self.carrying else { return };
        carrying.heard_ns = now_ns;
        carrying.silent = false;
        let Some(way) = self.ways.get_mut(carrying.way) else { return };
        way.heard_ns = Some(now_ns);
        if carrying.permit.is_none() {
            carrying.permit = way.circuit.admit(now_ns, Pace::Urgent).ok();
        }
    }

    /// The session's own measurements: the round trip, and the share of packets lost since the last one.
    pub fn handle_measured(&mut self, rtt_us: Option<u64>, loss_ppm: Option<u32>) {
        let Some(way) = self.carrying.as_ref().and_then(|carrying| self.ways.get_mut(carrying.way)) else {
            return;
        };
        rtt_us.into_iter().for_each(|rtt_us| way.measured(rtt_us));
        if let Some(loss_ppm) = loss_ppm {
            way.loss_ppm =
                u32::try_from((u64::from(way.loss_ppm) * 3 + u64::from(loss_ppm)) / 4).unwrap_or(0);
        }
    }

    /// The session has achieved something: readings were settled, or it has lived for long.
    pub fn handle_achieved(&mut self) {
        if let Some(Carrying { way, permit: Some(permit), .. }) = &mut self.carrying
            && let Some(way) = self.ways.get_mut(*way)
        {
            way.circuit.succeed(permit);
        }
    }

    /// The session has ended by itself, and with this refusal if there was one.
    pub fn handle_ended(&mut self, now_ns: u64, refused: Option<Refusal>, entropy: u64) {
        let Some(carrying) = self.carrying.take() else { return };
        let Some(way) = self.ways.get_mut(carrying.way) else { return };
        if let Some(permit) = carrying.permit {
            way.circuit.fail(permit, now_ns, refused, entropy);
        }
        way.left_in_trouble(now_ns, self.probe_every_ns);
        way.probe_ns = now_ns.saturating_add(self.probe_every_ns);
    }

    /// The session has ended for the agent's own reasons, and another one is wanted at once.
    pub fn handle_left(&mut self) {
        let Some(carrying) = self.carrying.take() else { return };
        if let (Some(permit), Some(way)) = (carrying.permit, self.ways.get_mut(carrying.way)) {
            way.circuit.release(permit);
        }
    }

    /// The next thing to do, or `None` until something happens or [`Self::due_ns`].
    pub fn poll(&mut self, now_ns: u64, entropy: u64) -> Option<Advice> {
        self.notice_silence(now_ns, entropy);
        match &self.carrying {
            Some(Carrying { way, silent: false, .. }) => self.poll_probes(now_ns, *way),
            _ => self.poll_race(now_ns),
        }
    }

    /// When to poll again at the latest, in monotonic ns.
    #[must_use]
    pub fn due_ns(&self, now_ns: u64) -> Option<u64> {
        let silence = self.silence_ns();
        let steps = self.ways.iter().enumerate().filter_map(|(at, way)| match (&way.step, &self.carrying) {
            (Step::Dialled { at_ns, .. }, _) => Some(at_ns.saturating_add(GRACE_NS)),
            (Step::Dialling { since_ns, .. }, _) => Some(since_ns.saturating_add(STAGGER_NS)),
            (Step::Resting, Some(Carrying { way: carries, silent: false, .. })) => {
                let ready_ns = way.circuit.ready_ns(self.standby())?;
                self.is_wanted(at, *carries).then_some(way.probe_ns.max(ready_ns))
            }
            (Step::Resting, _) => way.circuit.ready_ns(self.urgency()),
        });
        steps.chain(silence).filter(|due_ns| *due_ns > now_ns).min()
    }

    const fn standby(&self) -> Pace {
        Pace::Standby { every_ns: self.probe_every_ns }
    }

    const fn urgency(&self) -> Pace {
        if self.pending { Pace::Urgent } else { Pace::Idle }
    }

    /// When the session counts as silent, if it does not yet.
    fn silence_ns(&self) -> Option<u64> {
        let carrying = self.carrying.as_ref().filter(|carrying| self.pending && !carrying.silent)?;
        let rtt_us = self.ways.get(carrying.way).and_then(|way| way.rtt_us).unwrap_or(0);
        // On a slow line an answer to the last ping takes its time.
        let patience_ns = SILENCE_NS.saturating_add(rtt_us.saturating_mul(1_000));
        Some(carrying.heard_ns.saturating_add(patience_ns))
    }

    fn notice_silence(&mut self, now_ns: u64, entropy: u64) {
        let Some(silence_ns) = self.silence_ns() else { return };
        if now_ns < silence_ns {
            return;
        }
        let Some(carrying) = &mut self.carrying else { return };
        carrying.silent = true;
        if let (Some(permit), Some(way)) = (carrying.permit.take(), self.ways.get_mut(carrying.way)) {
            way.circuit.fail(permit, now_ns, None, entropy);
        }
    }

    fn poll_race(&mut self, now_ns: u64) -> Option<Advice> {
        let answered = self.ways.iter().position(|way| matches!(way.step, Step::Dialled { .. }));
        if let Some(at) = answered {
            return (!self.is_better_near(at, now_ns)).then(|| self.take(at, now_ns));
        }
        let pace = self.urgency();
        for (at, way) in self.ways.iter_mut().enumerate() {
            match &mut way.step {
                // What began as a probe races as well.
                Step::Dialling { since_ns, racing, .. } => {
                    *racing = true;
                    // What has failed before is not waited for, or it would hold the others up for ever.
                    if way.circuit.status().failures == 0 && now_ns < since_ns.saturating_add(STAGGER_NS) {
                        return None;
                    }
                }
                Step::Dialled { .. } => {}
                Step::Resting => {
                    if let Ok(permit) = way.circuit.admit(now_ns, pace) {
                        way.step = Step::Dialling { permit, since_ns: now_ns, racing: true };
                        return Some(Advice::Dial(at));
                    }
                }
            }
        }
        None
    }

    /// Whether a better path than this one, which has answered, may do so soon.
    fn is_better_near(&self, at: usize, now_ns: u64) -> bool {
        let Some(Way { step: Step::Dialled { at_ns, .. }, .. }) = self.ways.get(at) else { return false };
        let near = |way: &Way| match way.step {
            Step::Dialling { since_ns, .. } => now_ns < since_ns.saturating_add(STAGGER_NS),
            Step::Dialled { .. } | Step::Resting => false,
        };
        now_ns < at_ns.saturating_add(GRACE_NS) && self.ways.iter().take(at).any(near)
    }

    fn take(&mut self, at: usize, now_ns: u64) -> Advice {
        if let Some(old) = self.carrying.take() {
            self.switches += u64::from(old.way != at);
            if let Some(way) = self.ways.get_mut(old.way) {
                old.permit.into_iter().for_each(|permit| way.circuit.release(permit));
                if old.silent || at > old.way {
                    way.left_in_trouble(now_ns, self.probe_every_ns);
                }
            }
        }
        let probe_ns = now_ns.saturating_add(self.probe_every_ns);
        self.ways.iter_mut().for_each(|way| way.probe_ns = probe_ns);
        if let Some(way) = self.ways.get_mut(at)
            && let Step::Dialled { permit, .. } = std::mem::replace(&mut way.step, Step::Resting)
        {
            (way.taken_ns, way.loss_ppm, way.confirmations) = (now_ns, 0, 0);
            self.carrying = Some(Carrying { way: at, permit: Some(permit), heard_ns: now_ns, silent: false });
        }
        Advice::Take(at)
    }

    /// Whether it makes sense to probe a path while another carries.
    fn is_wanted(&self, at: usize, carries: usize) -> bool {
        at < carries || (at > carries && self.ways.get(carries).is_some_and(Way::is_bad))
    }

    fn poll_probes(&mut self, now_ns: u64, carries: usize) -> Option<Advice> {
        for at in 0..self.ways.len() {
            let (wanted, pace) = (self.is_wanted(at, carries), self.standby());
            let Some(way) = self.ways.get_mut(at) else { continue };
            match &mut way.step {
                Step::Dialled { racing: true, .. } => {
                    way.rest();
                    return Some(Advice::Drop(at));
                }
                Step::Dialled { permit, .. } => {
                    way.circuit.succeed(permit);
                    way.confirmations += 1;
                    return Some(self.judge(at, carries, now_ns));
                }
                Step::Resting if wanted && now_ns >= way.probe_ns => {
                    if let Ok(permit) = way.circuit.admit(now_ns, pace) {
                        way.step = Step::Dialling { permit, since_ns: now_ns, racing: false };
                        return Some(Advice::Dial(at));
                    }
                }
                Step::Dialling { .. } | Step::Resting => {}
            }
        }
        None
    }

    /// Whether to take a path whose probe has answered.
    fn judge(&mut self, at: usize, carries: usize, now_ns: u64) -> Advice {
        let cost = |at: usize| self.ways.get(at).and_then(Way::cost);
        let lossy = self.ways.get(at).is_some_and(|way| way.loss_ppm > BAD_LOSS_PPM / 10);
        let near_us = if lossy { 0 } else { NEAR_US };
        let worth = match (cost(at), cost(carries)) {
            (Some(new), Some(old)) if at > carries => new.saturating_mul(2) < old,
            (Some(new), Some(old)) => new <= old.saturating_add((old / 2).max(near_us)),
            _ => at < carries,
        };
        let Some(way) = self.ways.get_mut(at) else { return Advice::Drop(at) };
        let trusted = way.confirmations >= CONFIRMATIONS;
        if trusted && worth && now_ns >= way.free_ns {
            return self.take(at, now_ns);
        }
        way.probe_ns = now_ns.saturating_add(if trusted { self.probe_every_ns } else { CONFIRM_GAP_NS });
        way.rest();
        Advice::Drop(at)
    }
}
