//! Three stages that do nothing, and a discovery that makes items: what `gristmill bench` runs.
//! Owns the fixed shape of its outputs: 100 bytes each, different for every item and stage.
//! Never does what would hide the host's own cost: no input is parsed, no file is read.

use std::fmt::Write;

use gristmill_guest::{DiscoverRequest, Discovery, Failure, NewItem, Page, Stage, Stages, Work, param};

struct Noop;

impl Stages for Noop {
    const STAGES: &'static [Stage] = &[
        Stage::raw("a", "returns 100 bytes", output),
        Stage::raw("b", "returns 100 bytes", output),
        Stage::raw("c", "returns 100 bytes", output),
    ];
}

impl Discovery for Noop {
    /// As many items as the parameter `items` says.
    fn discover(request: &DiscoverRequest) -> Result<Page, Failure> {
        let items: u32 = param("items")?.ok_or_else(|| Failure::permanent("the job has no parameter `items`"))?;
        let start: u32 = request.cursor.as_deref().map_or(Ok(0), str::parse)?;
        let end = items.min(start.saturating_add(request.limit));
        let page = (start..end).map(item).collect::<Result<Vec<_>, _>>()?;
        Ok(if end < items { Page::before(end.to_string(), page) } else { Page::last(page) })
    }
}

fn item(number: u32) -> Result<NewItem, Failure> {
    NewItem::new(format!("item-{number:08}"), &number)
}

/// A JSON object of 100 bytes, as long as stage and key have up to 60 together, none of which needs an escape.
fn output(work: &Work) -> Result<String, Failure> {
    let mut json = String::with_capacity(OUTPUT_BYTES);
    write!(json, r#"{{"item":"{}","stage":"{}","fill":""#, work.item_key, work.stage)?;
    let end = r#""}"#;
    while json.len() + end.len() < OUTPUT_BYTES {
        json.push('.');
    }
    json.push_str(end);
    Ok(json)
}

const OUTPUT_BYTES: usize = 100;

gristmill_guest::export!(Noop: stages, discovery);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_has_100_bytes_of_json() -> Result<(), Failure> {
        let json = output(&Work::new("a", "item-00000001", &1)?)?;
        assert_eq!(json.len(), 100);
        assert!(json.starts_with(r#"{"item":"item-00000001","stage":"a","fill":"...."#), "{json}");
        assert!(json.ends_with(r#"..."}"#), "{json}");
        Ok(())
    }

    #[test]
    fn items_and_stages_give_different_outputs() -> Result<(), Failure> {
        let a = output(&Work::new("a", "item-00000001", &1)?)?;
        assert_ne!(a, output(&Work::new("b", "item-00000001", &1)?)?);
        assert_ne!(a, output(&Work::new("a", "item-00000002", &1)?)?);
        Ok(())
    }
}
