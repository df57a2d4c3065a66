//! What a command has to tell: rows under headings, or sentences.

use serde_json::{Map, Value};

use crate::{output, table};

pub enum Report {
    /// Column headings, and as many cells in each row.
    Rows(&'static [&'static str], Vec<Vec<Value>>),
    Sentences(Vec<String>),
}

impl Report {
    pub fn rows(headings: &'static [&'static str]) -> Report {
        Report::Rows(headings, Vec::new())
    }

    pub fn done() -> Report {
        Report::Sentences(Vec::new())
    }

    /// # Panics
    /// When the row has not as many cells as there are headings.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Value>) {
        let Report::Rows(headings, rows) = self else { panic!("a report of sentences has no rows") };
        let row: Vec<Value> = cells.into_iter().collect();
        assert_eq!(row.len(), headings.len(), "a cell for each of {headings:?}");
        rows.push(row);
    }

    /// # Panics
    /// When it is a report of rows.
    pub fn tell(&mut self, sentence: String) {
        let Report::Sentences(sentences) = self else { panic!("a report of rows has no sentences") };
        sentences.push(sentence);
    }

    pub fn print(self, json: bool) {
        if json {
            return output::line(self.json());
        }
        match self {
            Report::Sentences(sentences) => sentences.iter().for_each(output::line),
            Report::Rows(headings, rows) => {
                let mut table = table::with_headings(headings);
                for row in rows {
                    table.add_row(row.iter().map(shown));
                }
                output::line(table);
            }
        }
    }

    /// Rows as a list of objects, sentences as a list of texts.
    fn json(self) -> Value {
        match self {
            Report::Sentences(sentences) => sentences.into(),
            Report::Rows(headings, rows) => {
                let object = |row: Vec<Value>| {
                    let members = headings.iter().map(|heading| key(heading)).zip(row);
                    Value::Object(members.collect::<Map<_, _>>())
                };
                rows.into_iter().map(object).collect()
            }
        }
    }
}

fn shown(cell: &Value) -> String {
    match cell {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// `Min Offset` as `minOffset`.
fn key(heading: &str) -> String {
    let mut key = String::new();
    for (index, word) in heading.split(' ').enumerate() {
        let word = word.to_lowercase();
        let mut letters = word.chars();
        match letters.next() {
            Some(first) if index > 0 => {
                key.extend(first.to_uppercase());
                key.push_str(letters.as_str());
            }
            _ => key.push_str(&word),
        }
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_objects_with_the_headings_as_keys() {
        let mut report = Report::rows(&["Broker Name", "QID", "Min Offset"]);
        report.row(["b".into(), 1.into(), 0.into()]);
        assert_eq!(report.json().to_string(), r#"[{"brokerName":"b","minOffset":0,"qid":1}]"#);
    }
}
