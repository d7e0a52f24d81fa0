//! The driver: the one thread of a pool that moves tasks to the workers and results back.
//!
//! It owns the lanes that have tasks on them. Each round it fills them from the queue, writes, waits for news with one
//! poll(2), and reads. It runs none of the user's code. While it waits it is outside the gate (`procession_ipc::gate`).

use super::control::Note;
use super::dispatch::{Backlog, Phase, Shared, State};
use super::lane::{Condition, Lane};
use procession_ipc::gate::{self, Passage};
use procession_ipc::spin::Spin;
use procession_ipc::stream::{Interest, wait_any};
use std::os::fd::AsFd;
use std::sync::Arc;

/// Moves tasks and results until the pool is done or stopped.
fn run(shared: &Shared, note: &dyn Fn(Note), passage: Passage) {
    let _passage =
        Driver { shared, note, lanes: Vec::new(), backlog: Backlog::default(), spin: Spin::default() }
            .run(passage);
    let mut state = shared.lock();
    state.driver_left = true;
    drop(state);
    // The actor may hold ends that waited for the driver's word.
    note(Note::DriverLeft);
}

/// Has the panic of a thread that must not panic end in failed tasks instead of callers that wait for ever.
pub(super) fn run_guarded(shared: &Arc<Shared>, note: &dyn Fn(Note), passage: Passage) {
    if let Err(report) = procession_ipc::unwind::catch(|| run(shared, note, passage)) {
        shared.stop(Some(crate::Error::Runtime(format!("a pool's driver panicked: {}", report.message))));
        shared.lock().driver_left = true;
        note(Note::DriverLeft);
    }
}

struct Driver<'a> {
    shared: &'a Shared,
    note: &'a dyn Fn(Note),
    lanes: Vec<Lane>,
    /// Tasks taken from the queue that no lane had room for.
    backlog: Backlog,
    spin: Spin,
}

/// Whatever ends the driver, also a panic: nobody waits for tasks that it still had.
impl Drop for Driver<'_> {
    fn drop(&mut self) {
        let state = self.shared.lock();
        self.backlog.drain().for_each(|tasks| state.fail_stopped(&tasks, 0));
        self.lanes.drain(..).for_each(|mut lane| state.fail_wreck(&mut lane));
    }
}

impl Driver<'_> {
    fn run(&mut self, mut passage: Passage) -> Passage {
        while self.fill() {
            let writing = self.transmit();
            drop(passage);
            let ready = self.wait(&writing);
            passage = gate::enter("the driver of a pool");
            self.receive(&ready);
        }
        passage
    }

    /// Gives tasks to lanes. `false` when the pool needs no driver any more.
    fn fill(&mut self) -> bool {
        loop {
            if !self.take() {
                return false;
            }
            self.assign();
            if !self.retire_empty() {
                return true;
            }
        }
    }

    /// Gives back lanes that got no task, since nobody waits for those that were queued any more: nothing would come from
    /// them, and the pool is not done while they are here.
    fn retire_empty(&mut self) -> bool {
        let empty: Vec<Lane> = self.lanes.extract_if(.., |lane| lane.load() == 0).collect();
        let any = !empty.is_empty();
        if any {
            self.shared.lock().idle.extend(empty);
        }
        any
    }

    /// Takes tasks, and lanes to put them on, out of the shared state.
    fn take(&mut self) -> bool {
        let mut state = self.shared.lock();
        state.driver_sleeps = false;
        match state.phase {
            Phase::Stopped(_) => return false,
            Phase::Closing if self.is_done(&state) => {
                // The end of its stream ends a worker.
                state.idle.drain(..).for_each(|lane| lane.stream.hang_up());
                return false;
            }
            Phase::Open | Phase::Closing => {}
        }
        self.shared.take_queue(&mut state, &mut self.backlog);
        while self.lanes.iter().filter(|lane| lane.load() == 0).count() < self.backlog.tasks() {
            let Some(lane) = state.idle.pop() else { break };
            self.lanes.push(lane);
        }
        // From here on news must come with a wake-up.
        state.driver_sleeps = true;
        true
    }

    fn is_done(&self, state: &State) -> bool {
        let nothing_waits = !state.is_waiting() && self.backlog.tasks() == 0;
        nothing_waits && self.lanes.is_empty() && state.leased == 0 && state.wrecks.is_empty()
    }

    fn assign(&mut self) {
        while self.backlog.tasks() > 0 {
            let open = self.lanes.iter().filter(|lane| lane.room() > 0).count();
            let Some(lane) =
                self.lanes.iter_mut().filter(|lane| lane.room() > 0).min_by_key(|lane| lane.load())
            else {
                return;
            };
            // An even share, so that no lane is full while another starves.
            let share = self.backlog.tasks().div_ceil(open).min(lane.room());
            if let Some(tasks) = self.backlog.take(share) {
                lane.assign(tasks);
            }
        }
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

    /// Waits for news; says who has any, the wake-up first.
    fn wait(&mut self, writing: &[bool]) -> Vec<bool> {
        let wake = (self.shared.wake.as_fd(), Interest::Read);
        let interest = |writing| if writing { Interest::Both } else { Interest::Read };
        let lanes =
            self.lanes.iter().zip(writing).map(|(lane, &writing)| (lane.stream.as_fd(), interest(writing)));
        let fds: Vec<_> = std::iter::once(wake).chain(lanes).collect();
        // poll(2) fails for lack of memory only; then all are tried, which is right if slow.
        wait_any(&fds, &mut self.spin).unwrap_or_else(|_| vec![true; fds.len()])
    }

    fn receive(&mut self, ready: &[bool]) {
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
        if self.shared.wrecked(lane) {
            (self.note)(Note::StreamEnded(worker));
        }
    }
}
