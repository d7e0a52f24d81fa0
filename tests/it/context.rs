//! Start methods by name, the default among them, and contexts.

use procession::{
    Connection, Context, ErrorKind, Process, StartMethod, all_start_methods, cpu_count, decided_start_method,
    force_start_method, freeze_support, pipe, set_start_method, start_method,
};

use crate::family::{METHODS, contexts, run};
use crate::support::isolated;

/// T183 (TestStartMethod.test_context): a child begins with the method that started it, and so does its child.
#[test]
fn children_begin_with_the_method_that_started_them() {
    fn methods() -> (Option<StartMethod>, StartMethod) {
        let grandchild = Process::spawn(start_method, ()).unwrap();
        (decided_start_method(), grandchild.result().unwrap())
    }
    isolated(|| {
        for context in &contexts() {
            let method = context.start_method();
            assert_eq!(run(context, methods, ()), (Some(method), method));
            let refused = run(context, || set_start_method(StartMethod::Spawn).is_err(), ());
            assert!(refused, "{method:?}");
        }
    });
}

/// T185 (TestStartMethod.test_set_get).
#[test]
fn default_method_is_decided_once_unless_forced() {
    isolated(|| {
        assert_eq!(decided_start_method(), None);
        for method in METHODS {
            force_start_method(None).unwrap();
            assert_eq!(decided_start_method(), None);
            set_start_method(method).unwrap();
            for again in METHODS {
                let error = set_start_method(again).unwrap_err();
                assert_eq!(error.kind(), &ErrorKind::MethodDecided { method: method.name() });
            }
            assert_eq!((start_method(), Context::current()), (method, Context::new(method)));
            // A default allows no threads, and the harness has one: for fork, `fork_programs` shows it.
            if method != StartMethod::Fork {
                assert_eq!(Process::spawn(start_method, ()).unwrap().result().unwrap(), method);
            }
            force_start_method(method).unwrap();
            assert_eq!(start_method(), method);
        }
    });
}

#[test]
fn default_method_is_decided_by_its_first_use() {
    isolated(|| {
        Process::spawn(|| (), ()).unwrap().result().unwrap();
        assert_eq!(decided_start_method(), Some(StartMethod::ForkServer));
        assert!(set_start_method(StartMethod::Spawn).is_err());
        force_start_method(None).unwrap();
        // A context decides nothing.
        run(&Context::new(StartMethod::Spawn), || (), ());
        assert_eq!(decided_start_method(), None);
        assert_eq!(start_method(), StartMethod::ForkServer);
        assert!(set_start_method(StartMethod::Spawn).is_err());
    });
}

/// T186 (TestStartMethod.test_get_all).
#[test]
fn all_methods_are_listed_with_the_default_first() {
    isolated(|| {
        assert_eq!(all_start_methods()[0], StartMethod::ForkServer);
        for method in METHODS {
            force_start_method(method).unwrap();
            let mut all = all_start_methods();
            assert_eq!(all[0], method);
            all.sort_by_key(|method| method.name());
            all.dedup();
            assert_eq!(all.len(), StartMethod::ALL.len());
        }
    });
}

#[test]
fn methods_have_pythons_names() {
    for method in METHODS {
        assert_eq!(method.name().parse(), Ok(method));
    }
    for unknown in ["", "Spawn", "forkserver ", "thread"] {
        let error = unknown.parse::<StartMethod>().unwrap_err();
        assert_eq!(error.name, unknown);
        let error = procession::Error::from(error);
        assert!(matches!(error.kind(), ErrorKind::UnknownStartMethod(_)), "{error:?}");
        assert!(METHODS.iter().all(|method| error.to_string().contains(method.name())), "{error}");
    }
}

#[test]
fn contexts_start_processes_and_pools_side_by_side() {
    isolated(|| {
        let pools = contexts().map(|context| context.pool().processes(1).start().unwrap());
        for (context, pool) in contexts().iter().zip(&pools) {
            let method = context.start_method();
            assert_eq!(context.spawn(start_method, ()).unwrap().result().unwrap(), method);
            assert_eq!(context.builder(start_method).name("x").start().unwrap().result().unwrap(), method);
            assert_eq!(pool.apply(start_method, ()).unwrap(), method);
        }
        assert_eq!(decided_start_method(), None);
    });
}

/// T12 (_TestProcess.test_cpu_count).
#[test]
fn processors_are_counted() {
    freeze_support();
    assert!(cpu_count() >= 1);
}

/// T189 (TestStartMethod.test_nested_startmethod): what a child was given, it hands on, whatever the two methods are.
#[test]
fn child_hands_its_argument_on_to_its_own_child() {
    fn hand_on(end: &Connection, method: &str) {
        end.send(&1).unwrap();
        Context::new(method.parse().unwrap()).spawn(answer, (end,)).unwrap().result().unwrap();
    }
    fn answer(end: &Connection) {
        end.send(&2).unwrap();
    }
    isolated(|| {
        for outer in &contexts() {
            for inner in METHODS {
                let (here, there) = pipe().unwrap();
                let child = outer.spawn(hand_on, (&there, inner.name())).unwrap();
                drop(there);
                assert_eq!([(); 2].map(|()| here.recv::<i32>().unwrap()), [1, 2]);
                child.result().unwrap();
                assert!(here.recv::<i32>().is_err(), "all copies are closed");
            }
        }
    });
}
