//! `cargo xtask growth`: how the figures change with rows, subjects and meters, as a table and a picture.

use crate::child::{self, Figures};
use anyhow::Context as _;
use clap::Args;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Most measurements to store for the questions; steps are 1, 10 and 100 million
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u32).range(1_000..=100_000_000))]
    rows_max: u32,
    /// Measurements to store for each number of subjects and meters
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1_000..=100_000_000))]
    rows: u32,
    /// Where growth.md and growth.svg go [default: docs]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// A meterd that is built already [default: a release build of this tree]
    #[arg(long, value_name = "FILE")]
    pub(crate) meterd: Option<PathBuf>,
}

/// Longest time that one step may take.
const STEP_MAX: Duration = Duration::from_hours(1);
const ROWS: [u32; 3] = [1_000_000, 10_000_000, 100_000_000];
const SUBJECTS: [u32; 6] = [1, 10, 100, 1_000, 10_000, 100_000];
const METERS: [u32; 4] = [1, 10, 100, 1_000];

/// The figures of the tables: name, heading, decimals.
const QUESTIONS: [(&str, &str, usize); 7] = [
    (
        "one_subject_one_month_by_day_p50_ms",
        "one subject, one month, by day, ms",
        1,
    ),
    (
        "sum_by_subject_top_100_p50_ms",
        "sum by subject, top 100, ms",
        1,
    ),
    (
        "sum_by_attribute_and_hour_p50_ms",
        "sum by attribute and hour, ms",
        1,
    ),
    ("one_sum_over_everything_p50_ms", "one sum, ms", 1),
    ("server_memory_mib_max", "memory, most, MiB", 0),
    ("reopening_seconds", "reopening, s", 2),
    ("disk_bytes_per_row", "disk bytes/row", 1),
];
const LOADING: [(&str, &str, usize); 5] = [
    ("rows_per_second", "rows/s", 0),
    ("server_cpu_seconds_per_million", "server CPU s/million", 2),
    ("server_memory_mib_max", "memory, most, MiB", 0),
    ("reopening_seconds", "reopening, s", 2),
    ("disk_bytes_per_row", "disk bytes/row", 1),
];

pub(crate) fn run(meterd: &Path, options: &Options) -> anyhow::Result<()> {
    let rows = options.rows.to_string();
    let sizes: Vec<u32> = ROWS
        .into_iter()
        .filter(|size| *size <= options.rows_max)
        .collect();
    let by_rows = measure("rows", &sizes, |size| {
        bench(meterd, &["query", "--runs", "10", "--rows", size])
    })?;
    let by_subjects = measure("subjects", &SUBJECTS, |subjects| {
        bench(meterd, &["ingest", "--rows", &rows, "--subjects", subjects])
    })?;
    let by_meters = measure("meters", &METERS, |meters| {
        bench(meterd, &["ingest", "--rows", &rows, "--meters", meters])
    })?;

    let mut text = String::from("<!-- Written by `cargo xtask growth`. -->\n");
    table(&mut text, "rows stored", &by_rows, &QUESTIONS)?;
    table(&mut text, "subjects", &by_subjects, &LOADING)?;
    table(&mut text, "meters", &by_meters, &LOADING)?;
    print!("{text}");

    let questions = QUESTIONS.get(..4).unwrap_or_default();
    let picture = picture(&[
        Panel::new(
            "median of a question, ms, by rows stored",
            &by_rows,
            questions,
        )?,
        Panel::new(
            "memory at the most, MiB, by rows stored",
            &by_rows,
            &[QUESTIONS[4]],
        )?,
        Panel::new(
            "rows loaded per second, by subjects",
            &by_subjects,
            &[LOADING[0]],
        )?,
        Panel::new(
            "rows loaded per second, by meters",
            &by_meters,
            &[LOADING[0]],
        )?,
    ]);
    let out = options
        .out
        .clone()
        .unwrap_or_else(|| crate::root().join("docs"));
    std::fs::write(out.join("growth.md"), text).context("write growth.md")?;
    std::fs::write(out.join("growth.svg"), picture).context("write growth.svg")
}

/// Figures for each step.
type Series = Vec<(u32, Figures)>;

fn measure(
    what: &str,
    steps: &[u32],
    run: impl Fn(&str) -> anyhow::Result<Figures>,
) -> anyhow::Result<Series> {
    let mut series = Series::new();
    for step in steps {
        eprintln!("{what}: {step}");
        series.push((*step, run(&step.to_string())?));
    }
    Ok(series)
}

fn bench(meterd: &Path, arguments: &[&str]) -> anyhow::Result<Figures> {
    let mut command = child::command(meterd);
    command.arg("bench").args(arguments).arg("--json");
    child::read_figures(&mut command, STEP_MAX)
}

fn table(
    text: &mut String,
    by: &str,
    series: &Series,
    columns: &[(&str, &str, usize)],
) -> anyhow::Result<()> {
    write!(text, "\n| {by} |")?;
    for (_, heading, _) in columns {
        write!(text, " {heading} |")?;
    }
    writeln!(text, "\n|---|{}", "---|".repeat(columns.len()))?;
    for (step, figures) in series {
        write!(text, "| {} |", short(f64::from(*step)))?;
        for (name, _, decimals) in columns {
            write!(text, " {:.decimals$} |", figures.get(name)?)?;
        }
        writeln!(text)?;
    }
    Ok(())
}

