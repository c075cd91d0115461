//! When sequences were given, coarsely: enough to tell which ids are older than a window.

use meterd_model::Timestamp;
use std::time::Duration;

/// Time between two marks, at least.
const MARK_MICROS: i64 = 3_600_000_000;

#[derive(Clone, Debug, Default)]
pub(crate) struct Marks {
    /// See [`crate::manifest::Manifest::marks`].
    list: Vec<(i64, u64)>,
    /// The greatest time at which something was received, if that is known.
    last_received: Option<i64>,
}

impl Marks {
    pub(crate) fn new(list: Vec<(i64, u64)>) -> Self {
        Self {
            list,
            last_received: None,
        }
    }

    pub(crate) fn list(&self) -> &[(i64, u64)] {
        &self.list
    }

    /// Something is received, and `sequence` is the next to be given.
    pub(crate) fn note(&mut self, received: Timestamp, sequence: u64) {
        let received = received.micros();
        let is_due = self.list.last().is_none_or(|(time, before)| {
            received >= time.saturating_add(MARK_MICROS) && sequence > *before
        });
        if is_due {
            // What was given before came in no later than the last thing did, so that a pause counts in full.
            let begin = self
                .last_received
                .map_or(received, |last| last.saturating_add(1));
            let after_last = self.list.last().is_none_or(|(time, _)| begin > *time);
            let time = if after_last {
                begin.min(received)
            } else {
                received
            };
            self.list.push((time, sequence));
        }
        self.last_received = self.last_received.max(Some(received));
    }
}

/// Lesser sequences were surely given more than `window` before `now`. Up to an hour's worth of others were too.
pub(crate) fn sequence_before(marks: &[(i64, u64)], now: Timestamp, window: Duration) -> u64 {
    let window = i64::try_from(window.as_micros()).unwrap_or(i64::MAX);
    let begin = now.micros().saturating_sub(window);
    let place = marks.partition_point(|(time, _)| *time <= begin);
    let mark = place.checked_sub(1).and_then(|place| marks.get(place));
    mark.map_or(0, |(_, sequence)| *sequence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_window_forgets_is_older_and_what_it_keeps_is_hardly_older() {
        const MINUTE: i64 = 60_000_000;
        let mut marks = Marks::default();
        let mut given = Vec::new();
        let mut time = 0;
        for step in [1, 3, 50, 70, 2_000, 1, 1, 59, 61, 600, 5, 5].repeat(4) {
            time += step * MINUTE;
            let sequence = u64::try_from(given.len()).unwrap() + 1;
            marks.note(Timestamp::from_micros(time).unwrap(), sequence);
            given.push(time);
        }
        assert!(marks.list().is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1));
        for now in [time, time + 500 * MINUTE] {
            for window in [1, 30, 61, 500, 3_000, 20_000] {
                let begin = now - window * MINUTE;
                let before = sequence_before(
                    marks.list(),
                    Timestamp::from_micros(now).unwrap(),
                    Duration::from_mins(u64::try_from(window).unwrap()),
                );
                for (sequence, received) in (1..).zip(&given) {
                    let is_forgotten = sequence < before;
                    assert!(!is_forgotten || *received < begin, "{sequence}");
                    // The last things given have no mark after them yet.
                    let is_followed = given.iter().any(|later| *later > received + 61 * MINUTE);
                    let long_ago = received + 2 * 61 * MINUTE < begin && is_followed;
                    assert!(is_forgotten || !long_ago, "{sequence} {window}");
                }
            }
        }
    }
}
