//! The last events of this node, for `dunlin events`, and a channel for those who follow.

use std::collections::VecDeque;
use std::sync::Arc;

use dunlin_core::face::Event;
use dunlin_gossip::face::NoticeLevel;
use tokio::sync::broadcast;

use crate::api::types::EventRow;

/// Events kept in memory.
const KEPT: usize = 1_000;
/// Events that a slow follower may lag behind before it misses some (and is told).
const LAG: usize = 256;

/// Events as the lines of JSON that they are served as.
#[derive(Debug)]
pub(crate) struct EventLog {
    kept: VecDeque<Arc<str>>,
    followers: broadcast::Sender<Arc<str>>,
}

impl EventLog {
    pub(crate) fn new() -> Self {
        Self { kept: VecDeque::new(), followers: broadcast::channel(LAG).0 }
    }

    /// Logs an event, keeps it, and tells it to followers.
    pub(crate) fn push(&mut self, event: &Event, node: Option<String>) {
        let row = EventRow::new(event, node);
        let about = row.replica.as_deref().or(row.service.as_deref()).unwrap_or_default();
        let (kind, node, text) = (row.kind.as_str(), row.node.as_deref().unwrap_or_default(), row.text.as_str());
        match event.level {
            NoticeLevel::Info => tracing::info!(target: "dunlin::event", kind, node, about, "{text}"),
            NoticeLevel::Warn => tracing::warn!(target: "dunlin::event", kind, node, about, "{text}"),
            NoticeLevel::Error => tracing::error!(target: "dunlin::event", kind, node, about, "{text}"),
        }
        let Ok(line) = serde_json::to_string(&row) else { return };
        let line: Arc<str> = line.into();
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(Arc::clone(&line));
        let _nobody_follows = self.followers.send(line);
    }

    /// What is kept, and what comes.
    pub(crate) fn follow(&self) -> (Vec<Arc<str>>, broadcast::Receiver<Arc<str>>) {
        (self.kept.iter().cloned().collect(), self.followers.subscribe())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin_core::face::EventKind;
    use dunlin_gossip::time::Wall;

    #[test]
    fn only_the_last_are_kept() {
        let mut log = EventLog::new();
        let (_, mut follower) = log.follow();
        for n in 0..KEPT + 5 {
            let text = format!("number {n}");
            let (level, kind) = (NoticeLevel::Info, EventKind::Node);
            let event =
                Event { at: Wall(1), level, kind, node: None, service: None, replica: None, member: None, text };
            log.push(&event, None);
        }
        let (kept, _) = log.follow();
        assert_eq!(kept.len(), KEPT);
        assert!(kept[0].contains("number 5") && kept[KEPT - 1].contains("number 1004"));
        assert!(follower.try_recv().is_err(), "a follower that lags is told so");
    }
}
