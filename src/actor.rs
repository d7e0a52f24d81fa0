//! Typed actors in processes of their own.

mod call;
mod error;

pub use call::Call;
pub use error::{CallError, NoError};

/// What generated code calls.
pub(crate) mod generated {
    pub use super::call::{ResultLike, call, call_async};
}

use crate::{Actor, Context, Process, Proxy, Result, Target, Wire};
use procession_actors::actor::{Blueprint, Incarnation};
use procession_actors::process::Options;
use procession_ipc::start::target::assert_target;
use std::any::type_name;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

/// An actor in a process of its own.
///
/// It gives the methods of the actor's proxy; control is by associated functions, so that no method of yours is hidden.
/// The proxy can be cloned and sent to any process, which then talks to the actor directly; proxies do not keep the actor
/// alive. Dropping this asks it to [`stop`](Self::stop). Its process is a daemon, and ends with this one.
///
/// # Examples
///
/// ```
/// use procession::prelude::*;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Counter {
///     total: i64,
/// }
///
/// #[procession::actor]
/// impl Counter {
///     /// Adds, and says what it comes to.
///     pub fn add(&mut self, n: i64) -> i64 {
///         self.total += n;
///         self.total
///     }
/// }
///
/// fn add_from_afar(counter: CounterProxy) -> i64 {
///     counter.add(40).unwrap_or(-1)
/// }
///
/// let counter = ActorProcess::spawn(Counter { total: 0 })?;
/// assert_eq!(counter.add(2)?, 2);
///
/// let process = Process::spawn(add_from_afar, (ActorProcess::proxy(&counter),))?;
/// assert_eq!(process.result()?, 42);
/// # Ok::<(), Error>(())
/// ```
pub struct ActorProcess<A: Actor> {
    proxy: A::Proxy,
    process: Process,
    incarnation: Incarnation,
}

impl<A: Actor> ActorProcess<A> {
    /// Sends `actor` into a new process, which answers calls from now on.
    ///
    /// The process is a daemon and ends with this one, however that ends.
    ///
    /// # Errors
    ///
    /// An actor that cannot travel ([`ErrorKind::Codec`](crate::ErrorKind::Codec),
    /// [`ErrorKind::NotRoundTrip`](crate::ErrorKind::NotRoundTrip)): use [`spawn_with`](Self::spawn_with). Otherwise as
    /// [`Process::spawn`].
    pub fn spawn(actor: A) -> Result<Self>
    where
        A: Wire,
    {
        Self::builder(actor).start()
    }

    /// Makes an actor by `f(args)` in a new process, so it need not be able to travel: it may hold files and sockets.
    ///
    /// The process is there before the actor is. When `f` panics, calls fail with [`CallError::ActorDied`], which says so.
    ///
    /// # Errors
    ///
    /// As [`Process::spawn`].
    ///
    /// # Examples
    ///
    /// ```
    /// use procession::prelude::*;
    ///
    /// struct Shell(std::process::Child);
    ///
    /// #[procession::actor]
    /// impl Shell {
    ///     fn open(program: &str) -> Self {
    ///         Self(std::process::Command::new(program).stdin(std::process::Stdio::piped()).spawn().unwrap())
    ///     }
    ///
    ///     pub fn close(&mut self) -> Option<i32> {
    ///         drop(self.0.stdin.take());
    ///         self.0.wait().unwrap().code()
    ///     }
    /// }
    ///
    /// let shell = ActorProcess::spawn_with(Shell::open, ("cat",))?;
    /// assert_eq!(shell.close()?, Some(0));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn spawn_with<F, B, M>(f: F, args: B) -> Result<Self>
    where
        F: Target<B, M, Output = A>,
    {
        const { assert_target::<F>() };
        Self::builder_with(f, args).start()
    }

    /// Begins to describe the process of an actor that is made here.
    ///
    /// # Examples
    ///
    /// ```
    /// # use procession::prelude::*;
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Echo;
    /// # #[procession::actor]
    /// # impl Echo {
    /// #     pub fn echo(&self, text: &str) -> String { text.to_owned() }
    /// # }
    /// let context = Context::new(StartMethod::Spawn);
    /// let echo = ActorProcess::builder(Echo).name("echo").context(&context).start()?;
    /// assert_eq!(ActorProcess::process(&echo).name(), "echo");
    /// assert_eq!(echo.echo("hello")?, "hello");
    /// # Ok::<(), Error>(())
    /// ```
    pub fn builder(actor: A) -> ActorBuilder<A>
    where
        A: Wire,
    {
        ActorBuilder::new(Blueprint::of_value(actor))
    }

    /// Begins to describe the process of an actor that `f(args)` makes there.
    pub fn builder_with<F, B, M>(f: F, args: B) -> ActorBuilder<A>
    where
        F: Target<B, M, Output = A>,
    {
        const { assert_target::<F>() };
        ActorBuilder::new(Blueprint::of_factory(f, &args))
    }

    /// Its process: to see whether it is alive, to join or to kill it.
    #[must_use]
    pub fn process(this: &Self) -> &Process {
        &this.process
    }

    /// A proxy, to be kept or sent elsewhere.
    #[must_use]
    pub fn proxy(this: &Self) -> A::Proxy {
        this.proxy.clone()
    }

    /// Asks the actor to stop, and waits for nothing. It finishes the call in hand and is dropped, and its process leaves
    /// with code 0. All other calls fail with [`CallError::ActorStopped`].
    ///
    /// Nothing happens in a copy of the process that started the actor ([`Process::fork`]).
    pub fn stop(this: &Self) {
        this.incarnation.stop();
    }
}

impl<A: Actor> Deref for ActorProcess<A> {
    type Target = A::Proxy;

    fn deref(&self) -> &A::Proxy {
        &self.proxy
    }
}

impl<A: Actor> fmt::Debug for ActorProcess<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActorProcess").field("actor", &A::NAME).field("process", &self.process).finish()
    }
}

/// Describes the process of an actor before it starts.
#[must_use = "a process starts with `start`"]
pub struct ActorBuilder<A> {
    blueprint: procession_actors::Result<Blueprint>,
    options: Options,
    actor: PhantomData<fn() -> A>,
}

impl<A: Actor> ActorBuilder<A> {
    fn new(blueprint: procession_actors::Result<Blueprint>) -> Self {
        Self { blueprint, options: Options::default(), actor: PhantomData }
    }

    /// The name of the process. Default: formed from the place in the family.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.options.name = Some(name.into());
        self
    }

    /// The start method. Default: the default method.
    pub fn context(mut self, context: &Context) -> Self {
        self.options.method = Some(context.start_method());
        self.options.allow_threads = context.allows_threads();
        self
    }

    /// Starts the process.
    ///
    /// # Errors
    ///
    /// As [`ActorProcess::spawn`].
    pub fn start(self) -> Result<ActorProcess<A>> {
        let (incarnation, caller) = self.blueprint?.spawn(&self.options)?;
        let process = Process::of_start(&incarnation.started, type_name::<A>());
        Ok(ActorProcess { proxy: A::Proxy::from_caller(caller), process, incarnation })
    }
}

impl<A: Actor> fmt::Debug for ActorBuilder<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActorBuilder")
            .field("actor", &A::NAME)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
