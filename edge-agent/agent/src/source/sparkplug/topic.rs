//! Topics of Sparkplug B.

/// Longest part of a topic that names a group, node or device.
const PART_BYTES_MAX: usize = 128;

/// A topic, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Topic<'t> {
    /// Its namespace and the group of the node, as topics begin.
    pub prefix: &'t str,
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
        let is_good = is_name(namespace) && is_name(group) && is_name(node) && more.is_none();
        let prefix = text.get(..=namespace.len() + group.len())?;
        (is_good && device.is_none_or(is_name)).then_some(Self { prefix, group, verb, node, device })
    }

    /// What it begins with.
    pub fn namespace(&self) -> &'t str {
        self.prefix.split('/').next().unwrap_or_default()
    }

    /// As devices are addressed in the configuration.
    pub fn address(&self) -> String {
        let node = format!("{}/{}", self.group, self.node);
        self.device.map_or(node.clone(), |device| format!("{node}/{device}"))
    }
}

/// Where a node, or a device behind it, is told what to do; `prefix` is as of [`Topic::prefix`].
pub fn command(prefix: &str, node: &str, device: Option<&str>) -> String {
    match device {
        Some(device) => format!("{prefix}/DCMD/{node}/{device}"),
        None => format!("{prefix}/NCMD/{node}"),
    }
}
