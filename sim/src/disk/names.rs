//! Folders and names, apart from the files they name.
//!
//! The kernel's names change at once. On the platter they change when the folder is synced; until then each change is pending,
//! and a power loss may keep any of them and lose any other (as POSIX allows). A rename is one change: old or new, never both,
//! never neither. A name counts only when the folders above it are there.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use hotfire_core::runtime::DirEntry;

use super::power_loss::Severity;
use crate::seed::Draws;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Entry {
    Folder,
    /// The file's number.
    File(u64),
}

#[derive(Clone, Debug)]
enum Change {
    Add { path: String, entry: Entry },
    Remove { path: String },
    Rename { from: String, to: String, entry: Entry },
}

struct Pending {
    sequence: u64,
    change: Change,
}

#[derive(Default)]
pub(super) struct Names {
    kernel: BTreeMap<String, Entry>,
    durable: BTreeMap<String, Entry>,
    pending: Vec<Pending>,
    sequence: u64,
    /// Files that [`Names::lose`] has taken away.
    lost: BTreeSet<u64>,
}

/// One spelling per path: no empty names, no `.`; a leading `/` is kept.
pub(super) fn normalize(path: &str) -> String {
    let names: Vec<_> = path.split('/').filter(|name| !name.is_empty() && *name != ".").collect();
    let joined = names.join("/");
    if path.starts_with('/') { format!("/{joined}") } else { joined }
}

/// The folder of a name; the top folders are `""` and `"/"`.
fn parent(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) => "/",
        Some(at) => &path[..at],
        None => "",
    }
}

fn is_top(path: &str) -> bool {
    path.is_empty() || path == "/"
}

fn is_reachable(names: &BTreeMap<String, Entry>, path: &str) -> bool {
    let mut folder = parent(path);
    while !is_top(folder) {
        if names.get(folder) != Some(&Entry::Folder) {
            return false;
        }
        folder = parent(folder);
    }
    true
}

fn apply(names: &mut BTreeMap<String, Entry>, change: &Change) {
    match change {
        Change::Add { path, entry } => {
            names.insert(path.clone(), *entry);
        }
        Change::Remove { path } => {
            names.remove(path);
        }
        Change::Rename { from, to, entry } => {
            names.remove(from);
            names.insert(to.clone(), *entry);
        }
    }
}

impl Names {
    pub(super) fn get(&self, path: &str) -> Option<Entry> {
        if is_top(path) {
            return Some(Entry::Folder);
        }
        self.kernel.get(path).copied()
    }

