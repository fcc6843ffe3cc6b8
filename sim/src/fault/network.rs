//! Cuts: they begin, take turns and end, and links notice.

use dunlin_gossip::rng::Rng;

use crate::event::Event;
use crate::net::{HostNo, IDLE_TIMEOUT};
use crate::queue::{MS, Nanos};
use crate::scenario::{Action, Cut, Target};
use crate::world::World;

impl World {
    pub(super) fn cut(&mut self, how: Cut, hosts: Vec<HostNo>, rng: &mut Rng) {
        match how {
            Cut::FlipFlop { on, off, times } => {
                for turn in 0..u64::from(times) {
                    let begin = turn * (on + off);
                    self.later(begin, clog(hosts.clone()));
                    self.later(begin + on, heal(hosts.clone()));
                }
            }
            Cut::Swizzle { within } => self.swizzle(hosts, within, rng),
            how => {
                self.net.cut(how, &hosts);
                self.cuts_changed();
            }
        }
    }

    /// Each host is clogged at a moment of its own in the first half and freed at one in the second, in another order
    /// (Zhou et al., "FoundationDB", SIGMOD 2021, section 6.1, and the talks on its simulator).
    fn swizzle(&mut self, mut hosts: Vec<HostNo>, within: Nanos, rng: &mut Rng) {
        rng.shuffle(&mut hosts);
        for host in hosts {
            let (begin, end) = (rng.below(within / 2), within / 2 + rng.below(within / 2));
            self.later(begin, clog(vec![host]));
            self.later(end, heal(vec![host]));
        }
    }

    /// Who reaches whom has changed. A link that is cut ends after the idle time-out; one that is whole again delivers what
    /// waited behind the cut with the next retransmission, in order.
    pub(super) fn cuts_changed(&mut self) {
        self.checks.membership_changed(self.now);
        self.checks.state_changed(self.now);
        let Self { net, queue, now, chance, .. } = self;
        let numbers: Vec<u64> = net.links.keys().copied().collect();
        for number in numbers {
            let Some([a, b]) = net.links.get(&number).map(|link| link.ends) else { continue };
            let parted = net.is_parted(a, b);
            let latency = net.latency(a, b);
            let Some(link) = net.links.get_mut(&number).filter(|link| link.parted != parted) else { continue };
            link.parted = parted;
            link.cut += 1;
            if parted {
                queue.push(*now + IDLE_TIMEOUT, Event::LinkIdle { link: number, cut: link.cut });
                continue;
            }
            let after = latency + chance.below(1_000) * MS;
            for end in [0, 1] {
                let to = link.ends[end];
                for frame in std::mem::take(&mut link.held[end]) {
                    let at = (*now + after).max(link.last[end]);
                    link.last[end] = at;
                    queue.push(at, Event::Frame { link: number, to, frame });
                }
            }
        }
    }
}

const fn clog(hosts: Vec<HostNo>) -> Action {
    Action::Cut { how: Cut::Clog, hosts: Target::Hosts(hosts) }
}

const fn heal(hosts: Vec<HostNo>) -> Action {
    Action::Heal(Some(Target::Hosts(hosts)))
}
