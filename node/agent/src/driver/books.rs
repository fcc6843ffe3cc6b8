//! Who handles which allocation: the one place where orders find their task.
//!
//! Until the core has been told what earlier agents left, nobody can know whether an allocation runs: the books are
//! closed, and orders wait in them in the order in which they came. So no order is ever answered by a task that does not
//! know of a run that was there before it.

use std::collections::BTreeMap;

use dunlin_gossip::model::{AllocId, DriverKind, Workload};
use tokio::sync::mpsc;

use super::Order;

/// How to reach an allocation's task.
#[derive(Debug)]
struct Task {
    kind: DriverKind,
    /// Not bounded, since a stop must never be lost and the core has only a few orders about one allocation open.
    orders: mpsc::UnboundedSender<Order>,
}

/// A task that has to be started, with the inbox in which its first order lies already.
#[derive(Debug)]
pub(super) struct New {
    pub(super) alloc: AllocId,
    pub(super) kind: DriverKind,
    pub(super) inbox: mpsc::UnboundedReceiver<Order>,
}

/// The books.
#[derive(Debug)]
pub(super) struct Books {
    tasks: BTreeMap<AllocId, Task>,
    /// What came before they were opened; the core starts nothing before that, so these are few.
    early: Option<Vec<(AllocId, Order)>>,
}

impl Books {
    /// Closed, and empty.
    pub(super) const fn new() -> Self {
        Self { tasks: BTreeMap::new(), early: Some(Vec::new()) }
    }

    /// Writes down the task of what was found.
    pub(super) fn enlist(&mut self, alloc: AllocId, kind: DriverKind) -> mpsc::UnboundedReceiver<Order> {
        let (orders, inbox) = mpsc::unbounded_channel();
        if self.tasks.insert(alloc, Task { kind, orders }).is_some() {
            tracing::warn!(%alloc, "its task was replaced");
        }
        inbox
    }

    /// All that was found is written down: what waited goes its way, before anything that comes later.
    pub(super) fn open(&mut self) -> Vec<New> {
        let early = self.early.take().unwrap_or_default();
        early.into_iter().filter_map(|(alloc, order)| self.order(alloc, order)).collect()
    }

    /// Hands an order to its allocation's task. If there is none yet, it comes back to be started.
    pub(super) fn order(&mut self, alloc: AllocId, order: Order) -> Option<New> {
        if let Some(early) = self.early.as_mut() {
            early.push((alloc, order));
            return None;
        }
        let order = match self.tasks.get(&alloc) {
            Some(task) => match task.orders.send(order) {
                Ok(()) => return None,
                // Its task is gone without having retired: only a panic does that.
                Err(refused) => refused.0,
            },
            None => order,
        };
        let kind = match &order {
            Order::Start(spec) if matches!(spec.workload, Workload::Docker(_)) => DriverKind::Docker,
            // What nobody knows is stopped and forgotten alike by both.
            Order::Start(_) | Order::Stop(_) | Order::Forget => DriverKind::Exec,
            // What nobody knows has no lease.
            Order::Extend(_) => return None,
        };
        self.tasks.remove(&alloc);
        let (orders, inbox) = mpsc::unbounded_channel();
        // Cannot fail: the other end is in the line above.
        let _sent = orders.send(order);
        self.tasks.insert(alloc, Task { kind, orders });
        Some(New { alloc, kind, inbox })
    }

    /// Takes a task off the books, unless an order waits for it: true if it may end.
    pub(super) fn retire(&mut self, alloc: AllocId, inbox: &mpsc::UnboundedReceiver<Order>) -> bool {
        let idle = inbox.is_empty();
        if idle {
            self.tasks.remove(&alloc);
        }
        idle
    }

    /// All allocations, and what runs each.
    pub(super) fn all(&self) -> Vec<(AllocId, DriverKind)> {
        self.tasks.iter().map(|(alloc, task)| (*alloc, task.kind)).collect()
    }

    /// What runs this allocation, as far as is known.
    pub(super) fn kind(&self, alloc: AllocId) -> Option<DriverKind> {
        self.tasks.get(&alloc).map(|task| task.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOC: AllocId = AllocId(7);

    #[test]
    fn an_early_order_reaches_what_was_found_and_never_a_task_that_knows_nothing() {
        let mut books = Books::new();
        assert!(books.order(ALLOC, Order::Forget).is_none(), "nobody may answer yet");
        assert!(books.order(AllocId(8), Order::Forget).is_none());
        let mut inbox = books.enlist(ALLOC, DriverKind::Docker);
        let new = books.open();
        assert!(matches!(inbox.try_recv(), Ok(Order::Forget)));
        assert_eq!(new.iter().map(|new| new.alloc).collect::<Vec<_>>(), [AllocId(8)], "nothing of it was found");
        assert!(books.order(ALLOC, Order::Forget).is_none());
        assert!(matches!(inbox.try_recv(), Ok(Order::Forget)));
    }

    #[test]
    fn a_task_retires_only_when_nothing_waits_for_it() {
        let mut books = Books::new();
        assert!(books.open().is_empty());
        let mut new = books.order(ALLOC, Order::Forget).expect("a new task");
        assert!(!books.retire(ALLOC, &new.inbox));
        assert!(new.inbox.try_recv().is_ok());
        assert!(books.retire(ALLOC, &new.inbox));
        assert_eq!(books.kind(ALLOC), None);
        assert!(books.order(ALLOC, Order::Forget).is_some());
    }
}
