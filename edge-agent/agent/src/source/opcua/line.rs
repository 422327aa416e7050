//! A session at a server. It is made for one attempt, and ends with it: the crate's own reconnecting and its
//! subscriptions are left alone, so that the supervisor says when another attempt is made, and that no more is asked of
//! the server than has been handed on.

pub mod offers;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use opcua_client::services::Publish;
use opcua_client::transport::{
    Connector, RequestRecv, SecureChannelState, StreamConnection, StreamConnector, StreamTransport,
    TransportConfiguration,
};
use opcua_client::{Client, ClientBuilder, ConnectionSource, IdentityToken, Session, UARequest};
use opcua_core::comms::tcp_codec::TcpCodec;
use opcua_core::sync::RwLock;
use opcua_crypto::{CertificateStore, SecurityPolicy};
use opcua_types::{
    DecodingOptions, EndpointDescription, Error, MessageSecurityMode, PublishResponse, StatusCode,
    SubscriptionAcknowledgement, UserTokenType,
};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::codec::FramedRead;

use super::frames::{Bounded, Trouble};
use super::trust::{Folder, OWN_CERTIFICATE, OWN_KEY, Trust};
use crate::files;
use crate::source::{BoxFuture, SourceError};

/// The port of OPC UA.
pub const PORT: u16 = 4840;
/// Longest that a connection takes, all told.
const OPEN_MAX: Duration = Duration::from_secs(30);
/// Longest wait for the answer to a request that waits for nothing.
pub const REQUEST_MAX: Duration = Duration::from_secs(10);
/// Longest that a session is ended in: a server that has few of them is to have it back.
const CLOSE_MAX: Duration = Duration::from_secs(2);
/// How long a server is to keep a session whose connection is lost, in ms.
const SESSION_MS: u32 = 60_000;
/// Bytes of a chunk, as this end offers it.
const CHUNK_BYTES_MAX: usize = 64 * 1024;
/// Chunks of a message.
const CHUNKS_MAX: usize = 256;
/// Bytes of a message; what is longer ends the connection.
const MESSAGE_BYTES_MAX: usize = CHUNK_BYTES_MAX * CHUNKS_MAX;
/// Bytes of a text. Longer ones end the connection, so that this is far above what a reading may have.
const TEXT_BYTES_MAX: usize = 1024 * 1024;
/// Elements of an array. As for texts; variables that are arrays by their definition are not asked for.
const ARRAY_MAX: usize = 65_536;

/// A server, and how this end speaks to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Where it is, as opc.tcp://host:4840/path.
    pub url: String,
    /// Whether messages are signed and encrypted.
    pub mode: Mode,
    /// How; none for the best that the server offers.
    pub policy: Option<Policy>,
    /// As whom; none for nobody in particular.
    pub login: Option<Login>,
    /// The folder of certificates.
    pub certificates: PathBuf,
    /// Which servers are trusted.
    pub trust: Trust,
}

/// Whether messages are signed and encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Neither.
    None,
    /// Signed.
    Sign,
    /// Both.
    Encrypt,
}

/// How messages are signed and encrypted. What SHA-1 signs is not among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Aes256-Sha256-RsaPss.
    Aes256Pss,
    /// Aes128-Sha256-RsaOaep.
    Aes128Oaep,
    /// Basic256Sha256.
    Basic256,
}

/// User and password.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// Who.
    pub user: String,
    /// What only they know.
    pub password: Password,
}

/// A password.
#[derive(Clone, PartialEq, Eq)]
pub enum Password {
    /// This one.
    Given(String),
    /// What stands in a file, which is read at each attempt.
    File(PathBuf),
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} with a password", self.user)
    }
}

impl Policy {
    /// All of them, the best first.
    const ALL: [Self; 3] = [Self::Aes256Pss, Self::Aes128Oaep, Self::Basic256];

