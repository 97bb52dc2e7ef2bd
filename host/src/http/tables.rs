//! Reading: tables, rows, dead letters.

use axum::{
    Json,
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
};

use super::{
    Api,
    answers::{BadInputs, DeadLetters, Rows, Tables},
    problem::{Kind, Problem},
    read::{self, LettersQuery, RowsQuery},
};

pub(super) async fn list(State(api): State<Api>) -> Result<Json<Tables>, Problem> {
    // The live catalog, not the stored one: a plugin's tables show before their first row.
    Ok(Json(Tables::of(&api.handle.catalog.load())))
}

pub(super) async fn rows(
    State(api): State<Api>,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<RowsQuery>, QueryRejection>,
) -> Result<Json<Rows>, Problem> {
    let mut query = parameters(query)?;
    query.table = segment(path)?;
    api.read(move |reader, limits| read::rows(reader, limits, &query))
        .await
        .map(Json)
}

pub(super) async fn dead_letters(
    State(api): State<Api>,
    query: Result<Query<LettersQuery>, QueryRejection>,
) -> Result<Json<DeadLetters>, Problem> {
    let query = parameters(query)?;
    api.read(move |reader, limits| read::dead_letters(reader, limits, &query))
        .await
        .map(Json)
}

pub(super) async fn bad_input(
    State(api): State<Api>,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<LettersQuery>, QueryRejection>,
) -> Result<Json<BadInputs>, Problem> {
    let query = parameters(query)?;
    let source = segment(path)?;
    let known = api.handle.board.load().sources.contains_key(&source);
    api.read(move |reader, limits| read::bad_input(reader, limits, &source, known, &query))
        .await
        .map(Json)
}

pub(super) fn parameters<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, Problem> {
    query
        .map(|Query(query)| query)
        .map_err(|rejection| Problem::new(Kind::BadRequest, rejection.body_text()))
}

pub(super) fn segment(path: Result<Path<String>, PathRejection>) -> Result<String, Problem> {
    path.map(|Path(segment)| segment)
        .map_err(|rejection| Problem::new(Kind::BadRequest, rejection.body_text()))
}
