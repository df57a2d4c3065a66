//! A value with a version. Waiters are woken in the order in which they began to wait.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

struct Shared<T> {
    value: T,
    version: u64,
    next_id: u64,
    wakers: Vec<(u64, Waker)>,
    senders: usize,
}

pub struct Sender<T>(Arc<Mutex<Shared<T>>>);

pub struct Receiver<T> {
    shared: Arc<Mutex<Shared<T>>>,
    seen: u64,
    id: u64,
}

fn lock<T>(shared: &Mutex<Shared<T>>) -> MutexGuard<'_, Shared<T>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn watch<T: Clone>(value: T) -> (Sender<T>, Receiver<T>) {
    let shared =
        Arc::new(Mutex::new(Shared { value, version: 0, next_id: 0, wakers: Vec::new(), senders: 1 }));
    let receiver = Receiver { shared: shared.clone(), seen: 0, id: 0 };
    (Sender(shared), receiver)
}

impl<T: Clone> Sender<T> {
    pub fn send(&self, value: T) {
        self.modify(|old| *old = value);
    }

    /// Changes the value and wakes everybody who waits.
    pub fn modify(&self, change: impl FnOnce(&mut T)) {
        let wakers = {
            let mut shared = lock(&self.0);
            change(&mut shared.value);
            shared.version += 1;
            std::mem::take(&mut shared.wakers)
        };
        for (_, waker) in wakers {
            waker.wake();
        }
    }

    pub fn get(&self) -> T {
        lock(&self.0).value.clone()
    }

    pub fn subscribe(&self) -> Receiver<T> {
        let mut shared = lock(&self.0);
        shared.next_id += 1;
        Receiver { shared: self.0.clone(), seen: shared.version, id: shared.next_id }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        lock(&self.0).senders += 1;
        Sender(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let wakers = {
            let mut shared = lock(&self.0);
            shared.senders -= 1;
            if shared.senders > 0 {
                return;
            }
            std::mem::take(&mut shared.wakers)
        };
        for (_, waker) in wakers {
            waker.wake();
        }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        let mut shared = lock(&self.shared);
        shared.next_id += 1;
        Receiver { shared: self.shared.clone(), seen: self.seen, id: shared.next_id }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let id = self.id;
        lock(&self.shared).wakers.retain(|(waiting, _)| *waiting != id);
    }
}

impl<T: Clone> Receiver<T> {
    /// The value now; `changed` waits for a later one.
    pub fn get(&mut self) -> T {
        let shared = lock(&self.shared);
        self.seen = shared.version;
        shared.value.clone()
    }

    /// Waits for a value that this receiver has not seen; `false` once all senders are gone. Cancel-safe.
    pub async fn changed(&mut self) -> bool {
        poll_fn(|context| {
            let mut shared = lock(&self.shared);
            if shared.version != self.seen {
                self.seen = shared.version;
                return Poll::Ready(true);
            }
            if shared.senders == 0 {
                return Poll::Ready(false);
            }
            let id = self.id;
            shared.wakers.retain(|(waiting, _)| *waiting != id);
            shared.wakers.push((id, context.waker().clone()));
            Poll::Pending
        })
        .await
    }

    /// Waits until the value satisfies `condition`; `false` once all senders are gone and it does not. Cancel-safe.
    pub async fn wait_for(&mut self, condition: impl Fn(&T) -> bool) -> bool {
        loop {
            if condition(&self.get()) {
                return true;
            }
            if !self.changed().await {
                return false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::Context;

    #[test]
    fn a_receiver_sees_each_change_once_and_the_end() {
        let (sender, mut receiver) = watch(1);
        let mut context = Context::from_waker(Waker::noop());
        assert!(pin!(receiver.changed()).poll(&mut context).is_pending());
        sender.send(2);
        assert_eq!(pin!(receiver.changed()).poll(&mut context), Poll::Ready(true));
        assert_eq!(receiver.get(), 2);
        assert!(pin!(receiver.changed()).poll(&mut context).is_pending());
        drop(sender);
        assert_eq!(pin!(receiver.changed()).poll(&mut context), Poll::Ready(false));
    }
    use std::future::Future;
}
