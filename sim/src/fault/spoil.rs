//! Single hosts get worse: their disks, clocks, processors and drivers.

use crate::net::HostNo;
use crate::queue::{MS, Nanos};
use crate::scenario::Spoil;
use crate::world::World;

impl World {
    pub(super) fn spoil(&mut self, word: &'static str, how: Spoil, no: HostNo) {
        let now = self.now;
        let host = &mut self.hosts[no as usize];
        match how {
            Spoil::SaveDisk => {
                host.disk.saved = Some(host.disk.image.clone());
                self.faults.saved.push(no);
                self.faults.bite(word);
            }
            // These bite when the disk is written to.
            Spoil::FailSync => host.disk.fails = true,
            Spoil::FillDisk => host.disk.full = true,
            Spoil::SlowDisk(by) => host.disk.slower = by,
            Spoil::FreeDisk => host.disk.full = false,
            // The standstill shows in the events that it holds up.
            Spoil::Pause(time) => host.paused_until = host.paused_until.max(now + time),
            Spoil::Slow(times) => {
                host.slow = times.max(1);
                self.faults.bite(word);
            }
            Spoil::HangDrivers(time) => host.hung_until = host.hung_until.max(now + time),
            Spoil::LoseCommands(time) => host.careless_until = host.careless_until.max(now + time),
            Spoil::JumpClock(ms) => {
                host.clock.skew_ms += ms;
                self.faults.bite(word);
            }
            Spoil::DriftClock(ppm) => {
                host.clock.drift(now, ppm);
                // What the host waits for comes at another moment now.
                let due = host.node.as_ref().and_then(|node| node.next_deadline());
                if let Some(due) = due {
                    let at: Nanos = host.clock.world(due).max(now + MS / 1_000);
                    host.armed = Some(at);
                    self.queue.push(at, crate::event::Event::Deadline { host: no });
                }
                self.faults.bite(word);
            }
        }
    }
}
