//! The metrics, over HTTP and as text.

use gristmill_tracker::JobStats;

use super::Server;
use super::tracker::Filled;
use crate::bounds::METERS_MAX;

#[tokio::test]
async fn metrics_are_the_counters_and_name_no_item() {
    let filled = Filled::new().await;
    filled.register("filings", "2").await;
    let server = Server::start(filled.tracker.clone()).await;
    let answer = server.get("/metrics").await;
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("content-type: text/plain; version=0.0.4"), "{}", answer.head);
    for line in [
        r#"gristmill_items{job="filings",status="active"} 2"#,
        r#"gristmill_items{job="filings",status="done"} 0"#,
        r#"gristmill_stages{job="filings",stage="fetch",state="waiting"} 1"#,
        r#"gristmill_stages{job="filings",stage="extract",state="ready"} 1"#,
        r#"gristmill_results_of_other_versions{job="filings",stage="fetch"} 1"#,
        r#"gristmill_results_of_other_versions{job="filings",stage="extract"} 0"#,
        r#"gristmill_charges_total{job="filings",meter="us\"d\\\n"} 1.5"#,
        "# TYPE gristmill_items gauge",
        "# TYPE gristmill_stages gauge",
        "# TYPE gristmill_results_of_other_versions gauge",
        "# TYPE gristmill_charges_total counter",
    ] {
        assert!(answer.body.lines().any(|had| had == line), "{line}\nis not in\n{}", answer.body);
    }
    assert!(!answer.body.contains('ä'), "no item's key");
    well_formed(&answer.body);
    server.end().await;
}

/// Each metric once: its help, its type, then all of its samples.
fn well_formed(text: &str) {
    assert!(text.ends_with('\n'));
    let mut seen = Vec::new();
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let name = help.split(' ').next().expect("a name");
            assert!(!seen.contains(&name), "{name} comes twice");
            seen.push(name);
        } else {
            let name = seen.last().expect("a help before all else");
            let begins = |start: String| line.starts_with(&start);
            assert!(begins(format!("# TYPE {name} ")) || begins(format!("{name}{{")), "{line} is not of {name}");
        }
    }
    assert_eq!(seen.len(), 4);
}

#[test]
fn a_handler_that_invents_meters_does_not_flood_the_metrics() {
    let charges = (0..METERS_MAX + 50).map(|number| (format!("meter-{number:05}"), 1.0)).collect();
    let text = crate::metrics::text(&[("job".to_owned(), JobStats { charges, ..JobStats::default() })]);
    assert_eq!(text.matches("meter=").count(), METERS_MAX);
    well_formed(&text);
}

#[test]
fn a_tracker_without_jobs_has_metrics_without_samples() {
    well_formed(&crate::metrics::text(&[]));
}
