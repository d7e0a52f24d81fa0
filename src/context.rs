//! Start methods, and contexts that carry one.

/// How a process comes into being.
///
/// Where Python's default depends on version and system, here it is [`ForkServer`](Self::ForkServer), or
/// [`Spawn`](Self::Spawn) where the kernel lacks what the fork server needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StartMethod {
    /// The program is executed anew. The slowest; nothing is inherited but the environment and the standard streams.
    Spawn,
    /// A helper process with one thread copies itself. As fast as fork, safe in a program with threads, and its cost does
    /// not depend on the memory that the program uses.
    ForkServer,
}

impl From<StartMethod> for procession_ipc::start::StartMethod {
    fn from(method: StartMethod) -> Self {
        match method {
            StartMethod::Spawn => Self::Spawn,
            StartMethod::ForkServer => Self::ForkServer,
        }
    }
}

/// A start method for everything that is started with it. Libraries take one instead of choosing for the program.
///
/// # Examples
///
/// ```
/// use procession::prelude::*;
///
/// let context = Context::new(StartMethod::Spawn);
/// let process = Process::builder(|| 7_u8).context(&context).start()?;
/// assert_eq!(process.result()?, 7);
/// # Ok::<(), Error>(())
/// ```
#[doc(alias = "get_context")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    method: StartMethod,
}

impl Context {
    /// A context with this start method.
    #[must_use]
    pub fn new(method: StartMethod) -> Self {
        Self { method }
    }

    /// The start method.
    #[doc(alias = "get_start_method")]
    #[must_use]
    pub fn start_method(&self) -> StartMethod {
        self.method
    }
}
