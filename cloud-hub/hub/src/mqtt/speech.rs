//! One connection's protocol, MQTT 3.1.1 or 5, without I/O: bytes in, what they mean and the bytes of
//! the answers out. Packets are read and written by rumqttc's codec; what is kept here is the framing
//! with its limit, and that the rest of the endpoint need not know the version.

use bytes::{Bytes, BytesMut};
use rumqttc::mqttbytes::v4;
use rumqttc::v5::mqttbytes::v5;
use tideline_link::mqtt::PACKET_BYTES_MAX;

/// Most QoS 1 payloads that a client may have on their way without an acknowledgement. It is told so;
/// who sends more waits for no harm, as one is taken after the other.
pub const UNACKED_MAX: u16 = 16;
/// Longest silence that a client may ask for, in seconds: what is dead holds its place so long and half
/// as long again.
pub const KEEP_ALIVE_MAX_S: u16 = 300;
/// Bytes of the longest fixed header: the type and four of the length.
const HEADER_LEN_MAX: usize = 5;

/// What a client says.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// It begins; comes first and once.
    Connect {
        /// The user name.
        user: Option<String>,
        /// The password.
        password: Option<Vec<u8>>,
        /// How often it will be heard of, in seconds; what it asked for, or what it was given.
        keep_alive_s: u16,
    },
    /// It publishes.
    Publish {
        /// The topic.
        topic: String,
        /// The payload.
        payload: Bytes,
        /// What an acknowledgement names; none with QoS 0.
        id: Option<u16>,
    },
    /// It wants to read.
    Subscribe {
        /// What the answer names.
        id: u16,
        /// The topic filters.
        filters: Vec<String>,
    },
    /// It no longer wants to read.
    Unsubscribe {
        /// What the answer names.
        id: u16,
        /// The topic filters.
        filters: Vec<String>,
    },
    /// It leaves.
    Disconnect,
}

/// Why a connection is refused or ended, for the client as far as its version can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Its credentials are wrong, or name nobody that is let in.
    Credentials(String),
    /// A topic that is not its own.
    NotAuthorized(String),
    /// A topic of its own that nothing takes.
    TopicUnknown(String),
    /// Too much of something.
    Quota(String),
    /// The hub ends it.
    Administrative(String),
    /// The hub shuts down.
    Stopping,
}

impl Fault {
    /// For people.
    pub fn reason(&self) -> &str {
        match self {
            Self::Credentials(reason)
            | Self::NotAuthorized(reason)
            | Self::TopicUnknown(reason)
            | Self::Quota(reason)
            | Self::Administrative(reason) => reason,
            Self::Stopping => "the hub is shutting down",
        }
    }
}

/// Why bytes are not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Broken(String);

fn broken(error: impl std::fmt::Debug) -> Broken {
    Broken(format!("malformed packet: {error:?}"))
}

impl Broken {
    /// A packet that must not come now.
    pub fn out_of_turn() -> Self {
        Self("a connect comes first, and once".to_owned())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    Unknown,
    Three,
    Five,
}

/// The state of one connection.
pub struct Speech {
    version: Version,
    inbox: BytesMut,
    // What is to be sent.
    out: BytesMut,
}

impl Speech {
    /// A connection on which nothing was said yet.
    pub fn new() -> Self {
        Self { version: Version::Unknown, inbox: BytesMut::new(), out: BytesMut::new() }
    }

    fn five(&self) -> bool {
        self.version == Version::Five
    }

    /// Takes received bytes; gives all that they say. Holds at most one packet and what came with its end.
    ///
    /// # Errors
    /// They break the protocol or a limit; the connection is to be closed after [`Self::answers`].
    pub fn hear(&mut self, bytes: &[u8]) -> Result<Vec<Heard>, Broken> {
        self.inbox.extend_from_slice(bytes);
        // What is no MQTT at all may give a length that never comes.
        let begun = !matches!(self.version, Version::Unknown);
        if !begun && self.inbox.first().is_some_and(|kind| *kind != 0x10) {
            return Err(Broken::out_of_turn());
        }
        let mut heard = Vec::new();
        while let Some(len) = packet_len(&self.inbox)? {
            let packet = self.inbox.split_to(len);
            heard.extend(self.meaning(packet)?);
        }
        Ok(heard)
    }

