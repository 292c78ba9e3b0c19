//! Tables as the simulations print them.

use std::fmt::Write as _;

/// A title and rows of cells, the first row their heads.
pub(crate) struct Table {
    text: String,
}

impl Table {
    /// A table of these columns.
    pub(crate) fn new(title: &str, heads: &[&str]) -> Self {
        let mut table = Self { text: format!("\n{title}\n") };
        table.row(heads);
        table
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: &[impl AsRef<str>]) {
        for (at, cell) in cells.iter().enumerate() {
            let width = if at == 0 { 30 } else { 18 };
            let _ = write!(self.text, "{:<width$} ", cell.as_ref());
        }
        self.text.truncate(self.text.trim_end().len());
        self.text.push('\n');
    }

    /// Prints it whole, so that tables of tests that run together do not mix.
    #[expect(clippy::print_stdout, reason = "it is what the simulations are for")]
    pub(crate) fn print(&self) {
        println!("{}", self.text);
    }
}

/// The value that the share `part` of `values` does not exceed; zero of nothing.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a position in a list"
)]
pub(crate) fn quantile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = (part * values.len() as f64) as usize;
    values.get(at.min(values.len().saturating_sub(1))).copied().unwrap_or_default()
}
