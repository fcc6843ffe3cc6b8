//! A link: frames over one stream, in order within each class, urgent classes first, with credit for what was taken.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use dunlin_gossip::face::{FrameClass, LinkId};
use dunlin_gossip::limits::{MAX_FRAME, MAX_LINK_QUEUE};
use quinn::{RecvStream, SendStream};
use tokio::sync::{Notify, mpsc};

use crate::conn::{Conn, explain};
use crate::event::NetEvent;

/// Bytes given to the transport in one write, so that a later urgent frame waits for no more than that.
const BATCH: usize = 64 * 1024;

#[derive(Debug, Default)]
struct Queue {
    classes: [VecDeque<Arc<[u8]>>; 3],
    bytes: usize,
    /// Dropped, and not yet told as credit.
    owed: u64,
    /// Why the link shall end.
    ending: Option<String>,
}

const fn index(class: FrameClass) -> usize {
    match class {
        FrameClass::Control => 0,
        FrameClass::Push => 1,
        FrameClass::Sync => 2,
    }
}

impl Queue {
    /// Takes a frame in; what does not fit is dropped from the least urgent class first and owed as credit.
    fn push(&mut self, frame: Arc<[u8]>, class: FrameClass) {
        let class = index(class);
        while self.bytes + frame.len() > MAX_LINK_QUEUE {
            let less_urgent = self.classes.iter_mut().skip(class + 1).rev().find_map(VecDeque::pop_back);
            let Some(dropped) = less_urgent else {
                self.owed += frame.len() as u64;
                if class == index(FrameClass::Control) {
                    self.ending = Some("the peer reads too slowly".into());
                }
                return;
            };
            self.bytes -= dropped.len();
            self.owed += dropped.len() as u64;
        }
        self.bytes += frame.len();
        if let Some(queue) = self.classes.get_mut(class) {
            queue.push_back(frame);
        }
    }

    /// The next frames to write, most urgent first, and the credit owed for dropped ones.
    fn batch(&mut self) -> (Vec<Arc<[u8]>>, u64) {
        let (mut frames, mut size) = (Vec::new(), 0);
        while size < BATCH {
            let Some(frame) = self.classes.iter_mut().find_map(VecDeque::pop_front) else { break };
            size += frame.len();
            frames.push(frame);
        }
        self.bytes -= size;
        (frames, std::mem::take(&mut self.owed))
    }
}

/// A link that stands.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) id: LinkId,
    pub(crate) conn: Arc<Conn>,
    queue: Mutex<Queue>,
    filled: Notify,
    ended: Notify,
}

enum Next {
    Write(Vec<Arc<[u8]>>, u64),
    End(String),
}

impl Link {
    pub(crate) fn new(id: LinkId, conn: Arc<Conn>) -> Self {
        Self { id, conn, queue: Mutex::default(), filled: Notify::new(), ended: Notify::new() }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn send(&self, frame: Arc<[u8]>, class: FrameClass) {
        if frame.len() > MAX_FRAME {
            tracing::error!(
                size = frame.len(),
                "a frame larger than {MAX_FRAME} bytes was given to a link and dropped"
            );
            self.queue().owed += frame.len() as u64;
        } else {
            self.queue().push(frame, class);
        }
        self.filled.notify_one();
    }

    pub(crate) fn end(&self, reason: &str) {
        self.queue().ending.get_or_insert_with(|| reason.to_owned());
        // The writer may be stuck in a write, which the second notification interrupts.
        self.filled.notify_one();
        self.ended.notify_one();
    }

    /// Bytes that were not written yet.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.queue().bytes
    }

    async fn next(&self) -> Next {
        loop {
            {
                let mut queue = self.queue();
                if let Some(reason) = queue.ending.clone() {
                    return Next::End(reason);
                }
                let (frames, owed) = queue.batch();
                if !frames.is_empty() || owed > 0 {
                    return Next::Write(frames, owed);
                }
            }
            self.filled.notified().await;
        }
    }

    /// Carries frames until the link ends; returns why.
    pub(crate) async fn run(&self, send: SendStream, recv: RecvStream, events: &mpsc::Sender<NetEvent>) -> String {
        let reason = tokio::select! {
            reason = self.write(send, events) => reason,
            reason = self.read(recv, events) => reason,
            () = self.ended.notified() => None,
        };
        let ending = self.queue().ending.take();
        let cause = || self.conn.quinn.close_reason().as_ref().map(explain);
        let reason = ending.or(reason).or_else(cause).unwrap_or_else(|| "the peer hung up".into());
        self.conn.unlink(&reason);
        reason
    }

    async fn write(&self, mut send: SendStream, events: &mpsc::Sender<NetEvent>) -> Option<String> {
        loop {
            let (frames, mut credit) = match self.next().await {
                Next::End(reason) => return Some(reason),
                Next::Write(frames, owed) => (frames, owed),
            };
            let mut chunks = Vec::with_capacity(frames.len() * 2);
            for frame in frames {
                credit += frame.len() as u64;
                let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
                chunks.push(Bytes::copy_from_slice(&length.to_be_bytes()));
                chunks.push(Bytes::from_owner(frame));
            }
            send.write_all_chunks(&mut chunks).await.ok()?;
            events.send(NetEvent::Credit { link: self.id, bytes: credit }).await.ok()?;
        }
    }

    async fn read(&self, mut recv: RecvStream, events: &mpsc::Sender<NetEvent>) -> Option<String> {
        loop {
            let mut length = [0; 4];
            recv.read_exact(&mut length).await.ok()?;
            let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
            if length > MAX_FRAME {
                return Some(format!("the peer sent a frame of {length} bytes; {MAX_FRAME} are allowed"));
            }
            let mut bytes = vec![0; length];
            recv.read_exact(&mut bytes).await.ok()?;
            events.send(NetEvent::Frame { link: self.id, bytes }).await.ok()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(size: usize, mark: u8) -> Arc<[u8]> {
        vec![mark; size].into()
    }

    #[test]
    fn urgent_classes_go_first_and_each_keeps_its_order() {
        let mut queue = Queue::default();
        for (mark, class) in
            [(1, FrameClass::Sync), (2, FrameClass::Push), (3, FrameClass::Control), (4, FrameClass::Push)]
        {
            queue.push(frame(1, mark), class);
        }
        let marks: Vec<u8> = queue.batch().0.iter().map(|f| f[0]).collect();
        assert_eq!(marks, [3, 2, 4, 1]);
        assert_eq!(queue.bytes, 0);
    }

    #[test]
    fn a_full_queue_drops_the_least_urgent_and_owes_its_credit() {
        let mut queue = Queue::default();
        for _ in 0..MAX_LINK_QUEUE / MAX_FRAME {
            queue.push(frame(MAX_FRAME, 0), FrameClass::Sync);
        }
        queue.push(frame(10, 1), FrameClass::Control);
        assert_eq!(queue.owed, MAX_FRAME as u64);
        queue.push(frame(MAX_FRAME, 2), FrameClass::Sync);
        assert_eq!(queue.owed, 2 * MAX_FRAME as u64, "the same class: the newcomer is dropped");
        assert!(queue.ending.is_none() && queue.bytes <= MAX_LINK_QUEUE);
    }
}
