//! I17: after the faults every name server knows every live broker's topics, and does not forget them again.
//!
//! # Source
//! `spec/ha.md`, section 5; `spec/known-bugs.md`, N-01 to N-05.

use std::collections::{BTreeMap, BTreeSet};

use super::{Broken, Verdict};

/// Brokers by topic, as one name server answers.
pub type Routes = BTreeMap<String, BTreeSet<String>>;

/// Compares each name server's answers with the topics that each live broker has.
///
/// # Errors
/// The first route that is missing.
pub fn judge(expected: &Routes, answers: &BTreeMap<String, Routes>) -> Verdict {
    for (name_server, routes) in answers {
        for (topic, brokers) in expected {
            let known = routes.get(topic);
            let missing = brokers.iter().find(|broker| !known.is_some_and(|known| known.contains(*broker)));
            if let Some(broker) = missing {
                let detail = format!(
                    "{name_server} has no route for {topic} to {broker}, which is alive and serves it"
                );
                return Err(Broken::new("I17", detail));
            }
        }
    }
    Ok(())
}

/// Whether name servers have ever been complete since the faults ended; once complete, they stay so.
#[derive(Clone, Default, Debug)]
pub struct Convergence {
    complete: bool,
}

impl Convergence {
    /// One look at all name servers.
    ///
    /// # Errors
    /// When a route that was there is gone again.
    pub fn look(&mut self, expected: &Routes, answers: &BTreeMap<String, Routes>) -> Verdict {
        match judge(expected, answers) {
            Ok(()) => {
                self.complete = true;
                Ok(())
            }
            Err(broken) if self.complete => Err(Broken::new(
                "I17",
                format!("{}; it had one before, and nothing has failed since", broken.detail),
            )),
            Err(_) => Ok(()),
        }
    }

    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(brokers: &[&str]) -> Routes {
        [("topic-0".to_owned(), brokers.iter().map(|name| (*name).to_owned()).collect())].into()
    }

    #[test]
    fn a_name_server_that_lacks_a_live_broker_is_rejected() {
        let expected = routes(&["broker-a", "broker-b"]);
        let answers =
            |second: Routes| [("ns-0".to_owned(), expected.clone()), ("ns-1".to_owned(), second)].into();
        assert_eq!(judge(&expected, &answers(expected.clone())), Ok(()));
        assert!(judge(&expected, &answers(routes(&["broker-a"]))).is_err());
        assert!(judge(&expected, &answers(Routes::new())).is_err());
    }

    #[test]
    fn a_route_may_come_late_and_may_not_go_again() {
        let expected = routes(&["broker-a"]);
        let answer = |routes: Routes| [("ns-0".to_owned(), routes)].into();
        let mut convergence = Convergence::default();
        assert_eq!(convergence.look(&expected, &answer(Routes::new())), Ok(()));
        assert!(!convergence.is_complete());
        assert_eq!(convergence.look(&expected, &answer(expected.clone())), Ok(()));
        assert!(convergence.look(&expected, &answer(Routes::new())).is_err());
    }
}
