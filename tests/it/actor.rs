//! Typed actors: what their methods may look like, and that calls do what they say.

use std::collections::BTreeMap;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::thread;

use procession::{ActorProcess, CallError, Error, ErrorKind, Wire};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::family::{contexts, leave};
use crate::support::isolated;

/// What most tests of actors call.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Counter {
    pub total: i64,
    pub log: Vec<i64>,
}

/// Why a text is no number.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoNumber(String);

type Result<T, E = NoNumber> = std::result::Result<T, E>;

#[procession::actor]
impl Counter {
    /// Adds, and says what it comes to.
    pub fn add(&mut self, n: i64) -> i64 {
        self.total += n;
        self.log.push(n);
        self.total
    }

    pub fn total(&self) -> i64 {
        self.total
    }

    pub fn log(&self) -> Vec<i64> {
        self.log.clone()
    }

    pub fn reset(&mut self) {
        *self = Self::default();
    }

    pub fn add_text(&mut self, text: &str) -> Result<i64> {
        let n = text.parse().map_err(|_| NoNumber(text.to_owned()))?;
        Ok(self.add(n))
    }

    pub fn add_all(
        &mut self,
        numbers: &[i64],
        names: &BTreeMap<String, i64>,
    ) -> std::result::Result<i64, String> {
        for n in numbers.iter().chain(names.values()) {
            self.add(*n);
        }
        if self.total < 0 { Err("below zero".to_owned()) } else { Ok(self.total) }
    }

    pub async fn slowly(&mut self, times: u32) -> u32 {
        for _ in 0..times {
            let mut first = true;
            std::future::poll_fn(|context| {
                context.waker().wake_by_ref();
                if std::mem::take(&mut first) { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
            })
            .await;
        }
        times
    }

    pub fn parent(&self, path: &Path, (add, _): (bool, u8), mut name: String) -> Option<PathBuf> {
        name.push('!');
        path.parent().map(|parent| if add { parent.join(name) } else { parent.to_owned() })
    }

    pub fn echo(&self, bytes: Vec<u8>) -> Vec<u8> {
        bytes
    }

    pub fn panics(&self, text: &str) -> u8 {
        panic!("{text}");
    }

    pub fn leaves(&self, code: i32) {
        leave(code);
    }

    pub fn pid(&self) -> u32 {
        std::process::id()
    }

    pub fn twin(&self) -> Self {
        Self { total: self.total, log: self.log.clone() }
    }

    pub fn r#type(&self) -> String {
        self.private().to_owned()
    }

    #[cfg(any())]
    pub fn not_there(&self, _: NotThere) {}

    #[deprecated = "it was a bad idea"]
    pub fn old(&self) {}

    #[allow(clippy::unused_self)]
    fn private(&self) -> &'static str {
        "a counter"
    }
}

