//! A table of what was measured, with limits, and the small statistics behind it.

use std::fmt::Write;

/// What was measured several times, and how much of it is allowed.
#[derive(Clone, Debug)]
pub struct Row {
    pub what: String,
    /// One value a run; the median is what the limit is for.
    pub values: Vec<f64>,
    /// `None`: it is shown, not judged.
    pub limit: Option<f64>,
    /// The limit is one for the inverse, too.
    both_ways: bool,
    /// What a value is: `x` for a ratio.
    pub unit: &'static str,
}

impl Row {
    /// Makes a row that is judged.
    pub fn limited(what: &str, unit: &'static str, limit: f64, values: Vec<f64>) -> Row {
        Row { what: what.to_owned(), values, limit: Some(limit), both_ways: false, unit }
    }

    /// Makes a row of ratios that may be too small as well.
    pub fn within(what: &str, limit: f64, values: Vec<f64>) -> Row {
        Row { both_ways: true, ..Row::limited(what, "x", limit, values) }
    }

    /// Makes a row that is shown.
    pub fn shown(what: &str, unit: &'static str, values: Vec<f64>) -> Row {
        Row { what: what.to_owned(), values, limit: None, both_ways: false, unit }
    }

    pub fn median(&self) -> f64 {
        median(&self.values)
    }

    /// Returns what stands before the limit.
    pub fn sign(&self) -> &'static str {
        if self.both_ways { "×÷" } else { "" }
    }

    fn holds(&self) -> bool {
        let median = self.median();
        let is_too_small = |limit: f64| self.both_ways && median < 1.0 / limit;
        self.limit.is_none_or(|limit| !self.values.is_empty() && median <= limit && !is_too_small(limit))
    }
}

/// Writes the rows; the second value tells whether every limit holds.
pub fn render(rows: &[Row]) -> (String, bool) {
    let mut text =
        format!("{:<62} {:>7} {:>7} {:>7} {:>7} {:>5}\n", "measure", "min", "median", "max", "limit", "runs");
    for row in rows {
        let (least, most) =
            (row.values.iter().copied().reduce(f64::min), row.values.iter().copied().reduce(f64::max));
        let (least, most) = (least.unwrap_or(f64::NAN), most.unwrap_or(f64::NAN));
        let verdict = if row.holds() { "" } else { "  BEYOND" };
        let limit = row.limit.map_or_else(String::new, |limit| format!("{}{limit:.2}", row.sign()));
        let _ = writeln!(
            text,
            "{:<62} {least:>7.2} {:>7.2} {most:>7.2} {limit:>7} {:>5}{verdict}",
            format!("{} [{}]", row.what, row.unit),
            row.median(),
            row.values.len(),
        );
    }
    (text, rows.iter().all(Row::holds))
}

/// Returns the middle value; of an even number the mean of the two.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => sorted[count / 2],
        count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
    }
}
