//! How far a command has come: a bar on a terminal, a plain line now and then elsewhere. Always on stderr.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const PLAIN_INTERVAL: Duration = Duration::from_secs(5);

/// Counts steps towards an end that may be unknown.
pub struct Progress {
    verb: &'static str,
    shown: Shown,
    count: u64,
    total: Option<u64>,
}

enum Shown {
    Bar(ProgressBar),
    Lines { last: Instant },
}

impl Progress {
    pub fn start(verb: &'static str, total: Option<u64>) -> Progress {
        let shown = if stderr().is_terminal() {
            Shown::Bar(bar(total))
        } else {
            Shown::Lines { last: Instant::now() }
        };
        Progress { verb, shown, count: 0, total }
    }

    pub fn advance(&mut self, by: u64) {
        self.count += by;
        match &mut self.shown {
            Shown::Bar(bar) => bar.set_position(self.count),
            Shown::Lines { last } if last.elapsed() >= PLAIN_INTERVAL => {
                *last = Instant::now();
                match self.total {
                    Some(total) => eprintln!("{} {} of {total}", self.verb, self.count),
                    None => eprintln!("{} {}", self.verb, self.count),
                }
            }
            Shown::Lines { .. } => {}
        }
    }

    /// Takes the bar away, so that the result stands alone.
    pub fn finish(self) {
        if let Shown::Bar(bar) = self.shown {
            bar.finish_and_clear();
        }
    }
}

fn bar(total: Option<u64>) -> ProgressBar {
    let target = ProgressDrawTarget::stderr_with_hz(10);
    let (bar, template) = match total {
        Some(total) => (
            ProgressBar::with_draw_target(Some(total), target),
            "{bar:40} {human_pos}/{human_len} {per_sec} {eta}",
        ),
        None => (ProgressBar::with_draw_target(None, target), "{spinner} {human_pos} {per_sec}"),
    };
    bar.set_style(ProgressStyle::with_template(template).expect("the template is a constant"));
    bar
}
