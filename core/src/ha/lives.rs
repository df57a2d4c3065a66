//! The lives of a master's process, and in which of them it has fed whom: `config/slaves.json`, which Java does not know.
//!
//! Where a life begins, the log of the one before may have been cut: a slave that had more is ahead, and stays so when the log
//! has grown past it, in this life and in every later one. One that was fed in a life has from then on what the log has. So a
//! host that was known before may have what lies before the first life that did not feed it, and no more.
//!
//! Pure. [`Lives::to_json`] is kept before a slave is fed for the first time in a life, and when one is refused for the first
//! time, so that no loss of power takes it.
//!
//! Not covered: a slave whose host was not known, such as one with a copied folder. It is held against where this life began.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// Lives that are remembered at most; of more, the first are forgotten.
const LIVES_MAX: usize = 64;
/// Hosts that are remembered at most; of more, one that was not fed for longest is forgotten.
const HOSTS_MAX: usize = 1_000;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lives {
    /// Where the log ended as each began, rising; the last is the present one.
    begins: Vec<u64>,
    /// How many lives there were when each host was fed last; 0 for one that was refused, or fed before these.
    hosts: BTreeMap<IpAddr, usize>,
}

impl Lives {
    /// Reads what [`Lives::to_json`] wrote; `None` when it is something else.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Lives> {
        let lives: Lives = serde_json::from_slice(bytes).ok()?;
        let is_good = lives.begins.is_sorted_by(|a, b| a < b)
            && lives.begins.len() <= LIVES_MAX
            && lives.hosts.len() <= HOSTS_MAX
            && lives.hosts.values().all(|fed| *fed <= lives.begins.len());
        is_good.then_some(lives)
    }

    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers and addresses")
    }

    /// The process begins with a log that ends at `end`. What began there or beyond is gone, with what was given since.
    pub fn begin(&mut self, end: u64) {
        self.begins.retain(|begin| *begin < end);
        let left = self.begins.len();
        self.hosts.values_mut().for_each(|fed| *fed = left.min(*fed));
        self.begins.push(end);
        if self.begins.len() > LIVES_MAX {
            self.begins.remove(0);
            self.hosts.values_mut().for_each(|fed| *fed = fed.saturating_sub(1));
        }
    }

    /// Where the present life began.
    #[must_use]
    pub fn begun(&self) -> u64 {
        self.begins.last().copied().unwrap_or(0)
    }

    /// What a slave there may have of the log as it was when this life began: everything below.
    #[must_use]
    pub fn limit(&self, host: IpAddr) -> u64 {
        let fed = self.hosts.get(&host).copied().unwrap_or(self.begins.len());
        self.begins.get(fed).copied().unwrap_or_else(|| self.begun())
    }

    /// A slave there will be fed from now on; true when that is new.
    pub fn feeds(&mut self, host: IpAddr) -> bool {
        let lives = self.begins.len();
        let is_new = self.hosts.insert(host, lives) != Some(lives);
        self.forget();
        is_new
    }

    /// A slave there was refused: it is known from now on; true when that is new.
    pub fn refuses(&mut self, host: IpAddr) -> bool {
        let is_new = !self.hosts.contains_key(&host);
        if is_new {
            self.hosts.insert(host, 0);
            self.forget();
        }
        is_new
    }

    fn forget(&mut self) {
        if self.hosts.len() > HOSTS_MAX {
            let longest = self.hosts.iter().min_by_key(|(_, fed)| **fed).map(|(host, _)| *host);
            longest.map(|host| self.hosts.remove(&host));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn host(number: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(number))
    }

    fn begun(at: u64) -> Lives {
        let mut lives = Lives::default();
        lives.begin(at);
        lives
    }

    #[test]
    fn a_host_may_have_what_lies_before_the_first_life_that_did_not_feed_it() {
        let mut lives = begun(0);
        assert!(lives.feeds(host(1)) && lives.feeds(host(2)) && !lives.feeds(host(1)));
        lives.begin(100);
        assert!(lives.feeds(host(1)));
        lives.begin(200);
        assert_eq!((lives.limit(host(1)), lives.limit(host(2))), (200, 100));
        lives.begin(300);
        assert_eq!((lives.limit(host(1)), lives.limit(host(2))), (200, 100));
        // Nothing is known of it.
        assert_eq!(lives.limit(host(3)), 300);
        assert!(lives.feeds(host(2)));
        assert_eq!(lives.limit(host(2)), 300);
    }

    #[test]
    fn a_host_that_was_refused_stays_so_in_later_lives() {
        let mut lives = begun(100);
        assert!(lives.refuses(host(1)) && !lives.refuses(host(1)));
        lives.begin(200);
        assert_eq!((lives.limit(host(1)), lives.limit(host(2))), (100, 200));
    }

    #[test]
    fn a_life_whose_begin_is_lost_is_as_if_it_had_not_been() {
        let mut lives = begun(0);
        lives.begin(100);
        lives.feeds(host(1));
        lives.begin(50);
        assert_eq!(lives.begins, [0, 50]);
        // It has what the log had when it was fed, which is what the log has below 50.
        assert_eq!(lives.limit(host(1)), 50);
        lives.begin(120);
        assert_eq!(lives.limit(host(1)), 50);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_can_be_read_back() {
        let mut lives = Lives::default();
        (0..=LIVES_MAX as u64).for_each(|begin| lives.begin(begin));
        (0..=HOSTS_MAX as u32).for_each(|number| _ = lives.feeds(host(number)));
        assert_eq!((lives.begins.len(), lives.begins[0], lives.hosts.len()), (LIVES_MAX, 1, HOSTS_MAX));
        assert_eq!(Lives::parse(&lives.to_json()), Some(lives));
        for bad in ["", "{}", r#"{"begins":[2,1],"hosts":{}}"#, r#"{"begins":[1],"hosts":{"10.0.0.1":2}}"#] {
            assert_eq!(Lives::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
