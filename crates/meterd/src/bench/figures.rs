//! Figures with names, printed for people or for programs.

use super::options::Output;
use crate::terminal::grouped;

/// In the order in which they are printed.
#[derive(Debug, Default)]
pub(crate) struct Figures(Vec<(String, f64)>);

impl Figures {
    /// A figure that is there already is replaced.
    pub(crate) fn add(&mut self, name: &str, value: impl Into<f64>) {
        self.0.retain(|(known, _)| known != name);
        self.0.push((name.to_owned(), value.into()));
    }

    pub(crate) fn print(&self, output: Output) {
        if output.json {
            let json: serde_json::Map<_, _> = self
                .0
                .iter()
                .map(|(name, value)| (name.clone(), (*value).into()))
                .collect();
            println!("{}", serde_json::Value::Object(json));
            return;
        }
        for (name, value) in &self.0 {
            println!("{:<40}{:>14}", name.replace('_', " "), readable(*value));
        }
    }
}

/// Whole where decimals say nothing.
fn readable(value: f64) -> String {
    let text = if value.fract() == 0.0 || value >= 1000.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.3}")
    };
    text.parse().map_or(text, grouped)
}
