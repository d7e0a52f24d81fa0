//! What can be an argument and a result of a function in another process.

use std::{
    collections::{BTreeMap, HashMap},
    sync::atomic::{AtomicUsize, Ordering},
};

use procession::{ErrorKind, Process};
use serde::{Deserialize, Serialize};

use crate::family::{contexts, run, start};
use crate::support::isolated;

/// T4 (_TestProcess.test_args_argument).
#[test]
fn no_argument_up_to_six_arguments_arrive() {
    isolated(|| {
        for c in &contexts() {
            assert_eq!(run(c, || 0_u64, ()), 0);
            assert_eq!(run(c, |a: u64| a, (1,)), 1);
            assert_eq!(run(c, |a: u64, b: u8| (a, b), (1, 2)), (1, 2));
            assert_eq!(run(c, |a: u64, b: u8, d: char| (a, b, d), (1, 2, 'x')), (1, 2, 'x'));
            let four = |a: i8, b: i16, d: i32, e: i64| i64::from(a) + i64::from(b) + i64::from(d) + e;
            assert_eq!(run(c, four, (-1, -2, -3, -4)), -10);
            let five = |a: f32, b: f64, d: bool, e: (), f: Option<u8>| format!("{a} {b} {d} {e:?} {f:?}");
            assert_eq!(run(c, five, (0.5, 1.5, true, (), Some(9))), "0.5 1.5 true () Some(9)");
            let six = |a: u8, b: u8, d: u8, e: u8, f: u8, g: u8| [a, b, d, e, f, g];
            assert_eq!(run(c, six, (1, 2, 3, 4, 5, 6)), [1, 2, 3, 4, 5, 6]);
        }
    });
}

