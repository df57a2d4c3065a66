//! Which machine is what to the cluster: a master, its slave, a client. It changes when a slave becomes the master.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hotfire_sim::NodeId;

/// Machines by what they are, under the names of the node table. Shared by the runner, the witness and all programs.
#[derive(Clone)]
pub struct Nodes {
    now: Arc<Mutex<BTreeMap<String, NodeId>>>,
    /// What each machine was at first.
    machines: Arc<BTreeMap<NodeId, String>>,
}

impl Nodes {
    #[must_use]
    pub fn new(nodes: BTreeMap<String, NodeId>) -> Nodes {
        let machines = nodes.iter().map(|(name, node)| (*node, name.clone())).collect();
        Nodes { now: Arc::new(Mutex::new(nodes)), machines: Arc::new(machines) }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, NodeId>> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[must_use]
    pub fn get(&self, name: &str) -> Option<NodeId> {
        self.lock().get(name).copied()
    }

    /// # Panics
    /// When nobody has that name.
    #[must_use]
    pub fn of(&self, name: &str) -> NodeId {
        self.get(name).unwrap_or_else(|| panic!("no node is named {name}"))
    }

    /// What the machine was at first that has that name now: its address follows from it.
    #[must_use]
    pub fn machine(&self, name: &str) -> String {
        self.machines[&self.of(name)].clone()
    }

    /// What a machine is now.
    #[must_use]
    pub fn name_of(&self, node: NodeId) -> Option<String> {
        self.lock().iter().find(|(_, id)| **id == node).map(|(name, _)| name.clone())
    }

    #[must_use]
    pub fn all(&self) -> BTreeMap<String, NodeId> {
        self.lock().clone()
    }

    /// Each of the two machines is what the other one was.
    pub fn swap(&self, one: &str, other: &str) {
        let mut nodes = self.lock();
        let (a, b) = (nodes[one], nodes[other]);
        nodes.insert(one.to_owned(), b);
        nodes.insert(other.to_owned(), a);
    }
}