    /// The bytes to send.
    pub fn answers(&mut self) -> Bytes {
        self.out.split().freeze()
    }

    fn meaning(&mut self, packet: BytesMut) -> Result<Option<Heard>, Broken> {
        match self.version {
            Version::Unknown => self.connect(packet).map(Some),
            Version::Three => self.meaning_of_3(packet),
            Version::Five => self.meaning_of_5(packet),
        }
    }

    /// The first packet says which version the others are of.
    fn connect(&mut self, mut packet: BytesMut) -> Result<Heard, Broken> {
        // The level follows the name, which follows the header.
        let header = packet.iter().skip(1).position(|byte| byte & 0x80 == 0).unwrap_or(HEADER_LEN_MAX) + 2;
        let (user, password, keep_alive_s);
        match packet.get(header..header + 7) {
            Some([0, 4, b'M', b'Q', b'T', b'T', 4]) => {
                let v4::Packet::Connect(connect) =
                    v4::Packet::read(&mut packet, PACKET_BYTES_MAX).map_err(broken)?
                else {
                    return Err(Broken::out_of_turn());
                };
                self.version = Version::Three;
                (user, password) = connect.login.map(|l| (l.username, l.password)).unwrap_or_default();
                keep_alive_s = connect.keep_alive;
            }
            Some([0, 4, b'M', b'Q', b'T', b'T', 5]) => {
                let v5::Packet::Connect(connect, _, login) =
                    v5::Packet::read(&mut packet, None).map_err(broken)?
                else {
                    return Err(Broken::out_of_turn());
                };
                self.version = Version::Five;
                if connect.properties.is_some_and(|p| p.authentication_method.is_some()) {
                    return Err(Broken("enhanced authentication is not offered".to_owned()));
                }
                (user, password) = login.map(|l| (l.username, l.password)).unwrap_or_default();
                keep_alive_s = connect.keep_alive;
            }
            _ => return Err(Broken("this is neither MQTT 3.1.1 nor 5".to_owned())),
        }
        let some = |text: String| Some(text).filter(|text| !text.is_empty());
        let (user, password) = (some(user), some(password).map(String::into_bytes));
        Ok(Heard::Connect { user, password, keep_alive_s: longest(keep_alive_s) })
    }

    fn meaning_of_3(&mut self, mut packet: BytesMut) -> Result<Option<Heard>, Broken> {
        Ok(Some(match v4::Packet::read(&mut packet, PACKET_BYTES_MAX).map_err(broken)? {
            v4::Packet::Publish(publish) => {
                published(publish.topic, publish.qos as u8, publish.pkid, publish.payload)?
            }
            v4::Packet::Subscribe(subscribe) => Heard::Subscribe {
                id: subscribe.pkid,
                filters: subscribe.filters.into_iter().map(|filter| filter.path).collect(),
            },
            v4::Packet::Unsubscribe(unsubscribe) => {
                Heard::Unsubscribe { id: unsubscribe.pkid, filters: unsubscribe.topics }
            }
            v4::Packet::Disconnect => Heard::Disconnect,
            v4::Packet::PingReq => {
                let _len = v4::PingResp.write(&mut self.out).map_err(broken)?;
                return Ok(None);
            }
            v4::Packet::Connect(_) => return Err(Broken::out_of_turn()),
            // Nothing is sent that the others could answer.
            _ => return Ok(None),
        }))
    }

    fn meaning_of_5(&mut self, mut packet: BytesMut) -> Result<Option<Heard>, Broken> {
        // The codec takes no disconnect without a reason, which most clients send.
        if packet.first() == Some(&0xe0) {
            return Ok(Some(Heard::Disconnect));
        }
        Ok(Some(match v5::Packet::read(&mut packet, None).map_err(broken)? {
            v5::Packet::Publish(publish) => {
                let topic = String::from_utf8(publish.topic.to_vec()).map_err(broken)?;
                if publish.properties.is_some_and(|p| p.topic_alias.is_some()) {
                    return Err(Broken("topic aliases are not offered".to_owned()));
                }
                published(topic, publish.qos as u8, publish.pkid, publish.payload)?
            }
            v5::Packet::Subscribe(subscribe) => Heard::Subscribe {
                id: subscribe.pkid,
                filters: subscribe.filters.into_iter().map(|filter| filter.path).collect(),
            },
            v5::Packet::Unsubscribe(unsubscribe) => {
                Heard::Unsubscribe { id: unsubscribe.pkid, filters: unsubscribe.filters }
            }
            v5::Packet::PingReq(_) => {
                let _len = v5::PingResp::write(&mut self.out).map_err(broken)?;
                return Ok(None);
            }
            v5::Packet::Connect(..) => return Err(Broken::out_of_turn()),
            _ => return Ok(None),
        }))
    }

