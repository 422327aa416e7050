//! The tasks without which an agent is none: one that panics ends the agent, and whoever watches over the process starts it
//! again.
//!
//! Beside an uplink, commands or a page that are gone, sources and spool would go on, and all would look well from outside.
//! An end of a task that is none of a panic is its own affair.

use std::future::Future as _;
use std::pin::Pin;
use std::task::Poll;

use tokio::task::{JoinError, JoinHandle};

use crate::supervise::panic_text;

/// A task with its name for people.
type Named<'t> = (&'static str, &'t mut JoinHandle<()>);

/// What runs beside sources and uplink.
pub const TENDED: [&str; 5] =
    ["commands", "reports of schedules", "the spool's age", "the watchdog", "schedules of twins"];
/// What does for the twins what is to be done now and then.
pub const TWINS: [&str; 3] = ["rests of the twins", "setpoints", "the twin's word of the start"];
/// What a running agent can be asked through.
const SERVED: [&str; 2] = ["the socket", "the local page"];

/// All of them.
pub fn named<'t>(
    uplink: &'t mut JoinHandle<()>,
    tended: &'t mut [JoinHandle<()>; 5],
    twins: &'t mut [JoinHandle<()>; 3],
    served: &'t mut [JoinHandle<()>],
) -> Vec<Named<'t>> {
    let all = std::iter::once(("uplink", uplink)).chain(TENDED.into_iter().zip(tended));
    all.chain(TWINS.into_iter().zip(twins)).chain(SERVED.into_iter().zip(served)).collect()
}

/// Resolves when one of these has panicked, and says which and why. What has ended otherwise is not asked again.
pub async fn lost(mut tasks: Vec<Named<'_>>) -> anyhow::Error {
    std::future::poll_fn(|cx| {
        let mut lost = None;
        tasks.retain_mut(|(what, task)| match Pin::new(&mut **task).poll(cx) {
            Poll::Pending => true,
            Poll::Ready(Err(error)) if error.is_panic() => {
                lost = Some(panicked(what, error));
                false
            }
            Poll::Ready(_) => false,
        });
        lost.map_or(Poll::Pending, Poll::Ready)
    })
    .await
}

fn panicked(what: &str, error: JoinError) -> anyhow::Error {
    let text = panic_text(error);
    tracing::error!(task = what, error = text, "panicked: the agent ends, to be started again");
    anyhow::anyhow!("{what}: panicked: {text}")
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;
    use tokio::task::JoinSet;

    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_ends_the_agent_and_one_that_has_nothing_to_do_does_not() {
        for at in 0..11 {
            let task = |number: usize| match number {
                number if number == at => tokio::spawn(async { panic!("out of paper") }),
                // As the watchdog without a service manager, and as all others.
                4 => tokio::spawn(async {}),
                _ => tokio::spawn(std::future::pending()),
            };
            let (mut uplink, mut tended) = (task(0), [1, 2, 3, 4, 5].map(task));
            let (mut twins, mut served) = ([6, 7, 8].map(task), [9, 10].map(task));
            let mut intakes = JoinSet::new();
            intakes.spawn(std::future::pending());
            let lost = lost(named(&mut uplink, &mut tended, &mut twins, &mut served));
            let (stop, reload) = (std::future::pending(), std::future::pending());
            let error = super::super::until(stop, reload, &mut intakes, lost).await.unwrap_err();
            let what = ["uplink"].into_iter().chain(TENDED).chain(TWINS).chain(SERVED).nth(at).unwrap();
            assert_eq!(error.to_string(), format!("{what}: panicked: out of paper"));
            // The end does not wait for what has ended so.
            if at == 0 {
                super::super::send_rest(JoinSet::new(), &watch::channel(false).0, uplink).await;
            }
        }
    }
}
