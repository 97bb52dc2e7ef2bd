//! A parked timer as programs and people see it.

use std::sync::Arc;

use rulemill::{
    engine::OnError,
    http::read::{self, LettersQuery},
    limits::Limits,
    store::Store,
};
use rulemill_tests::{rig::Rig, site::Site};
use serde_json::{Value, json};

use crate::alarms::{FAULTY, alarm, options, volume};

const PROGRAM: &str = env!("CARGO_BIN_EXE_rulemill-under-test");
const CONFIGURATION: &str = "data_dir = \"data\"\nplugin_dir = \"plugins\"\n";

/// What is answered of a timer that was due at 1,010 microseconds, and came to its turn before change 2.
fn expected(hash: &Value) -> Value {
    json!({
        "id": 1,
        "rule": "alarms.ring",
        "state": "faulted",
        "error": "no bell",
        "seq": 2,
        "table": null,
        "op": null,
        "key": "err-\"1",
        "before": null,
        "after": null,
        "due": "1970-01-01T00:00:00.001010Z",
        "ts": "1970-01-01T00:00:00.002Z",
        "version": 1,
        "hash": hash,
        "parked_at": "1970-01-01T00:00:01Z",
    })
}

#[test]
fn programs_and_people_see_what_is_parked() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new(PROGRAM, dir.path(), CONFIGURATION).unwrap();
    let store = Store::open(&site.path("data"), &Limits::default()).unwrap();
    let options = options(OnError::Park, 4_096);
    let rig = Rig::start(Arc::new(store), &options, &[FAULTY]).unwrap();
    rig.apply(&[alarm("err-\"1", Some(10), 0, 1_000), volume(1, 2_000)])
        .unwrap();
    rig.wait_for(|status| status.rules["alarms.ring"].parked == 1);

    // As HTTP answers.
    let reader = rig.store.reader().unwrap();
    let found = read::dead_letters(&reader, &Limits::default(), &LettersQuery::default());
    let found = serde_json::to_value(found.unwrap()).unwrap();
    let hash = &found["dead_letters"][0]["hash"];
    assert_eq!(hash.as_str().map(str::len), Some(64));
    let expected = expected(hash);
    let all = json!({ "dead_letters": [expected], "next": null });
    assert_eq!(found, all);

    // As the command line does, from the disk.
    drop(reader);
    let store = rig.stop().unwrap();
    drop(store);
    assert_eq!(site.json(&["dead-letters", "--json"]).unwrap(), all);
    assert_eq!(site.json(&["dead-letters", "show", "1"]).unwrap(), expected);
    let listed = site.ok(&["dead-letters", "--rule", "ring"]).unwrap();
    let line = listed.lines().nth(1).unwrap_or_default();
    let cells: Vec<&str> = line.split_whitespace().collect();
    let shown = [
        "1",
        "alarms.ring",
        "2",
        "(timer)",
        "\"err-\\\"1\"",
        "no",
        "bell",
    ];
    assert_eq!(cells, shown, "{listed}");
    // Nothing is parked for a rule that is there; of one that isn't nothing can be said.
    let listed = site
        .ok(&["dead-letters", "--rule", "alarms.watch"])
        .unwrap();
    assert_eq!(listed, "nothing is parked\n");
    for rule in ["nope.ring", "alarms.nope", "nope"] {
        let ran = site.run(&["dead-letters", "--rule", rule]).unwrap();
        assert_eq!((ran.code(), &*ran.stdout()), (1, ""));
        let says = format!("there is no rule {rule}: `rulemill rules` lists them");
        assert!(ran.stderr().contains(&says), "{}", ran.stderr());
    }
    // And finds nothing wrong with it.
    site.ok(&["verify"]).unwrap();
}
