//! Tables for people: columns where these fit the terminal, else a block for each row.

use std::fmt::Write as _;

/// Returns lines for rows that have a cell for each column; the first cell names its row. `width` is the terminal's, if there
/// is one.
pub fn columns(head: &[&str], rows: &[Vec<String>], width: Option<usize>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::NOTHING);
    table.set_header(head);
    table.add_rows(rows);
    let text = table.trim_fmt();
    let widest = text.lines().map(|line| line.chars().count()).max();
    match width {
        Some(width) if widest > Some(width) => blocks(head, rows),
        _ => format!("{text}\n"),
    }
}

fn blocks(head: &[&str], rows: &[Vec<String>]) -> String {
    let longest = head.iter().map(|title| title.len()).max().unwrap_or(0);
    let mut text = String::new();
    for row in rows {
        let mut cells = head.iter().zip(row);
        if let Some((_, name)) = cells.next() {
            text.push_str(&format!(" {name}\n"));
        }
        for (title, cell) in cells {
            let _ = writeln!(text, "   {title:longest$}  {cell}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_is_wider_than_the_terminal_has_a_block_for_each_row() {
        let rows = [
            ["store", "running", "10.77.0.10"],
            ["web", "-", "10.77.0.11"],
        ];
        let rows = rows.map(|row| row.map(str::to_owned).to_vec());
        let shown = |width| columns(&["domain", "state", "address"], &rows, width);
        let table = " domain  state    address\n store   running  10.77.0.10\n web     -        10.77.0.11\n";
        assert_eq!(shown(None), table);
        assert_eq!(shown(Some(28)), table);
        insta::assert_snapshot!(shown(Some(27)), @"
         store
           state    running
           address  10.77.0.10
         web
           state    -
           address  10.77.0.11
        ");
    }
}
