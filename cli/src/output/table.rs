//! A table as Teleport prints it: a header, a line of dashes under each column, one space between columns.

use super::printable;

/// Rows under a header. Cells are made [`printable`]; columns are as wide as their widest cell.
#[derive(Clone, Debug)]
pub struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    #[must_use]
    pub fn new<const N: usize>(header: [&str; N]) -> Self {
        Self { header: header.map(str::to_owned).to_vec(), rows: Vec::new() }
    }

    /// Adds a row. Missing cells are empty; cells beyond the header are dropped.
    pub fn row<I: IntoIterator<Item = S>, S: AsRef<str>>(&mut self, cells: I) {
        let mut row: Vec<String> = cells.into_iter().map(|cell| printable(cell.as_ref())).collect();
        row.resize(self.header.len(), String::new());
        self.rows.push(row);
    }

    /// The whole table, without a line break at its end and without white space at the ends of lines.
    #[must_use]
    pub fn render(&self) -> String {
        let widths = self.widths();
        let dashes: Vec<String> = widths.iter().map(|&width| "-".repeat(width)).collect();
        let lines = [&self.header, &dashes].into_iter().chain(&self.rows);
        lines.map(|line| padded(line, &widths)).collect::<Vec<_>>().join("\n")
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = self.header.iter().map(|cell| cell.chars().count()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        widths
    }
}

fn padded(line: &[String], widths: &[usize]) -> String {
    let cells: Vec<String> =
        line.iter().zip(widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
    cells.join(" ").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["Name", "Type", "Added at", "Last used"]);
        table.row(["otp-device", "TOTP", "Thu, 19 Jan 2023 08:01:17 UTC", "Thu, 19 Jan 2023 08:06:44 UTC"]);
        let expected = "\
Name       Type Added at                      Last used
---------- ---- ----------------------------- -----------------------------
otp-device TOTP Thu, 19 Jan 2023 08:01:17 UTC Thu, 19 Jan 2023 08:06:44 UTC";
        assert_eq!(table.render(), expected);
    }

    #[test]
    fn a_table_without_rows_still_shows_its_header() {
        assert_eq!(Table::new(["A", "Bc"]).render(), "A Bc\n- --");
    }

    #[test]
    fn short_rows_are_filled_and_long_rows_cut() {
        let mut table = Table::new(["A", "B"]);
        table.row(["x"]);
        table.row(["y", "z", "dropped"]);
        assert_eq!(table.render(), "A B\n- -\nx\ny z");
    }

    #[test]
    fn a_cell_cannot_drive_the_terminal() {
        let mut table = Table::new(["A"]);
        table.row(["\x1b[31mred\nnext"]);
        assert!(!table.render().contains('\x1b'));
        assert_eq!(table.render().lines().count(), 3);
    }
}
