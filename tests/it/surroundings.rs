//! What a child finds around it: arguments, environment, standard streams, folder, constructors, descriptors.

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, AsRawFd},
        unix::fs::FileExt,
    },
    path::PathBuf,
    process::{Command, Stdio},
    sync::LazyLock,
};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::{
    resource::{Resource, getrlimit, setrlimit},
    stat::{Mode, umask},
};
use nix::unistd::{dup2_stderr, dup2_stdout};
use procession::{Connection, Context, Pool, Process, StartMethod, pipe};

use crate::family::{contexts, run, start};
use crate::support::{fd_table, is_gone, isolated};

/// T176 (TestFlags.test_flags): what the program was called with is what its children see.
#[test]
fn command_line_and_folder_are_those_of_the_parent() {
    fn surroundings() -> (Vec<String>, PathBuf) {
        (env::args().collect(), env::current_dir().unwrap())
    }
    isolated(|| {
        for context in &contexts() {
            assert_eq!(run(context, surroundings, ()), surroundings());
            assert_eq!(run(context, || run(&contexts()[0], surroundings, ()), ()), surroundings());
        }
    });
}

/// As of each start, also where a helper that was started earlier makes the child.
#[test]
fn change_of_the_folder_reaches_the_next_child() {
    let here = || env::current_dir().unwrap();
    isolated(|| {
        let gone = env::temp_dir().join("gone");
        for context in &contexts() {
            for folder in ["/", "/usr", "/"].map(PathBuf::from).iter().chain([&env::temp_dir()]) {
                env::set_current_dir(folder).unwrap();
                assert_eq!(run(context, here, ()), here());
            }
            // A folder that was removed is one all the same.
            fs::create_dir(&gone).unwrap();
            env::set_current_dir(&gone).unwrap();
            fs::remove_dir(&gone).unwrap();
            let link = run(context, || fs::read_link("/proc/self/cwd").unwrap(), ());
            assert_eq!(link, fs::read_link("/proc/self/cwd").unwrap());
            env::set_current_dir("/").unwrap();
            assert_eq!(run(context, here, ()), here());
        }
    });
}

#[test]
fn redirected_output_is_that_of_the_next_child() {
    fn speak(text: &str) {
        println!("{text}");
        eprintln!("{text}");
    }
    isolated(|| {
        let paths = ["output", "error"].map(|name| env::temp_dir().join(name));
        let own = [
            io::stdout().as_fd().try_clone_to_owned().unwrap(),
            io::stderr().as_fd().try_clone_to_owned().unwrap(),
        ];
        for context in &contexts() {
            run(context, || (), ());
            dup2_stdout(File::create(&paths[0]).unwrap()).unwrap();
            dup2_stderr(File::create(&paths[1]).unwrap()).unwrap();
            run(context, speak, ("redirected",));
            dup2_stdout(&own[0]).unwrap();
            dup2_stderr(&own[1]).unwrap();
            run(context, speak, ("as at first",));
            let texts = paths.each_ref().map(|path| fs::read_to_string(path).unwrap());
            assert_eq!(texts, ["redirected\n"; 2], "{context:?}");
        }
        paths.iter().for_each(|path| fs::remove_file(path).unwrap());
    });
}

fn variables() -> Vec<(String, String)> {
    let mut all: Vec<_> = env::vars().collect();
    all.sort();
    all
}

