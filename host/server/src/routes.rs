//! Which path gives which answer.
//!
//! Owns the routes and what each reads. Every answer is made from one read of the tracker; nothing is kept between two
//! requests. Never counts rows: lists that grow with a job are paged.

use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::header::CONTENT_TYPE;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use gristmill_tracker::{JobRow, JobStats, Outputs, Reader};
use serde::Serialize;
use tokio::sync::Semaphore;

use crate::bounds::SHOWN_BYTES_MAX;
use crate::fault::Fault;
use crate::hosts::{self, Hosts};
use crate::parameters::{ItemsQuery, item_key, item_key_and_stage};
use crate::reads::Reads;
use crate::views::{ItemDetailView, ItemsPage, JobDetailView, JobView};
use crate::{metrics, slices};

type Shared = State<Arc<Reads>>;
type JobName = Result<Path<String>, PathRejection>;

pub(crate) fn router(reads: Reads, hosts: Hosts) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/metrics", get(all_metrics))
        .route("/api/jobs", get(jobs))
        .route("/api/jobs/{job}", get(job))
        .route("/api/jobs/{job}/items", get(items))
        .route("/api/jobs/{job}/item", get(item))
        .route("/api/jobs/{job}/data", get(data))
        .route("/api/jobs/{job}/output", get(output))
        .fallback(async || Fault::no_such_path())
        .method_not_allowed_fallback(async || Fault::get_only())
        .with_state(Arc::new(reads))
        .layer(from_fn_with_state(Arc::new(hosts), hosts::check))
}

/// An answer in JSON.
pub(crate) fn json(view: &impl Serialize) -> Response {
    let Ok(text) = serde_json::to_vec(view) else { unreachable!("a view has text for keys, and memory takes it") };
    ([(CONTENT_TYPE, "application/json")], text).into_response()
}

async fn health(State(reads): Shared) -> Response {
    let read = |reader: Arc<dyn Reader>| async move {
        reader.outlook().await?;
        Ok("ok".into_response())
    };
    reads.answer(read).await.unwrap_or_else(Fault::into_line)
}

async fn all_metrics(State(reads): Shared) -> Result<Response, Fault> {
    let read = |reader: Arc<dyn Reader>| async move {
        let text = metrics::text(&counters(&*reader).await?);
        Ok(([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
    };
    reads.answer(read).await
}

async fn jobs(State(reads): Shared) -> Result<Response, Fault> {
    let read = |reader: Arc<dyn Reader>| async move {
        let counters = counters(&*reader).await?;
        Ok(json(&counters.iter().map(|(name, stats)| JobView::new(name, stats)).collect::<Vec<_>>()))
    };
    reads.answer(read).await
}

async fn job(State(reads): Shared, name: JobName) -> Result<Response, Fault> {
    let name = known_path(name)?;
    let read = |reader: Arc<dyn Reader>| async move {
        let job = find(&*reader, &name).await?;
        Ok(json(&JobDetailView::new(&job.name, &reader.stats(job.id).await?)))
    };
    reads.answer(read).await
}

async fn items(State(reads): Shared, name: JobName, RawQuery(query): RawQuery) -> Result<Response, Fault> {
    let (name, query) = (known_path(name)?, ItemsQuery::parse(query.as_deref())?);
    let read = |reader: Arc<dyn Reader>| async move {
        let job = find(&*reader, &name).await?;
        let limit = query.limit();
        let rows = reader.items(query.into_filter(job.id)).await?;
        Ok(json(&ItemsPage::new(&job, &rows, limit)))
    };
    reads.answer(read).await
}

async fn item(State(reads): Shared, name: JobName, RawQuery(query): RawQuery) -> Result<Response, Fault> {
    let (name, key) = (known_path(name)?, item_key(query.as_deref())?);
    let read = |reader: Arc<dyn Reader>| async move {
        let job = find(&*reader, &name).await?;
        let outputs = Outputs::UpTo(SHOWN_BYTES_MAX as u64);
        let item = reader.item_with(job.id, &key, outputs).await?.ok_or_else(|| Fault::no_such_item(&name, &key))?;
        Ok(json(&ItemDetailView::new(&job.name, &item).cut(SHOWN_BYTES_MAX)))
    };
    reads.answer(read).await
}

async fn data(State(reads): Shared, name: JobName, RawQuery(query): RawQuery) -> Result<Response, Fault> {
    let (name, key) = (known_path(name)?, item_key(query.as_deref())?);
    let room = reads.room();
    let read = |reader: Arc<dyn Reader>| async move {
        let job = find(&*reader, &name).await?;
        let known = reader.known(job.id, vec![key.clone()]).await?.pop();
        large(known.ok_or_else(|| Fault::no_such_item(&name, &key))?.data, room)
    };
    reads.answer(read).await
}

async fn output(State(reads): Shared, name: JobName, RawQuery(query): RawQuery) -> Result<Response, Fault> {
    let (name, (key, stage)) = (known_path(name)?, item_key_and_stage(query.as_deref())?);
    let room = reads.room();
    let read = |reader: Arc<dyn Reader>| async move {
        let job = find(&*reader, &name).await?;
        let item = reader.item_with(job.id, &key, Outputs::Of(stage.clone())).await?;
        let item = item.ok_or_else(|| Fault::no_such_item(&name, &key))?;
        let found = item.stages.into_iter().find(|detail| detail.name == stage).and_then(|detail| detail.output);
        large(found.ok_or_else(|| Fault::no_such_output(&stage))?, room)
    };
    reads.answer(read).await
}

/// The answer for a JSON text that may be large.
fn large(text: String, room: Arc<Semaphore>) -> Result<Response, Fault> {
    let body = slices::body(text, room).ok_or_else(Fault::busy)?;
    Ok(([(CONTENT_TYPE, "application/json")], body).into_response())
}

/// The counters of every job, by name.
async fn counters(reader: &dyn Reader) -> Result<Vec<(String, JobStats)>, Fault> {
    let mut all = Vec::new();
    for job in reader.jobs().await? {
        all.push((job.name, reader.stats(job.id).await?));
    }
    Ok(all)
}

async fn find(reader: &dyn Reader, name: &str) -> Result<JobRow, Fault> {
    reader.jobs().await?.into_iter().find(|job| job.name == name).ok_or_else(|| Fault::no_such_job(name))
}

/// The job's name in a path. A path that is not UTF-8 names no job.
fn known_path(name: JobName) -> Result<String, Fault> {
    name.map(|Path(name)| name).map_err(|_| Fault::no_such_path())
}