#[test]
fn seven_to_twelve_arguments_arrive() {
    type N = u64;
    isolated(|| {
        for x in &contexts() {
            let f = |a: N, b: N, c: N, d: N, e: N, f: N, g: N| [a, b, c, d, e, f, g];
            assert_eq!(run(x, f, (1, 2, 3, 4, 5, 6, 7)), [1, 2, 3, 4, 5, 6, 7]);
            let f = |a: N, b: N, c: N, d: N, e: N, f: N, g: N, h: N| [a, b, c, d, e, f, g, h];
            assert_eq!(run(x, f, (1, 2, 3, 4, 5, 6, 7, 8)), [1, 2, 3, 4, 5, 6, 7, 8]);
            let f = |a: N, b: N, c: N, d: N, e: N, f: N, g: N, h: N, i: N| [a, b, c, d, e, f, g, h, i];
            assert_eq!(run(x, f, (1, 2, 3, 4, 5, 6, 7, 8, 9)), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
            let f =
                |a: N, b: N, c: N, d: N, e: N, f: N, g: N, h: N, i: N, j: N| [a, b, c, d, e, f, g, h, i, j];
            assert_eq!(run(x, f, (1, 2, 3, 4, 5, 6, 7, 8, 9, 10)), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
            let f = |a: N, b: N, c: N, d: N, e: N, f: N, g: N, h: N, i: N, j: N, k: N| {
                [a, b, c, d, e, f, g, h, i, j, k]
            };
            assert_eq!(run(x, f, (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
            let f = |a: N, b: N, c: N, d: N, e: N, f: N, g: N, h: N, i: N, j: N, k: N, l: N| {
                [a, b, c, d, e, f, g, h, i, j, k, l]
            };
            let args = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12);
            assert_eq!(run(x, f, args), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        }
    });
}

fn greet(name: &str) -> String {
    format!("hello {name}")
}

fn total(numbers: &[f64]) -> f64 {
    numbers.iter().sum()
}

fn longest(words: &Vec<String>) -> Option<String> {
    words.iter().max_by_key(|word| word.len()).cloned()
}

fn join_all(first: &str, rest: &[String], last: &String, times: usize) -> String {
    format!("{first}{}{last}", rest.concat()).repeat(times)
}

#[test]
fn references_and_slices_are_lent_to_the_function() {
    isolated(|| {
        let name = String::from("bob");
        let numbers = [1.5, 2.5, 3.0];
        let words = vec!["one".to_owned(), "three".to_owned()];
        for c in &contexts() {
            assert_eq!(run(c, greet, ("a literal",)), "hello a literal");
            assert_eq!(run(c, greet, (name.as_str(),)), "hello bob");
            assert!((run(c, total, (&numbers[..],)) - 7.0).abs() < 1e-9);
            assert_eq!(run(c, longest, (&words,)).as_deref(), Some("three"));
            assert_eq!(run(c, String::len, (&name,)), 3);
            assert_eq!(run(c, join_all, ("<", &words[..], &name, 2)), "<onethreebob<onethreebob");
        }
        assert_eq!((name.len(), numbers.len(), words.len()), (3, 3, 2));
    });
}

fn default_of<T: Default + Into<f64>>() -> f64 {
    T::default().into() + size_of::<T>() as f64
}

fn twice<T: Clone>(value: T) -> (T, T) {
    (value.clone(), value)
}

trait Shape {
    fn area(&self) -> f64;
}

#[derive(Serialize, Deserialize)]
struct Square(f64);

impl Shape for Square {
    fn area(&self) -> f64 {
        self.0 * self.0
    }
}

#[test]
fn generic_and_local_functions_and_trait_methods_are_targets() {
    fn local(x: u32) -> u32 {
        x + 1
    }
    isolated(|| {
        for c in &contexts() {
            assert!((run(c, default_of::<f32>, ()) - 4.0).abs() < 1e-9);
            assert!((run(c, default_of::<u8>, ()) - 1.0).abs() < 1e-9);
            assert_eq!(run(c, twice::<String>, ("x".to_owned(),)), ("x".to_owned(), "x".to_owned()));
            assert_eq!(run(c, twice, (7_u16,)), (7, 7));
            assert_eq!(run(c, local, (1,)), 2);
            assert!((run(c, Square::area, (&Square(3.0),)) - 9.0).abs() < 1e-9);
            assert!((run(c, <Square as Shape>::area, (&Square(2.0),)) - 4.0).abs() < 1e-9);
            assert_eq!(run(c, i64::pow, (3, 4)), 81);
            assert_eq!(run(c, str::len, ("four",)), 4);
        }
    });
}

/// Keyword arguments of Python are a struct here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Settings {
    name: String,
    depth: u8,
    tags: Vec<String>,
    limits: BTreeMap<String, (i64, Option<f64>)>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Page<'a> {
    title: &'a str,
    #[serde(borrow)]
    lines: Vec<&'a str>,
}

fn measure(page: Page<'_>) -> usize {
    page.title.len() + page.lines.iter().map(|line| line.len()).sum::<usize>()
}

/// A `'static` parameter is honest: the argument lives as long as its process.
fn keep(text: &'static str) -> usize {
    let kept: &'static str = text;
    kept.len()
}

#[test]
fn structs_for_keywords_and_structs_that_borrow_are_arguments() {
    isolated(|| {
        let limits = BTreeMap::from([("low".to_owned(), (-1, None)), ("high".to_owned(), (9, Some(0.5)))]);
        let settings = Settings { name: "n".to_owned(), depth: 3, tags: vec!["a".to_owned()], limits };
        let text = String::from("first line");
        for c in &contexts() {
            assert_eq!(run(c, |s: Settings| s, (settings.clone(),)), settings);
            let page = Page { title: "title", lines: vec![&text, "second"] };
            assert_eq!(run(c, measure, (page,)), 21);
            assert_eq!(run(c, keep, ("for ever",)), 8);
        }
    });
}

fn divide(a: i32, b: i32) -> Result<i32, String> {
    a.checked_div(b).ok_or_else(|| format!("{a} / {b}"))
}

#[test]
fn results_of_any_shape_come_back() {
    isolated(|| {
        for c in &contexts() {
            run(c, || (), ());
            assert_eq!(run(c, divide, (6, 3)), Ok(2));
            assert_eq!(run(c, divide, (6, 0)), Err("6 / 0".to_owned()));
            let map = run(c, |n: u32| (0..n).map(|x| (x, x * x)).collect::<HashMap<u32, u32>>(), (4,));
            assert_eq!(map, HashMap::from([(0, 0), (1, 1), (2, 4), (3, 9)]));
            assert_eq!(run(c, |x: u128| (x, i128::MIN, f64::INFINITY), (u128::MAX,)).0, u128::MAX);
        }
    });
}

/// A type that asks its input what comes next: written, but never read again.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(i64),
    Text(String),
}

/// A type that loses what it writes.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Skipping {
    #[serde(skip_serializing_if = "Option::is_none")]
    maybe: Option<u8>,
    always: u8,
}

#[test]
fn argument_that_cannot_be_read_again_is_refused_at_the_caller() {
    isolated(|| {
        for context in &contexts() {
            let json = Process::builder(|v: serde_json::Value| v.is_null())
                .args((serde_json::json!({"a": [1, 2]}),))
                .context(context)
                .start();
            let untagged = Process::builder(|v: Untagged| matches!(v, Untagged::Number(_)))
                .args((Untagged::Text("x".to_owned()),))
                .context(context)
                .start();
            for error in [json.unwrap_err(), untagged.unwrap_err()] {
                let kind = error.kind();
                assert!(
                    matches!(kind, ErrorKind::NotRoundTrip { hint, .. } if !hint.is_empty()),
                    "{error:?}"
                );
                assert!(error.pid().is_none(), "a process was started: {error}");
            }
        }
    });
}

#[test]
fn argument_with_a_skipped_field_is_an_error_and_no_wrong_value() {
    isolated(|| {
        for context in &contexts() {
            let skipped = Skipping { maybe: None, always: 1 };
            let started = Process::builder(|s: Skipping, n: u8| (s.always, n))
                .args((skipped, 77))
                .context(context)
                .start();
            let error = match started {
                Err(error) => error,
                Ok(process) => process.result().unwrap_err(),
            };
            let kind = error.kind();
            let expected = matches!(kind, ErrorKind::NotRoundTrip { .. } | ErrorKind::BadArguments { .. });
            assert!(expected, "{error:?}");
        }
    });
}

#[test]
fn result_that_cannot_be_read_again_is_a_bad_result() {
    isolated(|| {
        for context in &contexts() {
            let json = || serde_json::json!({"a": 1});
            let error = Process::builder(json).context(context).start().unwrap().result().unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::BadResult { .. }), "{error:?}");
            assert!(error.to_string().contains("serde_json"), "{error}");
            let untagged = || Untagged::Number(3);
            let error = Process::builder(untagged).context(context).start().unwrap().result().unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::BadResult { .. }), "{error:?}");
            assert!(error.pid().is_some() && error.task().is_some() && error.process().is_some());
        }
    });
}

/// T18 (_TestProcess.test_lose_target_ref): what a started process was given is given up here.
#[test]
fn arguments_are_dropped_once_the_process_has_started() {
    static LIVING: AtomicUsize = AtomicUsize::new(0);
    #[derive(Serialize)]
    struct Counted(u8);
    impl Counted {
        fn new(value: u8) -> Self {
            LIVING.fetch_add(1, Ordering::Relaxed);
            Self(value)
        }
    }
    impl Drop for Counted {
        fn drop(&mut self) {
            LIVING.fetch_sub(1, Ordering::Relaxed);
        }
    }
    impl<'de> Deserialize<'de> for Counted {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            u8::deserialize(deserializer).map(Self::new)
        }
    }
    isolated(|| {
        for context in &contexts() {
            let process = start(context, |counted: Counted| counted.0, (Counted::new(7),));
            assert_eq!(LIVING.load(Ordering::Relaxed), 0);
            assert_eq!(process.result().unwrap(), 7);
            let lent = Counted::new(8);
            assert_eq!(run(context, |counted: &Counted| counted.0, (&lent,)), 8);
            assert_eq!(LIVING.load(Ordering::Relaxed), 1, "what was lent is still ours");
        }
    });
}
