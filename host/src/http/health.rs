//! Whether the host lives, whether it is ready, and how it does.

use axum::{Json, extract::State};

use super::{
    Api,
    answers::{Health, StatusAnswer},
    problem::{Kind, Problem},
    read,
};
use crate::store;

/// Answers 200 while the process is up and the engine works.
pub(super) async fn healthz(State(api): State<Api>) -> Result<Json<Health>, Problem> {
    alive(&api).map(Json)
}

/// Answers 200 once sources and plugins have been started, and while there is room for what comes in.
pub(super) async fn readyz(State(api): State<Api>) -> Result<Json<Health>, Problem> {
    let health = alive(&api)?;
    if api.handle.store.room().full_since().is_some() {
        return Err(Problem::new(Kind::NotReady, store::FULL));
    }
    if api.handle.board.load().ready {
        Ok(Json(health))
    } else {
        Err(Problem::new(
            Kind::NotReady,
            "sources and plugins are still being started",
        ))
    }
}

fn alive(api: &Api) -> Result<Health, Problem> {
    match &api.handle.board.load().stopping {
        Some(reason) => Err(Problem::new(
            Kind::Stopping,
            format!("the host is stopping: {reason}"),
        )),
        None => Ok(Health {
            status: "ok".to_owned(),
            pid: std::process::id(),
        }),
    }
}

pub(super) async fn status(State(api): State<Api>) -> Result<Json<StatusAnswer>, Problem> {
    let board = api.handle.board.clone();
    let store = api.handle.store.clone();
    super::blocking(move || {
        let mut status = crate::engine::Status::clone(&board.load());
        status.call = board.long_call();
        read::status(&store, status, true).map(Json)
    })
    .await
}
