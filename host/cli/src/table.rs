//! Tables on the standard output.
//!
//! Owns the form of tables: columns without lines, within the terminal's width; without a terminal nothing is wrapped.
//! Never prints.

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Row, Width};

use crate::format::printable;

/// The spaces between two columns.
const PADDING: u16 = 2;

/// What a column holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Column {
    /// Text that may be wrapped if the terminal is narrow.
    Text,
    /// Text that must not be wrapped: a name, a time.
    Word,
    /// An item's key: not wrapped if that leaves half of the width to the rest.
    Key,
    /// A number: aligned to the right, never wrapped.
    Number,
}

/// A table.
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: comfy_table::Table,
}

impl Table {
    /// An empty table with these columns.
    pub(crate) fn new<'a>(columns: impl IntoIterator<Item = (&'a str, Column)>) -> Self {
        let (names, columns): (Vec<&str>, Vec<Column>) = columns.into_iter().unzip();
        let mut rows = comfy_table::Table::new();
        rows.load_style(comfy_table::presets::NOTHING).set_header(names);
        let arrangement = if rows.is_tty() { ContentArrangement::Dynamic } else { ContentArrangement::Disabled };
        rows.set_content_arrangement(arrangement);
        Self { columns, rows }
    }

    /// Adds a row. Its text may come from a guest, so it is made harmless here.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = impl AsRef<str>>) {
        self.rows.add_row(Row::from(cells.into_iter().map(|cell| printable(cell.as_ref()))));
    }

    /// The table as text, without the last line's end.
    pub(crate) fn render(mut self) -> String {
        let widths = self.rows.column_max_content_widths();
        let half = self.rows.width().map_or(u16::MAX, |width| width / 2);
        for ((column, kind), width) in self.rows.column_iter_mut().zip(&self.columns).zip(widths) {
            column.set_padding((0, PADDING));
            if *kind == Column::Number {
                column.set_cell_alignment(CellAlignment::Right);
            }
            match kind {
                Column::Text => {}
                Column::Key => {
                    let least = Width::Fixed(width.saturating_add(PADDING).min(half));
                    column.set_constraint(ColumnConstraint::LowerBoundary(least));
                }
                Column::Word | Column::Number => {
                    column.set_constraint(ColumnConstraint::ContentWidth);
                }
            }
        }
        self.rows.trim_fmt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_nothing_else() {
        let mut table = Table::new([("item", Column::Word), ("lines", Column::Number), ("why", Column::Text)]);
        table.row(["serde", "12 000", "a \u{1b}[31mred\nb"]);
        table.row(["a", "7", ""]);
        assert_eq!(table.render(), "item    lines  why\nserde  12 000  a ?[31mred\n               b\na           7");
    }
}
