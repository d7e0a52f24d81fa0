//! Supervisors: processes that are started again when they end, with OTP's meaning.

use crate::{Actor, Context, Proxy, Result};
use procession_actors::supervisor as actors;
use procession_actors::supervisor::spec::{self, Flags, Start, Tree};
use procession_ipc::codec::Wire;
use procession_ipc::start::StartMethod;
use procession_ipc::start::target::{Target, assert_target};
use std::any::type_name;
use std::time::{Duration, Instant};

pub use procession_actors::supervisor::ChildInfo;
pub use procession_actors::supervisor::spec::{AutoShutdown, ChildKind, Restart, Shutdown, Strategy};
pub use procession_actors::supervisor::strategy::{ChildCounts, ChildState};

/// Starts processes, watches them, and starts them again when they end, within limits. Python has no such thing; names,
/// meaning and defaults are those of OTP's `supervisor`.
///
/// Children are started from the first to the last and stopped from the last to the first. What happens when one ends is
/// the [`Strategy`]; whether it is started again, its [`Restart`]. When more restarts are due than the intensity allows, the
/// supervisor stops everything and gives up, which [`join`](Self::join) tells.
///
/// A child of a nested supervisor has a path: `inner/counter` is the child `counter` of the supervisor `inner`.
///
/// Children are daemons, and armed: when this process is killed, they are too. Dropping a supervisor stops it: its children
/// have 5 s in all to end, then those that are left are killed. To let them take the time that they were given, call
/// [`stop`](Self::stop).
///
/// # Examples
///
/// ```
/// use procession::prelude::*;
/// use std::time::Duration;
///
/// fn serve(name: String) {
///     println!("{name} runs");
///     std::thread::park();
/// }
///
/// let tree = Supervisor::builder()
///     .strategy(Strategy::OneForOne)
///     .intensity(3, Duration::from_secs(5))
///     .child(ChildSpec::process("door", serve, ("door".to_owned(),)))
///     .child(ChildSpec::process("window", serve, ("window".to_owned(),)).restart(Restart::Transient))
///     .start()?;
/// assert_eq!(tree.count_children()?.active, 2);
/// tree.terminate_child("door")?;
/// assert_eq!(tree.count_children()?.active, 1);
/// tree.stop()?;
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug)]
pub struct Supervisor(actors::Supervisor);

impl Supervisor {
    /// Begins to describe a supervisor, with OTP's defaults: one for one, and one restart in five seconds.
    pub fn builder() -> SupervisorBuilder {
        SupervisorBuilder {
            flags: Flags::default(),
            children: Vec::new(),
            method: None,
            allow_threads: false,
        }
    }

    /// A proxy of the child at `path`, which is an actor. It follows the child: a call that is in flight when its process is
    /// killed fails with [`CallError::ActorDied`](crate::CallError::ActorDied) and is not repeated, later ones reach the next
    /// process, also those that are made before it is there. It can be sent to any process.
    ///
    /// When the child is stopped for good, or its supervisor is, calls fail with `ActorDied` or
    /// [`CallError::ActorStopped`](crate::CallError::ActorStopped).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::OtherChild`](crate::ErrorKind::OtherChild) if it is not an `A`; as
    /// [`terminate_child`](Self::terminate_child).
    ///
    /// # Examples
    ///
    /// ```
    /// # use procession::prelude::*;
    /// # use std::time::Duration;
    /// struct Counter {
    ///     total: i64,
    /// }
    ///
    /// #[procession::actor]
    /// impl Counter {
    ///     pub fn add(&mut self, n: i64) -> i64 {
    ///         self.total += n;
    ///         self.total
    ///     }
    /// }
    ///
    /// let tree = Supervisor::builder().child(ChildSpec::new("counter", || Counter { total: 40 })).start()?;
    /// let counter = tree.proxy::<Counter>("counter")?;
    /// assert_eq!(counter.add(2)?, 42);
    /// # tree.stop()?;
    /// # Ok::<(), Error>(())
    /// ```
    pub fn proxy<A: Actor>(&self, path: &str) -> Result<A::Proxy> {
        Ok(A::Proxy::from_caller(self.0.caller(path, type_name::<A>())?))
    }

    /// All children, in the order of their starts. OTP's are in the opposite order.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::SupervisorEnded`](crate::ErrorKind::SupervisorEnded).
    pub fn which_children(&self) -> Result<Vec<ChildInfo>> {
        self.which_children_of("")
    }

    /// All children of the nested supervisor at `path`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NoSuchChild`](crate::ErrorKind::NoSuchChild) for a path that leads to no supervisor;
    /// [`ErrorKind::SupervisorEnded`](crate::ErrorKind::SupervisorEnded), also for one that does not run just now.
    pub fn which_children_of(&self, path: &str) -> Result<Vec<ChildInfo>> {
        Ok(self.0.which_children(path)?)
    }

