//! Definitions of jobs: read and checked, also for what only a hub asks of one. What is wrong is told all at once.

use serde_json::Value;
use tideline_streams::spec::Sink;
use tideline_streams::{FieldError, Job, JobSpec, SpecError};

use super::{NAME_BYTES_MAX, statement};
use crate::metadata::JobRecord;

/// Checks a definition, also for what only a hub asks of one.
///
/// # Errors
/// All that is wrong with it.
pub fn check(spec: JobSpec) -> Result<Job, SpecError> {
    let mut more = Vec::new();
    if spec.name.len() > NAME_BYTES_MAX {
        let found = format!("{} bytes long", spec.name.len());
        more.push(FieldError {
            field: "/name".to_owned(),
            found,
            allowed: format!("1 to {NAME_BYTES_MAX} bytes"),
        });
    }
    for (at, sink) in spec.sinks.iter().enumerate() {
        let Sink::Series { device, point } = sink else { continue };
        if device == "{device}" && (point == "{point}" || spec.source.points.contains(point)) {
            let allowed = "names that the source does not have, or else results would mix with readings";
            more.push(FieldError {
                field: format!("/sinks/{at}/point"),
                found: format!("{point:?}"),
                allowed: allowed.to_owned(),
            });
        }
    }
    more.extend(statement::check(&spec));
    match Job::check(spec) {
        Ok(job) if more.is_empty() => Ok(job),
        Ok(_) => Err(SpecError(more)),
        Err(SpecError(mut errors)) => {
            // One length that two limits refuse is told once.
            more.retain(|error| errors.iter().all(|other| other.field != error.field));
            errors.extend(more);
            Err(SpecError(errors))
        }
    }
}

/// A definition as JSON, checked as [`check`] does; its name is that of the path when it has none.
///
/// # Errors
/// All that is wrong with it.
pub fn read(name: &str, mut definition: Value) -> Result<Job, SpecError> {
    let mut other = None;
    if let Some(fields) = definition.as_object_mut() {
        let own = fields.insert("name".to_owned(), name.into());
        other = own.filter(|own| own != name).map(|own| FieldError {
            field: "/name".to_owned(),
            found: own.to_string(),
            allowed: format!("{name:?}, as in the path, or none"),
        });
    }
    match (tideline_streams::read(definition, check), other) {
        (read, None) => read,
        (Ok(_), Some(other)) => Err(SpecError(vec![other])),
        (Err(SpecError(errors)), Some(other)) => Err(SpecError([vec![other], errors].concat())),
    }
}

/// The job that a record is of.
///
/// # Errors
/// Its definition is none that this version takes; the text says why.
pub fn of(record: &JobRecord) -> Result<Job, String> {
    let spec = serde_json::from_str(&record.definition).map_err(|error| error.to_string());
    spec.and_then(|spec| check(spec).map_err(|error| error.to_string()))
        .map_err(|error| format!("its definition is none that this hub knows: {error}"))
}
