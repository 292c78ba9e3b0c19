//! The numbers of one scrape.

/// What `/metrics` said.
#[derive(Debug, Clone)]
pub(crate) struct Metrics(pub(crate) String);

impl Metrics {
    /// The sum of a metric's samples that carry these labels.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "they are counts")]
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let wanted: Vec<_> =
            labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
        let samples = self.0.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let is_it = series.split('{').next() == Some(name);
            let fits = wanted.iter().all(|wanted| series.contains(wanted.as_str()));
            (is_it && fits).then(|| value.parse::<f64>().ok())?
        });
        samples.sum::<f64>() as u64
    }

    pub(crate) fn of(&self, name: &str) -> u64 {
        self.sum(name, &[])
    }
}
