//! One run as a page that a browser shows, with nothing else to fetch: a lane for each node and each group of consumers, time
//! downwards, one row for each thing that happened.
//!
//! - A send is an arrow from its producer, in the row in which it began, to the broker that acknowledged it, in the row in which
//!   the answer came; one that was refused, or whose end nobody knows, ends beside its producer. A delivery is an arrow from the
//!   broker to the group.
//! - A fault is a band over the lanes of its nodes for as long as it lasts; a node that is down has a grey one.
//! - What nodes did is a dot with the simulator's own word for it.
//! - The broken promise is a red line across all lanes, and the messages that it speaks of are red.
//!
//! Rows, not milliseconds, are equally far apart: what happens within one ms can be read as well as what takes a minute.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display, Write as _};

use hotfire_core::remoting::codes::response_name;
use hotfire_sim::TraceEvent;
use serde_json::Value;

use crate::history::{Outcome as Send, Sent, Status};
use crate::plan::{Fault, Planned, names};
use crate::report::{Outcome, replay_line};
use crate::workload::MessageId;

/// Rows before the end that are shown at most: a browser still draws them at once.
const ROWS_MAX: usize = 6_000;
const ROW: usize = 16;
const LANE: usize = 190;
const LEFT: usize = 110;
const TOP: usize = 30;
/// Between the middle of a lane and the end of an arrow that reaches no other one.
const STUB: usize = 60;

/// The events that say something to a reader: what the product tells of itself, and what befalls nodes. Those of single bytes,
/// sectors and system calls are in the file of `--trace`.
#[must_use]
pub fn is_shown(event: &TraceEvent) -> bool {
    match event.kind.split_once('.') {
        Some(("net", what)) => matches!(what, "link" | "refuse" | "timed_out"),
        Some(("disk", what)) => {
            matches!(what, "stall" | "lost" | "put_back" | "replaced" | "unreadable" | "drop_caches")
        }
        Some(_) => true,
        None => false,
    }
}

/// What a row shows.
#[derive(Clone, Copy)]
enum What<'a> {
    Begins(usize),
    Ends(usize),
    Event(&'a TraceEvent),
    SendBegins(MessageId),
    SendEnds(MessageId),
    Delivered(usize),
    Broken,
}

struct Page<'a> {
    outcome: &'a Outcome,
    lanes: Vec<String>,
    /// By time, in ns.
    rows: Vec<(u64, What<'a>)>,
    /// Rows that are left out, before those.
    left_out: usize,
    /// Messages that the broken promise names.
    accused: BTreeSet<MessageId>,
}

/// The page of a run that was made with [`is_shown`] as what it keeps.
#[must_use]
pub fn of(outcome: &Outcome, commit: &str) -> String {
    let page = Page::new(outcome);
    let plan = &outcome.plan;
    let planted = plan.mutant.as_ref().map(|name| format!(" with {name} planted")).unwrap_or_default();
    let title = format!("{} seed {}{planted}: {}", plan.scenario, plan.seed, outcome.verdict.word());
    let broken = outcome.failure.as_ref().map_or(String::new(), |failure| {
        let text = format!("{} at {} ms: {}", failure.promise, failure.at_ms, failure.detail);
        format!("<p class=\"accused\">{}</p>", Escaped(&text))
    });
    let settings = serde_json::to_string_pretty(&plan.settings).unwrap_or_default();
    let left_out = match page.left_out {
        0 => String::new(),
        rows => format!("<p>{rows} earlier rows are left out.</p>"),
    };
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\n<style>{STYLE}</style></head>\n\
         <body><h1>{title}</h1>\n{broken}\n\
         <p>commit {commit}, {} ms simulated, {} acknowledged, {} delivered; <code>{}</code> runs it again from its plan</p>\n\
         <details><summary>settings</summary><pre>{}</pre></details>\n{left_out}\n{page}</body></html>\n",
        outcome.sim_ms,
        outcome.acked,
        outcome.delivered,
        Escaped(&replay_line("FILE")),
        Escaped(&settings),
        title = Escaped(&title),
        commit = Escaped(commit),
    )
}