    /// Lets the client in.
    pub fn accept(&mut self, keep_alive_s: u16) {
        if self.five() {
            let properties = v5::ConnAckProperties {
                receive_max: Some(UNACKED_MAX),
                max_qos: Some(1),
                retain_available: Some(0),
                max_packet_size: u32::try_from(PACKET_BYTES_MAX).ok(),
                subscription_identifiers_available: Some(0),
                shared_subscription_available: Some(0),
                server_keep_alive: Some(keep_alive_s),
                ..no_properties()
            };
            self.connack_5(v5::ConnectReturnCode::Success, properties);
        } else {
            self.connack_3(v4::ConnectReturnCode::Success);
        }
    }

    /// Answers a connect with a refusal.
    pub fn refuse(&mut self, fault: &Fault) {
        if self.five() {
            let code = match fault {
                Fault::Credentials(_) => v5::ConnectReturnCode::BadUserNamePassword,
                Fault::NotAuthorized(_) | Fault::TopicUnknown(_) => v5::ConnectReturnCode::NotAuthorized,
                Fault::Quota(_) => v5::ConnectReturnCode::ServerBusy,
                Fault::Administrative(_) => v5::ConnectReturnCode::Banned,
                Fault::Stopping => v5::ConnectReturnCode::ServerUnavailable,
            };
            let reason_string = Some(fault.reason().to_owned());
            self.connack_5(code, v5::ConnAckProperties { reason_string, ..no_properties() });
        } else {
            self.connack_3(match fault {
                Fault::Credentials(_) => v4::ConnectReturnCode::BadUserNamePassword,
                Fault::Quota(_) | Fault::Stopping => v4::ConnectReturnCode::ServiceUnavailable,
                _ => v4::ConnectReturnCode::NotAuthorized,
            });
        }
    }

    // Writing into a buffer fails only for what is longer than MQTT allows, which none of these is.
    fn connack_3(&mut self, code: v4::ConnectReturnCode) {
        let _len = v4::ConnAck::new(code, false).write(&mut self.out);
    }

    fn connack_5(&mut self, code: v5::ConnectReturnCode, properties: v5::ConnAckProperties) {
        let connack = v5::ConnAck { session_present: false, code, properties: Some(properties) };
        let _len = connack.write(&mut self.out);
    }

    /// Acknowledges a payload that was taken.
    pub fn taken(&mut self, id: u16) {
        let _len = if self.five() {
            v5::PubAck::new(id, None).write(&mut self.out).ok()
        } else {
            v4::PubAck::new(id).write(&mut self.out).ok()
        };
    }

    /// Answers a payload that is not taken. MQTT 3.1.1 knows no such answer, and with QoS 0 there is
    /// none: then it is false, and the connection is to be closed.
    pub fn not_taken(&mut self, id: Option<u16>, fault: &Fault) -> bool {
        let (true, Some(pkid)) = (self.five(), id) else { return false };
        let reason = match fault {
            Fault::NotAuthorized(_) => v5::PubAckReason::NotAuthorized,
            Fault::TopicUnknown(_) => v5::PubAckReason::TopicNameInvalid,
            Fault::Quota(_) => v5::PubAckReason::QuotaExceeded,
            _ => v5::PubAckReason::ImplementationSpecificError,
        };
        let reason_string = Some(fault.reason().to_owned());
        let properties = Some(v5::PubAckProperties { reason_string, user_properties: Vec::new() });
        let _len = v5::PubAck { pkid, reason, properties }.write(&mut self.out);
        true
    }