    /// # Errors
    /// `NotFound`, `IsADirectory`.
    pub(super) fn file(&self, path: &str) -> io::Result<u64> {
        match self.get(path) {
            Some(Entry::File(inode)) => Ok(inode),
            Some(Entry::Folder) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// # Errors
    /// `NotFound`, `NotADirectory`.
    pub(super) fn folder(&self, path: &str) -> io::Result<()> {
        match self.get(path) {
            Some(Entry::Folder) => Ok(()),
            Some(Entry::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.kernel, &change);
        self.sequence += 1;
        self.pending.push(Pending { sequence: self.sequence, change });
    }

    /// Whether a file may get this name.
    ///
    /// # Errors
    /// `AlreadyExists`; those of [`Self::folder`] for the folder.
    pub(super) fn can_create(&self, path: &str) -> io::Result<()> {
        self.folder(parent(path))?;
        if self.get(path).is_some() { Err(io::ErrorKind::AlreadyExists.into()) } else { Ok(()) }
    }

    pub(super) fn add_file(&mut self, path: &str, inode: u64) {
        self.change(Change::Add { path: path.to_owned(), entry: Entry::File(inode) });
    }

    pub(super) fn create_dir_all(&mut self, path: &str) -> io::Result<()> {
        let mut missing = Vec::new();
        let mut folder = path;
        loop {
            match self.get(folder) {
                Some(Entry::Folder) => break,
                Some(Entry::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                None => missing.push(folder.to_owned()),
            }
            folder = parent(folder);
        }
        for path in missing.into_iter().rev() {
            self.change(Change::Add { path, entry: Entry::Folder });
        }
        Ok(())
    }

    /// The file that `from` named, and the one that lost its name by it.
    ///
    /// # Errors
    /// `NotFound`, `IsADirectory` (folders keep their names here).
    pub(super) fn rename(&mut self, from: &str, to: &str) -> io::Result<Option<u64>> {
        let inode = self.file(from)?;
        self.folder(parent(to))?;
        let replaced = match self.get(to) {
            Some(Entry::Folder) => return Err(io::ErrorKind::IsADirectory.into()),
            Some(Entry::File(old)) if old == inode => return Ok(None),
            Some(Entry::File(old)) => Some(old),
            None => None,
        };
        self.change(Change::Rename { from: from.to_owned(), to: to.to_owned(), entry: Entry::File(inode) });
        Ok(replaced)
    }

    pub(super) fn remove_file(&mut self, path: &str) -> io::Result<u64> {
        let inode = self.file(path)?;
        self.change(Change::Remove { path: path.to_owned() });
        Ok(inode)
    }

    /// Takes a name away from the kernel and from the platter; the file stays for [`Self::put_back`].
    pub(super) fn lose(&mut self, path: &str) -> io::Result<u64> {
        let inode = self.file(path)?;
        self.kernel.remove(path);
        self.durable.remove(path);
        self.lost.insert(inode);
        Ok(inode)
    }

    pub(super) fn put_back(&mut self, path: &str, inode: u64) {
        self.lost.remove(&inode);
        self.kernel.insert(path.to_owned(), Entry::File(inode));
        self.durable.insert(path.to_owned(), Entry::File(inode));
    }

    pub(super) fn remove_dir(&mut self, path: &str) -> io::Result<()> {
        self.folder(path)?;
        if is_top(path) || !self.list(path)?.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        self.change(Change::Remove { path: path.to_owned() });
        Ok(())
    }

    pub(super) fn list(&self, dir: &str) -> io::Result<Vec<DirEntry>> {
        self.folder(dir)?;
        let prefix = match dir {
            "" => String::new(),
            "/" => "/".to_owned(),
            _ => format!("{dir}/"),
        };
        let below = self.kernel.range(prefix.clone()..).take_while(|(path, _)| path.starts_with(&prefix));
        let mut entries: Vec<_> = below
            .filter_map(|(path, entry)| {
                let name = &path[prefix.len()..];
                let direct = !name.is_empty() && !name.contains('/');
                direct.then(|| DirEntry { name: name.to_owned(), is_dir: *entry == Entry::Folder })
            })
            .collect();
        entries.sort();
        Ok(entries)
    }

    /// What a sync that begins now covers.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Makes the changes in `dir` up to `sequence` durable, in order.
    pub(super) fn sync(&mut self, dir: &str, sequence: u64) {
        let durable = &mut self.durable;
        self.pending.retain(|pending| {
            let inside = match &pending.change {
                Change::Add { path, .. } | Change::Remove { path } => parent(path) == dir,
                Change::Rename { from, to, .. } => parent(from) == dir || parent(to) == dir,
            };
            let now = inside && pending.sequence <= sequence;
            if now {
                apply(durable, &pending.change);
            }
            !now
        });
    }

    /// Some name, now or after a power loss, leads to the file.
    pub(super) fn refers(&self, inode: u64) -> bool {
        let entry = Entry::File(inode);
        self.lost.contains(&inode)
            || self.durable.values().any(|durable| *durable == entry)
            || self.kernel.values().any(|name| *name == entry)
            || self.pending.iter().any(|pending| match &pending.change {
                Change::Add { entry: added, .. } | Change::Rename { entry: added, .. } => *added == entry,
                Change::Remove { .. } => false,
            })
    }

    pub(super) fn lost(&self) -> impl Iterator<Item = u64> {
        self.lost.iter().copied()
    }

    /// The file that the name leads to after a power loss that loses all that is pending.
    pub(super) fn durable_file(&self, path: &str) -> Option<u64> {
        match self.durable.get(path) {
            Some(Entry::File(inode)) if is_reachable(&self.durable, path) => Some(*inode),
            _ => None,
        }
    }

    pub(super) fn kernel_entries(&self) -> impl Iterator<Item = (&String, Entry)> {
        self.kernel.iter().map(|(path, entry)| (path, *entry))
    }

    pub(super) fn durable_entries(&self) -> impl Iterator<Item = (&String, Entry)> {
        let reachable = self.durable.iter().filter(|(path, _)| is_reachable(&self.durable, path));
        reachable.map(|(path, entry)| (path, *entry))
    }

    pub(super) fn durable_paths(&self) -> BTreeSet<String> {
        self.durable_entries().map(|(path, _)| path.clone()).collect()
    }

    /// Decides which pending changes the platter has, within `severity` if it was chosen; the rest never happened. Returns how
    /// many were kept and lost.
    pub(super) fn power_loss(&mut self, severity: Option<Severity>, mut draws: Draws) -> (u64, u64) {
        let pending = std::mem::take(&mut self.pending);
        let total = pending.len() as u64;
        // A journal keeps a prefix; without one any subset is possible; now and then nothing or all.
        let drawn = draws.below(10);
        let way = match severity {
            Some(Severity::NothingSurvives) => 0,
            Some(Severity::EverythingSurvives) => 2,
            Some(Severity::Mixed) | None => drawn,
        };
        let prefix = draws.below(total + 1);
        let mut kept = 0;
        for (index, pending) in pending.into_iter().enumerate() {
            let chance = draws.chance(0.5);
            let keep = match way {
                0..=1 => false,
                2 => true,
                3..=5 => (index as u64) < prefix,
                _ => chance,
            };
            if keep {
                apply(&mut self.durable, &pending.change);
                kept += 1;
            }
        }
        // What no folder leads to is gone.
        let reachable: BTreeMap<_, _> =
            self.durable_entries().map(|(path, entry)| (path.clone(), entry)).collect();
        self.durable.clone_from(&reachable);
        self.kernel = reachable;
        (kept, total - kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn losing_all(names: &mut Names) {
        names.power_loss(Some(Severity::NothingSurvives), Draws::new(0, "names", 0));
    }

    #[test]
    fn a_name_survives_only_with_its_folders() {
        let mut names = Names::default();
        names.create_dir_all("a/b").expect("creates folders");
        names.add_file("a/b/file", 1);
        names.sync("a/b", names.sequence());
        assert_eq!(names.durable_file("a/b/file"), None);
        names.sync("a", names.sequence());
        assert_eq!(names.durable_file("a/b/file"), None);
        names.sync("", names.sequence());
        assert_eq!(names.durable_file("a/b/file"), Some(1));
        losing_all(&mut names);
        assert_eq!(names.file("a/b/file").expect("is there"), 1);
    }

    #[test]
    fn a_rename_is_old_or_new_whatever_survives() {
        for seed in 0..200 {
            let mut names = Names::default();
            names.add_file("config", 1);
            names.sync("", names.sequence());
            names.add_file("config.tmp", 2);
            names.rename("config.tmp", "config").expect("renames");
            names.power_loss(None, Draws::new(seed, "rename", 0));
            match names.file("config").expect("old or new") {
                2 => assert!(names.file("config.tmp").is_err()),
                inode => assert_eq!(inode, 1),
            }
        }
    }

    #[test]
    fn a_sync_covers_what_was_there_when_it_began() {
        let mut names = Names::default();
        names.add_file("before", 1);
        let sequence = names.sequence();
        names.add_file("after", 2);
        names.sync("", sequence);
        assert_eq!(names.durable_file("before"), Some(1));
        assert_eq!(names.durable_file("after"), None);
    }

    #[test]
    fn a_list_has_direct_names_only() {
        let mut names = Names::default();
        names.create_dir_all("store/queue/topic").expect("creates folders");
        names.add_file("store/abort", 1);
        names.add_file("storefile", 2);
        let listed: Vec<_> =
            names.list("store").expect("lists").into_iter().map(|entry| entry.name).collect();
        assert_eq!(listed, ["abort", "queue"]);
    }
}