const STYLE: &str = "body{font:13px sans-serif}svg text{font:11px monospace}.lane{stroke:#bbb}.time{fill:#777}\
.fault{fill:#f5a623;fill-opacity:.22}.down{fill:#000;fill-opacity:.12}.event{fill:#06c}.what{fill:#555}\
.ok{stroke:#2a2}.stored{stroke:#a80}.refused{stroke:#a0a}.unknown{stroke:#888;stroke-dasharray:4 3}\
.delivery{stroke:#28c}.red{stroke:#e00;stroke-width:2.5}.broken{stroke:#e00;stroke-width:3}.accused{color:#c00;fill:#c00}\
.names{position:sticky;top:0;background:#fff}";

impl<'a> Page<'a> {
    fn new(outcome: &'a Outcome) -> Page<'a> {
        let history = &outcome.history;
        let mut lanes = names::all(&outcome.plan.settings);
        let groups: BTreeSet<String> =
            history.deliveries.iter().map(|delivery| delivery.group.clone()).collect();
        lanes.extend(groups.into_iter().filter(|group| !group.is_empty()));
        // What a run adds to the node table stands behind it, and has no lane.
        let table = names::all(&outcome.plan.settings).len();

        let ns = |ms: u64| ms * 1_000_000;
        let mut rows: Vec<(u64, What<'a>)> = Vec::new();
        for (index, planned) in outcome.plan.faults.iter().enumerate() {
            rows.push((ns(planned.at_ms), What::Begins(index)));
            rows.push((ns(planned.at_ms + planned.fault.lasts_ms()), What::Ends(index)));
        }
        let in_table = |event: &&TraceEvent| (event.node.0 as usize) < table;
        rows.extend(outcome.kept.iter().filter(in_table).map(|event| (event.at_ns, What::Event(event))));
        for (id, sent) in &history.sends {
            rows.push((ns(sent.started_ms), What::SendBegins(*id)));
            rows.extend(sent.ended_ms.map(|ended_ms| (ns(ended_ms), What::SendEnds(*id))));
        }
        let deliveries = history.deliveries.iter().enumerate();
        rows.extend(deliveries.map(|(index, delivery)| (ns(delivery.at_ms), What::Delivered(index))));
        // What has the same time keeps the order from above.
        rows.sort_by_key(|(at_ns, _)| *at_ns);
        let mut accused = BTreeSet::new();
        if let Some(failure) = &outcome.failure {
            let at = rows.partition_point(|(at_ns, _)| *at_ns <= ns(failure.at_ms));
            rows.insert(at, (ns(failure.at_ms), What::Broken));
            let words = failure.detail.split(|letter: char| !letter.is_ascii_digit());
            let numbers = words.filter_map(|word| word.parse().ok()).map(MessageId);
            accused.extend(numbers.filter(|id| history.sends.contains_key(id)));
        }
        let left_out = rows.len().saturating_sub(ROWS_MAX);
        rows.drain(..left_out);
        Page { outcome, lanes, rows, left_out, accused }
    }

    /// The middle of a lane; `None` for a name that has none.
    fn lane(&self, name: &str) -> Option<usize> {
        let index = self.lanes.iter().position(|lane| lane == name)?;
        Some(LEFT + index * LANE + LANE / 2)
    }

    fn width(&self) -> usize {
        LEFT + self.lanes.len() * LANE
    }

    fn row(index: usize) -> usize {
        TOP + index * ROW + ROW / 2
    }

    /// A band over `lanes` between two rows.
    fn band(&self, svg: &mut String, lanes: &[usize], (from, to): (usize, usize), class: &str, title: &str) {
        for x in lanes {
            let (x, y, height) = (x - LANE / 2 + 4, Self::row(from), (to - from) * ROW + ROW / 2);
            let _ = writeln!(
                svg,
                "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{}\" height=\"{height}\"><title>{}</title></rect>",
                LANE - 8,
                Escaped(title)
            );
        }
    }

    fn bands(&self, svg: &mut String) {
        let (mut faults, mut down) = (BTreeMap::new(), BTreeMap::new());
        let end = self.rows.len().saturating_sub(1);
        for (row, (_, what)) in self.rows.iter().enumerate() {
            match what {
                What::Begins(index) => {
                    faults.insert(*index, (row, end));
                }
                What::Ends(index) => {
                    // It began in a row that is left out.
                    faults.entry(*index).or_insert((0, end)).1 = row;
                }
                What::Event(event) => match event.kind {
                    "node.process_died" | "node.power_lost" | "node.exit" => {
                        down.entry(event.node.0).or_insert(row);
                    }
                    "node.boot" => {
                        if let Some(from) = down.remove(&event.node.0) {
                            self.down(svg, event.node.0, (from, row));
                        }
                    }
                    _ => {}
                },
                _ => {}
            }
        }
        for (node, from) in down {
            self.down(svg, node, (from, end));
        }
        for (index, rows) in faults {
            let planned = &self.outcome.plan.faults[index];
            let title = serde_json::to_string(planned).unwrap_or_default();
            let lanes: Vec<usize> =
                self.nodes_of(planned).iter().filter_map(|name| self.lane(name)).collect();
            self.band(svg, &lanes, rows, "fault", &title);
        }
    }

    fn down(&self, svg: &mut String, node: u32, rows: (usize, usize)) {
        let lane = self.lanes.get(node as usize).and_then(|name| self.lane(name));
        self.band(svg, lane.as_slice(), rows, "down", "down");
    }

    /// Those whose names stand in it; all nodes when there are none.
    fn nodes_of(&self, planned: &Planned) -> Vec<String> {
        let mut found = Vec::new();
        let mut unseen = vec![serde_json::to_value(&planned.fault).unwrap_or_default()];
        while let Some(value) = unseen.pop() {
            match value {
                Value::String(text) if self.lanes.contains(&text) => found.push(text),
                Value::Array(values) => unseen.extend(values),
                Value::Object(fields) => unseen.extend(fields.into_iter().map(|(_, value)| value)),
                _ => {}
            }
        }
        if matches!(planned.fault, Fault::PowerLossAll { .. } | Fault::Loss { .. }) {
            found.clone_from(&names::all(&self.outcome.plan.settings));
        }
        found
    }

    fn rows(&self, svg: &mut String) {
        let began: BTreeMap<MessageId, usize> = (self.rows.iter().enumerate())
            .filter_map(
                |(row, (_, what))| if let What::SendBegins(id) = what { Some((*id, row)) } else { None },
            )
            .collect();
        let mut shown_ms = None;
        for (row, (at_ns, what)) in self.rows.iter().enumerate() {
            let (y, ms) = (Self::row(row), at_ns / 1_000_000);
            if shown_ms.replace(ms) != Some(ms) {
                let _ = writeln!(svg, "<text class=\"time\" x=\"4\" y=\"{}\">{ms} ms</text>", y + 4);
            }
            match *what {
                What::Begins(index) => self.fault_name(svg, index, y, ""),
                What::Ends(index) => self.fault_name(svg, index, y, " ends"),
                What::Event(event) => self.event(svg, event, y),
                What::SendBegins(id) => {
                    let Some(x) = self.lane(&names::producer(id.producer())) else { continue };
                    let sent = &self.outcome.history.sends[&id];
                    let text = format!("{} to {}", id.0, sent.topic);
                    self.text(
                        svg,
                        (x + 6, y),
                        if self.accused.contains(&id) { "accused" } else { "what" },
                        &text,
                    );
                    if sent.ended_ms.is_none() {
                        self.send(svg, (id, sent), (y, y));
                    }
                }
                What::SendEnds(id) => {
                    // One that began in a row that is left out comes from above.
                    let from = began.get(&id).map_or(TOP, |row| Self::row(*row));
                    self.send(svg, (id, &self.outcome.history.sends[&id]), (from, y));
                }
                What::Delivered(index) => self.delivery(svg, index, y),
                What::Broken => {
                    let _ = writeln!(
                        svg,
                        "<line class=\"broken\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y}\" y2=\"{y}\"/>",
                        self.width()
                    );
                    let promise =
                        self.outcome.failure.as_ref().map_or("", |failure| failure.promise.as_str());
                    self.text(svg, (LEFT + 6, y - 8), "accused", &format!("{promise} is broken"));
                }
            }
        }
    }

    fn fault_name(&self, svg: &mut String, index: usize, y: usize, how: &str) {
        let planned = &self.outcome.plan.faults[index];
        for x in self.nodes_of(planned).iter().filter_map(|name| self.lane(name)) {
            self.text(svg, (x - LANE / 2 + 8, y), "what", &format!("{}{how}", planned.fault.kind()));
        }
    }

    fn event(&self, svg: &mut String, event: &TraceEvent, y: usize) {
        let lane = self.lanes.get(event.node.0 as usize).and_then(|name| self.lane(name));
        let Some(x) = lane else { return };
        let _ = writeln!(svg, "<circle class=\"event\" cx=\"{x}\" cy=\"{y}\" r=\"2.5\"/>");
        // The second number of the simulator's own events is for its digest.
        let second = if event.kind.starts_with("node.") { String::new() } else { format!(" {}", event.b) };
        self.text(svg, (x + 6, y), "what", &format!("{} {}{second}", event.kind, event.a));
    }

    fn send(&self, svg: &mut String, (id, sent): (MessageId, &Sent), (from, to): (usize, usize)) {
        let Some(x) = self.lane(&names::producer(id.producer())) else { return };
        let beside = x + STUB;
        let (class, end, says) = match &sent.outcome {
            Send::Acked { place, status } => {
                let class = if *status == Status::Ok { "ok" } else { "stored" };
                let says = format!("queue {} offset {}", place.queue, place.queue_offset);
                (class, self.lane(&place.broker).unwrap_or(beside), says)
            }
            Send::Refused { code } => ("refused", beside, format!("{} {}", code, response_name(*code))),
            Send::Unknown => ("unknown", beside, "nobody knows".to_owned()),
            Send::Started => ("unknown", beside, "still on its way".to_owned()),
            Send::Unanswered => ("unknown", beside, "one way".to_owned()),
        };
        let title = format!("{} to {}: {says}", id.0, sent.topic);
        self.arrow(svg, (x, from), (end, to), self.class_of(id, class), &title);
        if end == beside {
            self.text(svg, (end + 4, to), "what", &says);
        }
    }

    fn delivery(&self, svg: &mut String, index: usize, y: usize) {
        let delivery = &self.outcome.history.deliveries[index];
        let (Some(from), Some(to)) = (self.lane(&delivery.place.broker), self.lane(&delivery.group)) else {
            return;
        };
        let (id, place) = (delivery.message, &delivery.place);
        let title =
            format!("{} of {} queue {} offset {}", id.0, place.topic, place.queue, place.queue_offset);
        self.arrow(svg, (from, y), (to, y), self.class_of(id, "delivery"), &title);
        self.text(svg, (to + 6, y), "what", &id.0.to_string());
    }

    fn class_of(&self, id: MessageId, class: &'static str) -> &'static str {
        if self.accused.contains(&id) { "red" } else { class }
    }

    fn arrow(
        &self,
        svg: &mut String,
        (x1, y1): (usize, usize),
        (x2, y2): (usize, usize),
        class: &str,
        title: &str,
    ) {
        let _ = writeln!(
            svg,
            "<line class=\"{class}\" x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\" marker-end=\"url(#end)\"><title>{}</title></line>",
            Escaped(title)
        );
    }

    fn text(&self, svg: &mut String, (x, y): (usize, usize), class: &str, text: &str) {
        let _ = writeln!(svg, "<text class=\"{class}\" x=\"{x}\" y=\"{}\">{}</text>", y + 4, Escaped(text));
    }
}

impl Display for Page<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (width, height) = (self.width(), TOP + self.rows.len() * ROW + ROW);
        let mut svg = String::new();
        for name in &self.lanes {
            let x = self.lane(name).unwrap_or(LEFT);
            let _ =
                writeln!(svg, "<line class=\"lane\" x1=\"{x}\" x2=\"{x}\" y1=\"{TOP}\" y2=\"{height}\"/>");
        }
        self.bands(&mut svg);
        self.rows(&mut svg);
        // The names stay in sight.
        writeln!(f, "<div class=\"names\"><svg width=\"{width}\" height=\"{TOP}\">")?;
        for name in &self.lanes {
            let x = self.lane(name).unwrap_or(LEFT);
            writeln!(f, "<text x=\"{x}\" y=\"20\" text-anchor=\"middle\">{}</text>", Escaped(name))?;
        }
        writeln!(f, "</svg></div>")?;
        writeln!(f, "<svg width=\"{width}\" height=\"{height}\">")?;
        writeln!(
            f,
            "<defs><marker id=\"end\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\"><path d=\"M0 0L8 4L0 8z\" fill=\"context-stroke\"/></marker></defs>"
        )?;
        write!(f, "{svg}")?;
        writeln!(f, "</svg>")
    }
}

/// Text between tags or in an attribute.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            match letter {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                letter => f.write_char(letter)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options;
    use crate::runner::{self, Limits};