    /// Answers a subscription; what is granted is granted with QoS 0.
    pub fn subscribed(&mut self, id: u16, granted: &[bool]) {
        if self.five() {
            let code = |granted: &bool| {
                let zero = v5::SubscribeReasonCode::Success(rumqttc::v5::mqttbytes::QoS::AtMostOnce);
                if *granted { zero } else { v5::SubscribeReasonCode::NotAuthorized }
            };
            let return_codes = granted.iter().map(code).collect();
            let _len = v5::SubAck { pkid: id, return_codes, properties: None }.write(&mut self.out);
        } else {
            let code = |granted: &bool| {
                let zero = v4::SubscribeReasonCode::Success(rumqttc::mqttbytes::QoS::AtMostOnce);
                if *granted { zero } else { v4::SubscribeReasonCode::Failure }
            };
            let _len = v4::SubAck::new(id, granted.iter().map(code).collect()).write(&mut self.out);
        }
    }

    /// Answers the end of a subscription.
    pub fn unsubscribed(&mut self, id: u16, count: usize) {
        if self.five() {
            let reasons = vec![v5::UnsubAckReason::Success; count];
            let _len = v5::UnsubAck { pkid: id, reasons, properties: None }.write(&mut self.out);
        } else {
            let _len = v4::UnsubAck::new(id).write(&mut self.out);
        }
    }

    /// Sends a payload with QoS 0.
    pub fn publish(&mut self, topic: &str, payload: Bytes) {
        if self.five() {
            let qos = rumqttc::v5::mqttbytes::QoS::AtMostOnce;
            let _len = v5::Publish::new(topic, qos, payload, None).write(&mut self.out);
        } else {
            let qos = rumqttc::mqttbytes::QoS::AtMostOnce;
            let _len = v4::Publish::from_bytes(topic, qos, payload).write(&mut self.out);
        }
    }

