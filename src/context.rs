//! Start methods, and contexts that carry one.

pub use procession_ipc::start::StartMethod;

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
