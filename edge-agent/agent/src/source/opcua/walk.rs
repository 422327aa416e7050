//! Browsing: from a node to the variables below it. A core without I/O: it says which nodes to ask about, and takes what
//! the server says of them.

use std::collections::{HashSet, VecDeque};

use opcua_types::{ExpandedNodeId, NodeClass, NodeId, ReferenceDescription};

/// Most nodes that are looked at of one device (INV-6).
pub const NODES_MAX: usize = 20_000;
/// Longest path that is followed, in bytes: a server may name its nodes as it likes.
const PATH_BYTES_MAX: usize = 512;

/// What is looked for.
pub trait Wish {
    /// Whether the variable of this path is wanted.
    fn wants(&self, path: &str) -> bool;

    /// Whether nothing below this path is.
    fn leaves_out(&self, path: &str) -> bool;
}

/// A node that is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The node.
    pub node: NodeId,
    path: String,
    depth: u8,
}

/// A walk through the nodes of a server, level by level. [`Walk::next`] says which to ask about, and [`Walk::take`]
/// takes the answer, until there is none left.
pub struct Walk<'w, W> {
    wish: &'w W,
    depth_max: u8,
    queue: VecDeque<Step>,
    seen: HashSet<NodeId>,
    found: Vec<(String, NodeId)>,
    is_cut: bool,
}

impl<'w, W: Wish> Walk<'w, W> {
    /// From these nodes, so many levels deep.
    pub fn new(wish: &'w W, starts: &[NodeId], depth_max: u8) -> Self {
        let step = |node: &NodeId| Step { node: node.clone(), path: String::new(), depth: 0 };
        Self {
            wish,
            depth_max,
            queue: starts.iter().map(step).collect(),
            seen: starts.iter().cloned().collect(),
            found: Vec::new(),
            is_cut: false,
        }
    }

    /// The next nodes to ask about, `count` at most.
    pub fn next(&mut self, count: usize) -> Vec<Step> {
        if self.is_cut {
            return Vec::new();
        }
        self.queue.drain(..count.min(self.queue.len())).collect()
    }

    /// Takes what a node refers to.
    pub fn take(&mut self, from: &Step, references: &[ReferenceDescription]) {
        for reference in references {
            let Some(node) = local(&reference.node_id) else { continue };
            let Some(name) = reference.browse_name.name.value().as_deref().filter(|name| !name.is_empty())
            else {
                continue;
            };
            let path = if from.path.is_empty() { name.to_owned() } else { format!("{}/{name}", from.path) };
            if path.len() > PATH_BYTES_MAX || self.seen.contains(&node) {
                continue;
            }
            if self.seen.len() >= NODES_MAX {
                self.is_cut = true;
                return;
            }
            self.seen.insert(node.clone());
            if reference.node_class == NodeClass::Variable && self.wish.wants(&path) {
                self.found.push((path.clone(), node.clone()));
            }
            let depth = from.depth.saturating_add(1);
            if depth < self.depth_max && !self.wish.leaves_out(&path) {
                self.queue.push_back(Step { node, path, depth });
            }
        }
    }

    /// The variables with their paths, and whether there were more nodes than are looked at.
    pub fn found(self) -> (Vec<(String, NodeId)>, bool) {
        (self.found, self.is_cut)
    }
}

/// A node of the server itself.
pub fn local(node: &ExpandedNodeId) -> Option<NodeId> {
    let is_own = node.server_index == 0 && node.namespace_uri.is_null();
    (is_own && !node.node_id.is_null()).then(|| node.node_id.clone())
}

#[cfg(test)]
mod tests {
    use opcua_types::QualifiedName;
    use proptest::prelude::*;

    use super::*;

    struct All;

    impl Wish for All {
        fn wants(&self, path: &str) -> bool {
            !path.ends_with("Raw")
        }

        fn leaves_out(&self, path: &str) -> bool {
            path == "Server"
        }
    }

    fn reference(node: u32, name: &str, class: NodeClass) -> ReferenceDescription {
        ReferenceDescription {
            node_id: NodeId::new(2, node).into(),
            browse_name: QualifiedName::new(2, name),
            node_class: class,
            ..ReferenceDescription::default()
        }
    }

    /// Walks through a graph that is given by what each node refers to.
    fn walk(depth_max: u8, graph: impl Fn(&NodeId) -> Vec<ReferenceDescription>) -> Vec<String> {
        let mut walk = Walk::new(&All, &[NodeId::new(2, 0_u32)], depth_max);
        loop {
            let steps = walk.next(3);
            if steps.is_empty() {
                return walk.found().0.into_iter().map(|(path, _)| path).collect();
            }
            for step in steps {
                walk.take(&step, &graph(&step.node));
            }
        }
    }

    #[test]
    fn variables_are_found_under_their_paths_and_a_circle_is_gone_through_once() {
        use NodeClass::{Object, Variable};
        let graph = |node: &NodeId| {
            if *node == NodeId::new(2, 0_u32) {
                vec![reference(1, "Boiler", Object), reference(9, "Server", Object)]
            } else if *node == NodeId::new(2, 1_u32) {
                vec![
                    reference(0, "Up", Object),
                    reference(2, "Level", Variable),
                    reference(3, "Raw", Variable),
                ]
            } else if *node == NodeId::new(2, 2_u32) {
                vec![reference(4, "EURange", Variable), reference(1, "Up", Object)]
            } else {
                vec![reference(5, "Time", Variable)]
            }
        };
        assert_eq!(walk(8, graph), ["Boiler/Level", "Boiler/Level/EURange", "Boiler/Raw/Time"]);
        assert_eq!(walk(2, graph), ["Boiler/Level"]);
        assert_eq!(walk(0, graph), ["Boiler"; 0]);
    }

    #[test]
    fn a_server_without_end_is_left_at_a_limit() {
        let node = std::cell::Cell::new(0);
        let endless = |_: &NodeId| {
            (0..1000_u32)
                .map(|n| {
                    node.set(node.get() + 1);
                    reference(node.get(), &n.to_string(), NodeClass::Variable)
                })
                .collect()
        };
        assert_eq!(walk(255, endless).len(), NODES_MAX - 1);
    }

    proptest! {
        #[test]
        fn any_graph_comes_to_an_end(edges in proptest::collection::vec((0_u32..20, 0_u32..20), 0..100)) {
            let graph = |node: &NodeId| {
                let of = |(from, _): &&(u32, u32)| *node == NodeId::new(2, *from);
                let to = |(_, to): &(u32, u32)| reference(*to, &to.to_string(), NodeClass::Variable);
                edges.iter().filter(of).map(to).collect()
            };
            prop_assert!(walk(255, graph).len() < 20);
        }
    }
}