    const fn of_crate(self) -> SecurityPolicy {
        match self {
            Self::Aes256Pss => SecurityPolicy::Aes256Sha256RsaPss,
            Self::Aes128Oaep => SecurityPolicy::Aes128Sha256RsaOaep,
            Self::Basic256 => SecurityPolicy::Basic256Sha256,
        }
    }
}

impl Mode {
    const fn of_crate(self) -> MessageSecurityMode {
        match self {
            Self::None => MessageSecurityMode::None,
            Self::Sign => MessageSecurityMode::Sign,
            Self::Encrypt => MessageSecurityMode::SignAndEncrypt,
        }
    }
}

impl Login {
    fn token(&self) -> Result<IdentityToken, String> {
        let password = match &self.password {
            Password::Given(password) => password.clone(),
            Password::File(path) => {
                let text = files::text(path)
                    .map_err(|error| format!("source.password_file = {}: {error}", path.display()))?;
                text.trim_end_matches(['\r', '\n']).to_owned()
            }
        };
        Ok(IdentityToken::new_user_name(self.user.as_str(), password))
    }
}

/// Takes a URL apart; gives host and port.
///
/// # Errors
/// It is none; says what is allowed.
pub fn address(url: &str) -> Result<(String, u16), String> {
    let wrong = || format!("{url:?} is no server; allowed is opc.tcp://host:4840 and a path after it");
    let rest = url.strip_prefix("opc.tcp://").ok_or_else(wrong)?;
    let place = rest.split('/').next().unwrap_or_default();
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !place.ends_with(']') => (host, port.parse().map_err(|_| wrong())?),
        _ => (place, PORT),
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_name = |host: &str| !host.is_empty() && !host.contains([':', '[', ']', '@', ' ', '?', '#']);
    match bare {
        Some(v6) if v6.parse::<std::net::Ipv6Addr>().is_ok() => Ok((v6.to_owned(), port)),
        None if is_name(host) => Ok((host.to_owned(), port)),
        _ => Err(wrong()),
    }
}

/// How this end's connections are made: all addresses of a name are tried, and no message is longer than is allowed.
#[derive(Clone)]
struct Dial {
    url: String,
    trouble: Trouble,
}

type Reader = Bounded<OwnedReadHalf>;

impl Dial {
    async fn stream(
        url: String,
        options: DecodingOptions,
        trouble: Trouble,
    ) -> Result<StreamConnection<Reader, OwnedWriteHalf>, Error> {
        let failed = |error: &dyn std::fmt::Display| {
            trouble.note(error.to_string());
            Error::new(StatusCode::BadCommunicationError, error.to_string())
        };
        let (host, port) = address(&url).map_err(|error| failed(&error))?;
        let stream = TcpStream::connect((host.as_str(), port)).await.map_err(|error| failed(&error))?;
        stream.set_nodelay(true).map_err(|error| failed(&error))?;
        let (read, write) = stream.into_split();
        let read = Bounded::new(read, CHUNK_BYTES_MAX, trouble.clone());
        Ok(StreamConnection::new(FramedRead::new(read, TcpCodec::new(options)), write, url))
    }
}

impl Connector for Dial {
    type Transport = StreamTransport<Reader, OwnedWriteHalf>;

    async fn connect(
        &self,
        channel: Arc<SecureChannelState>,
        outgoing: RequestRecv,
        config: TransportConfiguration,
    ) -> Result<Self::Transport, Error> {
        let connect = |url, options| Self::stream(url, options, self.trouble.clone());
        StreamConnector::new(connect, self.url.clone()).connect(channel, outgoing, config).await
    }

    fn default_endpoint(&self) -> EndpointDescription {
        EndpointDescription::from(self.url.as_str())
    }
}

impl ConnectionSource for Dial {
    type Builder = Self;

    fn get_connector(&self, _endpoint: &EndpointDescription) -> Result<Self, Error> {
        Ok(self.clone())
    }
}

/// Who opens a session.
pub struct Opening<'o> {
    /// The server.
    pub server: &'o Server,
    /// The source.
    pub source: &'o str,
    /// The name of this end, as in its certificate.
    pub uri: &'o str,
}

