//! Who defined a job, and whether they still may have it run.

use serde::{Deserialize, Serialize};

use crate::api::auth::{Credential, Principal};
use crate::hub::Hub;
use crate::metadata::{MetadataError, Role, TokenRecord, UserRecord};

/// Who gave a job its definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Author {
    /// Somebody beside the hub, over its socket.
    Local,
    /// A user, however signed in.
    User(String),
    /// Who has the token with this id.
    Token {
        /// Its id.
        id: String,
        /// What it is called.
        name: String,
    },
}

impl Author {
    /// Of a request.
    #[must_use]
    pub fn of(principal: &Principal) -> Self {
        match &principal.credential {
            Credential::Local => Self::Local,
            Credential::Session(_) => Self::User(principal.name.clone()),
            // Shares change nothing; as a token none is found of that id.
            Credential::Token(id) | Credential::Share(id, _) => {
                Self::Token { id: id.clone(), name: principal.name.clone() }
            }
        }
    }

    /// A name for people.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Local => "local",
            Self::User(name) | Self::Token { name, .. } => name,
        }
    }

    /// Why a statement may not run for them; none when it may. Whoever may define jobs may have one run.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn refusal(&self, hub: &Hub) -> Result<Option<String>, MetadataError> {
        let (what, role) = match self {
            Self::Local => return Ok(None),
            Self::User(name) => {
                let user = hub.metadata.find::<UserRecord>(name)?;
                (format!("the user {name}"), user.map(|user| user.role))
            }
            Self::Token { id, name } => {
                (name.clone(), hub.metadata.find::<TokenRecord>(id)?.map(|token| token.role))
            }
        };
        let lost = match role {
            Some(Role::Admin) => return Ok(None),
            Some(Role::Viewer) => "has no longer the role admin",
            None => "is no more",
        };
        Ok(Some(format!("{what}, who defined it, {lost}; whoever may run its statement can define it again")))
    }
}