#[test]
fn methods_of_all_shapes_run_in_the_actors_process() {
    isolated(|| {
        for context in &contexts() {
            let counter = ActorProcess::builder(Counter::default()).context(context).start().unwrap();
            assert_eq!(counter.add(2).unwrap(), 2);
            assert_eq!(counter.total().unwrap(), 2);
            assert_eq!(counter.add_text("40").unwrap(), 42);
            let refused = counter.add_text("forty").unwrap_err();
            assert!(matches!(&refused, CallError::Method(NoNumber(text)) if text == "forty"), "{refused:?}");
            let names = BTreeMap::from([("a".to_owned(), 5)]);
            assert_eq!(counter.add_all(&[1, 2], &names).unwrap(), 50);
            assert_eq!(counter.slowly(3).unwrap(), 3);
            let parent = counter.parent(Path::new("/a/b"), (true, 0), "c".to_owned()).unwrap();
            assert_eq!(parent, Some(PathBuf::from("/a/c!")));
            assert_eq!(counter.twin().unwrap().log, [2, 40, 1, 2, 5]);
            assert_eq!(counter.r#type().unwrap(), "a counter");
            assert_eq!(counter.pid().unwrap(), ActorProcess::process(&counter).pid());
            counter.reset().unwrap();
            assert_eq!(counter.add_async(7).wait().unwrap(), 7);
        }
    });
}

#[test]
fn large_arguments_and_results_cross() {
    isolated(|| {
        let counter = ActorProcess::spawn(Counter::default()).unwrap();
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
        assert!(counter.echo(bytes.clone()).unwrap() == bytes);
    });
}

/// An actor that cannot travel: it holds a file.
struct Notebook(std::fs::File);

#[procession::actor]
impl Notebook {
    fn open(path: &str, first: &[char]) -> Self {
        let mut file =
            std::fs::File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap();
        file.write_all(String::from_iter(first).as_bytes()).unwrap();
        Self(file)
    }

    pub fn write(&mut self, text: &str) -> std::result::Result<(), String> {
        self.0.write_all(text.as_bytes()).map_err(|error| error.to_string())
    }

    pub fn read(&mut self) -> String {
        let mut text = String::new();
        self.0.rewind().unwrap();
        self.0.read_to_string(&mut text).unwrap();
        text
    }
}

#[test]
fn an_actor_that_cannot_travel_is_made_in_its_process() {
    isolated(|| {
        for context in &contexts() {
            let path = std::env::temp_dir().join("notebook");
            let path = path.to_str().unwrap().to_owned();
            let notebook =
                ActorProcess::builder_with(Notebook::open, (path.as_str(), &['o', 'n', 'e', ' '][..]));
            let notebook = notebook.context(context).start().unwrap();
            notebook.write("two").unwrap();
            assert_eq!(notebook.read().unwrap(), "one two");
            std::fs::remove_file(path).unwrap();
        }
    });
}

/// A generic actor.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
struct Stack<T: Wire>
where
    T: Clone,
{
    items: Vec<T>,
}

#[procession::actor(vis = "pub(crate)")]
impl<T: Wire> Stack<T>
where
    T: Clone,
{
    pub fn push(&mut self, item: T) -> usize {
        self.items.push(item);
        self.items.len()
    }

    pub fn pop(&mut self) -> Option<T> {
        self.items.pop()
    }

    pub fn extend(&mut self, items: &[T]) {
        self.items.extend_from_slice(items);
    }
}

#[test]
fn a_generic_actor_works_with_each_of_its_types() {
    isolated(|| {
        let words: ActorProcess<Stack<String>> = ActorProcess::spawn(Stack { items: Vec::new() }).unwrap();
        let numbers: ActorProcess<Stack<u8>> = ActorProcess::spawn(Stack { items: vec![1] }).unwrap();
        let proxy: StackProxy<u8> = ActorProcess::proxy(&numbers);
        assert_eq!(words.push("a".to_owned()).unwrap(), 1);
        proxy.extend(&[2, 3]).unwrap();
        assert_eq!((words.pop().unwrap(), numbers.pop().unwrap()), (Some("a".to_owned()), Some(3)));
        assert_eq!((words.pop().unwrap(), proxy.pop_async().wait().unwrap()), (None, Some(2)));
    });
}

#[test]
fn calls_of_each_caller_keep_their_order() {
    isolated(|| {
        const EACH: i64 = 1000;
        let counter = ActorProcess::spawn(Counter::default()).unwrap();
        thread::scope(|scope| {
            for caller in 0..4 {
                let counter = ActorProcess::proxy(&counter);
                scope.spawn(move || {
                    for n in 0..EACH {
                        // Calls that wait and calls that do not, all in one row.
                        if n % 3 == 0 {
                            counter.add(caller * EACH + n).unwrap();
                        } else {
                            drop(counter.add_async(caller * EACH + n));
                        }
                    }
                });
            }
        });
        let log = counter.log().unwrap();
        assert_eq!(log.len(), 4 * 1000);
        for caller in 0..4 {
            let own: Vec<i64> = log.iter().copied().filter(|n| n / EACH == caller).collect();
            assert_eq!(own, (caller * EACH..(caller + 1) * EACH).collect::<Vec<_>>(), "caller {caller}");
        }
    });
}

/// Something that cannot be sent from one side, or not be read at the other.
#[derive(Debug, PartialEq)]
pub struct Picky(u8);

impl Serialize for Picky {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            1 => Err(serde::ser::Error::custom("one is not written")),
            n => n.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Picky {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u8::deserialize(deserializer)? {
            2 => Err(serde::de::Error::custom("two is not read")),
            3 => panic!("three is no number"),
            n => Ok(Self(n)),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Gourmet(u8);

#[procession::actor]
impl Gourmet {
    pub fn eat(&mut self, food: Picky) -> u8 {
        self.0 += food.0;
        self.0
    }

    pub fn serve(&self, what: u8) -> Picky {
        Picky(what)
    }
}

#[test]
fn what_cannot_travel_costs_one_call_and_not_the_actor() {
    isolated(|| {
        let gourmet = ActorProcess::spawn(Gourmet(0)).unwrap();
        // The first value of a type is checked by its sender.
        assert_eq!(gourmet.eat(Picky(5)).unwrap(), 5);
        assert_eq!(gourmet.serve(5).unwrap(), Picky(5));
        for (food, sent, expected) in
            [(1, false, "one is not written"), (2, true, "two is not read"), (3, true, "three is no number")]
        {
            match gourmet.eat(Picky(food)) {
                Err(CallError::BadArguments { method: "Gourmet::eat", sent: was_sent, reason }) => {
                    assert!(was_sent == sent && reason.contains(expected), "{food}: {reason}");
                }
                other => panic!("{food}: {other:?}"),
            }
            match gourmet.serve(food) {
                Err(CallError::BadResult { method: "Gourmet::serve", reason }) => {
                    assert!(reason.contains(expected), "{food}: {reason}");
                }
                other => panic!("{food}: {other:?}"),
            }
        }
        assert_eq!(gourmet.eat(Picky(7)).unwrap(), 12);
    });
}

#[test]
fn errors_of_calls_become_errors_of_the_crate() {
    fn add_twice(counter: &CounterProxy) -> std::result::Result<i64, Error> {
        counter.add(1)?;
        Ok(counter.add(1)?)
    }
    isolated(|| {
        let counter = ActorProcess::spawn(Counter::default()).unwrap();
        assert_eq!(add_twice(&counter).unwrap(), 2);
        let panicked: Error = counter.panics("it was a bad day").unwrap_err().into();
        assert!(
            matches!(panicked.kind(), ErrorKind::Panicked { message, .. } if message == "it was a bad day"),
            "{panicked}"
        );
        assert_eq!(panicked.task(), Some("Counter::panics"));
        let died = add_twice(&counter).unwrap_err();
        assert!(matches!(died.kind(), ErrorKind::ActorDied { .. }), "{died}");
    });
}

#[test]
fn the_process_of_an_actor_is_a_daemon_with_a_name() {
    isolated(|| {
        let counter = ActorProcess::builder(Counter::default()).name("abacus").start().unwrap();
        let process = ActorProcess::process(&counter);
        assert_eq!((process.name(), process.is_daemon(), process.is_alive()), ("abacus", true, true));
        let shown = format!("{counter:?}");
        assert!(shown.contains("Counter") && shown.contains("abacus"), "{shown}");
        assert!(format!("{:?}", ActorProcess::proxy(&counter)).starts_with("CounterProxy(procession-"));
    });
}