/// An open session.
pub struct Line {
    session: Arc<Session>,
    // What moves the session's messages.
    task: JoinHandle<StatusCode>,
    trouble: Trouble,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Line {
    /// Connects, as often as once.
    ///
    /// # Errors
    /// The server is not reached or not trusted, or refuses.
    pub async fn open(opening: Opening<'_>) -> Result<Self, SourceError> {
        let url = &opening.server.url;
        let opened = timeout(OPEN_MAX, Self::begin(&opening))
            .await
            .unwrap_or_else(|_| Err("no answer in time".into()));
        opened.map_err(|error| SourceError::failed(format!("{url}: {error}")))
    }

    async fn begin(opening: &Opening<'_>) -> Result<Self, String> {
        let (server, trouble) = (opening.server, Trouble::default());
        let client = client(opening)?;
        let dial = Dial { url: server.url.clone(), trouble: trouble.clone() };
        let offered = client.get_endpoints(dial.clone(), &[], &[]).await;
        let offered = offered.map_err(|error| told(&trouble, error.status(), opening))?;
        let endpoint = choose(&offered, server)?;
        let policy = SecurityPolicy::from_uri(endpoint.security_policy_uri.as_ref());
        let folder = Folder::new(server.certificates.clone());
        if server.mode != Mode::None {
            folder.check(endpoint.server_certificate.as_ref(), policy, server.trust, opening.source)?;
        }
        let token = server.login.as_ref().map_or(Ok(IdentityToken::Anonymous), Login::token)?;
        let mut store = CertificateStore::new_with_x509_data::<opcua_crypto::X509Data>(
            folder.path(),
            false,
            Some(OWN_CERTIFICATE.as_ref()),
            Some(OWN_KEY.as_ref()),
            None,
        );
        // That it is the very certificate that is trusted was looked at; the rest is said in its module.
        store.0.set_skip_verify_certs(true);
        let built = client
            .session_builder()
            .connect_to_endpoint_directly(endpoint)
            .map(|builder| builder.user_identity_token(token).with_connector(dial))
            .and_then(|builder| builder.build(Arc::new(RwLock::new(store.0))));
        let (session, events) = built.map_err(|error| error.to_string())?;
        session.disable_reconnects();
        let mut line = Self { session, task: events.spawn(), trouble };
        tokio::select! {
            biased;
            ended = &mut line.task => {
                Err(told(&line.trouble, ended.unwrap_or(StatusCode::BadUnexpectedError), opening))
            }
            _ = line.session.wait_for_connection() => Ok(line),
        }
    }

    /// The session, to ask its services.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Asks; `what` it is about is told with what goes wrong. A box, as the compiler does not see otherwise that what
    /// waits for it may be sent between threads (rust-lang/rust#100013).
    ///
    /// # Errors
    /// The connection is lost, or the server refuses.
    pub fn ask<'l, R: UARequest + 'l>(
        &'l self,
        what: &'static str,
        request: R,
    ) -> BoxFuture<'l, Result<R::Out, SourceError>> {
        let sent = request.send(self.session.channel());
        Box::pin(async move { sent.await.map_err(|error| self.failed(what, &error)) })
    }

    /// Waits for what the server has to tell, and tells it what has been taken.
    ///
    /// # Errors
    /// As [`Self::ask`], and when nothing comes for so long.
    pub async fn publish(
        &self,
        taken: Vec<SubscriptionAcknowledgement>,
        patience: Duration,
    ) -> Result<PublishResponse, SourceError> {
        self.ask("publish", Publish::new(&self.session).acks(taken).timeout(patience)).await
    }

    fn failed(&self, what: &str, error: &Error) -> SourceError {
        let status = error.status();
        let url = &self.session.endpoint_info().endpoint.endpoint_url;
        SourceError::failed(match self.trouble.take() {
            Some(trouble) => format!("{url}: {what}: {trouble}"),
            None if status == StatusCode::BadTimeout => format!("{url}: {what}: no answer in time"),
            None => format!("{url}: {what}: {status}"),
        })
    }

