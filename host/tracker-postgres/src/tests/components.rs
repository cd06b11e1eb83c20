//! The rows of components.

use gristmill_model::Digest;
use gristmill_test_postgres::Server;

use super::hosts::execute;
use super::{open, options};
use gristmill_test_tracker::conformance::components::stage_of;
use gristmill_test_tracker::conformance::{Bench, block_on, registration};
use gristmill_tracker::Error;

#[test]
fn a_damaged_component_is_refused_and_mended_by_the_next_registration() {
    let database = Server::shared().database();
    let bytes: Vec<u8> = (0..1_500_000u32).map(|number| (number / 1000) as u8).collect();
    let canonical = Digest::of(b"canonical");
    block_on(async {
        let tracker = Box::new(open(&database.url(), options()).expect("a tracker"));
        let bench = Bench::with(tracker, vec![stage_of("fetch", "1", "canonical", &bytes)]).await;
        for damage in [
            "UPDATE gristmill.component_parts SET bytes = 'other' WHERE part = 1",
            "DELETE FROM gristmill.component_parts WHERE part = 0",
            "UPDATE gristmill.component_parts SET part = part + 1 WHERE part = 1",
        ] {
            let url = database.url();
            std::thread::spawn(move || execute(&url, damage)).join().expect("a damage");
            let read = bench.tracker.component(canonical).await;
            assert!(matches!(read, Err(Error::Component(hash)) if hash == canonical), "{damage}");
            let found = bench.tracker.examine().await.expect("an examination").differences;
            assert!(matches!(&found[..], [one] if one.kind == "component"), "{found:?}");
            let again = registration(vec![stage_of("fetch", "1", "canonical", &bytes)]);
            bench.tracker.register_job(again).await.expect("a job");
            assert!(bench.tracker.component(canonical).await.expect("a read").as_ref() == Some(&bytes), "{damage}");
        }
    });
}
