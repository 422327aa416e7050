//! What a running agent can be asked through: its socket and its local page.

use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinHandle;

use crate::agreement::{Auditor, Questions};
use crate::commands::{Commands, cli};
use crate::config::Config;
use crate::flow::trace::Tracer;
use crate::logs::Recent;
use crate::page::{self, Shown};
use crate::source::Writes;
use crate::sync::Syncer;
use crate::twin::TwinHandle;
use crate::twin::desk::{self, Access, Desk};
use crate::twin::judge::Judge;
use crate::{serve, token};

/// The doors, bound and not open yet.
pub struct Doors {
    socket: UnixListener,
    page: Option<TcpListener>,
    token: Arc<str>,
}

impl Doors {
    /// Takes the socket.
    ///
    /// # Errors
    /// Another agent has it.
    pub async fn bind(config: &Config) -> anyhow::Result<Self> {
        let socket = serve::bind_socket(&config.data_dir).await?;
        let token = token::load(&config.data_dir).context("page.token")?;
        Ok(Self { socket, page: None, token })
    }

    /// Takes the address of the page, where one is wanted.
    ///
    /// # Errors
    /// Another program has it, or it is none.
    pub async fn with_page(self, config: &Config) -> anyhow::Result<Self> {
        let page = match &config.listen {
            Some(listen) => Some(serve::bind_page(listen).await?),
            None => None,
        };
        Ok(Self { page, ..self })
    }

    /// Opens them. Some commands on the socket become questions to the hub.
    pub fn open(
        self,
        (twins, judge): (&TwinHandle, Judge),
        syncer: Syncer,
        (writes, tracer, commands, logs): (&Writes, &Tracer, &Commands, &Recent),
    ) -> (Vec<JoinHandle<()>>, Questions) {
        let board = syncer.board.clone();
        if self.page.is_none() {
            board.newest().turn_off();
        }
        let (auditor, questions) = Auditor::new(syncer.spool.clone(), board.clone());
        let listen = self.page.as_ref().and_then(|page| page.local_addr().ok());
        let token = Access::Token(Arc::clone(&self.token));
        let desk = Desk::new(twins.clone(), token, judge.clone());
        let at_page = desk::router(desk.clone()).merge(page::twin::router(desk));
        let at_socket = desk::router(Desk::new(twins.clone(), Access::Owner, judge));
        let at_socket = Router::new()
            .merge(at_socket)
            .merge(serve::page_key(listen, self.token))
            .merge(cli::router(commands.clone()));
        let mut shown = Shown::of(board);
        (shown.logs, shown.spool) = (logs.clone(), Some(syncer.spool.clone()));
        (shown.twins, shown.commands) = (Some(twins.clone()), Some(commands.clone()));
        let (writes, tracer) = (writes.clone(), tracer.clone());
        let socket = serve::socket(self.socket, syncer, auditor, writes, tracer, at_socket);
        let page = self.page.map(|page| serve::page_on(page, shown, at_page));
        (std::iter::once(socket).chain(page).collect(), questions)
    }
}
