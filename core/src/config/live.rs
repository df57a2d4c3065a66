//! Settings that may change while a server runs, and the file that remembers the changes.

use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use super::properties;
use crate::runtime::Runtime;
use crate::store::config_file::ConfigFile;

/// A value that all who hold it see change.
#[derive(Debug, Default)]
pub struct Live<T>(Arc<RwLock<T>>);

impl<T> Clone for Live<T> {
    fn clone(&self) -> Self {
        Live(self.0.clone())
    }
}

impl<T: Clone> Live<T> {
    pub fn new(value: T) -> Live<T> {
        Live(Arc::new(RwLock::new(value)))
    }

    #[must_use]
    pub fn get(&self) -> T {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set(&self, value: T) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = value;
    }
}

/// Reads the settings in the file at `path`; none when there is no file.
///
/// # Errors
/// Of reading, or `InvalidData` when it is not text.
pub(crate) async fn load<R: Runtime>(rt: &R, path: &str) -> io::Result<Vec<(String, String)>> {
    Ok(super::properties(&text(rt, path).await?))
}

async fn text<R: Runtime>(rt: &R, path: &str) -> io::Result<String> {
    let bytes = ConfigFile::load(rt, path).await?.unwrap_or_default();
    String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Writes `changes` into the file at `path`, which keeps its other lines; it is made if need be.
///
/// # Errors
/// Of reading or writing. The file is then as it was, or holds all changes.
pub(crate) async fn save<R: Runtime>(rt: &R, path: &str, changes: &[(String, String)]) -> io::Result<()> {
    if let Some((dir, _)) = path.rsplit_once('/')
        && let Err(error) = rt.stat(dir).await
    {
        if error.kind() != io::ErrorKind::NotFound {
            return Err(error);
        }
        rt.create_dir_all(dir).await?;
        let parent =
            dir.rsplit_once('/').map_or(".", |(parent, _)| if parent.is_empty() { "/" } else { parent });
        rt.sync_dir(parent).await?;
    }
    let changed = with_changes(&text(rt, path).await?, changes);
    ConfigFile::save(rt, path, changed.as_bytes()).await
}

/// The text of a settings file after `changes`: each stands once, at the end, where it wins over what is left of it before.
fn with_changes(text: &str, changes: &[(String, String)]) -> String {
    let is_changed = |line: &str| {
        let mut entries = properties::entries(line);
        let one = entries.pop().filter(|_| entries.is_empty() && !line.ends_with('\\'));
        one.is_some_and(|entry| changes.iter().any(|(key, _)| *key == entry.key))
    };
    let mut after_continued = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        if after_continued || !is_changed(line) {
            lines.push(line.to_owned());
        }
        after_continued = line.ends_with('\\');
    }
    lines.extend(changes.iter().map(|(key, value)| format!("{key}={}", value.replace('\\', "\\\\"))));
    lines.push(String::new());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_setting_takes_the_place_of_its_line_and_the_others_stay() {
        let text = "# mine\nbrokerName=b\nbrokerPermission = 6\ndeleteWhen=04\n";
        let changes =
            [("brokerPermission".to_owned(), "4".to_owned()), ("traceOn".to_owned(), "a\\b".to_owned())];
        let changed = with_changes(text, &changes);
        assert_eq!(changed, "# mine\nbrokerName=b\ndeleteWhen=04\nbrokerPermission=4\ntraceOn=a\\\\b\n");
        assert_eq!(with_changes(&changed, &changes), changed);
        let read = super::super::properties(&changed);
        assert!(read.contains(&("traceOn".to_owned(), "a\\b".to_owned())));
    }

    #[test]
    fn a_setting_over_two_lines_is_overruled_by_what_stands_behind_it() {
        let changed = with_changes("a=1\\\n2\nb=3\n", &[("a".to_owned(), "4".to_owned())]);
        let read = super::super::properties(&changed);
        assert_eq!(read.last(), Some(&("a".to_owned(), "4".to_owned())));
        assert!(read.contains(&("b".to_owned(), "3".to_owned())));
    }
}
