//! The driver: the one thread of a pool that moves tasks to the workers and results back.
//!
//! It owns the lanes that have tasks on them. Each round it fills them from the queue, writes, waits for news with one
//! poll(2), and reads. It runs none of the user's code.

use super::control::Note;
use super::dispatch::{Phase, Shared, State};
use super::lane::{Condition, Lane};
use procession_ipc::spin::Spin;
use procession_ipc::stream::wait_any;
use std::os::fd::AsFd;
use std::sync::Arc;

/// Moves tasks and results until the pool is done or stopped.
pub(super) fn run(shared: &Shared, note: &dyn Fn(Note)) {
    Driver { shared, note, lanes: Vec::new(), spin: Spin::default() }.run();
    let mut state = shared.lock();
    state.driver_left = true;
    drop(state);
    // The actor may hold ends that waited for the driver's word.
    note(Note::DriverLeft);
}

/// Has the panic of a thread that must not panic end in failed tasks instead of callers that wait for ever.
pub(super) fn run_guarded(shared: &Arc<Shared>, note: &dyn Fn(Note)) {
    if let Err(report) = procession_ipc::unwind::catch(|| run(shared, note)) {
        shared.stop(Some(crate::Error::Runtime(format!("a pool's driver panicked: {}", report.message))));
        shared.lock().driver_left = true;
        note(Note::DriverLeft);
    }
}

struct Driver<'a> {
    shared: &'a Shared,
    note: &'a dyn Fn(Note),
    lanes: Vec<Lane>,
    spin: Spin,
}

impl Driver<'_> {
    fn run(&mut self) {
        while self.fill() {
            let writing = self.transmit();
            self.wait(&writing);
        }
    }

    /// Gives tasks to lanes. `false` when the pool needs no driver any more.
    fn fill(&mut self) -> bool {
        let mut state = self.shared.lock();
        state.driver_sleeps = false;
        match state.phase {
            Phase::Stopped(_) => {
                for mut lane in self.lanes.drain(..) {
                    let wreck = lane.wreck();
                    wreck
                        .lost
                        .iter()
                        .chain(&wreck.untouched)
                        .for_each(|task| state.fail_stopped(task, lane.pid));
                }
                return false;
            }
            Phase::Closing if self.is_done(&state) => {
                // The end of its stream ends a worker.
                state.idle.drain(..).for_each(|lane| lane.stream.hang_up());
                return false;
            }
            Phase::Open | Phase::Closing => {}
        }
        self.assign(&mut state);
        // From here on news must come with a wake-up.
        state.driver_sleeps = true;
        true
    }

    fn is_done(&self, state: &State) -> bool {
        state.queue.is_empty() && self.lanes.is_empty() && state.leased == 0 && state.wrecks.is_empty()
    }

    fn assign(&mut self, state: &mut State) {
        while !state.queue.is_empty() {
            let idle = state.idle.len();
            if let Some(lane) = state.idle.pop() {
                self.lanes.push(lane);
            }
            let open =
                idle.max(1) + self.lanes.iter().filter(|lane| lane.room() > 0 && lane.load() > 0).count();
            let Some(lane) =
                self.lanes.iter_mut().filter(|lane| lane.room() > 0).min_by_key(|lane| lane.load())
            else {
                return;
            };
            // An even share, so that no lane is full while another starves.
            let share = state.queue.len().div_ceil(open).min(lane.room());
            for _ in 0..share {
                let Some(task) = self.shared.next_task(state) else { break };
                lane.assign(task);
            }
            if lane.load() == 0 {
                // Everything that was queued was cancelled.
                self.retire_idle(state);
                return;
            }
        }
    }

    /// Lanes without tasks go back to the idle list, where callers may lease them.
    fn retire_idle(&mut self, state: &mut State) {
        let idle = self.lanes.extract_if(.., |lane| lane.load() == 0);
        state.idle.extend(idle);
    }

    /// Writes; says which lanes have bytes left.
    fn transmit(&mut self) -> Vec<bool> {
        let mut writing = Vec::with_capacity(self.lanes.len());
        self.lanes = std::mem::take(&mut self.lanes)
            .into_iter()
            .filter_map(|mut lane| match lane.transmit() {
                Ok((Condition::Open, left)) => {
                    writing.push(left);
                    Some(lane)
                }
                // Its last words may still be there to be read.
                Ok((Condition::Ended, _)) => {
                    writing.push(false);
                    Some(lane)
                }
                Err(_) => {
                    self.abandon(lane);
                    None
                }
            })
            .collect();
        writing
    }

    fn wait(&mut self, writing: &[bool]) {
        let wake = (self.shared.wake.as_fd(), false);
        let lanes = self.lanes.iter().zip(writing).map(|(lane, &writing)| (lane.stream.as_fd(), writing));
        let fds: Vec<_> = std::iter::once(wake).chain(lanes).collect();
        // poll(2) fails for lack of memory only; then all are tried, which is right if slow.
        let ready = wait_any(&fds, &mut self.spin).unwrap_or_else(|_| vec![true; fds.len()]);
        if ready[0] {
            self.shared.wake.clear();
        }
        let mut idle = Vec::new();
        for (lane, ready) in std::mem::take(&mut self.lanes).into_iter().zip(&ready[1..]) {
            self.read(lane, *ready, &mut idle);
        }
        if !idle.is_empty() {
            self.shared.lock().idle.append(&mut idle);
        }
    }

    fn read(&mut self, mut lane: Lane, ready: bool, idle: &mut Vec<Lane>) {
        match if ready { lane.receive() } else { Ok(Condition::Open) } {
            Ok(Condition::Open) if lane.load() == 0 => idle.push(lane),
            Ok(Condition::Open) => self.lanes.push(lane),
            Ok(Condition::Ended) | Err(_) => self.abandon(lane),
        }
    }

    /// The lane cannot be used any more: its worker is dead, or is made to be.
    fn abandon(&self, lane: Lane) {
        let worker = lane.worker;
        self.shared.lock().wrecks.insert(worker, lane);
        (self.note)(Note::StreamEnded(worker));
    }
}