/// What `exec` would hand on, also when it is not what `std::env` knows.
fn variables_of_a_program() -> String {
    let output = Command::new("env").stdin(Stdio::null()).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn environment_is_that_of_the_parent_without_any_marker() {
    isolated(|| {
        for context in &contexts() {
            assert_eq!(run(context, variables, ()), variables());
            let grandchild = run(context, || run(&contexts()[0], variables, ()), ());
            assert_eq!(grandchild, variables());
            let program = run(context, variables_of_a_program, ());
            assert!(program.contains("PATH=") && !program.contains("PROCESSION_START"), "{program}");
        }
    });
}

#[test]
fn standard_input_of_a_child_is_the_null_device() {
    fn standard_input() -> (PathBuf, usize) {
        let read = std::io::read_to_string(std::io::stdin()).unwrap().len();
        (fs::read_link("/proc/self/fd/0").unwrap(), read)
    }
    isolated(|| {
        for context in &contexts() {
            assert_eq!(run(context, standard_input, ()), (PathBuf::from("/dev/null"), 0));
        }
    });
}

#[test]
fn output_of_a_child_goes_where_that_of_the_parent_goes() {
    isolated(|| {
        let own = [1, 2].map(|fd| fs::read_link(format!("/proc/self/fd/{fd}")).unwrap());
        for context in &contexts() {
            let child = || [1, 2].map(|fd| fs::read_link(format!("/proc/self/fd/{fd}")).unwrap());
            assert_eq!(run(context, child, ()), own);
        }
    });
}

struct Registered(&'static str);

inventory::collect!(Registered);
inventory::submit!(Registered("first"));
inventory::submit!(Registered("second"));

mod further {
    use super::Registered;

    inventory::submit!(Registered("from a module"));
}

fn registered() -> Vec<String> {
    let mut names: Vec<String> = inventory::iter::<Registered>().map(|entry| entry.0.to_owned()).collect();
    names.sort();
    names
}

#[test]
fn constructors_of_other_crates_have_run_before_the_target() {
    isolated(|| {
        assert_eq!(registered(), ["first", "from a module", "second"]);
        for context in &contexts() {
            assert_eq!(run(context, registered, ()), registered());
            assert_eq!(run(context, || run(&contexts()[0], registered, ()), ()), registered());
        }
    });
}

#[test]
fn statics_are_those_of_a_new_program() {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1);
    fn count() -> u32 {
        COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
    }
    isolated(|| {
        assert_eq!((count(), count()), (1, 2));
        for context in &contexts() {
            // A fork copies them.
            let expected = if context.start_method() == StartMethod::Fork { 3 } else { 1 };
            assert_eq!(run(context, count, ()), expected);
        }
    });
}

/// Sends its descriptors and stays until it is told to go.
fn report_descriptors(connection: Connection) {
    connection.send(&fd_table()).unwrap();
    connection.recv::<()>().unwrap();
}

/// T19 (_TestProcess.test_child_fd_inflation).
#[test]
fn no_child_has_a_descriptor_of_its_siblings() {
    isolated(|| {
        for context in &contexts() {
            let (ends, children): (Vec<_>, Vec<_>) = (0..10)
                .map(|_| {
                    let (here, there) = pipe().unwrap();
                    (here, start(context, report_descriptors, (there,)))
                })
                .unzip();
            let tables: Vec<Vec<(i32, String)>> = ends.iter().map(|end| end.recv().unwrap()).collect();
            for table in &tables {
                // A copy has descriptors in the places of those that it lost, with which nothing can be done.
                if context.start_method() != StartMethod::Fork {
                    assert_eq!(table.len(), tables[0].len(), "{table:?} against {:?}", tables[0]);
                }
                let sockets = table.iter().filter(|(_, link)| link.starts_with("socket:")).count();
                assert_eq!(sockets, 2, "the start socket and the argument: {table:?}");
            }
            ends.iter().for_each(|end| end.send(&()).unwrap());
            children.iter().for_each(|child: &Process| child.result().unwrap());
        }
    });
}

/// T180 (TestCloseFds.test_closefd). A fork copies what the program has open, as in Python.
#[test]
fn open_files_of_the_parent_are_not_in_its_children() {
    isolated(|| {
        let path = env::temp_dir().join("private");
        let file = File::create(&path).unwrap();
        fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        assert!(file.as_raw_fd() > 2);
        for context in &contexts() {
            let table = run(context, fd_table, ());
            let is_inherited = table.iter().any(|(_, link)| link.ends_with("/private"));
            assert_eq!(is_inherited, context.start_method() == StartMethod::Fork, "{table:?}");
        }
        fs::remove_file(path).unwrap();
    });
}

#[test]
fn variables_that_are_no_text_arrive_as_they_are() {
    use std::os::unix::ffi::OsStringExt;
    fn odd_variable() -> Option<Vec<u8>> {
        env::var_os("PROCESSION_TEST_ODD").map(OsStringExt::into_vec)
    }
    isolated(|| {
        // Nothing here may call `set_var`, which is unsafe: a program that is started with the variable looks.
        let odd = OsString::from_vec(b"a\xffb=\n".to_vec());
        let status = Command::new("/proc/self/exe")
            .args(["--exact", "surroundings::odd_variable_helper", "--test-threads=1"])
            .env_remove("PROCESSION_TEST_ROLE")
            .env("PROCESSION_TEST_ODD", odd)
            .status();
        assert!(status.unwrap().success());
        assert_eq!(odd_variable(), None);
    });
}

/// Does nothing unless the test above starts it.
#[test]
fn odd_variable_helper() {
    compare_odd_variable();
}

fn compare_odd_variable() {
    use std::os::unix::ffi::OsStringExt;
    let Some(odd) = env::var_os("PROCESSION_TEST_ODD") else { return };
    for context in &contexts() {
        let seen = run(context, || env::var_os("PROCESSION_TEST_ODD").map(OsString::into_vec), ());
        assert_eq!(seen.as_deref(), Some(&b"a\xffb=\n"[..]));
    }
    assert_eq!(odd.into_vec(), b"a\xffb=\n");
}

/// T215 (TestNamedResource.test_global_named_resource_spawn): what a static holds is made anew in each process that uses
/// it, and is gone with it.
#[test]
fn statics_that_hold_processes_and_pipes_are_made_anew_and_leave_nothing() {
    static POOL: LazyLock<Pool> = LazyLock::new(|| Pool::new(1).unwrap());
    static PIPE: LazyLock<(Connection, Connection)> = LazyLock::new(|| pipe().unwrap());
    fn used() -> (Vec<u32>, u32) {
        PIPE.0.send(&std::process::id()).unwrap();
        assert!(POOL.apply(std::process::id, ()).unwrap() == POOL.worker_pids()[0]);
        (POOL.worker_pids(), PIPE.1.recv().unwrap())
    }
    isolated(|| {
        let (own_workers, own_pid) = used();
        assert_eq!(own_pid, std::process::id());
        // A copy has its parent's, which it may not use.
        for context in contexts().iter().filter(|context| context.start_method() != StartMethod::Fork) {
            let child = start(context, used, ());
            let (workers, pid) = child.result().unwrap();
            assert_eq!(pid, child.pid());
            assert_ne!(workers, own_workers);
            let is_left = |pid: &u32| !is_gone(pid.cast_signed());
            assert!(!workers.iter().any(is_left) && own_workers.iter().all(is_left));
        }
    });
}

#[test]
fn child_starts_in_a_folder_that_was_removed() {
    fn has_a_folder() -> bool {
        env::current_dir().is_ok()
    }
    isolated(|| {
        for context in &contexts() {
            assert!(run(context, has_a_folder, ()));
            let folder = env::temp_dir().join("to be removed");
            fs::create_dir(&folder).unwrap();
            env::set_current_dir(&folder).unwrap();
            fs::remove_dir(&folder).unwrap();
            assert!(!run(context, has_a_folder, ()));
            assert!(!run(context, || run(&contexts()[0], has_a_folder, ()), ()));
            env::set_current_dir("/").unwrap();
            assert!(run(context, has_a_folder, ()));
        }
    });
}

/// What the kernel keeps of a process: with `spawn` as it is, with the fork server as it was at the first start.
#[test]
fn umask_and_limits_are_those_of_who_executed_the_program() {
    fn kernel_state() -> (u32, u64) {
        let own = umask(Mode::empty());
        (own.bits(), getrlimit(Resource::RLIMIT_CORE).unwrap().0)
    }
    fn set(mask: u32, core: u64) {
        umask(Mode::from_bits_retain(mask));
        let (_, hard) = getrlimit(Resource::RLIMIT_CORE).unwrap();
        setrlimit(Resource::RLIMIT_CORE, core, hard).unwrap();
    }
    isolated(|| {
        let [spawn, server] = [StartMethod::Spawn, StartMethod::ForkServer].map(Context::new);
        set(0o077, 4096);
        assert_eq!(run(&server, kernel_state, ()), (0o077, 4096));
        set(0o027, 8192);
        assert_eq!(run(&spawn, kernel_state, ()), (0o027, 8192));
        assert_eq!(run(&server, kernel_state, ()), (0o077, 4096));
    });
}

/// KiB of code that is no longer what the file has, as smaps says (proc_pid_smaps(5)).
fn own_code() -> u64 {
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut is_code = false;
    let mut sum = 0;
    for line in maps.lines() {
        if let Some(value) = line.strip_prefix("Anonymous:").filter(|_| is_code) {
            sum += value.trim().trim_end_matches(" kB").parse::<u64>().unwrap();
        } else if line.contains(" r-xp ") {
            is_code = line.contains(" /");
        } else if line.contains("-p ") {
            is_code = false;
        }
    }
    sum
}

/// One page of each mapping: then all of it is mapped in copies.
#[test]
fn code_of_children_of_the_fork_server_is_mapped_from_the_beginning() {
    isolated(|| {
        let memory = File::options().write(true).open("/proc/self/mem").unwrap();
        let code = code_of_children_of_the_fork_server_is_mapped_from_the_beginning as fn();
        let at = code as usize as u64;
        let mut byte = [0];
        File::open("/proc/self/mem").unwrap().read_exact_at(&mut byte, at).unwrap();
        if let Err(refused) = memory.write_all_at(&byte, at) {
            eprintln!("skipped: this kernel lets nobody write to code: {refused}");
            return;
        }
        let [spawn, server, _] = contexts();
        assert_eq!(run(&spawn, own_code, ()), 0);
        let own = run(&server, own_code, ());
        assert!((8..64).contains(&own), "{own} KiB: the program, libc, the loader and what else there is");
    });
}
