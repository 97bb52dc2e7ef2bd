//! The routes over a real engine and a store in memory.

use std::collections::HashMap;

use axum::{
    body::{Body, to_bytes},
    http::{Request, StatusCode, header},
};
use rulemill_wire::ColumnType;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;
use crate::{
    engine::{self, Control, EngineThread, TableOptions},
    store::Store,
};

struct Rig {
    router: Router,
    handle: Handle,
    engine: EngineThread,
    closing: watch::Sender<bool>,
}

/// A host with the source tables `users` (key id) and `lines` (key order_id, line), and no plugins.
fn rig(limits: Limits) -> Rig {
    let table = |name: &str, key: &[&str], columns: &[(&str, ColumnType)]| TableOptions {
        name: name.into(),
        key: key.iter().map(|&k| k.into()).collect(),
        mirror: true,
        columns: columns
            .iter()
            .map(|&(name, ty)| (name.into(), ty, !key.contains(&name)))
            .collect(),
    };
    let limits = Arc::new(limits);
    let (handle, engine) = engine::start(engine::Setup {
        store: Arc::new(Store::in_memory().unwrap()),
        limits: limits.clone(),
        tables: vec![
            table(
                "users",
                &["id"],
                &[("id", ColumnType::I64), ("name", ColumnType::Text)],
            ),
            table(
                "lines",
                &["order_id", "line"],
                &[
                    ("order_id", ColumnType::I64),
                    ("line", ColumnType::I64),
                    ("amount", ColumnType::Decimal),
                ],
            ),
        ],
        plugins: HashMap::new(),
        plugins_now: Vec::new(),
        sources: Vec::new(),
        ticks: false,
        clock: Arc::new(|| 1_000_000),
    })
    .unwrap();
    let (closing, is_closing) = watch::channel(false);
    Rig {
        router: Api::new(handle.clone(), limits, is_closing).router(),
        handle,
        engine,
        closing,
    }
}

impl Rig {
    async fn send(&self, request: Request<Body>) -> (StatusCode, String, String) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let kind = response
            .headers()
            .get(header::CONTENT_TYPE)
            .map_or("", |value| value.to_str().unwrap())
            .to_owned();
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, kind, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn get(&self, path: &str) -> Value {
        let (status, kind, body) = self
            .send(Request::get(path).body(Body::empty()).unwrap())
            .await;
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        assert_eq!(kind, "application/json", "{path}");
        serde_json::from_str(&body).unwrap()
    }

    async fn post(&self, path: &str, body: &str) -> Value {
        let (status, _, body) = self.send(post(path, body.to_owned())).await;
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Checks that a request is answered with a problem, and gives that.
    async fn problem(&self, request: Request<Body>, status: u16, name: &str) -> ProblemBody {
        let what = format!("{} {}", request.method(), request.uri());
        let (got, kind, body) = self.send(request).await;
        assert_eq!(got.as_u16(), status, "{what}: {body}");
        assert_eq!(kind, "application/problem+json", "{what}: {body}");
        let problem: ProblemBody = serde_json::from_str(&body).unwrap();
        assert_eq!(problem.kind, format!("/problems/{name}"), "{what}: {body}");
        assert_eq!(problem.status, status);
        assert!(!problem.detail.is_empty() && !problem.title.is_empty());
        problem
    }

    fn stop(self) {
        self.handle.control(Control::Shutdown).unwrap();
        self.engine.join().unwrap();
    }
}

fn get(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).unwrap()
}

fn post(path: &str, body: impl Into<Body>) -> Request<Body> {
    Request::post(path).body(body.into()).unwrap()
}

fn keyed(key: &str, body: &str) -> Request<Body> {
    Request::post("/v1/changes")
        .header("Idempotency-Key", key)
        .body(Body::from(body.to_owned()))
        .unwrap()
}

fn user(id: i64, name: &str) -> String {
    format!(
        "{}\n",
        json!({"table":"users","op":"upsert","after":{"id":id,"name":name}})
    )
}