/// Lines over one axis. Both axes are logarithmic: what grows in proportion rises by one decade per decade.
struct Panel {
    title: &'static str,
    lines: Vec<(&'static str, Vec<(f64, f64)>)>,
}

impl Panel {
    fn new(
        title: &'static str,
        series: &Series,
        figures: &[(&str, &'static str, usize)],
    ) -> anyhow::Result<Self> {
        let mut lines = Vec::new();
        for (name, heading, _) in figures {
            let points: anyhow::Result<Vec<_>> = series
                .iter()
                .map(|(step, of)| Ok((f64::from(*step), of.get(name)?)))
                .collect();
            lines.push((*heading, points?));
        }
        Ok(Self { title, lines })
    }
}

const PANEL_WIDTH: f64 = 460.0;
const PANEL_HEIGHT: f64 = 270.0;
const MARGIN_LEFT: f64 = 52.0;
const MARGIN_RIGHT: f64 = 24.0;
const MARGIN_TOP: f64 = 34.0;
const MARGIN_BOTTOM: f64 = 30.0;
const LEGEND_LINE: f64 = 14.0;
const COLOURS: [&str; 4] = ["#2563eb", "#d97706", "#059669", "#c026d3"];

fn picture(panels: &[Panel; 4]) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"system-ui, sans-serif\" \
         font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n",
        PANEL_WIDTH * 2.0,
        PANEL_HEIGHT * 2.0
    );
    let places = [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)];
    for (panel, (column, row)) in panels.iter().zip(places) {
        // Writing to a string cannot fail.
        let _ = draw(&mut svg, panel, column * PANEL_WIDTH, row * PANEL_HEIGHT);
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw(svg: &mut String, panel: &Panel, left: f64, top: f64) -> std::fmt::Result {
    let points = || panel.lines.iter().flat_map(|(_, points)| points);
    let across = Axis::around(points().map(|point| point.0));
    let up = Axis::around(points().map(|point| point.1));
    let legend = if panel.lines.len() > 1 {
        LEGEND_LINE * 2.0
    } else {
        0.0
    };
    let (width, height) = (
        PANEL_WIDTH - MARGIN_LEFT - MARGIN_RIGHT,
        PANEL_HEIGHT - MARGIN_TOP - MARGIN_BOTTOM - legend,
    );
    let x = |value: f64| left + MARGIN_LEFT + across.share(value) * width;
    let y = |value: f64| top + MARGIN_TOP + legend + (1.0 - up.share(value)) * height;

    let title_y = top + 20.0;
    writeln!(
        svg,
        "<text x=\"{}\" y=\"{title_y}\" font-weight=\"600\">{}</text>",
        left + 12.0,
        panel.title
    )?;
    for value in up.decades() {
        let (from, to, at) = (x(across.low), x(across.high), y(value));
        writeln!(
            svg,
            "<path d=\"M{from:.1} {at:.1}H{to:.1}\" stroke=\"#e5e7eb\"/>"
        )?;
        writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#4b5563\">{}</text>",
            from - 6.0,
            at + 4.0,
            short(value)
        )?;
    }
    for value in across.decades() {
        writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#4b5563\">{}</text>",
            x(value),
            y(up.low) + 16.0,
            short(value)
        )?;
    }
    let mut legend_places = [(0.0, 0.0), (0.5, 0.0), (0.0, 1.0), (0.5, 1.0)].into_iter();
    for ((name, points), colour) in panel.lines.iter().zip(COLOURS) {
        let mut path = String::new();
        for (index, (across, up)) in points.iter().enumerate() {
            let step = if index == 0 { 'M' } else { 'L' };
            write!(path, "{step}{:.1} {:.1}", x(*across), y(*up))?;
            writeln!(
                svg,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"/>",
                x(*across),
                y(*up)
            )?;
        }
        writeln!(
            svg,
            "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>"
        )?;
        let (column, row) = legend_places.next().unwrap_or_default();
        if legend > 0.0 {
            writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{name}</text>",
                left + 12.0 + column * PANEL_WIDTH,
                title_y + (row + 1.0) * LEGEND_LINE + 1.0
            )?;
        }
    }
    Ok(())
}

/// A logarithmic axis from one power of ten to another.
struct Axis {
    low: f64,
    high: f64,
}

impl Axis {
    fn around(values: impl Iterator<Item = f64> + Clone) -> Self {
        let least = values.clone().fold(f64::INFINITY, f64::min).max(1e-3);
        let most = values.fold(0.0, f64::max).max(least);
        let low = least.log10().floor();
        let high = most.log10().ceil().max(low + 1.0);
        Self {
            low: 10_f64.powf(low),
            high: 10_f64.powf(high),
        }
    }

    fn share(&self, value: f64) -> f64 {
        let value = value.clamp(self.low, self.high);
        (value / self.low).log10() / (self.high / self.low).log10()
    }

    fn decades(&self) -> impl Iterator<Item = f64> {
        let high = self.high * 1.001;
        std::iter::successors(Some(self.low), |value| Some(value * 10.0))
            .take_while(move |value| *value <= high)
    }
}

/// As in 0.01, 100, 10k, 1M.
fn short(value: f64) -> String {
    if value >= 1e6 {
        format!("{}M", value / 1e6)
    } else if value >= 1e3 {
        format!("{}k", value / 1e3)
    } else if value >= 1.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.3}").trim_end_matches('0').to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_spans_whole_decades() {
        let axis = Axis::around([20.0, 3_000.0].into_iter());
        let decades: Vec<String> = axis.decades().map(short).collect();
        assert_eq!(decades, ["10", "100", "1k", "10k"]);
        assert!((axis.share(1_000.0) - 2.0 / 3.0).abs() < 1e-9);
        let flat = Axis::around([100.0].into_iter());
        assert_eq!(flat.decades().map(short).collect::<Vec<_>>(), ["100", "1k"]);
    }
}