    /// How many children there are.
    ///
    /// # Errors
    ///
    /// As [`which_children`](Self::which_children).
    pub fn count_children(&self) -> Result<ChildCounts> {
        Ok(self.which_children()?.iter().map(|child| (child.state, child.kind)).collect())
    }

    /// Starts one more child, behind all others. It is treated as any other from now on.
    ///
    /// OTP's `simple_one_for_one` is this with clones of one specification, each with its own id
    /// ([`ChildSpec::with_id`]).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadChild`](crate::ErrorKind::BadChild); [`ErrorKind::ChildIs`](crate::ErrorKind::ChildIs) for an id that
    /// is there already; [`ErrorKind::ChildNotStarted`](crate::ErrorKind::ChildNotStarted), and then there is no such child;
    /// [`ErrorKind::SupervisorEnded`](crate::ErrorKind::SupervisorEnded).
    pub fn start_child(&self, spec: ChildSpec) -> Result<ChildInfo> {
        self.start_child_of("", spec)
    }

    /// Starts one more child of the nested supervisor at `path`. It is not there any more after a restart of that
    /// supervisor.
    ///
    /// # Errors
    ///
    /// As [`start_child`](Self::start_child) and [`which_children_of`](Self::which_children_of).
    pub fn start_child_of(&self, path: &str, spec: ChildSpec) -> Result<ChildInfo> {
        Ok(self.0.start_child(path, spec.finish()?)?)
    }

    /// Stops the process of the child at `path`, and waits for its end. It is not started again before somebody asks for it,
    /// or it is restarted together with others. A child that does not run is a success.
    ///
    /// # Errors
    ///
    /// As [`which_children_of`](Self::which_children_of).
    pub fn terminate_child(&self, path: &str) -> Result<()> {
        Ok(self.0.terminate_child(path)?)
    }

    /// Starts the process of the child at `path`, which is stopped.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::ChildIs`](crate::ErrorKind::ChildIs) unless it is stopped;
    /// [`ErrorKind::ChildNotStarted`](crate::ErrorKind::ChildNotStarted); those of
    /// [`which_children_of`](Self::which_children_of).
    pub fn restart_child(&self, path: &str) -> Result<ChildInfo> {
        Ok(self.0.restart_child(path)?)
    }

    /// Forgets the child at `path`, which is stopped.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::ChildIs`](crate::ErrorKind::ChildIs) unless it is stopped; those of
    /// [`which_children_of`](Self::which_children_of).
    pub fn delete_child(&self, path: &str) -> Result<()> {
        Ok(self.0.delete_child(path)?)
    }

    /// Stops all children, from the last to the first, each with the time that it was given, and waits for the end.
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join).
    pub fn stop(&self) -> Result<()> {
        self.0.ask_to_stop();
        self.join()
    }

    /// Waits for the end of the supervisor: it was stopped, a significant child has ended, or it gave up.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::IntensityExceeded`](crate::ErrorKind::IntensityExceeded) when it gave up.
    pub fn join(&self) -> Result<()> {
        self.0.wait(None)?;
        Ok(())
    }

    /// Waits for the end of the supervisor, at most for `timeout`; says whether it has ended.
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join).
    pub fn join_timeout(&self, timeout: Duration) -> Result<bool> {
        // A timeout beyond the end of time is none.
        Ok(self.0.wait(Instant::now().checked_add(timeout))?)
    }
}

/// Describes a supervisor before it starts.
#[derive(Debug, Clone)]
#[must_use = "a supervisor starts with `start`, or below another one with `ChildSpec::supervisor`"]
pub struct SupervisorBuilder {
    flags: Flags,
    children: Vec<ChildSpec>,
    method: Option<StartMethod>,
    allow_threads: bool,
}

