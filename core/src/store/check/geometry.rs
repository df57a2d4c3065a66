//! How long the files of a store are, taken from the files themselves: a directory does not say it anywhere else.

use std::collections::BTreeMap;

use super::super::config::StoreConfig;
use super::super::mapped_file::parse_file_name;
use super::super::recovery::Paths;
use crate::runtime::Runtime;

/// `base` with the lengths of the files that are there.
pub(crate) async fn with_lengths_of_files<R: Runtime>(
    rt: &R,
    paths: &Paths,
    base: &StoreConfig,
) -> StoreConfig {
    let mut config = base.clone();
    let mut log = Vec::new();
    for dir in paths.log_folders() {
        log.extend(files(rt, dir).await);
    }
    log.sort_unstable();
    let mut lengths = Lengths::default();
    lengths.add(&log);
    config.commit_log_file_bytes = lengths.most_likely().unwrap_or(config.commit_log_file_bytes);

    let mut lengths = Lengths::default();
    for topic in rt.list(&paths.consume_queue).await.unwrap_or_default() {
        let topic_dir = format!("{}/{}", paths.consume_queue, topic.name);
        for queue in rt.list(&topic_dir).await.unwrap_or_default() {
            lengths.add(&files(rt, &format!("{topic_dir}/{}", queue.name)).await);
        }
    }
    lengths.by_length.retain(|len, _| len % 20 == 0);
    config.consume_queue_file_bytes = lengths.most_likely().unwrap_or(config.consume_queue_file_bytes);
    config
}

/// First byte and length of the files of `dir` that are not empty, in order.
async fn files<R: Runtime>(rt: &R, dir: &str) -> Vec<(u64, u64)> {
    let mut files = Vec::new();
    for entry in rt.list(dir).await.unwrap_or_default() {
        let Some(base) = parse_file_name(&entry.name).filter(|_| !entry.is_dir) else { continue };
        match rt.stat(&format!("{dir}/{}", entry.name)).await {
            Ok(stat) if stat.len > 0 => files.push((base, stat.len)),
            _ => {}
        }
    }
    files
}

/// The lengths that files have, and how much speaks for each.
#[derive(Default)]
struct Lengths {
    by_length: BTreeMap<u64, u64>,
}

impl Lengths {
    fn add(&mut self, files: &[(u64, u64)]) {
        for (_, len) in files {
            *self.by_length.entry(*len).or_default() += 1;
        }
        // Where the next file begins tells more than a length, which may be cut.
        for pair in files.windows(2) {
            if let [(base, len), (next, _)] = pair
                && next - base == *len
            {
                *self.by_length.entry(*len).or_default() += files.len() as u64;
            }
        }
    }

    /// The one that most files have; of several the longest, since files are cut and do not grow.
    fn most_likely(&self) -> Option<u64> {
        self.by_length.iter().max_by_key(|(len, files)| (**files, **len)).map(|(len, _)| *len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn likely(queues: &[&[(u64, u64)]]) -> Option<u64> {
        let mut lengths = Lengths::default();
        for files in queues {
            lengths.add(files);
        }
        lengths.most_likely()
    }

    #[test]
    fn a_file_that_was_cut_does_not_decide() {
        assert_eq!(likely(&[&[(0, 100), (100, 100), (200, 60)]]), Some(100));
        assert_eq!(likely(&[&[(0, 40), (100, 100)]]), Some(100));
        assert_eq!(likely(&[&[(0, 100), (100, 40)]]), Some(100));
        assert_eq!(likely(&[&[(0, 60)], &[(0, 60)], &[(0, 100), (100, 100)]]), Some(100));
        assert_eq!(likely(&[&[]]), None);
    }
}
