//! What both ends do to the network: links and TLS identity.
//!
//! [`identity`] makes and reads certificates, [`tls`] turns them into rustls configurations,
//! [`token`] is the text that an installer carries to a device, and [`quic`] moves frames over UDP. A
//! session sees a [`link::Link`], whatever carries it. [`console`] is how their command lines write.
//! Nothing here knows what the frames mean, and nothing here decides when to connect again.

pub mod console;
pub mod identity;
pub mod link;
pub mod mqtt;
pub mod quic;
pub mod tls;
pub mod token;
