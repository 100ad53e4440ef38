//! The doctor and its conversation with another one, as far as one machine goes (two: `ci/rdma/pair_train.job`).

use serde_json::Value;

use crate::program::{Outcome, Place, Running};

/// What it found out about `area`: severity, finding, advice.
fn finding(outcome: &Outcome, area: &str) -> (String, String, String) {
    let told: Value = serde_json::from_str(&outcome.stdout).unwrap_or_else(|_| panic!("{outcome:?}"));
    let of = |finding: &Value| -> (String, String, String) {
        let text = |field: &str| finding[field].as_str().unwrap_or_default().to_owned();
        (text("severity"), text("found"), text("mend"))
    };
    let findings = told["findings"].as_array().unwrap();
    of(findings.iter().find(|finding| finding["area"] == area).unwrap_or_else(|| panic!("{area}: {told}")))
}

/// A doctor that waits, and where.
fn listening(place: &Place) -> (Running, String) {
    let mut doctor = place
        .keyrange("doctor --json --listen tcp:127.0.0.1:0 --wait 30s")
        .variable("KEYRANGE_SECRET", "right")
        .start();
    let address = doctor.await_stderr("waiting for another machine's doctor at ");
    (doctor, address)
}

fn calling(place: &Place, address: &str, secret: &str) -> Outcome {
    place.keyrange("doctor --json --peer").words(address).variable("KEYRANGE_SECRET", secret).run()
}

#[test]
fn two_doctors_agree_on_the_carrier() {
    let place = Place::new();
    let (waiting, address) = listening(&place);
    let refused = calling(&place, &address, "wrong");
    assert_eq!(refused.code, Some(4), "{refused:?}");
    let (severity, found, mend) = finding(&refused, "peer");
    assert!(severity == "problem" && found.contains("secret") && mend.contains("--secret-file"), "{found}");

    let caller = calling(&place, &address, "right");
    assert!(finding(&caller, "peer").1.contains("answers"), "{caller:?}");
    assert!(finding(&caller, "round trip").1.contains("median"));
    let host = waiting.end();
    assert!(host.stderr.contains("turned away"), "{host:?}");
    for outcome in [caller, host] {
        let (severity, found, _) = finding(&outcome, "carrier");
        assert_eq!((&severity[..], &found[..]), ("fine", "shm: same host"));
    }
}

#[test]
fn a_demanded_carrier_that_cannot_be_had_is_a_problem() {
    let place = Place::new();
    let (waiting, address) = listening(&place);
    let caller = place
        .keyrange("doctor --json --carrier verbs --peer")
        .words(&address)
        .variable("KEYRANGE_SECRET", "right")
        .run();
    // Where there is a device, the link is tried instead.
    if finding(&caller, "RDMA").0 == "problem" {
        let (severity, found, mend) = finding(&caller, "carrier");
        assert!(
            severity == "problem" && found.contains("verbs was demanded") && mend.contains("here:"),
            "{caller:?}"
        );
        assert_eq!(caller.code, Some(4));
    }
    waiting.end();
}

#[test]
fn a_running_manager_answers_a_doctor_and_goes_on() {
    let place = Place::new();
    let mut manager = place
        .keyrange("manager sparse-lr --generate --generate-rows 100 --servers 1 --workers 1 --listen tcp:127.0.0.1:0")
        .start();
    let address = manager.await_stdout("listening at ");
    let outcome = place.keyrange("doctor --json --peer").words(&address).run();
    let (severity, found, mend) = finding(&outcome, "peer");
    assert!(severity == "fine" && found.contains("a manager or server"), "{outcome:?}");
    assert!(mend.contains("doctor --listen"));
    let member = |role: &str| place.keyrange(role).words("--manager").words(&address).start();
    let nodes = [member("server"), member("worker")];
    assert_eq!(manager.end().code, Some(0));
    assert!(nodes.into_iter().all(|node| node.end().code == Some(0)));
}

#[test]
fn nobody_there_is_told_within_the_deadline() {
    let place = Place::new();
    let outcome = place.keyrange("doctor --json --peer 127.0.0.1:1 --wait 50ms").run();
    let (severity, _, mend) = finding(&outcome, "peer");
    assert!(severity == "problem" && mend.contains("doctor --listen"), "{outcome:?}");
    let outcome = place.keyrange("doctor --json --listen 127.0.0.1:0 --wait 50ms").run();
    assert!(finding(&outcome, "peer").1.contains("no doctor came within 50ms"));
    assert_eq!(place.keyrange("doctor --peer a:1 --listen 127.0.0.1:0").run().code, Some(2));
}
