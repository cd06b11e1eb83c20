//! Every path, what it says, and what it says to nonsense.

use serde_json::json;

use super::stub::Stub;
use super::tracker::{Filled, KEY, METER, OUTPUT};
use super::{Answer, Server, send};
use crate::bounds::Bounds;

/// `KEY`, as a query carries it.
const ENCODED_KEY: &str = "a/1%20%22%C3%A4%22%26b%3Dc";

#[tokio::test]
async fn health_says_ok_or_one_sentence() {
    let filled = Filled::new().await;
    let server = Server::start(filled.tracker.clone()).await;
    let answer = server.get("/health").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
    server.end().await;

    let stub = Stub::new();
    stub.gate.passes.close();
    let server = Server::start(stub.reader).await;
    let answer = server.get("/health").await;
    assert_eq!((answer.status, answer.body.as_str()), (503, "the tracker cannot be read"));
    let answer = server.get("/api/jobs").await;
    answer.error(503);
    assert!(!answer.body.contains("secret"), "what a tracker says stays in the log: {}", answer.body);
    server.end().await;
}

#[tokio::test]
async fn jobs_are_listed_with_their_counters() {
    let filled = Filled::new().await;
    filled.register("empty", "1").await;
    let server = Server::start(filled.tracker.clone()).await;
    let none = json!({ "done": 0, "active": 0, "failed": 0, "pending": 0, "cancelled": 0 });
    let some = json!({ "done": 0, "active": 2, "failed": 1, "pending": 0, "cancelled": 0 });
    let list = server.get("/api/jobs").await;
    assert_eq!(list.status, 200);
    let expected = json!([
        { "job": "empty", "items_total": 0, "items": none },
        { "job": "filings", "items_total": 3, "items": some },
    ]);
    assert_eq!(list.json(), expected);
    assert!(list.body.contains(r#"{"done":0,"active":2,"failed":1"#), "in the model's order: {}", list.body);

    let job = server.get("/api/jobs/filings").await.json();
    assert_eq!((&job["job"], &job["items_total"], &job["items"]), (&json!("filings"), &json!(3), &some));
    assert_eq!(job["charges"], json!({ METER: 1.5 }));
    let fetch = &job["stages"][0];
    assert_eq!(fetch["stage"], "fetch");
    assert_eq!(fetch["version"].as_str().map(str::len), Some(64));
    for (name, number) in
        [("other_versions", 0), ("ready", 0), ("leased", 0), ("waiting", 1), ("done", 1), ("skipped", 0), ("dead", 1)]
    {
        assert_eq!(fetch[name], number, "{name}");
    }
    assert_eq!(job["stages"][1]["ready"], 1);
    server.end().await;
}

#[tokio::test]
async fn items_are_filtered_and_paged() {
    let filled = Filled::new().await;
    let server = Server::start(filled.tracker.clone()).await;
    let keys = async |query: &str| {
        let page = server.get(&format!("/api/jobs/filings/items{query}")).await.json();
        let items = page["items"].as_array().expect("items").clone();
        let keys: Vec<String> = items.iter().map(|item| item["item"].as_str().expect("a key").to_owned()).collect();
        (keys, page["next"].as_i64())
    };
    assert_eq!(keys("").await, (vec![KEY.to_owned(), "b".to_owned(), "c".to_owned()], None));
    let (first, next) = keys("?limit=2").await;
    assert_eq!(first, [KEY, "b"]);
    let next = next.expect("another page");
    assert_eq!(keys(&format!("?limit=1&after={next}")).await, (vec!["c".to_owned()], None), "a full last page");
    assert_eq!(keys("?limit=3").await.1, None);
    assert_eq!(keys("?status=failed").await.0, ["c"]);
    assert_eq!(keys("?status=active&prefix=a/1%20").await.0, [KEY]);
    assert_eq!(keys("?prefix=nobody&limit=1000").await, (Vec::new(), None));

    let failed = server.get("/api/jobs/filings/items?status=failed").await.json();
    let expected = json!({
        "job": "filings", "item": "c", "status": "failed",
        "done": [], "skipped": [], "dead": ["fetch"], "live": [], "stale": [],
        "discovered_at": "2023-11-14T22:13:20.000000Z", "changed_at": "2023-11-14T22:13:20.000000Z",
    });
    assert_eq!(failed["items"][0], expected);
    server.end().await;
}

#[tokio::test]
async fn an_item_is_told_in_full() {
    let filled = Filled::new().await;
    let server = Server::start(filled.tracker.clone()).await;
    let answer = server.get(&format!("/api/jobs/filings/item?key={ENCODED_KEY}")).await;
    assert_eq!(answer.status, 200);
    assert!(answer.body.contains(&format!(r#""output":{OUTPUT}"#)), "digit by digit: {}", answer.body);
    let item = answer.json();
    assert_eq!((&item["item"], &item["priority"], &item["data"]), (&json!(KEY), &json!(7), &json!({ "title": "T" })));
    let fetch = &item["stages"][0];
    assert_eq!((&fetch["state"], &fetch["current"], &fetch["reason"]), (&json!("done"), &json!(true), &json!(null)));
    assert_eq!(fetch["attempts"].as_array().map(Vec::len), Some(1));
    let attempt = &fetch["attempts"][0];
    assert_eq!((&attempt["outcome"], &attempt["log"]), (&json!("done"), &json!("a line\n")));
    assert_eq!(attempt["started_at"], "2023-11-14T22:13:20.000000Z");
    assert_eq!(attempt["ended_at"], "2023-11-14T22:13:20.250000Z");
    assert_eq!((&attempt["memory_bytes_max"], &attempt["charges"]), (&json!(65536), &json!({ METER: 1.5 })));

    let waiting = server.get("/api/jobs/filings/item?key=b").await.json();
    assert_eq!(waiting["stages"][0]["due_at"], "2023-11-14T22:13:22.000000Z");
    assert_eq!(waiting["stages"][0]["counters"], json!({ "attempts": 1, "lost": 0, "deferrals": 0 }));
    assert_eq!(waiting["stages"][1]["blocked_by"], json!(["fetch"]));
    let dead = server.get("/api/jobs/filings/item?key=c").await.json();
    let stage = &dead["stages"][0];
    assert_eq!((&stage["state"], &stage["reason"]), (&json!("dead"), &json!("permanent")));
    assert_eq!((&stage["error"], &stage["output"]), (&json!("no such page"), &json!(null)));
    server.end().await;
}

#[tokio::test]
async fn what_is_not_there_is_404_and_says_where_to_look() {
    let filled = Filled::new().await;
    let server = Server::start(filled.tracker.clone()).await;
    for path in ["/api/jobs/no%22body", "/api/jobs/no%22body/items", "/api/jobs/no%22body/item?key=a"] {
        let (error, hint) = server.get(path).await.error(404);
        assert_eq!(error, "there is no job `no\"body`");
        assert!(hint.contains("/api/jobs"), "{hint}");
    }
    let (error, hint) = server.get("/api/jobs/filings/item?key=zz").await.error(404);
    assert_eq!(error, "job `filings` has no item `zz`");
    assert!(hint.contains("/api/jobs/filings/items"), "{hint}");
    for path in ["/", "/api", "/api/jobs/", "/api/jobs/filings/items/3", "/api/jobs/%FF", "/metrics/", "//"] {
        assert_eq!(server.get(path).await.error(404).0, "there is no such path", "{path}");
    }
    server.end().await;
}

#[tokio::test]
async fn nonsense_in_a_query_is_400_and_says_what_is_wrong() {
    let filled = Filled::new().await;
    let server = Server::start(filled.tracker.clone()).await;
    for (query, expected) in [
        ("limit=0", "`limit` is from 1 to 1000, and not 0"),
        ("limit=1001", "`limit` is from 1 to 1000, and not 1001"),
        ("limit=-1", "`limit` is no number: `-1`"),
        ("limit=99999999999", "`limit` is no number: `99999999999`"),
        ("limit=", "`limit` is no number: ``"),
        ("after=%22x", "`after` is no number: `\"x`"),
        ("status=ready", "there is no status `ready`"),
        ("state=done", "there is no parameter `state`"),
        ("prefix=a&prefix=b", "`prefix` is given twice"),
    ] {
        let (error, hint) = server.get(&format!("/api/jobs/filings/items?{query}")).await.error(400);
        assert_eq!(error, expected, "{query}");
        assert_ne!(hint, "");
    }
    assert_eq!(server.get("/api/jobs/filings/item").await.error(400).0, "`key` is missing");
    server.end().await;
}

#[tokio::test]
async fn only_get_and_head_are_answered() {
    let filled = Filled::new().await;
    let server = Server::start(filled.tracker.clone()).await;
    for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        for path in ["/health", "/metrics", "/api/jobs", "/api/jobs/filings/item?key=b"] {
            let answer = server.ask(method, path).await;
            answer.error(405);
            assert!(answer.head.contains("allow: get,head"), "{}", answer.head);
        }
    }
    let head = server.ask("HEAD", "/api/jobs").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    server.end().await;
}

#[tokio::test]
async fn what_is_no_http_is_refused_and_the_server_goes_on() {
    let filled = Filled::new().await;
    let server = Server::start(filled.tracker.clone()).await;
    for (text, status) in [
        ("nonsense\r\n\r\n".to_owned(), 400),
        (format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(60_000)), 404),
        (format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(200)), 431),
    ] {
        let mut stream = server.connect().await;
        send(&mut stream, &text).await;
        assert_eq!(Answer::read(stream).await.status, status, "{}", &text[..10]);
    }
    assert_eq!(server.get("/health").await.status, 200);
    server.end().await;
}

#[tokio::test]
async fn a_large_output_has_a_path_of_its_own() {
    let large = format!("\"{}\"", "x".repeat(100_000));
    let filled = Filled::with_output(&large).await;
    let server = Server::start(filled.tracker.clone()).await;
    let page = server.get(&format!("/api/jobs/filings/item?key={ENCODED_KEY}")).await.json();
    let fetch = &page["stages"][0];
    assert_eq!((&fetch["output"], &fetch["output_bytes"]), (&json!(null), &json!(100_002)));
    let path = format!("/api/jobs/filings/output?key={ENCODED_KEY}");
    let whole = server.get(&format!("{path}&stage=fetch")).await;
    assert_eq!((whole.status, whole.body.as_str()), (200, large.as_str()));
    assert!(whole.head.contains("content-length: 100002"), "{}", whole.head);
    let data = server.get(&format!("/api/jobs/filings/data?key={ENCODED_KEY}")).await;
    assert_eq!((data.status, data.json()), (200, json!({ "title": "T" })));
    server.get("/api/jobs/filings/data?key=none").await.error(404);
    server.get(&format!("{path}&stage=extract")).await.error(404);
    server.get(&path).await.error(400);
    server.end().await;

    let bounds = Bounds { slices: 1, ..Bounds::default() };
    let server = Server::start_within(bounds, filled.tracker.clone()).await;
    let (error, _) = server.get(&format!("{path}&stage=fetch")).await.error(503);
    assert_eq!(error, "too many large answers are on their way");
    server.end().await;
}
