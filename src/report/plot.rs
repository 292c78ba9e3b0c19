//! A report as a picture: for each route the share of requests that wait longer, over time, with
//! and without hedging.
//!
//! Both axes are logarithmic, since tails are what it is about: what one of a hundred waits has as
//! much room as what every second does.

use std::fmt;
use std::ops::Range;

use plotters::chart::{ChartContext, SeriesLabelPosition};
use plotters::coord::Shift;
use plotters::coord::combinators::WithKeyPoints;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::table::{seconds, sum};
use super::{Basis, Distribution, Report, Route, Waits};

/// Nothing could be drawn.
#[derive(Debug)]
pub enum Undrawn {
    /// No route has a distribution.
    Nothing,
    /// The drawing went wrong.
    Wrong(String),
}

impl fmt::Display for Undrawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("no route has waits to draw yet"),
            Self::Wrong(why) => f.write_str(why),
        }
    }
}

const WIDTH: u32 = 860;
const HEIGHT: u32 = 400;
/// The smallest share that is drawn; what is rarer is mostly chance.
const RAREST: f64 = 0.001;
/// Shares that have a line and a name.
const LEVELS: [(f64, &str); 6] =
    [(1.0, "100 %"), (0.5, "50 %"), (0.1, "10 %"), (0.05, "5 %"), (0.01, "1 %"), (RAREST, "0.1 %")];
const WITH: RGBColor = RGBColor(0x0b, 0x72, 0x85);
const WITHOUT: RGBColor = RGBColor(0xc2, 0x41, 0x0c);
const INK: RGBColor = RGBColor(0x22, 0x26, 0x2a);
const FAINT: RGBColor = RGBColor(0xdd, 0xe1, 0xe5);
const GREY: RGBColor = RGBColor(0x6a, 0x71, 0x78);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Axis = WithKeyPoints<LogCoord<f64>>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Axis, Axis>>;
/// What the library says when something goes wrong is for people only.
type Drawn = Result<(), Box<dyn std::error::Error>>;

/// The picture, as SVG: one panel for each route of which waits are known.
pub fn svg(report: &Report) -> Result<String, Undrawn> {
    let routes = report.routes.iter().filter_map(|route| Some((route, Known::of(route)?)));
    let routes: Vec<_> = routes.collect();
    if routes.is_empty() {
        return Err(Undrawn::Nothing);
    }
    let mut text = String::new();
    let height = HEIGHT * u32::try_from(routes.len()).unwrap_or(1);
    let area = SVGBackend::with_string(&mut text, (WIDTH, height)).into_drawing_area();
    draw(&area, &routes).map_err(|why| Undrawn::Wrong(why.to_string()))?;
    drop(area);
    Ok(text)
}

fn draw(area: &Area<'_>, routes: &[(&Route, Known<'_>)]) -> Drawn {
    area.fill(&WHITE)?;
    for (panel, (route, known)) in area.split_evenly((routes.len(), 1)).iter().zip(routes) {
        draw_panel(panel, route, known)?;
    }
    area.present()?;
    Ok(())
}

/// What a route needs to be drawn.
struct Known<'r> {
    with: &'r Waits,
    without: &'r Waits,
    distribution: &'r Distribution,
}

impl<'r> Known<'r> {
    fn of(route: &'r Route) -> Option<Self> {
        let (with, without) = (route.with.as_ref()?, route.without.as_ref()?);
        let distribution = route.distribution.as_ref().filter(|it| it.seconds.len() > 1)?;
        Some(Self { with, without, distribution })
    }

    /// The seconds between which something happens, marks included.
    fn range(&self) -> Range<f64> {
        let Distribution { seconds, with, without } = self.distribution;
        let points = seconds.iter().zip(with.iter().zip(without));
        let busy = points.filter(|(at, (with, without))| {
            **at > 0.0 && (**with < 0.999 || **without < 0.999) && with.max(**without) > RAREST
        });
        let marks = [self.with, self.without].into_iter().flat_map(Waits::percentiles);
        let marks = marks.map(|(_, estimate)| estimate.value).filter(|value| *value > 0.0);
        let (low, high) = busy
            .map(|(at, _)| *at)
            .chain(marks)
            .fold((f64::MAX, 0.0_f64), |(low, high), at| (low.min(at), high.max(at)));
        if low < high { low / 1.3..high * 1.3 } else { 0.01..100.0 }
    }
}

