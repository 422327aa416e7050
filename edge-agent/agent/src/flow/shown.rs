//! What is shown of a flow: figures of its stages, and the last dead letters.

use std::collections::BTreeMap;
use std::sync::Arc;

use tideline_pipeline::{Counts, DeadLetter, Pipelines};
use tideline_protocol::model::{DeviceId, PointId};

use crate::status::{Board, DeadLetterStatus, PipelineStatus, StageFigures};

/// Figures over all changes of the pipelines: counters never go back.
#[derive(Debug, Default)]
pub struct Shown {
    carried: BTreeMap<(Arc<str>, String), Counts>,
}

impl Shown {
    fn figures<'p>(
        &'p self,
        pipelines: &'p Pipelines,
    ) -> impl Iterator<Item = (Arc<str>, StageFigures)> + 'p {
        pipelines.status().map(move |(pipeline, status)| {
            let key = (Arc::clone(&pipeline), status.stage.clone());
            let before = self.carried.get(&key).copied().unwrap_or_default();
            (pipeline, StageFigures::of(&status, before))
        })
    }

    /// The pipelines are about to change, but for those that stay the `same`.
    pub fn carry(&mut self, pipelines: &Pipelines, same: impl Fn(&str) -> bool) {
        let all: Vec<_> = self.figures(pipelines).filter(|(pipeline, _)| !same(pipeline)).collect();
        self.carried.extend(all.into_iter().map(|(pipeline, stage)| {
            let counts = stage.counts();
            ((pipeline, stage.stage), counts)
        }));
    }

    /// Shows the figures as those of this flow.
    pub fn show(&self, board: &Board, flow: &str, pipelines: &Pipelines) {
        let mut all: Vec<PipelineStatus> = Vec::new();
        for (pipeline, stage) in self.figures(pipelines) {
            match all.last_mut().filter(|last| last.name == *pipeline) {
                Some(last) => last.stages.push(stage),
                None => all.push(PipelineStatus { name: pipeline.to_string(), stages: vec![stage] }),
            }
        }
        board.flow(flow, all);
    }

    /// Tells dead letters.
    pub fn letters(&self, board: &Board, letters: Vec<DeadLetter>, more: u64) {
        if more > 0 {
            tracing::debug!(more, "dead letters of too many kinds to be told apart");
        }
        for letter in letters {
            let DeadLetter { pipeline, stage, device, point, reason, count, first_ns, value, .. } = letter;
            tracing::debug!(%pipeline, %stage, %device, %point, reason, count, "dead letters");
            board.dead_letter(DeadLetterStatus {
                pipeline: pipeline.to_string(),
                stage: stage.to_string(),
                device: device.to_string(),
                point: point.to_string(),
                reason,
                count,
                time_ms: first_ns / tideline_protocol::time::NS_PER_MS,
                value: Some(value.to_string()),
            });
        }
    }

    /// Tells that something which a stage asked for could not be done.
    pub fn letter(
        &self,
        board: &Board,
        pipeline: &str,
        stage: &str,
        (device, point): (&DeviceId, &PointId),
        now_ns: i64,
        reason: &str,
    ) {
        tracing::warn!(pipeline, stage, %device, %point, reason, "dead letter");
        board.dead_letter(DeadLetterStatus {
            pipeline: pipeline.to_owned(),
            stage: stage.to_owned(),
            device: device.to_string(),
            point: point.to_string(),
            reason: reason.to_owned(),
            count: 1,
            time_ms: now_ns / tideline_protocol::time::NS_PER_MS,
            value: None,
        });
    }
}
