//! Lines of requests.

use rulemill_tests::site::Site;

use crate::{CASES, CONFIGURATION, PROGRAM, good, ids};

#[test]
fn a_bad_line_is_answered_with_its_number_and_nothing_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new(PROGRAM, dir.path(), CONFIGURATION).unwrap();
    let daemon = site.daemon().unwrap();
    for case in CASES {
        // A key that a bad request had is free for the mended one.
        let key = Some(case.name);
        let (status, problem) = daemon.post(key, case.between_good_lines([1, 2])).unwrap();
        assert_eq!(status, case.status, "{}: {problem}", case.name);
        assert_eq!(problem["status"], case.status, "{}", case.name);
        assert_eq!(problem["line"], 2, "{}: {problem}", case.name);
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("line 2"), "{}: {detail}", case.name);
        case.check_reason(detail);
        assert_eq!(ids(&site), [0; 0], "{}", case.name);
    }
    let status = daemon.status().unwrap();
    assert_eq!(status["last_seq"], 0);
    for case in CASES {
        let (status, answer) = daemon.post(Some(case.name), good(1)).unwrap();
        assert_eq!(status, 200, "{}: {answer}", case.name);
        assert_eq!(answer["changes"], 1, "{}: {answer}", case.name);
    }
    assert_eq!(ids(&site), [1]);
    daemon.stop().unwrap();
}