    /// Every tag that is opened is closed, in order; what stands alone is closed at once.
    fn is_well_formed(page: &str) -> Result<(), String> {
        let mut open = Vec::new();
        for part in page.split('<').skip(1) {
            let tag = part.split('>').next().ok_or("a tag without an end")?;
            let name: String = tag.chars().take_while(|letter| !matches!(letter, ' ' | '>' | '/')).collect();
            match tag {
                _ if tag.starts_with('!') || tag.starts_with("meta") || tag.ends_with('/') => {}
                _ if tag.starts_with('/') => {
                    let closes = tag[1..].to_owned();
                    let opened: String = open.pop().ok_or(format!("</{closes}> closes nothing"))?;
                    if opened != closes {
                        return Err(format!("<{opened}> is closed by </{closes}>"));
                    }
                }
                _ => open.push(name),
            }
        }
        if open.is_empty() { Ok(()) } else { Err(format!("{open:?} stay open")) }
    }

    #[test]
    fn a_broken_promise_is_shown_with_its_message_its_faults_and_all_nodes() {
        let mut plan = options::draw("power_loss", 1).expect("a listed scenario");
        plan.mutant = Some("AckBeforeFlush".to_owned());
        let outcome = runner::run(&plan, &Limits { keep: Some(is_shown), ..Limits::default() });
        assert!(outcome.failed() && !outcome.kept.is_empty());
        let page = of(&outcome, "<commit>");
        is_well_formed(&page).expect("well formed");
        assert!(page.contains("&lt;commit&gt;") && page.contains("AckBeforeFlush planted: promise broken"));
        for name in names::all(&plan.settings) {
            assert!(page.contains(&format!(">{name}</text>")), "{name} has no lane");
        }
        assert!(page.contains("class=\"red\""), "the message that is lost is marked");
        assert!(page.contains("class=\"broken\"") && page.contains("is broken</text>"));
        let failed_ms = outcome.failure.as_ref().map_or(0, |failure| failure.at_ms);
        for planned in plan.faults.iter().filter(|planned| planned.at_ms < failed_ms) {
            assert!(page.contains(planned.fault.kind()), "{planned:?} has no band");
        }
        assert!(page.contains("store.flushed"), "what nodes did is shown");
    }
}
