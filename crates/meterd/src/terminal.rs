//! Progress of long work, on a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar on standard error; silent where that is no terminal.
pub(crate) fn progress_bar(total: u64, what: &'static str, unit: Unit) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
    let template = match unit {
        Unit::Bytes => "{msg:16} {bar:32} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
        Unit::Stream => "{msg:16} {spinner} {bytes} {bytes_per_sec} {elapsed}",
        Unit::Rows => "{msg:16} {bar:32} {human_pos} rows {per_sec} {elapsed}",
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(what);
    bar
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Unit {
    Bytes,
    /// Bytes of which nobody knows how many come.
    Stream,
    Rows,
}

/// A whole number with thousands set apart.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn thousands_are_set_apart() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(grouped(number), text);
        }
    }
}