fn draw_panel(area: &Area<'_>, route: &Route, known: &Known<'_>) -> Drawn {
    draw_title(area, route)?;
    let across = known.range();
    let mut chart = ChartBuilder::on(area)
        .margin_top(66)
        .margin_left(14)
        .margin_right(54)
        .margin_bottom(10)
        .x_label_area_size(48)
        .y_label_area_size(66)
        .build_cartesian_2d(
            across.clone().log_scale().with_key_points(ticks(&across)),
            (RAREST..1.0).log_scale().with_key_points(LEVELS.map(|(share, _)| share).to_vec()),
        )?;
    draw_grid(&mut chart, route)?;
    let Distribution { seconds, with, without } = known.distribution;
    curve(&mut chart, ("without hedging", WITHOUT), known.without, (seconds, without))?;
    curve(&mut chart, ("with hedging", WITH), known.with, (seconds, with))?;
    marks(&mut chart, known, &across)?;
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerLeft)
        .margin(14)
        .legend_area_size(34)
        .label_font(("sans-serif", 14).into_font().color(&INK))
        .background_style(WHITE.mix(0.85))
        .draw()?;
    Ok(())
}

fn draw_title(area: &Area<'_>, route: &Route) -> Drawn {
    let kind = if route.stream { "streams" } else { "whole answers" };
    let bold = ("sans-serif", 17, FontStyle::Bold).into_font().color(&INK);
    area.draw(&Text::new(format!("{}, {kind}", route.model_group), (24, 16), bold))?;
    let small = ("sans-serif", 14).into_font().color(&GREY);
    area.draw(&Text::new(sum(route), (24, 40), small))?;
    Ok(())
}

fn draw_grid(chart: &mut Chart<'_, '_>, route: &Route) -> Drawn {
    // Ticks are round.
    let unit = |at: &f64| seconds(*at).replace(".00 ", " ").replace(".0 ", " ");
    let level = |share: &f64| {
        LEVELS
            .iter()
            .find(|(at, _)| (at / share - 1.0).abs() < 1e-6)
            .map_or("", |(_, name)| name)
            .to_owned()
    };
    chart
        .configure_mesh()
        .axis_style(FAINT)
        .bold_line_style(FAINT)
        .light_line_style(TRANSPARENT)
        .label_style(("sans-serif", 14).into_font().color(&GREY))
        .x_label_formatter(&unit)
        .y_label_formatter(&level)
        .x_desc(format!("time to the {}", route.ends_with()))
        .y_desc("requests that wait longer")
        .draw()?;
    Ok(())
}

/// One, two and five of each power of ten.
fn ticks(range: &Range<f64>) -> Vec<f64> {
    let powers = (-3..=3).flat_map(|power| [1.0, 2.0, 5.0].map(|it| it * 10_f64.powi(power)));
    powers.filter(|at| range.contains(at)).collect()
}

/// A line; broken where it is an estimate.
fn curve(
    chart: &mut Chart<'_, '_>,
    (name, color): (&str, RGBColor),
    waits: &Waits,
    (seconds, longer): (&[f64], &[f64]),
) -> Drawn {
    let points = visible(seconds, longer);
    let (style, name) = (color.stroke_width(2), format!("{name}, {}", waits.basis.as_str()));
    let sample = |(x, y): (i32, i32)| vec![(x, y), (x + 28, y)];
    match waits.basis {
        Basis::Estimated => chart
            .draw_series(DashedLineSeries::new(points, 7, 4, style))?
            .label(name)
            .legend(move |at| DashedPathElement::new(sample(at), 7, 4, style)),
        Basis::Measured => chart
            .draw_series(LineSeries::new(points, style))?
            .label(name)
            .legend(move |at| PathElement::new(sample(at), style)),
    };
    Ok(())
}

/// The points down to the rarest share, where the last line is cut.
fn visible(seconds: &[f64], longer: &[f64]) -> Vec<(f64, f64)> {
    let all = || seconds.iter().copied().zip(longer.iter().copied()).filter(|(at, _)| *at > 0.0);
    let mut points: Vec<_> = all().take_while(|(_, share)| *share >= RAREST).collect();
    let next = all().nth(points.len());
    if let (Some((from, above)), Some((to, below))) = (points.last().copied(), next) {
        // What is drawn is straight in the logarithms of both; nobody at all is as good as a tenth
        // of the rarest.
        let fall = |share: f64| (above / share.max(RAREST / 10.0)).ln();
        let part = if above > RAREST { fall(RAREST) / fall(below) } else { 0.0 };
        points.push((from * (to / from).powf(part), RAREST));
    }
    points
}

