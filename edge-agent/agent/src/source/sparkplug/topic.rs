//! Topics of Sparkplug B.

/// What topics begin with.
pub const NAMESPACE: &str = "spBv1.0";
/// Longest part of a topic that names a group, node or device.
const PART_BYTES_MAX: usize = 128;

/// A topic, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Topic<'t> {
    /// The group of the node.
    pub group: &'t str,
    /// What the message is, as NBIRTH.
    pub verb: &'t str,
    /// The node.
    pub node: &'t str,
    /// The device behind it.
    pub device: Option<&'t str>,
}

impl<'t> Topic<'t> {
    /// Takes one apart; none when it is not of a node or device.
    pub fn parse(text: &'t str) -> Option<Self> {
        let mut parts = text.split('/');
        let (namespace, group, verb, node) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let (device, more) = (parts.next(), parts.next());
        let is_name = |part: &str| !part.is_empty() && part.len() <= PART_BYTES_MAX;
        let is_good = namespace == NAMESPACE && is_name(group) && is_name(node) && more.is_none();
        (is_good && device.is_none_or(is_name)).then_some(Self { group, verb, node, device })
    }

    /// As devices are addressed in the configuration.
    pub fn address(&self) -> String {
        let node = format!("{}/{}", self.group, self.node);
        self.device.map_or(node.clone(), |device| format!("{node}/{device}"))
    }

    /// Where node or device are told what to do.
    pub fn command(&self) -> String {
        let (group, node) = (self.group, self.node);
        match self.device {
            Some(device) => format!("{NAMESPACE}/{group}/DCMD/{node}/{device}"),
            None => format!("{NAMESPACE}/{group}/NCMD/{node}"),
        }
    }
}
