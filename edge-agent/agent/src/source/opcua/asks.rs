//! What is asked of a server, in requests of as many nodes as it takes.

use std::collections::{HashMap, HashSet};

use opcua_client::services::{Browse, BrowseNext, Read, TranslateBrowsePaths};
use opcua_types::{
    AttributeId, BrowseDescription, BrowseDirection, BrowsePath, BrowseResult, ByteString, DataValue, NodeId,
    QualifiedName, ReadValueId, ReferenceDescription, ReferenceTypeId, RelativePath, RelativePathElement,
    TimestampsToReturn,
};

use super::line::Line;
use super::values::type_of;
use super::walk::{NODES_MAX, Step, Walk, Wish, local};
use crate::source::SourceError;

/// References of a node that come in one answer.
const REFERENCES_AN_ANSWER: u32 = 1000;
/// How far above a type of a maker the built-in one is looked for.
const TYPES_DEEP: usize = 16;
/// Objects and variables (Part 3, "NodeClass").
const CLASSES: u32 = 1 | 2;
/// Type, class and name of what is referred to (Part 4, "Browse", resultMask).
const FIELDS: u32 = 1 | 4 | 8;

/// The built-in types that data types are of.
pub async fn built_in(
    line: &Line,
    most: usize,
    data_types: HashSet<NodeId>,
) -> Result<HashMap<NodeId, u32>, SourceError> {
    let mut known: HashMap<NodeId, u32> = HashMap::new();
    // Each with what it stands for: one further up with each round.
    let mut open: Vec<(NodeId, NodeId)> = data_types.into_iter().map(|id| (id.clone(), id)).collect();
    for _ in 0..TYPES_DEEP {
        let mut above = Vec::new();
        for (id, now) in open {
            match now.as_u32().filter(|_| now.namespace == 0).filter(|id| type_of(*id).is_some()) {
                Some(built_in) => drop(known.insert(id, built_in)),
                None => above.push((id, now)),
            }
        }
        open = Vec::new();
        for chunk in above.chunks(most) {
            let asked = chunk
                .iter()
                .map(|(_, now)| description(now, BrowseDirection::Inverse, ReferenceTypeId::HasSubtype));
            let request = Browse::new(line.session()).nodes_to_browse(asked.collect());
            let answers = line.ask("browse", request.max_references_per_node(1)).await?.results;
            for ((id, _), answer) in chunk.iter().zip(answers.into_iter().flatten()) {
                let reference = answer.references.into_iter().flatten().next();
                open.extend(reference.and_then(|reference| Some((id.clone(), local(&reference.node_id)?))));
            }
        }
        if open.is_empty() {
            break;
        }
    }
    Ok(known)
}

fn description(node: &NodeId, direction: BrowseDirection, reference: ReferenceTypeId) -> BrowseDescription {
    BrowseDescription {
        node_id: node.clone(),
        browse_direction: direction,
        reference_type_id: reference.into(),
        include_subtypes: true,
        node_class_mask: if direction == BrowseDirection::Forward { CLASSES } else { 0 },
        result_mask: FIELDS,
    }
}

/// Asks what nodes refer to, and goes on where an answer was too long for one message.
pub async fn browse<W: Wish>(line: &Line, steps: &[Step], walk: &mut Walk<'_, W>) -> Result<(), SourceError> {
    let of = |step: &Step| {
        description(&step.node, BrowseDirection::Forward, ReferenceTypeId::HierarchicalReferences)
    };
    let request = Browse::new(line.session()).nodes_to_browse(steps.iter().map(of).collect());
    let answers = line.ask("browse", request.max_references_per_node(REFERENCES_AN_ANSWER)).await?.results;
    for (step, answer) in steps.iter().zip(answers.into_iter().flatten()) {
        let mut next = take(step, answer, walk);
        // A server that gives ever the same is left when there are as many as nodes at all.
        for _ in 0..=NODES_MAX / 1000 {
            let Some(point) = next else { break };
            let request = BrowseNext::new(line.session()).continuation_point(point);
            let answer = line.ask("browse", request).await?.results.into_iter().flatten().next();
            next = answer.and_then(|answer| take(step, answer, walk));
        }
        if let Some(point) = next {
            let request = BrowseNext::new(line.session()).continuation_point(point);
            line.ask("browse", request.release_continuation_points(true)).await?;
        }
    }
    Ok(())
}

fn take<W: Wish>(step: &Step, answer: BrowseResult, walk: &mut Walk<'_, W>) -> Option<ByteString> {
    let references: Vec<ReferenceDescription> = answer.references.unwrap_or_default();
    walk.take(step, &references);
    Some(answer.continuation_point).filter(|point| !point.is_null_or_empty())
}

/// Where paths lead; none where the server has no such node.
pub async fn translate(
    line: &Line,
    most: usize,
    paths: &[(NodeId, Vec<QualifiedName>)],
) -> Result<Vec<Option<NodeId>>, SourceError> {
    let mut nodes = Vec::new();
    for chunk in paths.chunks(most) {
        let element = |name: &QualifiedName| RelativePathElement {
            reference_type_id: ReferenceTypeId::HierarchicalReferences.into(),
            is_inverse: false,
            include_subtypes: true,
            target_name: name.clone(),
        };
        let path = |(start, path): &(NodeId, Vec<QualifiedName>)| BrowsePath {
            starting_node: start.clone(),
            relative_path: RelativePath { elements: Some(path.iter().map(element).collect()) },
        };
        let request =
            TranslateBrowsePaths::new(line.session()).browse_paths(chunk.iter().map(path).collect());
        let answers = line.ask("translate browse paths", request).await?.results.unwrap_or_default();
        let way = |place: usize| {
            let answer = answers.get(place).filter(|answer| answer.status_code.is_good())?;
            local(&answer.targets.as_ref()?.first()?.target_id)
        };
        nodes.extend((0..chunk.len()).map(way));
    }
    Ok(nodes)
}

/// Reads attributes, all of them or none.
pub async fn read(
    line: &Line,
    nodes: &[(NodeId, AttributeId)],
    most: usize,
) -> Result<Vec<DataValue>, SourceError> {
    let mut told = Vec::new();
    for chunk in nodes.chunks(most.max(1)) {
        let of = |(node, attribute): &(NodeId, AttributeId)| ReadValueId {
            node_id: node.clone(),
            attribute_id: *attribute as u32,
            ..ReadValueId::default()
        };
        let request = Read::new(line.session()).nodes_to_read(chunk.iter().map(of).collect());
        let answer = line.ask("read", request.timestamps_to_return(TimestampsToReturn::Neither)).await?;
        let answers = answer.results.unwrap_or_default();
        if answers.len() != chunk.len() {
            let (found, asked) = (answers.len(), chunk.len());
            return Err(SourceError::failed(format!(
                "read: the server answers {found} of {asked} questions"
            )));
        }
        told.extend(answers);
    }
    Ok(told)
}
