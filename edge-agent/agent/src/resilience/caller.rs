//! The rim around a circuit: calls with a time limit, whose outcome is always told to the circuit,
//! also when the caller gives up on the way.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tideline_protocol::time::Clock;
use tokio::time::sleep;

use super::breaker::{BreakerState, Permit};
use super::circuit::{Circuit, CircuitStatus, Pace};
use super::entropy;

/// How a call ended that gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError<E> {
    /// It was not made: too many before it have failed, or one is on its way.
    #[error("not tried: the circuit is open after {failures} failures")]
    Held {
        /// Failures since the last success.
        failures: u32,
    },
    /// No answer in time.
    #[error("no answer within {} s", limit.as_secs_f32())]
    TimedOut {
        /// The limit.
        limit: Duration,
    },
    /// It failed.
    #[error(transparent)]
    Failed(E),
}

/// Makes calls to one endpoint.
#[derive(Clone)]
pub struct Caller {
    circuit: Arc<Mutex<Circuit>>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Caller").field("circuit", &self.circuit).finish_non_exhaustive()
    }
}

/// A call on its way. Dropped without an outcome, it was given up, and the next one may be made.
struct Call<'c> {
    caller: &'c Caller,
    permit: Option<Permit>,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            self.caller.circuit().release(permit);
        }
    }
}

impl Call<'_> {
    fn succeeded(mut self) {
        if let Some(mut permit) = self.permit.take() {
            let mut circuit = self.caller.circuit();
            circuit.succeed(&mut permit);
            circuit.release(permit);
        }
    }

    fn failed(mut self) {
        if let Some(permit) = self.permit.take() {
            self.caller.circuit().fail(permit, self.caller.clock.mono_ns(), None, entropy());
        }
    }
}

impl Caller {
    /// Of an endpoint that nothing is known of yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { circuit: Arc::default(), clock }
    }

    /// What is shown of its circuit.
    #[must_use]
    pub fn status(&self) -> CircuitStatus {
        self.circuit().status()
    }

    fn circuit(&self) -> MutexGuard<'_, Circuit> {
        self.circuit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes one call, if the circuit admits it now. Cancel safe: a call that is given up frees its
    /// place, and `call` itself is dropped with it.
    ///
    /// # Errors
    /// It was not made, failed, or took longer than `limit`.
    pub async fn call<T, E>(
        &self,
        pace: Pace,
        limit: Duration,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, CallError<E>> {
        let admitted = self.circuit().admit(self.clock.mono_ns(), pace);
        let Ok(permit) = admitted else {
            return Err(CallError::Held { failures: self.status().failures });
        };
        let place = Call { caller: self, permit: Some(permit) };
        match tokio::time::timeout(limit, call).await {
            Ok(Ok(answer)) => {
                place.succeeded();
                Ok(answer)
            }
            Ok(Err(error)) => {
                place.failed();
                Err(CallError::Failed(error))
            }
            Err(_) => {
                place.failed();
                Err(CallError::TimedOut { limit })
            }
        }
    }

    /// Makes a call again and again, with the back-off's waits between, until it answers, fails for
    /// good, or has opened the circuit. Each may take `limit`. Cancel safe as [`Self::call`].
    ///
    /// # Errors
    /// How the last one ended.
    pub async fn retry<T, E, F: Future<Output = Result<T, E>>>(
        &self,
        limit: Duration,
        mut call: impl FnMut() -> F,
        is_final: impl Fn(&E) -> bool,
    ) -> Result<T, CallError<E>> {
        loop {
            let error = match self.call(Pace::Urgent, limit, call()).await {
                Ok(answer) => return Ok(answer),
                Err(CallError::Failed(error)) if is_final(&error) => return Err(CallError::Failed(error)),
                Err(error) => error,
            };
            if self.status().state != BreakerState::Closed {
                return Err(error);
            }
            self.ready().await;
        }
    }

    /// As [`Circuit::ready_ns`].
    #[must_use]
    pub fn ready_ns(&self, pace: Pace) -> Option<u64> {
        self.circuit().ready_ns(pace)
    }

    /// Waits until the circuit would admit an urgent call.
    async fn ready(&self) {
        let now_ns = self.clock.mono_ns();
        let Some(until_ns) = self.ready_ns(Pace::Urgent) else { return };
        sleep(Duration::from_nanos(until_ns.saturating_sub(now_ns))).await;
    }
}
