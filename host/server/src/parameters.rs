//! The query parameters of a request.
//!
//! Owns the names, ranges and defaults of parameters, and the sentence about each mistake. Never ignores an unknown or
//! repeated parameter: both are mistakes.

use std::borrow::Cow;
use std::str::FromStr;

use gristmill_model::{ItemId, ItemStatus, JobId};
use gristmill_tracker::ItemsFilter;

use crate::bounds::{PAGE_DEFAULT, PAGE_MAX};
use crate::fault::Fault;

/// Which items a request wants.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ItemsQuery {
    status: Option<ItemStatus>,
    prefix: String,
    after: ItemId,
    limit: u32,
}

impl ItemsQuery {
    pub(crate) fn parse(raw: Option<&str>) -> Result<Self, Fault> {
        let [status, prefix, after, limit] = parse(raw, ["status", "prefix", "after", "limit"])?;
        let limit = number("limit", limit, PAGE_DEFAULT)?;
        if !(1..=PAGE_MAX).contains(&limit) {
            let hint = "the answer's `next` is the `after` of the next page";
            return Err(Fault::bad_request(format!("`limit` is from 1 to {PAGE_MAX}, and not {limit}"), hint));
        }
        Ok(Self {
            status: status.as_deref().map(status_of).transpose()?,
            prefix: prefix.unwrap_or_default().into_owned(),
            after: ItemId(number("after", after, 0)?),
            limit,
        })
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit as usize
    }

    /// The filter, for one item more than wanted: the extra one shows whether there is another page.
    pub(crate) fn into_filter(self, job: JobId) -> ItemsFilter {
        let Self { status, prefix, after, limit } = self;
        ItemsFilter { job, status, prefix, after, limit: limit + 1 }
    }
}

/// The key of the item that a request wants.
pub(crate) fn item_key(raw: Option<&str>) -> Result<String, Fault> {
    let [key] = parse(raw, ["key"])?;
    key.map(Cow::into_owned).ok_or_else(|| Fault::bad_request("`key` is missing", "write ?key= and an item's key"))
}

/// The key of the item and the name of the stage that a request wants.
pub(crate) fn item_key_and_stage(raw: Option<&str>) -> Result<(String, String), Fault> {
    let missing = |name: &str| Fault::bad_request(format!("`{name}` is missing"), "write ?key=…&stage=…");
    let [key, stage] = parse(raw, ["key", "stage"])?;
    let key = key.ok_or_else(|| missing("key"))?;
    Ok((key.into_owned(), stage.ok_or_else(|| missing("stage"))?.into_owned()))
}

fn parse<'q, const N: usize>(raw: Option<&'q str>, names: [&str; N]) -> Result<[Option<Cow<'q, str>>; N], Fault> {
    let hint = || format!("this path takes {}", names.join(", "));
    let mut values = [const { None }; N];
    for (name, value) in form_urlencoded::parse(raw.unwrap_or_default().as_bytes()) {
        let Some(place) = names.iter().position(|known| *known == name) else {
            return Err(Fault::bad_request(format!("there is no parameter `{name}`"), hint()));
        };
        if values[place].replace(value).is_some() {
            return Err(Fault::bad_request(format!("`{name}` is given twice"), hint()));
        }
    }
    Ok(values)
}

fn number<T: FromStr>(name: &str, value: Option<Cow<'_, str>>, default: T) -> Result<T, Fault> {
    let Some(value) = value else { return Ok(default) };
    let refused = |_| Fault::bad_request(format!("`{name}` is no number: `{value}`"), "write digits alone");
    value.parse().map_err(refused)
}

fn status_of(name: &str) -> Result<ItemStatus, Fault> {
    ItemStatus::from_name(name).ok_or_else(|| {
        let known = ItemStatus::ALL.map(ItemStatus::name).join(", ");
        Fault::bad_request(format!("there is no status `{name}`"), format!("an item is one of {known}"))
    })
}
