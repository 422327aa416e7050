//! Sparkplug B: nodes that publish their metrics at a broker. The agent listens as a host does that is not primary.
//!
//! Its messages are of QoS 0, so that nothing is lost and nobody knows is met by sequence numbers and rebirths. Who is in
//! no `[[device]]` appears as `group.node` or `group.node.device`. Commands are of QoS 0 too: one is done when its node tells
//! the value that was asked for, and otherwise nobody knows.

mod asked;
pub mod nodes;
mod party;
pub mod payload;
pub mod topic;
