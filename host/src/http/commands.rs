//! The rules, and commands to the engine: pause, resume, retry, drop.

use axum::{
    Json,
    body::Bytes,
    extract::{
        Path, State,
        rejection::{BytesRejection, PathRejection},
    },
    http::StatusCode,
};
use crossbeam_channel::Sender;
use serde::de::DeserializeOwned;

use super::{
    Api,
    answers::{Dropped, PluginNamed, Resumption, Retried, Rules, Selection},
    blocking,
    problem::{Kind, Problem},
    tables::segment,
};
use crate::engine::{Control, ControlError, Turned};

pub(super) async fn rules(State(api): State<Api>) -> Json<Rules> {
    Json(Rules::of(&api.handle.board.load()))
}

pub(super) async fn pause(
    State(api): State<Api>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<Turned>, Problem> {
    let rule = segment(path)?;
    ask(api, move |reply| Control::Pause { rule, reply })
        .await
        .map(Json)
}

pub(super) async fn resume(
    State(api): State<Api>,
    path: Result<Path<String>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Turned>, Problem> {
    let rule = segment(path)?;
    let Resumption { skip_gap } = json_or_nothing(body, "{\"skip_gap\":true}")?;
    ask(api, move |reply| Control::Resume {
        rule,
        skip_gap,
        reply,
    })
    .await
    .map(Json)
}

pub(super) async fn rebuild(
    State(api): State<Api>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<PluginNamed>, Problem> {
    rebuild_or_cancel(api, segment(path)?, false).await
}

pub(super) async fn cancel_rebuild(
    State(api): State<Api>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<PluginNamed>, Problem> {
    rebuild_or_cancel(api, segment(path)?, true).await
}

async fn rebuild_or_cancel(
    api: Api,
    plugin: String,
    cancel: bool,
) -> Result<Json<PluginNamed>, Problem> {
    let name = plugin.clone();
    ask(api, move |reply| Control::Rebuild {
        plugin,
        cancel,
        reply,
    })
    .await?;
    Ok(Json(PluginNamed { plugin: name }))
}

pub(super) async fn retry(
    State(api): State<Api>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Retried>, Problem> {
    let Selection { rule, id, .. } = selection(body)?;
    let (settled, parked) = ask(api, move |reply| Control::RetryDeadLetters {
        rule,
        id,
        reply,
    })
    .await?;
    Ok(Json(Retried { settled, parked }))
}

pub(super) async fn drop_letters(
    State(api): State<Api>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Dropped>, Problem> {
    let Selection { rule, id, all } = selection(body)?;
    if rule.is_none() && id.is_none() && !all {
        return Err(Problem::new(
            Kind::BadRequest,
            "say which to drop: {\"id\":N}, {\"rule\":\"plugin.rule\"} or {\"all\":true}; dropped changes are gone",
        ));
    }
    let dropped = ask(api, move |reply| Control::DropDeadLetters {
        rule,
        id,
        reply,
    })
    .await?;
    Ok(Json(Dropped { dropped }))
}

fn selection(body: Result<Bytes, BytesRejection>) -> Result<Selection, Problem> {
    json_or_nothing(body, "{\"rule\":..,\"id\":..}")
}

/// The body as JSON; an empty one is all defaults.
fn json_or_nothing<T: Default + DeserializeOwned>(
    body: Result<Bytes, BytesRejection>,
    form: &str,
) -> Result<T, Problem> {
    let body = body.map_err(|rejection| {
        let kind = match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Kind::BodyTooLarge,
            _ => Kind::BadRequest,
        };
        Problem::new(kind, rejection.body_text())
    })?;
    if body.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(&body)
        .map_err(|error| Problem::new(Kind::BadRequest, format!("the body is no {form}: {error}")))
}

/// Asks the engine, which answers when it is done and durable.
async fn ask<T: Send + 'static>(
    api: Api,
    command: impl FnOnce(Sender<Result<T, ControlError>>) -> Control + Send + 'static,
) -> Result<T, Problem> {
    blocking(move || {
        api.handle.ask(command).map_err(|error| {
            let kind = match error {
                ControlError::NoSuchRule(_)
                | ControlError::NoSuchDeadLetter(_)
                | ControlError::NoSuchPlugin(_) => Kind::NotFound,
                ControlError::Ambiguous(..) | ControlError::Conflict(_) => Kind::Conflict,
                ControlError::Stopped => Kind::Stopping,
            };
            Problem::new(kind, error.to_string())
        })
    })
    .await
}
