//! Answers that wait for a position: one queue per watermark, ordered by position.
//!
//! Positions of one watermark rise in arrival order, so a new answer goes to the back and only the front is looked at.
//! Nothing depends on that but speed: an answer with a lower position is sorted in.
//!
//! Invariant: `next_deadline` is no later than any deadline in the queues.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use super::{Finish, InFlightPermit, Reached, RequestKey};
use crate::runtime::Mono;
use crate::runtime::sync::{Ticket, Watermark};

pub(super) struct WaitingAnswer {
    pub(super) key: RequestKey,
    pub(super) position: u64,
    pub(super) deadline: Mono,
    pub(super) finish: Finish,
    pub(super) permit: Option<InFlightPermit>,
}

struct Queue {
    mark: Watermark,
    answers: VecDeque<WaitingAnswer>,
    /// For the front's position, kept from one wait to the next.
    ticket: Option<Ticket>,
}

pub(super) struct Waiting {
    queues: Vec<Queue>,
    count: usize,
    next_deadline: Mono,
}

impl Waiting {
    pub(super) fn new() -> Waiting {
        Waiting { queues: Vec::new(), count: 0, next_deadline: Mono::NEVER }
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn next_deadline(&self) -> Mono {
        self.next_deadline
    }

    pub(super) fn push(&mut self, mark: Watermark, answer: WaitingAnswer) {
        self.count += 1;
        self.next_deadline = self.next_deadline.min(answer.deadline);
        let queue = match self.queues.iter().position(|queue| queue.mark.is_same(&mark)) {
            Some(index) => &mut self.queues[index],
            None => {
                self.queues.push(Queue { mark, answers: VecDeque::new(), ticket: None });
                self.queues.last_mut().expect("pushed above")
            }
        };
        let index = queue.answers.partition_point(|waiting| waiting.position <= answer.position);
        queue.answers.insert(index, answer);
    }

    /// Ends the waits whose position is reached or never will be, and those whose deadline has passed; gives each
    /// answer, with how its wait ended, to `send`.
    pub(super) fn release(&mut self, now: Mono, mut send: impl FnMut(WaitingAnswer, Reached)) {
        for queue in &mut self.queues {
            while let Some(front) = queue.answers.front() {
                // Failure is read first: a position that counted before the failure was seen is reached all the same.
                let failed = queue.mark.has_failed();
                let reached = match queue.mark.get() >= front.position {
                    true => Reached::Yes,
                    false if failed => Reached::Failed,
                    false => break,
                };
                if let Some(answer) = queue.answers.pop_front() {
                    self.count -= 1;
                    send(answer, reached);
                }
            }
        }
        if self.count == 0 {
            self.queues.clear();
            self.next_deadline = Mono::NEVER;
        } else if now >= self.next_deadline {
            self.expire(now, send);
        }
    }

    fn expire(&mut self, now: Mono, mut send: impl FnMut(WaitingAnswer, Reached)) {
        self.next_deadline = Mono::NEVER;
        for queue in &mut self.queues {
            for answer in std::mem::take(&mut queue.answers) {
                if answer.deadline <= now {
                    self.count -= 1;
                    send(answer, Reached::TimedOut);
                } else {
                    self.next_deadline = self.next_deadline.min(answer.deadline);
                    queue.answers.push_back(answer);
                }
            }
        }
    }

    /// Ready when [`Self::release`] has something to do because of a position.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        for queue in &mut self.queues {
            let Some(front) = queue.answers.front() else {
                continue;
            };
            let ticket = match &mut queue.ticket {
                Some(ticket) if ticket.position() == front.position => ticket,
                slot => slot.insert(queue.mark.ticket(front.position)),
            };
            if ticket.poll(context).is_ready() {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remoting::{RemotingCommand, SerializeType};

    fn answer(opaque: i32, position: u64, deadline: u64) -> WaitingAnswer {
        WaitingAnswer {
            key: RequestKey { opaque, serialize_type: SerializeType::Json, oneway: false },
            position,
            deadline: Mono(deadline),
            finish: Box::new(|_| RemotingCommand::request(0).into()),
            permit: None,
        }
    }

    fn released(waiting: &mut Waiting, now: u64) -> Vec<(i32, Reached)> {
        let mut out = Vec::new();
        waiting.release(Mono(now), |answer, reached| out.push((answer.key.opaque, reached)));
        out
    }

    #[test]
    fn answers_leave_as_their_positions_are_reached() {
        let (mark, mut waiting) = (Watermark::new(0), Waiting::new());
        for (opaque, position) in [(1, 10), (2, 20), (3, 15)] {
            waiting.push(mark.clone(), answer(opaque, position, 100));
        }
        assert_eq!(released(&mut waiting, 0), []);
        mark.advance(15);
        assert_eq!(released(&mut waiting, 0), [(1, Reached::Yes), (3, Reached::Yes)]);
        mark.fail();
        assert_eq!(released(&mut waiting, 0), [(2, Reached::Failed)]);
        assert_eq!(waiting.len(), 0);
    }

    #[test]
    fn watermarks_do_not_wait_for_each_other() {
        let (slow, fast, mut waiting) = (Watermark::new(0), Watermark::new(0), Waiting::new());
        waiting.push(slow.clone(), answer(1, 5, 100));
        waiting.push(fast.clone(), answer(2, 9, 100));
        fast.advance(9);
        assert!(waiting.poll(&mut Context::from_waker(std::task::Waker::noop())).is_ready());
        assert_eq!(released(&mut waiting, 0), [(2, Reached::Yes)]);
        slow.advance(5);
        assert_eq!(released(&mut waiting, 0), [(1, Reached::Yes)]);
    }

    #[test]
    fn a_deadline_is_kept_wherever_its_answer_stands() {
        let (mark, mut waiting) = (Watermark::new(0), Waiting::new());
        waiting.push(mark.clone(), answer(1, 10, 300));
        waiting.push(mark.clone(), answer(2, 20, 100));
        assert_eq!(waiting.next_deadline(), Mono(100));
        assert_eq!(released(&mut waiting, 100), [(2, Reached::TimedOut)]);
        assert_eq!(waiting.next_deadline(), Mono(300));
        mark.advance(10);
        assert_eq!(released(&mut waiting, 400), [(1, Reached::Yes)]);
        assert_eq!(waiting.next_deadline(), Mono::NEVER);
    }
}
