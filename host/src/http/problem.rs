//! Errors as RFC 9457 problem details.
//!
//! ```json
//! {"type":"/problems/malformed-change","title":"malformed change","status":400,
//!  "detail":"line 3: ...","line":3}
//! ```
//!
//! `type` is stable and what a program branches on; `detail` is for people. Every answer that isn't
//! a success has this form, unknown paths and methods included.

use std::fmt;

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};

use crate::store;

/// What kind of thing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request's parameters or headers can't be read.
    BadRequest,
    /// A posted line is no change: no JSON, no UTF-8, or neither of the two forms.
    MalformedChange,
    /// A posted line is a change that its table doesn't take.
    RefusedChange,
    /// The body is larger than `limits.request_bytes_max`.
    BodyTooLarge,
    /// The idempotency key was used with another body.
    KeyReused,
    /// There is nothing at this path, or no such table, rule, source or dead letter.
    NotFound,
    /// The path doesn't take this method.
    MethodNotAllowed,
    /// The command doesn't fit the state of the rule.
    Conflict,
    /// As many requests write as `limits.requests_max` allows.
    TooManyWriters,
    /// The body didn't arrive in time.
    Timeout,
    /// Sources and plugins have not been started yet.
    NotReady,
    /// The disk is full.
    DiskFull,
    /// The host is stopping or has failed.
    Stopping,
    /// The store could not be read, or a bug.
    Internal,
}

impl Kind {
    fn parts(self) -> (StatusCode, &'static str, &'static str) {
        use StatusCode as S;
        match self {
            Self::BadRequest => (S::BAD_REQUEST, "bad-request", "bad request"),
            Self::MalformedChange => (S::BAD_REQUEST, "malformed-change", "malformed change"),
            Self::RefusedChange => (S::UNPROCESSABLE_ENTITY, "refused-change", "refused change"),
            Self::BodyTooLarge => (S::PAYLOAD_TOO_LARGE, "body-too-large", "body too large"),
            Self::KeyReused => (
                S::UNPROCESSABLE_ENTITY,
                "idempotency-key-reused",
                "idempotency key reused",
            ),
            Self::NotFound => (S::NOT_FOUND, "not-found", "not found"),
            Self::MethodNotAllowed => (
                S::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                "method not allowed",
            ),
            Self::Conflict => (S::CONFLICT, "conflict", "conflict"),
            Self::TooManyWriters => (
                S::SERVICE_UNAVAILABLE,
                "too-many-writers",
                "too many writers",
            ),
            Self::Timeout => (S::REQUEST_TIMEOUT, "timeout", "request timed out"),
            Self::NotReady => (S::SERVICE_UNAVAILABLE, "not-ready", "not ready"),
            Self::DiskFull => (S::INSUFFICIENT_STORAGE, "disk-full", "disk full"),
            Self::Stopping => (S::SERVICE_UNAVAILABLE, "stopping", "host is stopping"),
            Self::Internal => (S::INTERNAL_SERVER_ERROR, "internal", "internal error"),
        }
    }

    /// The status that it is answered with.
    pub fn status(self) -> StatusCode {
        self.parts().0
    }
}

/// An error as it is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What kind.
    pub kind: Kind,
    /// What is wrong with this request, and what to do.
    pub detail: String,
    /// The line of the body that it is about, from 1.
    pub line: Option<u64>,
}

/// A problem's JSON, as the client reads it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProblemBody {
    /// A stable reference for the kind of problem.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong with this request, and what to do.
    pub detail: String,
    /// The line of the body that it is about, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
}

impl Problem {
    /// A problem of a kind.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            line: None,
        }
    }

    /// A problem with a line of the body.
    pub fn at_line(kind: Kind, line: u64, detail: impl fmt::Display) -> Self {
        Self {
            kind,
            detail: format!("line {line}: {detail}"),
            line: Some(line),
        }
    }

    /// An error of the host's own: logged whole, answered in short.
    pub fn internal(error: impl fmt::Display) -> Self {
        tracing::error!("a request failed: {error:#}");
        Self::new(Kind::Internal, format!("{error:#}"))
    }

    /// The problem's JSON.
    pub fn body(&self) -> ProblemBody {
        let (status, name, title) = self.kind.parts();
        ProblemBody {
            kind: format!("/problems/{name}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: self.detail.clone(),
            line: self.line,
        }
    }
}

impl From<store::Error> for Problem {
    fn from(error: store::Error) -> Self {
        Self::internal(error)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.kind.status(), axum::Json(self.body())).into_response();
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if matches!(
            self.kind.status(),
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::INSUFFICIENT_STORAGE
        ) {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
