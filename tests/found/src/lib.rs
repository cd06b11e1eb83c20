//! Finds the items that a file lists, or else its parameter `found`, and merges their lists: for tests of what is found
//! again.
//! Owns two stages, of which one says what it was given, and one always says the same.
//! Never remembers anything: the same list finds the same items.

use std::collections::BTreeSet;

use gristmill_guest::{
    DiscoverRequest, Discovery, Failure, Json, MergeRequest, Merging, NewItem, Page, Stage, Stages, Work, param, stage,
};
use serde::{Deserialize, Serialize};

/// Where a test that adds items while its job runs grants the list.
const LIST: &str = "/found/items.json";

struct Found;

#[derive(Deserialize)]
struct Item {
    key: String,
    data: serde_json::Value,
}

/// The data of items that this component merges.
#[derive(Deserialize, Serialize)]
struct Seen {
    seen: BTreeSet<i64>,
}

impl Discovery for Found {
    fn discover(_: &DiscoverRequest) -> Result<Page, Failure> {
        let found: Vec<Item> = match std::fs::read(LIST) {
            Ok(list) => serde_json::from_slice(&list).map_err(|error| Failure::permanent(error.to_string()))?,
            Err(_) => param("found")?.unwrap_or_default(),
        };
        Ok(Page::last(found.into_iter().map(|item| NewItem::new(item.key, &item.data)).collect::<Result<_, _>>()?))
    }
}

impl Merging for Found {
    fn merge(request: &MergeRequest) -> Result<impl Into<Json>, Failure> {
        let (mut all, new): (Seen, Seen) = (request.existing()?, request.incoming()?);
        all.seen.extend(new.seen);
        Json::of(&all)
    }
}

impl Stages for Found {
    const STAGES: &'static [Stage] = &[
        Stage::raw("echo", "returns the item's data", |work| Ok(work.data.clone())),
        Stage::raw("pass", "returns what the stage before returned", pass),
        stage!("same", "returns the same for every item", same),
    ];
}

fn pass(work: &Work) -> Result<String, Failure> {
    work.upstream.first().map(|before| before.output.clone()).ok_or_else(|| Failure::permanent("there is none"))
}

fn same(_: &Work) -> Result<&'static str, Failure> {
    Ok("same")
}

gristmill_guest::export!(Found: stages, discovery, merging);