/// The percentiles with their intervals. Lines fall to the right, so that there is room for the
/// numbers above a line on its right, and below it on its left.
fn marks(chart: &mut Chart<'_, '_>, known: &Known<'_>, across: &Range<f64>) -> Drawn {
    let within = |at: f64| at.clamp(across.start, across.end);
    let label = |color: RGBColor, side: Pos| ("sans-serif", 13).into_font().color(&color).pos(side);
    let shares = [0.5, 0.05, 0.01];
    for (waits, color, is_left) in [(known.without, WITHOUT, false), (known.with, WITH, true)] {
        let others = known.without.percentiles();
        for (((_, estimate), (_, other)), share) in
            waits.percentiles().into_iter().zip(others).zip(shares)
        {
            let (low, high) = (within(estimate.low), within(estimate.high.unwrap_or(f64::MAX)));
            let at = (within(estimate.value), share);
            let reach = [(low, share), (high, share)];
            chart.draw_series([PathElement::new(reach, color.mix(0.45).stroke_width(5))])?;
            chart.draw_series([Circle::new(at, 4, color.filled())])?;
            // Where both are the same, one of them says it.
            if is_left && seconds(estimate.value) == seconds(other.value) {
                continue;
            }
            let (side, shift) = if is_left {
                (Pos::new(HPos::Right, VPos::Top), (-6, 7))
            } else {
                (Pos::new(HPos::Left, VPos::Bottom), (7, -5))
            };
            let text = Text::new(seconds(estimate.value), shift, label(color, side));
            chart.draw_series([EmptyElement::at(at) + text])?;
        }
    }
    for ((name, _), share) in known.with.percentiles().into_iter().zip(shares) {
        let style = ("sans-serif", 14).into_font().color(&GREY);
        let text = Text::new(name, (8, 0), style.pos(Pos::new(HPos::Left, VPos::Center)));
        chart.plotting_area().draw(&(EmptyElement::at((across.end, share)) + text))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    /// Fails where a tag is not closed, or a text holds a bare mark.
    #[track_caller]
    fn check_is_xml(text: &str) {
        let mut open = Vec::new();
        for piece in text.split('<').skip(1) {
            let (tag, rest) = piece.split_once('>').unwrap_or_else(|| panic!("`{piece}` is open"));
            let name = tag.split([' ', '\n', '/']).find(|it| !it.is_empty()).unwrap();
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            if tag.starts_with('/') {
                assert_eq!(open.pop(), Some(name), "{tag}");
                assert_eq!(rest.trim(), "");
            } else if !tag.ends_with('/') {
                open.push(name);
            }
            for (at, _) in rest.match_indices('&') {
                assert!(
                    ["&lt;", "&gt;", "&amp;", "&apos;", "&quot;"]
                        .iter()
                        .any(|it| rest[at..].starts_with(it)),
                    "{rest}"
                );
            }
        }
        assert!(open.is_empty(), "{open:?} are not closed");
    }

    #[test]
    fn each_route_that_is_known_has_a_panel() {
        let text = svg(&fixture::report()).unwrap();
        check_is_xml(&text);
        assert!(text.contains(r#"width="860" height="800""#), "two of three routes");
        for word in [
            "smart, streams",
            "cheap &lt;b&gt;&amp;, whole answers",
            "p99 1.68 s -&gt; 680 ms",
            "with hedging, measured",
            "without hedging, estimated",
            "time to the first token",
            "requests that wait longer",
            "0.1 %",
        ] {
            assert!(text.contains(word), "no `{word}` in\n{text}");
        }
        for mark in ["p50", "p95", "p99"] {
            assert_eq!(text.matches(&format!("\n{mark}\n")).count(), 2, "{mark}");
        }
    }

    #[test]
    fn nothing_known_draws_nothing() {
        let empty = Report::new(vec![], vec![]);
        assert!(matches!(svg(&empty), Err(Undrawn::Nothing)));
        let mut report = fixture::report();
        report.routes.retain(|route| route.distribution.is_none());
        assert!(matches!(svg(&report), Err(Undrawn::Nothing)));
    }

    #[test]
    fn odd_numbers_do_no_harm() {
        let mut report = fixture::report();
        report.routes.truncate(1);
        for (seconds, shares) in [
            (vec![0.0, 0.0], vec![1.0, 1.0]),
            (vec![f64::NAN, -1.0, 1e300], vec![f64::NAN, 7.0, -2.0]),
            (vec![1.0, 1.0, 1.0], vec![0.0; 3]),
            (vec![1.0, 2.0], vec![1.0]),
            (vec![1e-308, f64::MAX], vec![0.5, 0.4]),
        ] {
            let distribution = Distribution { seconds, with: shares.clone(), without: shares };
            report.routes[0].distribution = Some(distribution);
            check_is_xml(&svg(&report).unwrap());
        }
    }

    #[test]
    fn lines_end_at_the_rarest_share() {
        let points = visible(&[0.1, 1.0, 10.0], &[1.0, 0.01, 0.0]);
        let (at, share) = points[2];
        assert!((share - RAREST).abs() < 1e-12 && (3.0..3.4).contains(&at), "{points:?}");
    }
}
