//! Where what is to be written to variables of a server is carried out, and what somebody wants to know of them now is asked
//! for, beside what the server tells by itself.

use std::future::Future;
use std::pin::pin;

use opcua_client::services::{Read as ReadRequest, Write as WriteRequest};
use opcua_types::{AttributeId, DataValue, ReadValueId, StatusCode, TimestampsToReturn, Variant, WriteValue};
use tideline_profiles::conversion::Raw;
use tideline_protocol::time::Clock;
use tideline_protocol::value::{Quality, Value};

use super::line::Line;
use super::values::{self, is_whole, quality, written};
use super::variables::{Party, Variable};
use crate::clock::Ahead;
use crate::source::Context;
use crate::source::reads::{self, Ask, Found};
use crate::source::writes::{Inbox, Write};

/// Carries writes out, and asks for points.
pub struct Desk<'d> {
    line: &'d Line,
    parties: &'d [Party],
    inbox: Inbox,
    asks: reads::Inbox,
    context: &'d Context,
}

/// What somebody wants.
enum Wish {
    Write(Write),
    Ask(Ask),
}

impl<'d> Desk<'d> {
    /// For these devices, from now on.
    pub fn new(line: &'d Line, parties: &'d [Party], context: &'d Context) -> Self {
        let (inbox, asks) = (context.writes(), context.reads());
        parties.iter().for_each(|party| inbox.serve(&party.device));
        parties.iter().for_each(|party| asks.serve(&party.device.id));
        Self { line, parties, inbox, asks, context }
    }

    /// Does the work, and what others want until it is done.
    pub async fn beside<T>(&mut self, variables: &[Variable], work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            let wish = tokio::select! {
                biased;
                done = &mut work => return done,
                write = self.inbox.next() => Wish::Write(write),
                ask = self.asks.next() => Wish::Ask(ask),
            };
            match wish {
                Wish::Write(write) => self.carry_out(variables, write).await,
                Wish::Ask(ask) => self.ask(variables, ask).await,
            }
        }
    }

    /// Asks the server what a variable is now, and says it. It is no reading besides: what changes the server tells by itself.
    async fn ask(&self, variables: &[Variable], ask: Ask) {
        let Some((party, variable)) = self.meant(variables, &ask) else { return ask.no_point() };
        let node = ReadValueId {
            node_id: variable.node.clone(),
            attribute_id: AttributeId::Value as u32,
            ..ReadValueId::default()
        };
        // Not what the server has heard before of whatever is behind it.
        let request = ReadRequest::new(self.line.session())
            .nodes_to_read(vec![node])
            .max_age(0.0)
            .timestamps_to_return(TimestampsToReturn::Both);
        let told = match self.line.ask("read", request).await {
            Ok(answer) => answer.results.unwrap_or_default().into_iter().next(),
            Err(error) => return ask.failed(error),
        };
        match told.map(|told| found(party, variable, &told, self.context.clock())) {
            Some(Ok(found)) => ask.answer(found.map(|found| self.believed(party, variable, found))),
            Some(Err(why)) => ask.failed(why),
            None => ask.failed("the server says nothing"),
        }
    }

    /// What can be believed of an answer, by what is known of its firmware and hardware.
    fn believed(&self, party: &Party, variable: &Variable, mut found: Found) -> Found {
        let (profile, source) = (party.names.profile(), self.context.name());
        let (device, point) = (&party.device.id, variable.point.as_str());
        let stance = self.context.editions().stance_of(source, device, profile, point);
        (found.value, found.quality) = stance.of((found.value, found.quality));
        found
    }

    fn meant<'v>(&self, variables: &'v [Variable], ask: &Ask) -> Option<(&'d Party, &'v Variable)> {
        let at = self.parties.iter().position(|party| party.device.id == ask.device)?;
        let is_meant =
            |variable: &&Variable| variable.party == at && variable.point == ask.point && variable.is_read;
        Some((self.parties.get(at)?, variables.iter().find(is_meant)?))
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

/// What a server's answer says of a variable.
fn found(
    party: &Party,
    variable: &Variable,
    told: &DataValue,
    here: &dyn Clock,
) -> Result<Option<Found>, String> {
    let status = told.status.unwrap_or(StatusCode::Good);
    let theirs = values::time_ns(told).or_else(|| values::server_time_ns(told));
    let (time_ns, clock) = match theirs {
        Some(time_ns) => (time_ns, None),
        None => (here.wall_ns(), Some(Ahead::of(here))),
    };
    let said = quality(status);
    let Some(variant) = told.value.as_ref().filter(|_| said != Quality::Bad) else {
        return Ok(Some(Found { value: Value::Null, quality: said, time_ns, clock }));
    };
    let value = values::value(variant)?;
    let Some(decoded) = party.names.read(&variable.name, &value) else { return Ok(None) };
    let (mut value, quality) = decoded.reading();
    if let (Some(profile), true) = (&party.device.profile, value != Value::Null) {
        value = profile.check(variable.point.as_str(), value).map_err(|error| error.to_string())?;
    }
    Ok(Some(Found { value, quality: quality.max(said), time_ns, clock }))
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
