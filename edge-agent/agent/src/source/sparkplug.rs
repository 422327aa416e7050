//! Sparkplug B: nodes that publish their metrics at a broker. The agent listens as a host does that is not primary.
//!
//! Its messages are of QoS 0, so that nothing is lost and nobody knows is met by sequence numbers and rebirths. Who is in
//! no `[[device]]` appears as `group.node` or `group.node.device`.

pub mod nodes;
pub mod payload;
