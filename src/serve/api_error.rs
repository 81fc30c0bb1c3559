//! [`ApiError`]: why a request gets no answer, as a status, a code for programs, and a message for people.

use std::error::Error;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::project::ProjectError;
use crate::messages::with_causes;

/// Why a request gets no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ApiError {
    pub status: StatusCode,
    /// For programs.
    pub code: &'static str,
    /// For people: the thing, the cause, the remedy.
    pub message: String,
}

/// The body of such an answer.
#[derive(Debug, Serialize)]
struct ErrorBody<'a> {
    error: ErrorFields<'a>,
}

#[derive(Debug, Serialize)]
struct ErrorFields<'a> {
    code: &'a str,
    message: &'a str,
}

/// Seconds after which a client may try again when the server is busy.
const RETRY_AFTER: &str = "1";

impl ApiError {
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, message)
    }

    pub fn unreadable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "unreadable", message)
    }

    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }

    /// There is more to do than the server takes on.
    pub fn overloaded() -> Self {
        let message = "the server is busy: it works on as much as it takes on at once; try again in a second";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", message)
    }

    /// The work took longer than a request may take.
    pub fn too_slow(seconds: u64) -> Self {
        let message =
            format!("the answer took more than {seconds} s; send fewer images at once, or try again later");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "timeout", message)
    }

    /// Something failed that is not the client's doing.
    pub fn internal(error: &dyn Error) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", with_causes(error))
    }

    /// A part of the program ended without an answer.
    pub fn broken(what: &str) -> Self {
        let message = format!("{what} ended without an answer; restart the server, and report this");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }

    pub fn no_head() -> Self {
        Self::conflict(
            "no_head",
            "no head is loaded: nothing was trained yet; train one in Teach, or start the program with --head FILE",
        )
    }
}

impl From<ProjectError> for ApiError {
    fn from(error: ProjectError) -> Self {
        let message = with_causes(&error);
        match error {
            ProjectError::ClassName { .. } => Self::bad_request(message),
            ProjectError::NoClass { .. } | ProjectError::NoPhoto { .. } | ProjectError::NoEntry { .. } => {
                Self::not_found(message)
            }
            ProjectError::ClassExists { .. } | ProjectError::OtherFiles { .. } => {
                Self::conflict("conflict", message)
            }
            ProjectError::List(_) | ProjectError::Io { .. } => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = Json(ErrorBody { error: ErrorFields { code: self.code, message: &self.message } });
        let mut response = (self.status, body).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
        }
        response
    }
}
