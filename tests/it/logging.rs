//! Logs of other processes at this one's subscriber: events, spans, whose they are, and which of them are sent.

mod collector;
mod limits;
mod lines;

use std::io;

use procession::{
    Connection, LevelFilter, LogForwarding, Pool, Process, StartMethod, pipe, set_log_forwarding,
};
use tracing::{Level, Span, debug, error, info, info_span, trace, warn};

use crate::family::{contexts, leave, park_forever, run, start};
use crate::support::{eventually, fd_count, isolated, own_pid, thread_count};
use collector::{Seen, listen, peek, take, take_events};

#[derive(Debug)]
struct Outer(io::Error);

impl std::fmt::Display for Outer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("outer")
    }
}

impl std::error::Error for Outer {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

#[test]
fn events_of_a_child_arrive_with_callsite_process_and_the_kind_of_each_value() {
    fn child() -> u32 {
        let outer = Outer(io::Error::other("inner"));
        let error: &(dyn std::error::Error + 'static) = &outer;
        let line = line!() + 1;
        warn!(
            target: "their::target", count = 5_u64, below = -5_i64, big = u128::MAX, ratio = 0.5, yes = true,
            text = "a\nb", debug = ?Some("x"), display = %"y", error, raw = &b"\xff\x00"[..], "it is {}", 7
        );
        line
    }
    isolated(|| {
        listen(LevelFilter::INFO);
        for context in &contexts() {
            let process = Process::builder(child).context(context).name("worker bee").start().unwrap();
            let pid = process.pid();
            let line = process.result().unwrap();
            let [event] = take_events().try_into().unwrap();
            let metadata = event.metadata;
            assert_eq!(
                (metadata.target(), *metadata.level(), metadata.line()),
                ("their::target", Level::WARN, Some(line))
            );
            assert!(metadata.file().unwrap().ends_with("logging.rs"));
            assert_eq!(metadata.module_path(), Some(module_path!()));
            assert!(metadata.name().starts_with("event "), "{}", metadata.name());
            let pid = format!("u64 {pid}");
            let expected = [
                ("message", "debug it is 7"),
                ("count", "u64 5"),
                ("below", "i64 -5"),
                ("big", "u128 340282366920938463463374607431768211455"),
                ("ratio", "f64 0.5"),
                ("yes", "bool true"),
                ("text", "str a\nb"),
                ("debug", "debug Some(\"x\")"),
                ("display", "debug y"),
                ("error", "error outer <- inner"),
                ("raw", "bytes [255, 0]"),
                ("process", "str worker bee"),
                ("pid", &pid),
            ];
            for (name, value) in expected {
                assert_eq!(event.field(name), value, "{name}");
            }
            assert_eq!(event.fields.len(), expected.len());
        }
    });
}

#[test]
fn a_field_of_its_own_hides_the_one_that_is_added() {
    isolated(|| {
        listen(LevelFilter::INFO);
        for context in &contexts() {
            run(context, || info!(process = "my own", "x"), ());
            let [event] = take_events().try_into().unwrap();
            assert_eq!(event.field("process"), "str my own");
            assert!(event.field("pid").starts_with("u64 "));
        }
    });
}

#[test]
fn spans_are_made_again_with_their_fields_and_context() {
    fn child() {
        let outer = info_span!("outer", n = 1, later = tracing::field::Empty);
        let aside = info_span!("aside");
        let inside = outer.enter();
        info!("in outer");
        let inner = info_span!("inner");
        inner.in_scope(|| info!("in inner"));
        Span::current().record("later", "now");
        info!("in outer again");
        inner.follows_from(&aside);
        drop(inside);
        info!(parent: &inner, "in inner by name");
        std::thread::scope(|scope| drop(scope.spawn(|| info!("on another thread"))));
        drop((outer, inner));
        info!("outside");
    }
    isolated(|| {
        listen(LevelFilter::INFO);
        for context in &contexts() {
            run(context, child, ());
            let seen = take();
            let story: Vec<String> = seen.iter().map(Seen::told).collect();
            let mut expected = vec![
                r#"open outer"#,
                r#"open aside"#,
                r#"in outer ["outer"]"#,
                r#"open inner"#,
                r#"in inner ["outer", "inner"]"#,
                r#"record outer"#,
                r#"in outer again ["outer"]"#,
                r#"follows inner ["aside"]"#,
                r#"in inner by name ["outer", "inner"]"#,
                r#"on another thread []"#,
                r#"close inner"#,
                r#"close outer"#,
                r#"outside []"#,
                r#"close aside"#,
            ];
            // Threads of a copy have the subscriber that it was copied with, which cannot be taken out.
            if context.start_method() == StartMethod::Fork {
                expected.retain(|told| !told.starts_with("on another thread"));
            }
            assert_eq!(story, expected);
            let (_, outer) = &seen[6].spans[0];
            assert_eq!(outer.get("n").unwrap(), "i64 1");
            assert_eq!(outer.get("later").unwrap(), "str now");
            assert_eq!(outer.get("process").unwrap(), seen[6].field("process"));
            let (_, inner) = &seen[4].spans[1];
            assert_eq!(inner.get("process"), None, "its process is that of the span around it");
        }
    });
}

#[test]
fn grandchildren_log_to_the_same_place_under_their_own_names() {
    fn child() {
        run(&contexts()[0], || run(&contexts()[1], || info!("deep"), ()), ());
        info!("not so deep");
    }
    isolated(|| {
        listen(LevelFilter::INFO);
        for context in &contexts() {
            let process = Process::builder(child).context(context).name("top").start().unwrap();
            process.join().unwrap();
            let events = take_events();
            let heard: Vec<_> =
                events.iter().map(|event| (event.message(), event.field("process"))).collect();
            assert_eq!(heard.len(), 2);
            assert_eq!((heard[0].0, heard[1]), ("deep", ("not so deep", "str top")));
            assert!(heard[0].1.ends_with(":1:1"), "{heard:?}");
        }
    });
}

#[test]
fn workers_of_a_pool_log_too() {
    isolated(|| {
        listen(LevelFilter::INFO);
        for context in &contexts() {
            let pool = Pool::builder().processes(2).context(context).start().unwrap();
            pool.map(|x: u64| info!(x, "task"), 0..100).unwrap();
            pool.close();
            pool.join().unwrap();
            let events = take_events();
            let mut tasks: Vec<u64> = events
                .iter()
                .map(|event| event.field("x").trim_start_matches("u64 ").parse().unwrap())
                .collect();
            tasks.sort_unstable();
            assert_eq!(tasks, (0..100).collect::<Vec<u64>>());
            assert!(events.iter().all(|event| event.field("process").starts_with("str PoolWorker-")));
        }
    });
}

#[test]
fn what_is_not_wanted_is_filtered_in_the_child() {
    fn child() -> [bool; 5] {
        error!("1");
        warn!("2");
        info!("3");
        debug!("4");
        trace!("5");
        [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE]
            .map(|level| level <= LevelFilter::current())
    }
    isolated(|| {
        listen(LevelFilter::WARN);
        for context in &contexts() {
            assert_eq!(run(context, child, ()), [true, true, false, false, false]);
            let messages: Vec<_> = take_events().iter().map(|event| event.message().to_owned()).collect();
            assert_eq!(messages, ["1", "2"]);
        }
    });
}

#[test]
fn the_library_says_what_it_does() {
    isolated(|| {
        listen(LevelFilter::DEBUG);
        for context in &contexts() {
            let process = Process::builder(|| ()).context(context).name("quiet").start().unwrap();
            process.join().unwrap();
        }
        let all = peek();
        let said: Vec<_> = all
            .iter()
            .filter(|seen| seen.metadata.target() == "procession::process")
            .filter(|seen| seen.field("process") == "str quiet")
            .map(|seen| seen.message())
            .collect();
        let one = ["child process calling self.run()", "process exiting with exitcode 0"];
        assert_eq!(said, [one, one, one].concat());
        let started = all
            .iter()
            .filter(|seen| seen.message() == "process started" && seen.field("name") == "str quiet");
        assert_eq!(started.count(), 3);
    });
}

#[test]
fn without_a_subscriber_there_is_no_thread_and_no_descriptor() {
    fn child() -> (usize, usize) {
        info!("nobody hears this");
        assert!(!tracing::dispatcher::has_been_set());
        (thread_count(), fd_count())
    }
    isolated(|| {
        for context in &contexts() {
            let (threads, _) = run(context, child, ());
            assert_eq!(threads, 1);
        }
        // A copy has what its parent has: also its descriptors, and, with forwarding off, its subscriber.
        let contexts =
            || contexts().into_iter().filter(|context| context.start_method() != StartMethod::Fork);
        let silent: Vec<_> = contexts().map(|context| run(&context, child, ())).collect();
        let (own_threads, own_fds) = (thread_count(), fd_count());
        set_log_forwarding(LogForwarding::Off);
        listen(LevelFilter::INFO);
        for (context, silent) in contexts().zip(&silent) {
            assert_eq!(&run(&context, child, ()), silent, "with forwarding off");
        }
        assert_eq!(thread_count(), own_threads);
        eventually("no descriptor is left", || fd_count() <= own_fds);
        set_log_forwarding(LogForwarding::On);
        for context in contexts() {
            run(&context, || assert!(tracing::dispatcher::has_been_set()), ());
        }
        assert_eq!(thread_count(), own_threads + 1, "the thread that receives");
    });
}

#[test]
fn a_child_may_have_a_subscriber_of_its_own_for_a_while() {
    fn child() -> bool {
        let own = || tracing_subscriber::registry().with(LevelFilter::INFO);
        use tracing_subscriber::layer::SubscriberExt;
        tracing::subscriber::with_default(own(), || info!("for itself"));
        info!("for all");
        tracing::subscriber::set_global_default(own()).is_err()
    }
    isolated(|| {
        listen(LevelFilter::INFO);
        for context in &contexts() {
            assert!(run(context, child, ()), "the global one is there already");
            let [event] = take_events().try_into().unwrap();
            assert_eq!(event.message(), "for all");
        }
    });
}

/// In particular the last words before the end.
#[test]
fn whoever_has_joined_has_seen_everything() {
    fn last_words(code: i32) {
        info!(code, "leaving");
        leave(code);
    }
    isolated(|| {
        listen(LevelFilter::INFO);
        for context in &contexts() {
            for code in 0..30 {
                let process = start(context, last_words, (code,));
                process.join().unwrap();
                let [event] = take_events().try_into().unwrap();
                assert_eq!(event.field("code"), format!("i64 {code}"));
            }
        }
    });
}

#[test]
fn spans_of_a_killed_child_are_closed() {
    fn child(ready: Connection) {
        let _outer = info_span!("outer").entered();
        let _inner = info_span!("inner").entered();
        ready.send(&own_pid()).unwrap();
        park_forever();
    }
    isolated(|| {
        listen(LevelFilter::INFO);
        for context in &contexts() {
            let (here, there) = pipe().unwrap();
            let process = start(context, child, (there,));
            assert_eq!(here.recv::<i32>().unwrap(), process.pid().cast_signed());
            process.kill().unwrap();
            process.join().unwrap();
            let mut story: Vec<_> = take().iter().map(Seen::told).collect();
            assert_eq!(story[..2], ["open outer", "open inner"]);
            story[2..].sort_unstable();
            assert_eq!(story[2..], ["close inner", "close outer"]);
        }
    });
}
