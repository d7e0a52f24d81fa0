//! Forks by a program with one thread, and by one that uses tokio. All features of tokio are on, and so the runtime of the
//! actors has them too. `it::fork_programs` runs this.

use procession::prelude::*;
use procession::{ErrorKind, force_start_method};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Handle, Runtime};

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

fn main() -> Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("alone") => alone()?,
        Some("inside") => inside_a_runtime()?,
        Some("beside") => beside_a_runtime()?,
        other => return Err(format!("nothing is called {other:?}").into()),
    }
    println!("played to the end");
    Ok(())
}

/// Nothing has to be allowed where no thread is but those of the library.
fn alone() -> Result<()> {
    print!("[printed before the fork]");
    let captured = vec![1, 2, 3];
    let copy = Process::fork(|| {
        print!("[printed by the copy]");
        captured.iter().sum::<i32>()
    })?;
    assert_eq!(copy.result()?, 6);

    force_start_method(StartMethod::Fork)?;
    assert_eq!(Process::spawn(|x: u8| x + 1, (1,))?.result()?, 2);
    let pool = Pool::new(2)?;
    assert_eq!(pool.map(|x: u64| x * x, 0..100)?.iter().sum::<u64>(), 328_350);
    drop(pool);

    // Its restarts are forks by another thread, while this one waits.
    let restless = Supervisor::builder().intensity(3, Duration::from_secs(3600));
    let given_up = restless.child(ChildSpec::process("restless", || (), ())).start()?.join();
    let Err(error) = given_up else { return Err("it has not given up".into()) };
    assert!(matches!(error.kind(), ErrorKind::IntensityExceeded { .. }), "{error}");
    Ok(())
}

fn is_inside_a_runtime() -> bool {
    Handle::try_current().is_ok()
}

/// A copy of a thread that is inside a runtime could never leave it, nor start one of its own.
fn inside_a_runtime() -> Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let refused = Process::fork(|| ()).err().map(|error| error.to_string());
        assert!(refused.is_some_and(|text| text.contains("inside an async")));
        for context in [StartMethod::Fork, StartMethod::ForkServer, StartMethod::Spawn].map(Context::new) {
            assert!(!context.spawn(is_inside_a_runtime, ())?.result()?);
            assert_eq!(context.spawn(in_a_runtime_of_its_own, (7,))?.result()?, 7);
        }
        // tokio's own children are its own affair still.
        assert!(tokio::process::Command::new("true").status().await?.success());
        Ok(())
    })
}

/// Sends a number through the kernel and waits for a timer.
async fn echo(number: u64) -> std::io::Result<u64> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let sender = tokio::spawn(async move { TcpStream::connect(address).await?.write_u64(number).await });
    let (mut stream, _) = listener.accept().await?;
    let came = stream.read_u64().await?;
    sender.await??;
    tokio::time::sleep(Duration::from_millis(1)).await;
    Ok(came)
}

fn in_a_runtime_of_its_own(number: u64) -> u64 {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("no runtime");
    runtime.block_on(echo(number)).expect("no echo")
}

/// Keeps the workers of a runtime busy until it is dropped.
fn busy() -> Result<Runtime> {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    for n in 0..4 {
        runtime.spawn(async move {
            loop {
                assert_eq!(echo(n).await.ok(), Some(n));
            }
        });
    }
    Ok(runtime)
}

/// Threads of a runtime refuse a fork. They wait by tables that all of a program share (`parking_lot`), so a copy that was
/// made all the same could have no runtime. When they are gone, it can.
fn beside_a_runtime() -> Result<()> {
    let runtime = busy()?;
    let refused = Process::fork(|| ()).err();
    let Some(ErrorKind::OtherThreads { count, names }) = refused.as_ref().map(|error| error.kind()) else {
        return Err(format!("{refused:?}").into());
    };
    assert!(*count >= 2 && names.iter().all(|name| name.starts_with("tokio")), "{names:?}");
    drop(runtime);
    let pool = Pool::new(1)?;
    for n in 0..50 {
        let copy = Process::fork(|| in_a_runtime_of_its_own(n))?;
        assert_eq!(copy.result()?, n);
        assert_eq!(pool.apply(|x: u64| x, (n,))?, n);
    }
    Ok(())
}
