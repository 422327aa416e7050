//! Stream jobs by API.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use tideline_streams::SpecError;

use super::auth::Principal;
use super::problem::{ApiError, Problem};
use super::shapes::{JobAnswer, JobDevice, JobInfo, JobList, JobRows};
use crate::hub::{App, Hub};
use crate::jobs::{self, Author, JobError};

impl From<JobError> for ApiError {
    fn from(error: JobError) -> Self {
        let text = error.to_string();
        match error {
            JobError::Spec(SpecError(wrong)) => {
                Self { errors: wrong.iter().map(ToString::to_string).collect(), ..Self::bad("bad-job", text) }
            }
            JobError::Unknown(name) => Self::not_found("job", &name),
            JobError::Life(_) => Self::new(StatusCode::CONFLICT, "job-phase", text),
            JobError::Limit(_) => Self::new(StatusCode::CONFLICT, "too-many-jobs", text),
            JobError::Reserved(_) => Self::new(StatusCode::CONFLICT, "reserved-id", text),
            JobError::Metadata(error) => error.into(),
            JobError::Disk(_) => Self::internal(&error),
        }
    }
}

/// The routes that show jobs.
pub fn views() -> Router<App> {
    Router::new()
        .route("/jobs", get(list))
        .route("/jobs/{name}", get(show))
        .route("/jobs/{name}/rows", get(rows))
}

/// The routes that change them.
pub fn changes() -> Router<App> {
    Router::new()
        .route("/jobs/{name}", axum::routing::put(put).delete(delete))
        .route("/jobs/{name}/pause", post(pause))
        .route("/jobs/{name}/resume", post(resume))
}

/// All stream jobs
#[utoipa::path(get, path = "/api/v1/jobs", operation_id = "jobs",
    responses((status = 200, description = "The jobs", body = JobList), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn list(State(hub): State<App>) -> Result<Json<JobList>, ApiError> {
    Ok(Json(JobList { jobs: jobs::list(&hub)?.iter().map(JobInfo::from).collect() }))
}

fn answer(hub: &Hub, name: &str) -> Result<Json<JobAnswer>, ApiError> {
    let shown = jobs::show(hub, name)?;
    let devices = shown.view.iter().flat_map(|view| &view.shown);
    let by_device = devices.map(|(id, view)| JobDevice::of(id.to_string(), view)).collect();
    Ok(Json(JobAnswer { job: JobInfo::from(&shown), by_device }))
}

/// One stream job with its devices
#[utoipa::path(get, path = "/api/v1/jobs/{name}", operation_id = "job",
    params(("name" = String, Path, description = "The job")),
    responses((status = 200, description = "The job", body = JobAnswer), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn show(State(hub): State<App>, Path(name): Path<String>) -> Result<Json<JobAnswer>, ApiError> {
    answer(&hub, &name)
}

/// Make a stream job and start it, or change its definition
///
/// The body is a definition, which `cloud-hub job reference` describes. With another source, stages, join, window, group,
/// aggregates or statement the job begins with an empty state where it was in the stream; otherwise it keeps its state. A
/// paused job stays paused, and one that has failed is started again. A statement is run with the rights of who defined
/// the job last: a job whose author has lost the role admin, or is no more, fails and says so.
#[utoipa::path(put, path = "/api/v1/jobs/{name}", operation_id = "putJob", request_body = Object,
    params(("name" = String, Path, description = "The job")),
    responses((status = 200, description = "Changed", body = JobAnswer), (status = 201, description = "Made", body = JobAnswer), (status = 400, description = "`bad-job`: all that is wrong with the definition's form and beyond it, in `errors` each with its JSON pointer and what is allowed, and in `detail` one a line", body = Problem, content_type = "application/problem+json"), (status = 409, description = "`too-many-jobs`, `reserved-id`", body = Problem, content_type = "application/problem+json"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn put(
    State(hub): State<App>,
    Extension(principal): Extension<Principal>,
    Path(name): Path<String>,
    Json(body): Json<serde_json::Value>,
) -> Result<(StatusCode, Json<JobAnswer>), ApiError> {
    // A statement is taken apart in a thread of its own.
    let path = name.clone();
    let checked = tokio::task::spawn_blocking(move || jobs::read(&path, body)).await;
    let job = checked.map_err(|error| ApiError::internal(&error))?.map_err(JobError::from)?;
    let is_new = jobs::put(&hub, job, Author::of(&principal)).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, answer(&hub, &name)?))
}

/// Pause a stream job; it keeps its state, and what comes meanwhile is kept for it
#[utoipa::path(post, path = "/api/v1/jobs/{name}/pause", operation_id = "pauseJob",
    params(("name" = String, Path, description = "The job")),
    responses((status = 200, description = "Paused", body = JobAnswer), (status = 409, description = "`job-phase`", body = Problem, content_type = "application/problem+json"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn pause(State(hub): State<App>, Path(name): Path<String>) -> Result<Json<JobAnswer>, ApiError> {
    jobs::pause(&hub, &name).await?;
    answer(&hub, &name)
}

/// Have a stream job that is paused or has failed go on
#[utoipa::path(post, path = "/api/v1/jobs/{name}/resume", operation_id = "resumeJob",
    params(("name" = String, Path, description = "The job")),
    responses((status = 200, description = "Running", body = JobAnswer), (status = 409, description = "`job-phase`", body = Problem, content_type = "application/problem+json"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn resume(State(hub): State<App>, Path(name): Path<String>) -> Result<Json<JobAnswer>, ApiError> {
    jobs::resume(&hub, &name).await?;
    answer(&hub, &name)
}

/// Remove a stream job with its state; its series stay
#[utoipa::path(delete, path = "/api/v1/jobs/{name}", operation_id = "deleteJob",
    params(("name" = String, Path, description = "The job")),
    responses((status = 204, description = "Removed"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn delete(State(hub): State<App>, Path(name): Path<String>) -> Result<StatusCode, ApiError> {
    jobs::delete(&hub, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The newest results of a stream job, a thousand at most, and the readings that it did not take in
#[utoipa::path(get, path = "/api/v1/jobs/{name}/rows", operation_id = "jobRows",
    params(("name" = String, Path, description = "The job")),
    responses((status = 200, description = "The rows", body = JobRows), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn rows(State(hub): State<App>, Path(name): Path<String>) -> Result<Json<JobRows>, ApiError> {
    let view = jobs::show(&hub, &name)?.view.unwrap_or_default();
    let rows = view.rows.iter().cloned().map(Into::into).collect();
    Ok(Json(JobRows { rows, side: view.side.iter().map(Into::into).collect() }))
}