impl SupervisorBuilder {
    /// Which children are restarted when one has ended. Default: that one.
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.flags.strategy = strategy;
        self
    }

    /// How many restarts are allowed within `period`; with one more, the supervisor gives up. Default: 1 in 5 s, as OTP.
    pub fn intensity(mut self, restarts: u32, period: Duration) -> Self {
        self.flags.intensity = spec::Intensity { restarts, period };
        self
    }

    /// Whether the supervisor ends when its significant children have. Default: never.
    pub fn auto_shutdown(mut self, auto_shutdown: AutoShutdown) -> Self {
        self.flags.auto_shutdown = auto_shutdown;
        self
    }

    /// One more child, behind all others.
    pub fn child(mut self, child: ChildSpec) -> Self {
        self.children.push(child);
        self
    }

    /// The start method of the children. Default: the default method. That of a nested supervisor is the method that it
    /// was started with.
    pub fn context(mut self, context: &Context) -> Self {
        self.method = Some(context.start_method());
        self.allow_threads = context.allows_threads();
        self
    }

    /// Starts all children, from the first to the last. If one cannot be started, those before it are stopped.
    ///
    /// A child counts as started when its process is there, whatever its function does then.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadChild`](crate::ErrorKind::BadChild) for a child that cannot work, and
    /// [`ErrorKind::Zero`](crate::ErrorKind::Zero) for a period of no time, here or in a nested supervisor; arguments that
    /// cannot travel, as for [`Process::spawn`](crate::Process::spawn);
    /// [`ErrorKind::ChildNotStarted`](crate::ErrorKind::ChildNotStarted);
    /// [`ErrorKind::IntensityExceeded`](crate::ErrorKind::IntensityExceeded), when children end faster than all were started.
    pub fn start(self) -> Result<Supervisor> {
        Ok(Supervisor(actors::Supervisor::start(self.finish()?)?))
    }

    fn finish(self) -> procession_actors::Result<Tree> {
        let children = self.children.into_iter().map(ChildSpec::finish);
        let children = children.collect::<procession_actors::Result<_>>()?;
        Ok(Tree { flags: self.flags, children, method: self.method, allow_threads: self.allow_threads })
    }
}

/// Describes a child of a supervisor. What is wrong with it is told when it is to be started. A clone shares the arguments.
///
/// Defaults are OTP's: permanent, and 5 s to end when it is stopped, or for a supervisor all the time it wants.
#[derive(Debug, Clone)]
#[must_use = "a child is added with `SupervisorBuilder::child` or `Supervisor::start_child`"]
pub struct ChildSpec {
    id: String,
    rules: spec::Rules,
    start: procession_actors::Result<Start>,
}

impl ChildSpec {
    /// An actor, which `factory` makes in each of its processes. [`Supervisor::proxy`] gives its proxy.
    ///
    /// It counts as started when it is made; a factory that panics is a start that failed. When it is stopped, it finishes
    /// the call in hand.
    pub fn new<F, M>(id: impl Into<String>, factory: F) -> Self
    where
        F: Target<(), M, Output: Actor>,
    {
        Self::with_args(id, factory, ())
    }

    /// An actor, which `f(args)` makes in each of its processes. The arguments are encoded once, here.
    pub fn with_args<F, A, M>(id: impl Into<String>, f: F, args: A) -> Self
    where
        F: Target<A, M, Output: Actor>,
    {
        const { assert_target::<F>() };
        Self::new_with(id, ChildKind::Worker, Start::actor(f, &args))
    }

    /// A process that runs `f(args)`. The arguments are encoded once, here; each incarnation decodes them anew.
    ///
    /// When the function returns, the process has ended normally.
    pub fn process<F, A, M>(id: impl Into<String>, f: F, args: A) -> Self
    where
        F: Target<A, M, Output: Wire>,
    {
        const { assert_target::<F>() };
        Self::new_with(id, ChildKind::Worker, Start::process(f, &args))
    }

    /// A supervisor in a process of its own, with its own children below it.
    ///
    /// When it gives up, its process has failed. When its process is killed, its children are killed with it, and a new
    /// supervisor starts new ones.
    pub fn supervisor(id: impl Into<String>, builder: SupervisorBuilder) -> Self {
        Self::new_with(id, ChildKind::Supervisor, builder.finish().map(Start::Supervisor))
    }

    fn new_with(id: impl Into<String>, kind: ChildKind, start: procession_actors::Result<Start>) -> Self {
        Self { id: id.into(), rules: spec::Rules::new(kind), start }
    }

    /// The same child under another name.
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = id.into();
        self
    }

    /// When it is started again. Default: always.
    pub fn restart(mut self, restart: Restart) -> Self {
        self.rules.restart = restart;
        self
    }

    /// How it is stopped: a [`Duration`] that it has to end, or a [`Shutdown`].
    ///
    /// A process is asked to end by SIGTERM, a supervisor by a message, so that it stops its own children first.
    pub fn shutdown(mut self, shutdown: impl Into<Shutdown>) -> Self {
        self.rules.shutdown = shutdown.into();
        self
    }

    /// Whether its end may end the supervisor, see [`SupervisorBuilder::auto_shutdown`]. Default: no.
    #[allow(clippy::fn_params_excessive_bools, reason = "the name and the type are OTP's")]
    pub fn significant(mut self, significant: bool) -> Self {
        self.rules.significant = significant;
        self
    }

    fn finish(self) -> procession_actors::Result<spec::ChildSpec> {
        Ok(spec::ChildSpec { id: self.id, rules: self.rules, start: self.start? })
    }
}
