//! Whatever happens, in whatever order: the limits and the orders hold.

use super::world::{Running, World};
use crate::supervisor::intensity::Intensity;
use crate::supervisor::spec::{AutoShutdown, ChildKind, Flags, Restart, Rules, Strategy};
use crate::supervisor::strategy::{End, Ending};
use proptest::prelude::{Just, Strategy as Generator, any, prop, prop_oneof, proptest};
use std::time::Duration;

const IDS: [&str; 5] = ["a", "b", "c", "d", "e"];

#[derive(Debug, Clone, Copy)]
enum Event {
    Dies(usize, bool),
    Terminate(usize),
    Restart(usize),
    Delete(usize),
    Add(usize, Rules),
    Break(usize),
    Mend,
    Turn,
    Pass(u64),
}

fn restarts() -> impl Generator<Value = Restart> {
    prop_oneof![Just(Restart::Permanent), Just(Restart::Transient), Just(Restart::Temporary)]
}

fn rules() -> impl Generator<Value = Rules> {
    restarts().prop_map(|restart| Rules { restart, ..Rules::new(ChildKind::Worker) })
}

fn all_flags() -> impl Generator<Value = Flags> {
    let strategies =
        prop_oneof![Just(Strategy::OneForOne), Just(Strategy::OneForAll), Just(Strategy::RestForOne)];
    (strategies, 0..6_u32, 1..20_u64).prop_map(|(strategy, restarts, seconds)| {
        let intensity = Intensity { restarts, period: Duration::from_secs(seconds) };
        Flags { strategy, intensity, auto_shutdown: AutoShutdown::Never }
    })
}

fn events() -> impl Generator<Value = Event> {
    let child = 0..IDS.len();
    prop_oneof![
        5 => (child.clone(), any::<bool>()).prop_map(|(at, is_normal)| Event::Dies(at, is_normal)),
        1 => child.clone().prop_map(Event::Terminate),
        1 => child.clone().prop_map(Event::Restart),
        1 => child.clone().prop_map(Event::Delete),
        2 => (child.clone(), rules()).prop_map(|(at, rules)| Event::Add(at, rules)),
        1 => child.prop_map(Event::Break),
        2 => Just(Event::Mend),
        3 => Just(Event::Turn),
        2 => (0..8_u64).prop_map(Event::Pass),
    ]
}

/// One world and what is known about it from outside.
struct Storm {
    world: World,
    flags: Flags,
    /// Seconds since the beginning, and when there were restarts.
    now: u64,
    restarts: Vec<u64>,
}

impl Storm {
    fn happens(&mut self, event: Event) {
        let before: Vec<String> = self.world.which().iter().map(|(id, _)| (*id).to_owned()).collect();
        let is_up = |id: &str, world: &World| world.which().contains(&(id, Running));
        match event {
            Event::Dies(at, is_normal) if is_up(IDS[at], &self.world) => {
                self.world.dies(IDS[at], if is_normal { End::Normal } else { End::Abnormal });
                self.judge(&before);
            }
            Event::Turn => {
                self.world.turn();
                self.judge(&before);
            }
            Event::Terminate(at) => drop(self.world.terminate_child(IDS[at])),
            Event::Restart(at) => drop(self.world.restart_child(IDS[at])),
            Event::Delete(at) => drop(self.world.roster.delete(IDS[at])),
            Event::Add(at, rules) => drop(self.world.start_child(IDS[at], rules)),
            Event::Break(at) => drop(self.world.broken.insert(IDS[at])),
            Event::Mend => self.world.broken.clear(),
            Event::Pass(seconds) => {
                self.now += seconds;
                self.world.pass(seconds);
            }
            Event::Dies(..) => {}
        }
        self.world.log();
    }

    /// Judges what the supervisor did by itself.
    fn judge(&mut self, order: &[String]) {
        let log = self.world.log();
        let place = |action: &str| order.iter().position(|id| id == &action[1..]);
        let stops: Vec<_> = log.split(' ').filter(|action| action.starts_with('-')).map(place).collect();
        let starts: Vec<_> =
            log.split(' ').filter(|action| action.starts_with(['+', '!'])).map(place).collect();
        assert!(stops.is_sorted_by(|a, b| a > b), "stops go from the last to the first: {log}");
        assert!(starts.is_sorted_by(|a, b| a < b), "starts go from the first to the last: {log}");
        assert!(log.find(['+', '!']).is_none_or(|at| !log[at..].contains('-')), "stops come first: {log}");
        match &self.world.ending {
            None if starts.is_empty() => {}
            None => {
                self.restarts.push(self.now);
                assert!(self.recent() <= u64::from(self.flags.intensity.restarts), "one restart too many");
            }
            Some(Ending::GaveUp { .. }) => {
                assert!(starts.is_empty() && self.recent() >= u64::from(self.flags.intensity.restarts));
            }
            Some(other) => panic!("{other:?}"),
        }
    }

    fn recent(&self) -> u64 {
        let within = |&&at: &&u64| self.now - at <= self.flags.intensity.period.as_secs();
        self.restarts.iter().filter(within).count() as u64
    }
}

proptest! {
    #[test]
    fn restarts_stay_within_the_intensity_and_in_order(
        flags in all_flags(),
        children in prop::collection::vec(rules(), 0..IDS.len()),
        happenings in prop::collection::vec(events(), 0..120),
    ) {
        let children: Vec<_> = IDS.into_iter().zip(children).collect();
        let mut storm = Storm { world: World::made(flags, &children, []), flags, now: 0, restarts: Vec::new() };
        storm.world.log();
        for event in happenings {
            if storm.world.ending.is_none() {
                storm.happens(event);
            }
        }
        storm.world.stop();
        assert!(storm.world.ending.is_some() && storm.world.counts()[1] == 0);
    }
}
