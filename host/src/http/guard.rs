//! What holds for every request: where it may come from, and what unknown paths are answered.

use std::net::IpAddr;

use axum::{
    extract::Request,
    http::{HeaderMap, Method, Uri, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::problem::{Kind, Problem};

/// Refuses what a browser sends on behalf of a page from elsewhere: such a page can reach the
/// loopback interface too, under its own name (DNS rebinding) or with a plain form.
pub(super) async fn same_machine(request: Request, next: Next) -> Response {
    match foreign(request.headers()) {
        None => next.run(request).await,
        Some(header) => Problem::new(
            Kind::BadRequest,
            format!("header {header} names another host than this machine's loopback address"),
        )
        .into_response(),
    }
}

/// The header that names another host.
fn foreign(headers: &HeaderMap) -> Option<&'static str> {
    let host = headers.get(header::HOST).map(|value| value.to_str());
    if matches!(host, Some(Ok(host)) if !is_loopback(host)) || matches!(host, Some(Err(_))) {
        return Some("Host");
    }
    let origin = headers.get(header::ORIGIN)?;
    let host = origin
        .to_str()
        .ok()
        .and_then(|origin| origin.strip_prefix("http://"));
    (!host.is_some_and(is_loopback)).then_some("Origin")
}

/// Whether `host[:port]` is this machine.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

pub(super) async fn no_such_path(uri: Uri) -> Problem {
    Problem::new(
        Kind::NotFound,
        format!("there is nothing at {}", uri.path()),
    )
}

pub(super) async fn no_such_method(method: Method, uri: Uri) -> Problem {
    Problem::new(
        Kind::MethodNotAllowed,
        format!("{} doesn't take {method}", uri.path()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_let_in() {
        let check = |name, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            foreign(&headers)
        };
        for host in ["localhost:7700", "127.0.0.1", "[::1]:80", "127.8.0.1:1"] {
            assert_eq!(check(header::HOST, host), None, "{host}");
            assert_eq!(check(header::ORIGIN, &format!("http://{host}")), None);
        }
        for host in [
            "evil.example:7700",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "[::2]",
        ] {
            assert_eq!(check(header::HOST, host), Some("Host"), "{host}");
            assert_eq!(
                check(header::ORIGIN, &format!("http://{host}")),
                Some("Origin")
            );
        }
        assert_eq!(check(header::ORIGIN, "null"), Some("Origin"));
    }
}
