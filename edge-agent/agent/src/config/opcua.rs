//! OPC UA servers of a configuration.

use super::sources::Check;
use crate::source::opcua::line::{Login, Mode, Password, Policy, Server, address};
use crate::source::opcua::trust::Trust;

impl Check<'_, '_, '_> {
    /// The server; none when its URL is none, which is told.
    pub fn server(&mut self) -> Option<Server> {
        let url = self.text("url");
        if url.is_empty() {
            self.problem("source.url: needed for kind \"opc-ua\"");
            return None;
        }
        if let Err(error) = address(&url) {
            self.problem(&format!("source.url: {error}"));
            return None;
        }
        let mode = match self.text("security").as_str() {
            "none" => Mode::None,
            "sign" => Mode::Sign,
            _ => Mode::Encrypt,
        };
        let policy = match self.text("policy").as_str() {
            "aes256-sha256-rsapss" => Some(Policy::Aes256Pss),
            "aes128-sha256-rsaoaep" => Some(Policy::Aes128Oaep),
            "basic256sha256" => Some(Policy::Basic256),
            _ => None,
        };
        let trust = if self.text("trust") == "first" { Trust::First } else { Trust::Listed };
        let (login, is_shown) = (self.login(), self.text("clear_password") == "allow");
        if login.is_some() && mode == Mode::None && !is_shown {
            self.problem(
                "source.user: a password is not sent with security \"none\" unless source.clear_password is \"allow\"",
            );
        }
        let certificates = self.text("certificates").into();
        Some(Server { url, mode, policy, login, certificates, trust })
    }

    fn login(&mut self) -> Option<Login> {
        let (user, given, file) = (self.text("user"), self.text("password"), self.text("password_file"));
        let password = match (given.is_empty(), file.is_empty()) {
            (false, false) => {
                self.problem("source.password: source.password_file is given too; allowed is one of them");
                return None;
            }
            (true, false) => Password::File(file.into()),
            // A user may have none.
            (_, true) => Password::Given(given),
        };
        if user.is_empty() {
            if password != Password::Given(String::new()) {
                self.problem("source.user: needed where there is a password");
            }
            return None;
        }
        Some(Login { user, password })
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::{Layers, SourceKind, parse};
    use super::*;

    #[test]
    fn a_server_is_as_it_is_written_and_shows_no_password() {
        let text = "[[source]]\nkind = \"opc-ua\"\nname = \"plc\"\nurl = \"opc.tcp://10.0.0.7\"\nuser = \"reader\"\n\
            password = \"s3cret\"\ntrust = \"first\"\npolicy = \"basic256sha256\"\n\
            [[device]]\nid = \"boiler\"\nsource = \"plc\"\nprofile = \"opcua-server\"\naddress = \"/2:Boiler\"\n\
            [[device]]\nid = \"all\"\nsource = \"plc\"\nprofile = \"opcua-server\"\n";
        let config = parse("a.toml", text, &[]).unwrap();
        let SourceKind::OpcUa { server } = &config.sources[0].kind else { panic!() };
        let wanted = Server {
            url: "opc.tcp://10.0.0.7".into(),
            mode: Mode::Encrypt,
            policy: Some(Policy::Basic256),
            login: Some(Login { user: "reader".into(), password: Password::Given("s3cret".into()) }),
            certificates: PathBuf::new(),
            trust: Trust::First,
        };
        assert_eq!(*server, wanted);
        assert!(!format!("{config:?}").contains("s3cret"));
        assert_eq!(config.sources[0].devices.len(), 2);
    }

    #[test]
    fn certificates_are_in_the_data_folder_unless_they_are_said_to_be_elsewhere() {
        let there = tempfile::tempdir().unwrap();
        let file = there.path().join("a.toml");
        let text = "[[source]]\nkind = \"opc-ua\"\nurl = \"opc.tcp://a\"\n\
            [[source]]\nkind = \"opc-ua\"\nurl = \"opc.tcp://b\"\ncertificates = \"/pki\"\n";
        std::fs::write(&file, text).unwrap();
        let layers = Layers { file: Some(file), data_dir: Some("/data".into()), ..Layers::default() };
        let folders = layers.load().unwrap().sources.into_iter().map(|source| match source.kind {
            SourceKind::OpcUa { server } => server.certificates,
            _ => panic!(),
        });
        assert_eq!(folders.collect::<Vec<_>>(), [PathBuf::from("/data/opcua"), "/pki".into()]);
    }

    #[test]
    fn all_that_is_wrong_with_servers_is_told_at_once() {
        let text = "[[source]]\nkind = \"opc-ua\"\n\
            [[source]]\nkind = \"opc-ua\"\nurl = \"opc.https://a\"\n\
            [[source]]\nkind = \"opc-ua\"\nname = \"a\"\nurl = \"opc.tcp://a\"\nsecurity = \"none\"\nuser = \"u\"\n\
            [[source]]\nkind = \"opc-ua\"\nurl = \"opc.tcp://a\"\nuser = \"u\"\npassword = \"p\"\npassword_file = \"f\"\n\
            [[source]]\nkind = \"opc-ua\"\nurl = \"opc.tcp://a\"\npassword = \"p\"\n\
            [[device]]\nid = \"d\"\nsource = \"a\"\n\
            [[device]]\nid = \"e\"\nsource = \"a\"\nprofile = \"opcua-server\"\naddress = \"Boiler\"\n";
        let error = parse("a.toml", text, &[]).unwrap_err();
        let wanted = [
            "a.toml:1: source.url: needed for kind \"opc-ua\"",
            "a.toml:3: source.url: \"opc.https://a\" is no server; allowed is opc.tcp://",
            "a.toml:6: source.user: a password is not sent with security \"none\"",
            "a.toml:12: source.password: source.password_file is given too",
            "a.toml:18: source.user: needed where there is a password",
            "a.toml:22: device.profile: needed for kind \"opc-ua\"",
            "a.toml:25: device.address: \"Boiler\" names no node; allowed are for example",
        ];
        assert_eq!(error.problems.len(), wanted.len(), "{error}");
        for (problem, part) in error.problems.iter().zip(wanted) {
            assert!(problem.starts_with(part), "{problem}: {part}");
        }
    }
}
