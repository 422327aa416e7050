//! Where what is to be written to variables of a server is carried out, beside what is read.

use std::future::Future;
use std::pin::pin;

use opcua_client::services::Write as WriteRequest;
use opcua_types::{AttributeId, DataValue, Variant, WriteValue};
use tideline_profiles::conversion::Raw;
use tideline_protocol::value::Value;

use super::line::Line;
use super::values::{is_whole, quality, written};
use super::variables::{Party, Variable};
use crate::source::writes::{Inbox, Write};
use tideline_protocol::value::Quality;

/// Carries writes out.
pub struct Desk<'d> {
    line: &'d Line,
    parties: &'d [Party],
    inbox: Inbox,
}

impl<'d> Desk<'d> {
    /// For these devices, from now on.
    pub fn new(line: &'d Line, parties: &'d [Party], inbox: Inbox) -> Self {
        parties.iter().for_each(|party| inbox.serve(&party.device));
        Self { line, parties, inbox }
    }

    /// Does the work, and carries out writes until it is done.
    pub async fn beside<T>(&mut self, variables: &[Variable], work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            let write = tokio::select! {
                biased;
                done = &mut work => return done,
                write = self.inbox.next() => write,
            };
            self.carry_out(variables, write).await;
        }
    }

    async fn carry_out(&self, variables: &[Variable], write: Write) {
        let asked = match self.asked(variables, &write) {
            Ok(asked) => asked,
            Err(reason) => return write.not_done(reason),
        };
        let node = asked.node_id.to_string();
        let request = WriteRequest::new(self.line.session()).node(asked);
        match self.line.ask("write", request).await {
            Ok(answer) => match answer.results.unwrap_or_default().first() {
                Some(status) if quality(*status) == Quality::Good => write.done(),
                Some(status) if status.is_bad() => write.not_done(format!("{node}: {status}")),
                Some(status) => write.unknown(format!("{node}: {status}")),
                None => write.unknown(format!("{node}: the server says nothing")),
            },
            Err(error) => write.unknown(error),
        }
    }

    /// What the server is asked for.
    fn asked(&self, variables: &[Variable], write: &Write) -> Result<WriteValue, String> {
        let is_party = |party: &Party| party.device.id == write.device;
        let party = self.parties.iter().position(is_party).ok_or("it is no device of this server")?;
        let is_meant = |variable: &&Variable| variable.party == party && variable.point == write.point;
        let variable = variables.iter().find(is_meant).ok_or("the server has no variable for it")?;
        let data_type = variable.data_type.ok_or("the type of the server's variable is not known yet")?;
        let names = self.parties.get(party).map(|party| &party.names);
        let point = names.and_then(|names| names.profile().point(write.point.as_str()));
        let point = point.ok_or("the profile does not name it")?;
        if point.conversion.is_masked() {
            return Err("it is a part of a number, whose other bits would be changed too".into());
        }
        let raw = point.conversion.raw(&write.value, 0, is_whole(data_type))?;
        Ok(WriteValue {
            node_id: variable.node.clone(),
            attribute_id: AttributeId::Value as u32,
            value: DataValue::value_only(variant(raw, data_type)?),
            ..WriteValue::default()
        })
    }
}

fn variant(raw: Raw, data_type: u32) -> Result<Variant, String> {
    let value = match raw {
        Raw::Whole(whole) => Value::Int(i64::try_from(whole).map_err(|_| format!("{whole} is not written"))?),
        Raw::Real(real) => Value::Float(real),
        Raw::Bool(yes) => Value::Bool(yes),
        Raw::Text(text) => Value::Text(text.into()),
    };
    written(&value, data_type)
}
