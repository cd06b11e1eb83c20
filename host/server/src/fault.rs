//! The error answers to requests.
//!
//! Owns the status, the sentence and the hint of each. Never shows a client the tracker's own error, which may name a
//! folder of this machine: that goes to the log.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::routes::json;
use crate::views::ErrorView;

#[derive(Debug)]
pub(crate) struct Fault {
    status: StatusCode,
    error: String,
    hint: String,
}

impl Fault {
    fn new(status: StatusCode, error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { status, error: error.into(), hint: hint.into() }
    }

    pub(crate) fn bad_request(error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error, hint)
    }

    pub(crate) fn other_host(name: &str) -> Self {
        let error = format!("this server does not answer for the host `{name}`");
        Self::new(StatusCode::MISDIRECTED_REQUEST, error, "ask for localhost; --allow-host lets it answer for a name")
    }

    pub(crate) fn no_such_output(stage: &str) -> Self {
        let hint = "/api/jobs/{job}/item?key= has its stages, and where each one stands";
        Self::new(StatusCode::NOT_FOUND, format!("this item has no output of stage `{stage}`"), hint)
    }

    pub(crate) fn no_such_path() -> Self {
        Self::new(StatusCode::NOT_FOUND, "there is no such path", "begin with /api/jobs, /metrics or /health")
    }

    pub(crate) fn no_such_job(name: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("there is no job `{name}`"), "/api/jobs lists the jobs")
    }

    pub(crate) fn no_such_item(job: &str, key: &str) -> Self {
        let hint = format!("/api/jobs/{job}/items lists the items; a key is given in full, with %2F for / and so on");
        Self::new(StatusCode::NOT_FOUND, format!("job `{job}` has no item `{key}`"), hint)
    }

    pub(crate) fn get_only() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "this path takes GET alone", "nothing can be changed over HTTP")
    }

    pub(crate) fn unreadable() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "the tracker cannot be read", "the host's log says why")
    }

    pub(crate) fn slow() -> Self {
        let hint = "ask for fewer items, without a status or a prefix that few items have";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "the tracker did not answer in time", hint)
    }

    pub(crate) fn busy() -> Self {
        let hint = "ask again when they have arrived";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "too many large answers are on their way", hint)
    }

    /// Only the sentence, for clients that read a status and one line.
    pub(crate) fn into_line(self) -> Response {
        (self.status, self.error).into_response()
    }
}

impl From<gristmill_tracker::Error> for Fault {
    fn from(error: gristmill_tracker::Error) -> Self {
        tracing::warn!(%error, "the tracker cannot be read");
        Self::unreadable()
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        (self.status, json(&ErrorView { error: &self.error, hint: &self.hint })).into_response()
    }
}