#[tokio::test]
async fn a_call_that_takes_long_is_shown_until_it_returns() {
    let rig = rig(Limits::default());
    let board = &rig.handle.board;
    let now = std::time::Instant::now();
    board.begin_call("shop".into(), 3, now);
    assert_eq!(rig.get("/v1/status").await["call"], Value::Null);
    let earlier = now - std::time::Duration::from_secs(5);
    board.begin_call("shop".into(), 3, earlier);
    let call = rig.get("/v1/status").await["call"].clone();
    assert_eq!(call["plugin"], "shop");
    assert_eq!(call["items"], 3);
    assert!(call["taken_ms"].as_u64().unwrap() >= 5_000, "{call}");
    assert!(call["since"].as_str().unwrap().ends_with('Z'), "{call}");
    board.end_call();
    assert_eq!(rig.get("/v1/status").await["call"], Value::Null);
    rig.stop();
}

#[tokio::test]
async fn posted_changes_are_answered_once_they_can_be_read() {
    let rig = rig(Limits::default());
    let answer = rig
        .post("/v1/changes", &(user(1, "ada") + &user(2, "bob")))
        .await;
    assert_eq!(answer, json!({"seq":2,"changes":2}));
    let rows = rig.get("/v1/tables/users/rows").await;
    assert_eq!(
        rows["rows"],
        json!([{"id":1,"name":"ada"},{"id":2,"name":"bob"}])
    );
    assert_eq!(rows["seq"], 2);
    assert_eq!(rows["next"], Value::Null);
    assert_eq!(rows.get("provenance"), None);
    let written = rig
        .get("/v1/tables/users/rows?provenance=true&limit=1")
        .await;
    assert_eq!(
        written["provenance"],
        json!([{"seq":1,"plugin":null,"version":null,"hash":null}])
    );
    let debezium = json!({"payload":{"op":"u","before":null,"after":{"id":1,"name":"eve"},
        "source":{"table":"users"},"ts_ms":1}});
    let answer = rig.post("/v1/changes", &debezium.to_string()).await;
    assert_eq!(answer["seq"], 3);
    let rows = rig.get("/v1/tables/users/rows?key=1").await;
    assert_eq!(rows["rows"], json!([{"id":1,"name":"eve"}]));
    rig.stop();
}

#[tokio::test]
async fn bad_changes_are_refused_by_line_and_leave_nothing() {
    let rig = rig(Limits {
        request_bytes_max: 4096,
        ..Limits::default()
    });
    let good = user(1, "ada").into_bytes();
    let cases: [(&str, &[u8], u16, &str); 7] = [
        (
            "not JSON",
            b"{\"table\":\"users\",",
            400,
            "malformed-change",
        ),
        (
            "not UTF-8",
            b"{\"table\":\"\xff\"}",
            400,
            "malformed-change",
        ),
        ("neither form", b"[1]", 400, "malformed-change"),
        (
            "unknown table",
            br#"{"table":"nope","op":"upsert","after":{"id":1}}"#,
            422,
            "refused-change",
        ),
        (
            "missing key",
            br#"{"table":"users","op":"upsert","after":{"name":"x"}}"#,
            422,
            "refused-change",
        ),
        (
            "wrong type",
            br#"{"table":"users","op":"upsert","after":{"id":"x"}}"#,
            422,
            "refused-change",
        ),
        (
            "out of range",
            br#"{"table":"users","op":"upsert","after":{"id":9223372036854775808}}"#,
            422,
            "refused-change",
        ),
    ];
    for (what, line, status, name) in cases {
        let mut body = good.clone();
        body.extend_from_slice(line);
        let problem = rig.problem(post("/v1/changes", body), status, name).await;
        assert_eq!(problem.line, Some(2), "{what}");
        assert!(
            problem.detail.starts_with("line 2: "),
            "{what}: {}",
            problem.detail
        );
    }
    let large = rig
        .problem(post("/v1/changes", vec![b' '; 4097]), 413, "body-too-large")
        .await;
    assert!(large.detail.contains("request_bytes_max = 4096"));
    assert_eq!(rig.get("/v1/tables/users/rows").await["rows"], json!([]));
    assert_eq!(rig.get("/v1/status").await["last_seq"], 0);
    rig.stop();
}