    /// Says why the connection ends; only MQTT 5 has words for it.
    pub fn end(&mut self, fault: &Fault) {
        if !self.five() {
            return;
        }
        let code = match fault {
            Fault::Credentials(_) | Fault::NotAuthorized(_) => v5::DisconnectReasonCode::NotAuthorized,
            Fault::TopicUnknown(_) => v5::DisconnectReasonCode::TopicNameInvalid,
            Fault::Quota(_) => v5::DisconnectReasonCode::QuotaExceeded,
            Fault::Administrative(_) => v5::DisconnectReasonCode::AdministrativeAction,
            Fault::Stopping => v5::DisconnectReasonCode::ServerShuttingDown,
        };
        let _len = v5::Disconnect::new(code).write(&mut self.out);
    }
}

/// The length of the packet that begins the bytes, once all of it is there.
fn packet_len(bytes: &[u8]) -> Result<Option<usize>, Broken> {
    let mut len = 0;
    for (at, byte) in bytes.iter().enumerate().take(HEADER_LEN_MAX).skip(1) {
        len |= usize::from(byte & 0x7f) << (7 * (at - 1));
        if byte & 0x80 == 0 {
            let whole = at + 1 + len;
            if whole > PACKET_BYTES_MAX {
                return Err(Broken(format!("packet of {whole} bytes; allowed are {PACKET_BYTES_MAX}")));
            }
            return Ok((bytes.len() >= whole).then_some(whole));
        }
    }
    if bytes.len() < HEADER_LEN_MAX {
        Ok(None)
    } else {
        Err(Broken("a length of more than four bytes".to_owned()))
    }
}

fn longest(asked_s: u16) -> u16 {
    if asked_s == 0 { KEEP_ALIVE_MAX_S } else { asked_s.min(KEEP_ALIVE_MAX_S) }
}

fn published(topic: String, qos: u8, id: u16, payload: Bytes) -> Result<Heard, Broken> {
    match qos {
        0 => Ok(Heard::Publish { topic, payload, id: None }),
        1 => Ok(Heard::Publish { topic, payload, id: Some(id) }),
        // It was said in the answer to the connect of MQTT 5; 3.1.1 cannot say it.
        _ => Err(Broken("QoS 2 is not offered".to_owned())),
    }
}

fn no_properties() -> v5::ConnAckProperties {
    v5::ConnAckProperties {
        session_expiry_interval: None,
        receive_max: None,
        max_qos: None,
        retain_available: None,
        max_packet_size: None,
        assigned_client_identifier: None,
        topic_alias_max: None,
        reason_string: None,
        user_properties: Vec::new(),
        wildcard_subscription_available: None,
        subscription_identifiers_available: None,
        shared_subscription_available: None,
        server_keep_alive: None,
        response_information: None,
        server_reference: None,
        authentication_method: None,
        authentication_data: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect(level: u8, user: &str, password: &str) -> Vec<u8> {
        let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', level, 0b1100_0010, 0, 30];
        if level == 5 {
            body.push(0);
        }
        for text in ["me", user, password] {
            body.extend_from_slice(&u16::try_from(text.len()).unwrap().to_be_bytes());
            body.extend_from_slice(text.as_bytes());
        }
        [&[0x10, u8::try_from(body.len()).unwrap()], &body[..]].concat()
    }

    fn greeted(level: u8) -> Speech {
        let mut speech = Speech::new();
        let heard = speech.hear(&connect(level, "pump-7", "secret")).unwrap();
        let (user, password) = (Some("pump-7".to_owned()), Some(b"secret".to_vec()));
        assert_eq!(heard, [Heard::Connect { user, password, keep_alive_s: 30 }]);
        speech.accept(30);
        let answer = speech.answers();
        assert_eq!((answer.first(), answer.get(3)), (Some(&0x20), Some(&0)));
        speech
    }

    #[test]
    fn both_versions_are_understood_however_the_bytes_are_cut() {
        for level in [4, 5] {
            let mut speech = greeted(level);
            let none: &[u8] = if level == 5 { &[0] } else { &[] };
            let publish =
                [&[0x32, u8::try_from(5 + none.len() + 2).unwrap(), 0, 1, b't', 0, 9], none, b"hi"].concat();
            let ping = [0xc0, 0];
            let goodbye = [0xe0, 0];
            let stream = [&publish[..], &ping, &goodbye].concat();
            let heard: Vec<Heard> =
                stream.iter().flat_map(|byte| speech.hear(std::slice::from_ref(byte)).unwrap()).collect();
            let (topic, payload) = ("t".to_owned(), Bytes::from_static(b"hi"));
            assert_eq!(heard, [Heard::Publish { topic, payload, id: Some(9) }, Heard::Disconnect]);
            speech.taken(9);
            let answers = speech.answers();
            assert!(answers.starts_with(&[0xd0, 0, 0x40]), "{answers:?}");
        }
    }

    #[test]
    fn what_breaks_a_rule_or_a_limit_is_refused_at_once() {
        let long = PACKET_BYTES_MAX + 1;
        let len = |n: usize, shift: usize| u8::try_from((n >> shift) & 0x7f).unwrap();
        for bytes in [
            vec![0x30, 0x80, 0x80, 0x80, 0x80],
            vec![0x30, len(long, 0) | 0x80, len(long, 7) | 0x80, len(long, 14)],
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            connect(3, "a", "b"),
            vec![0xc0, 0],
        ] {
            assert!(Speech::new().hear(&bytes).is_err(), "{bytes:02x?}");
        }
        for level in [4, 5] {
            assert!(greeted(level).hear(&connect(level, "a", "b")).is_err(), "two connects");
            assert!(greeted(level).hear(&[0x34, 6, 0, 1, b't', 0, 9, b'x']).is_err(), "QoS 2");
            assert!(greeted(level).hear(&[0x82, 2, 0, 1]).is_err(), "no filter");
        }
    }

    #[test]
    fn any_damaged_packet_is_an_error_or_another_packet_and_never_a_panic() {
        for level in [4, 5] {
            let whole =
                [connect(level, "pump-7", "secret"), vec![0x82, 8, 0, 1, 0, 0, 3, b'a', b'/', b'b']].concat();
            for at in 0..whole.len() {
                for bit in 0..8 {
                    let mut damaged = whole.clone();
                    damaged[at] ^= 1 << bit;
                    let mut speech = Speech::new();
                    let _either = speech.hear(&damaged);
                    let _more = speech.hear(&whole);
                    assert!(speech.inbox.len() <= PACKET_BYTES_MAX + whole.len());
                }
            }
        }
    }
}