    /// Ends the session, so that the server has it back.
    pub async fn close(self) {
        // One that does not answer finds out by itself.
        let _ = timeout(CLOSE_MAX, self.session.disconnect()).await;
    }
}

fn client(opening: &Opening<'_>) -> Result<Client, String> {
    let folder = &opening.server.certificates;
    let builder = ClientBuilder::new()
        .application_name("Tideline edge-agent")
        .application_uri(opening.uri)
        .product_uri("urn:tideline:edge-agent")
        .pki_dir(folder)
        .certificate_path(OWN_CERTIFICATE)
        .private_key_path(OWN_KEY)
        .trust_server_certs(false)
        .verify_server_certs(false)
        .session_name(format!("tideline {}", opening.source))
        .session_retry_limit(0)
        .session_timeout(SESSION_MS)
        .request_timeout(REQUEST_MAX)
        .recreate_subscriptions(false)
        .max_chunk_size(CHUNK_BYTES_MAX)
        .max_incoming_chunk_size(CHUNK_BYTES_MAX)
        .max_chunk_count(CHUNKS_MAX)
        .max_message_size(MESSAGE_BYTES_MAX)
        .max_string_length(TEXT_BYTES_MAX)
        .max_byte_string_length(TEXT_BYTES_MAX)
        .max_array_length(ARRAY_MAX);
    builder.client().map_err(|problems| problems.join(", "))
}

/// The best of what the server offers, under the URL by which this end reaches it.
fn choose(offered: &[EndpointDescription], server: &Server) -> Result<EndpointDescription, String> {
    let wanted: Vec<&str> = match (server.mode, server.policy) {
        (Mode::None, _) => vec![SecurityPolicy::None.to_uri()],
        (_, Some(policy)) => vec![policy.of_crate().to_uri()],
        (_, None) => Policy::ALL.iter().map(|policy| policy.of_crate().to_uri()).collect(),
    };
    let mode = server.mode.of_crate();
    let is = |endpoint: &&EndpointDescription, uri: &str| {
        endpoint.security_mode == mode && endpoint.security_policy_uri.as_ref() == uri
    };
    let found = wanted.iter().find_map(|uri| offered.iter().find(|endpoint| is(endpoint, uri)));
    let Some(found) = found else {
        let shown: Vec<String> = offered.iter().map(shown).collect();
        return Err(format!(
            "the server offers nothing that source.security and source.policy allow; it offers {}",
            if shown.is_empty() { "nothing".to_owned() } else { shown.join(", ") }
        ));
    };
    let kind = if server.login.is_some() { UserTokenType::UserName } else { UserTokenType::Anonymous };
    if found.find_policy(kind).is_none() {
        return Err(match server.login {
            Some(_) => "the server takes no user and password here; source.user must be empty".into(),
            None => {
                "the server takes nobody without a login; source.user and source.password are needed".into()
            }
        });
    }
    Ok(EndpointDescription { endpoint_url: server.url.as_str().into(), ..found.clone() })
}

fn shown(endpoint: &EndpointDescription) -> String {
    let policy = endpoint.security_policy_uri.as_ref().rsplit_once('#').map_or("?", |(_, name)| name);
    let mode = match endpoint.security_mode {
        MessageSecurityMode::None => "none",
        MessageSecurityMode::Sign => "sign",
        MessageSecurityMode::SignAndEncrypt => "encrypt",
        MessageSecurityMode::Invalid => "?",
    };
    format!("{mode} ({policy})")
}