#[tokio::test]
async fn a_repeated_request_is_answered_as_before() {
    let rig = rig(Limits::default());
    let body = user(1, "ada");
    let (_, _, first) = rig.send(keyed("k1", &body)).await;
    assert_eq!(first, r#"{"seq":1,"changes":1}"#);
    rig.post("/v1/changes", &user(2, "bob")).await;
    let (_, _, again) = rig.send(keyed("\"k1\"", &body)).await;
    assert_eq!(again, r#"{"seq":1,"changes":1,"repeated":true}"#);
    rig.problem(keyed("k1", &user(3, "eve")), 422, "idempotency-key-reused")
        .await;
    rig.problem(keyed("", &body), 400, "bad-request").await;
    rig.problem(keyed(&"k".repeat(256), &body), 400, "bad-request")
        .await;
    assert_eq!(rig.get("/v1/status").await["last_seq"], 2);
    rig.stop();
}

#[tokio::test]
async fn writers_beyond_the_limit_and_after_the_stop_are_told_to_come_back() {
    let busy = rig(Limits {
        requests_max: 0,
        ..Limits::default()
    });
    let response = busy
        .router
        .clone()
        .oneshot(post("/v1/changes", user(1, "ada")))
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    busy.stop();

    let rig = rig(Limits::default());
    rig.get("/healthz").await;
    rig.problem(get("/readyz"), 503, "not-ready").await;
    rig.handle.board.update(|status| status.ready = true);
    assert_eq!(rig.get("/readyz").await["status"], "ok");
    rig.handle
        .board
        .update(|status| status.stopping = Some("received SIGTERM".into()));
    let problem = rig
        .problem(post("/v1/changes", user(1, "ada")), 503, "stopping")
        .await;
    assert!(problem.detail.contains("SIGTERM"));
    rig.problem(get("/healthz"), 503, "stopping").await;
    let (router, handle, engine) = (rig.router.clone(), rig.handle.clone(), rig.engine);
    handle.control(Control::Shutdown).unwrap();
    engine.join().unwrap();
    // The board is cleared to reach the engine's queue, whose other end is gone.
    handle.board.update(|status| status.stopping = None);
    let response = router
        .oneshot(post("/v1/changes", user(1, "ada")))
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn pages_follow_each_other_without_gap_or_repeat() {
    let rig = rig(Limits {
        response_rows_max: 3,
        ..Limits::default()
    });
    let body: String = (-3..4)
        .rev()
        .map(|order| format!("{}\n", json!({"table":"lines","op":"insert","after":{"order_id":order,"line":1,"amount":"1.10"}})))
        .collect();
    rig.post("/v1/changes", &body).await;
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = rig
            .get(&format!("/v1/tables/lines/rows?limit=100{cursor}"))
            .await;
        let rows = page["rows"].as_array().unwrap();
        assert!(rows.len() <= 3);
        seen.extend(rows.iter().map(|row| row["order_id"].as_i64().unwrap()));
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, (-3..4).collect::<Vec<_>>());

    let ids = |page: Value| -> Vec<i64> {
        let rows = page["rows"].as_array().unwrap();
        rows.iter()
            .map(|row| row["order_id"].as_i64().unwrap())
            .collect()
    };
    assert_eq!(
        ids(rig.get("/v1/tables/lines/rows?from=-1&to=1").await),
        [-1, 0]
    );
    assert_eq!(ids(rig.get("/v1/tables/lines/rows?from=2,0").await), [2, 3]);
    assert_eq!(ids(rig.get("/v1/tables/lines/rows?key=2,1").await), [2]);
    assert_eq!(ids(rig.get("/v1/tables/lines/rows?key=2").await), [2]);
    assert_eq!(
        ids(rig.get("/v1/tables/lines/rows?key=2,2").await),
        Vec::<i64>::new()
    );
    let page = rig.get("/v1/tables/lines/rows?limit=1").await;
    let other = format!(
        "/v1/tables/users/rows?cursor={}",
        page["next"].as_str().unwrap()
    );
    rig.problem(get(&other), 400, "bad-request").await;
    rig.stop();
}

#[tokio::test]
async fn wrong_requests_get_problem_details() {
    let rig = rig(Limits::default());
    for (request, status, name) in [
        (get("/v2"), 404, "not-found"),
        (get("/v1/changes"), 405, "method-not-allowed"),
        (get("/v1/tables/nope/rows"), 404, "not-found"),
        (get("/v1/tables/users/rows?key=x"), 400, "bad-request"),
        (get("/v1/tables/users/rows?key=1&to=2"), 400, "bad-request"),
        (get("/v1/tables/users/rows?limit=0"), 400, "bad-request"),
        (get("/v1/tables/users/rows?limit=x"), 400, "bad-request"),
        (get("/v1/tables/users/rows?colour=red"), 400, "bad-request"),
        (get("/v1/tables/users/rows?cursor=%21"), 400, "bad-request"),
        (get("/v1/tables/%ff/rows"), 400, "bad-request"),
        (get("/v1/sources/nope/dead-letters"), 404, "not-found"),
        (get("/v1/dead-letters?id=7"), 404, "not-found"),
        (get("/v1/dead-letters?rule=nope.nope"), 404, "not-found"),
        (get("/v1/dead-letters?rule=nope"), 404, "not-found"),
        (
            post("/v1/dead-letters/retry", "{\"rule\":\"nope.nope\"}"),
            404,
            "not-found",
        ),
        (
            post("/v1/dead-letters/drop", "{\"rule\":\"nope.nope\"}"),
            404,
            "not-found",
        ),
        (get("/v1/tail?table=nope"), 404, "not-found"),
        (post("/v1/rules/nope/pause", ""), 404, "not-found"),
        (post("/v1/dead-letters/drop", ""), 400, "bad-request"),
        (
            post("/v1/dead-letters/drop", "{\"ids\":1}"),
            400,
            "bad-request",
        ),
        (
            post("/v1/dead-letters/retry", "{\"id\":7}"),
            404,
            "not-found",
        ),
        (
            Request::get("/v1/tables")
                .header(header::HOST, "evil.example")
                .body(Body::empty())
                .unwrap(),
            400,
            "bad-request",
        ),
    ] {
        rig.problem(request, status, name).await;
    }
    rig.stop();
}

#[tokio::test]
async fn state_and_metrics_tell_what_is_there() {
    let rig = rig(Limits::default());
    rig.post("/v1/changes", &user(1, "ada")).await;
    let tables = rig.get("/v1/tables").await;
    assert_eq!(tables["tables"][1]["name"], "users");
    assert_eq!(tables["tables"][1]["key"], json!(["id"]));
    assert_eq!(tables["tables"][1]["kind"], "source");
    assert_eq!(rig.get("/v1/rules").await["rules"], json!([]));
    assert_eq!(rig.get("/v1/dead-letters").await["dead_letters"], json!([]));
    assert_eq!(
        rig.post("/v1/dead-letters/retry", "").await,
        json!({"settled":0,"parked":0})
    );
    let (status, kind, metrics) = rig.send(get("/metrics")).await;
    assert_eq!(status, StatusCode::OK);
    assert!(kind.starts_with("text/plain; version=0.0.4"));
    assert!(
        metrics.lines().any(|line| line == "rulemill_seq 1"),
        "{metrics}"
    );
    rig.stop();
}

#[tokio::test]
async fn a_tail_shows_commits_until_the_host_ends() {
    let rig = rig(Limits::default());
    rig.post("/v1/changes", &user(1, "ada")).await;
    let tail = |path: &'static str| {
        let router = rig.router.clone();
        async move { router.oneshot(get(path)).await.unwrap() }
    };
    let whole = tail("/v1/tail?since=0").await;
    let follow = tail("/v1/tail?table=users").await;
    let other = tail("/v1/tail?table=lines").await;
    rig.post("/v1/changes", &user(1, "eve")).await;
    let closing = rig.closing.clone();
    rig.stop();
    closing.send_replace(true);
    let read = |response: axum::response::Response| async {
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        String::from_utf8(body.to_vec())
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect::<Vec<Value>>()
    };
    let lines = read(whole).await;
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["op"], "insert");
    let lines = read(follow).await;
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0]["seq"], 2);
    assert_eq!(lines[0]["table"], "users");
    assert_eq!(lines[0]["op"], "update");
    assert_eq!(lines[0]["key"], 1);
    assert_eq!(lines[0]["before"], json!({"id":1,"name":"ada"}));
    assert_eq!(lines[0]["after"], json!({"id":1,"name":"eve"}));
    assert_eq!(read(other).await, Vec::<Value>::new());
}

#[tokio::test]
async fn only_loopback_is_listened_on() {
    let error = listen("0.0.0.0:0".parse().unwrap()).await.unwrap_err();
    assert!(error.to_string().contains("loopback"), "{error}");
    let listener = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    assert!(listener.local_addr().unwrap().ip().is_loopback());
}