/// Why no session came about, with what can be done about it.
fn told(trouble: &Trouble, status: StatusCode, opening: &Opening<'_>) -> String {
    if let Some(trouble) = trouble.take() {
        return trouble;
    }
    let code = StatusCode::from(status.bits() & 0xFFFF_0000);
    let certificate = opening.server.certificates.join(OWN_CERTIFICATE);
    let certificate = certificate.display();
    match code {
        StatusCode::BadUserAccessDenied
        | StatusCode::BadIdentityTokenRejected
        | StatusCode::BadIdentityTokenInvalid => {
            format!(
                "the server refuses the login ({status}); allowed is what it knows as source.user and its password"
            )
        }
        StatusCode::BadTimeout => "no answer in time".into(),
        _ if opening.server.mode != Mode::None => {
            format!("{status}; where the server does not trust this agent yet, it is to trust {certificate}")
        }
        _ => status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use opcua_types::UserTokenPolicy;

    use super::*;

    fn endpoint(
        policy: SecurityPolicy,
        mode: MessageSecurityMode,
        tokens: &[UserTokenType],
    ) -> EndpointDescription {
        let token =
            |kind: &UserTokenType| UserTokenPolicy { token_type: *kind, ..UserTokenPolicy::default() };
        EndpointDescription {
            endpoint_url: "opc.tcp://inside:4840".into(),
            security_mode: mode,
            security_policy_uri: policy.to_uri().into(),
            user_identity_tokens: Some(tokens.iter().map(token).collect()),
            ..EndpointDescription::default()
        }
    }

    fn server(mode: Mode, policy: Option<Policy>) -> Server {
        let (url, certificates) = ("opc.tcp://outside".to_owned(), PathBuf::from("/nowhere"));
        Server { url, mode, policy, login: None, certificates, trust: Trust::Listed }
    }

    #[test]
    fn urls_are_taken_apart() {
        for (text, (host, port)) in [
            ("opc.tcp://plc", ("plc", 4840)),
            ("opc.tcp://10.0.0.7:4841/a/b", ("10.0.0.7", 4841)),
            ("opc.tcp://[fd00::7]:4841", ("fd00::7", 4841)),
            ("opc.tcp://[fd00::7]", ("fd00::7", 4840)),
        ] {
            assert_eq!(address(text), Ok((host.to_owned(), port)), "{text}");
        }
        for text in
            ["", "plc", "opc.tcp://", "opc.https://plc", "opc.tcp://plc:x", "opc.tcp://a@b", "opc.tcp://[a]"]
        {
            assert!(address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_best_policy_of_the_wanted_mode_is_taken_and_what_is_less_never_is() {
        use MessageSecurityMode::{None as Plain, Sign, SignAndEncrypt};
        let anonymous = [UserTokenType::Anonymous];
        let offered = [
            endpoint(SecurityPolicy::None, Plain, &anonymous),
            endpoint(SecurityPolicy::Basic256, SignAndEncrypt, &anonymous),
            endpoint(SecurityPolicy::Basic256Sha256, SignAndEncrypt, &anonymous),
            endpoint(SecurityPolicy::Aes128Sha256RsaOaep, SignAndEncrypt, &anonymous),
            endpoint(SecurityPolicy::Basic256Sha256, Sign, &anonymous),
        ];
        let chosen = |mode, policy| choose(&offered, &server(mode, policy)).map(|found| shown(&found));
        assert_eq!(chosen(Mode::None, None), Ok("none (None)".into()));
        assert_eq!(chosen(Mode::Encrypt, None), Ok("encrypt (Aes128_Sha256_RsaOaep)".into()));
        assert_eq!(chosen(Mode::Encrypt, Some(Policy::Basic256)), Ok("encrypt (Basic256Sha256)".into()));
        assert_eq!(chosen(Mode::Sign, None), Ok("sign (Basic256Sha256)".into()));
        let error = chosen(Mode::Sign, Some(Policy::Aes256Pss)).unwrap_err();
        assert!(error.contains("it offers none (None), encrypt (Basic256), "), "{error}");
        let found = choose(&offered, &server(Mode::None, None)).unwrap();
        assert_eq!(
            found.endpoint_url.as_ref(),
            "opc.tcp://outside",
            "a server knows itself under names that others do not"
        );
        let named = [endpoint(SecurityPolicy::None, Plain, &[UserTokenType::UserName])];
        assert!(choose(&named, &server(Mode::None, None)).unwrap_err().contains("source.user"));
    }
}
