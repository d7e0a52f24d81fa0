//! Start methods: their names, which of them work here, and the default of this process.
//!
//! The default is *open*, *chosen* by us at its first use, or *set* by the program. It never goes from set to chosen.
//! What we chose may still fall back to spawn, when the fork server finds that it cannot work here; what the program set
//! does not. A child begins with the method that started it.
//!
//! One atomic number, so no lock of it can be copied while another thread holds it.

use crate::sys::process::thread_id_address;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::str::FromStr;
use std::sync::atomic::{AtomicU8, Ordering};

/// How a process comes into being.
///
/// Where Python's default depends on version and system, here it is [`ForkServer`](Self::ForkServer), or
/// [`Spawn`](Self::Spawn) where the kernel lacks what the fork server needs.
///
/// # Examples
///
/// ```
/// use procession_ipc::start::StartMethod;
///
/// assert_eq!("spawn".parse(), Ok(StartMethod::Spawn));
/// assert_eq!("thread".parse::<StartMethod>().unwrap_err().name, "thread");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum StartMethod {
    /// The program is executed anew. The slowest; nothing is inherited but the environment and the standard streams.
    Spawn,
    /// A helper process with one thread copies itself. As fast as fork, safe in a program with threads, and its cost does
    /// not depend on the memory that the program uses.
    ForkServer,
    /// This process copies itself, with all that it has in memory and with one thread. It is refused when threads run
    /// that are not of this library, unless they are allowed.
    Fork,
}

impl StartMethod {
    /// All that there are, whether or not they work here; the best first.
    pub const ALL: [Self; 3] = [Self::ForkServer, Self::Spawn, Self::Fork];

    /// The name Python gives it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Spawn => "spawn",
            Self::ForkServer => "forkserver",
            Self::Fork => "fork",
        }
    }

    /// Says whether it can work on this system.
    ///
    /// # Errors
    ///
    /// [`Error::NotSupported`] with what is missing.
    pub fn check(self) -> Result<()> {
        match self {
            Self::Spawn | Self::Fork => Ok(()),
            Self::ForkServer => thread_id_address().map(drop).map_err(|error| Error::NotSupported {
                method: self.name(),
                reason: format!(
                    "prctl(PR_GET_TID_ADDRESS) needs a kernel with CONFIG_CHECKPOINT_RESTORE: {error}"
                ),
            }),
        }
    }
}

/// There is no start method of this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no start method `{name}`: it is one of {}", StartMethod::ALL.map(StartMethod::name).join(", "))]
pub struct UnknownStartMethod {
    /// What was asked for.
    pub name: String,
}

impl FromStr for StartMethod {
    type Err = UnknownStartMethod;

    fn from_str(name: &str) -> Result<Self, UnknownStartMethod> {
        let known = Self::ALL.into_iter().find(|method| method.name() == name);
        known.ok_or_else(|| UnknownStartMethod { name: name.to_owned() })
    }
}

/// The default of a process, and who decided on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Decision {
    Open,
    Chosen(StartMethod),
    Set(StartMethod),
}

/// Two bits say who decided, the others are the place in [`StartMethod::ALL`].
static DEFAULT: AtomicU8 = AtomicU8::new(0);

impl Decision {
    fn now() -> Self {
        let bits = DEFAULT.load(Ordering::Relaxed);
        match (bits & 3, StartMethod::ALL.get(usize::from(bits >> 2))) {
            (1, Some(&method)) => Self::Chosen(method),
            (2, Some(&method)) => Self::Set(method),
            _ => Self::Open,
        }
    }

    fn bits(self) -> u8 {
        let place = |method| StartMethod::ALL.iter().position(|&other| other == method).unwrap_or(0) as u8;
        match self {
            Self::Open => 0,
            Self::Chosen(method) => 1 | place(method) << 2,
            Self::Set(method) => 2 | place(method) << 2,
        }
    }

    /// Replaces what is there, if that is still `self`.
    fn replace(self, new: Self) -> bool {
        DEFAULT.compare_exchange(self.bits(), new.bits(), Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    fn method(self) -> Option<StartMethod> {
        match self {
            Self::Open => None,
            Self::Chosen(method) | Self::Set(method) => Some(method),
        }
    }
}

/// The methods that can work on this system, the default first.
#[must_use]
pub fn supported() -> Vec<StartMethod> {
    let mut methods: Vec<_> = StartMethod::ALL.into_iter().filter(|method| method.check().is_ok()).collect();
    let default = Decision::now().method();
    methods.sort_by_key(|&method| Some(method) != default);
    methods
}

/// The default method of this process, if it is decided.
#[must_use]
pub fn decided() -> Option<StartMethod> {
    Decision::now().method()
}

/// The default method of this process; from now on it is decided.
pub fn default() -> StartMethod {
    loop {
        if let Some(method) = decided() {
            return method;
        }
        let best = supported().first().copied().unwrap_or(StartMethod::Spawn);
        Decision::Open.replace(Decision::Chosen(best));
    }
}

/// Decides on the default method of this process.
///
/// # Errors
///
/// [`Error::MethodDecided`] if it is decided already, [`Error::NotSupported`].
pub fn set_default(method: StartMethod) -> Result<()> {
    method.check()?;
    if Decision::Open.replace(Decision::Set(method)) {
        return Ok(());
    }
    Err(Error::MethodDecided { method: default().name() })
}

/// Decides on the default method of this process, whatever it was; `None` makes it open again.
///
/// # Errors
///
/// [`Error::NotSupported`].
pub fn force_default(method: Option<StartMethod>) -> Result<()> {
    if let Some(method) = method {
        method.check()?;
    }
    DEFAULT.store(method.map_or(Decision::Open, Decision::Set).bits(), Ordering::Relaxed);
    Ok(())
}

/// What a child shall begin with that is started by `method`, or by the default.
pub(super) fn bequest(method: Option<StartMethod>) -> Decision {
    if let Some(method) = method {
        return Decision::Set(method);
    }
    default();
    Decision::now()
}

/// In a child: begins with what its parent said.
pub(super) fn inherit(decision: Decision) {
    DEFAULT.store(decision.bits(), Ordering::Relaxed);
}

/// After the default turned out not to work here: whether spawn takes its place, which it does unless it was set.
pub(super) fn falls_back(method: StartMethod) -> bool {
    method != StartMethod::Spawn && Decision::Chosen(method).replace(Decision::Chosen(StartMethod::Spawn))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_methods() {
        for method in StartMethod::ALL {
            assert_eq!(method.name().parse(), Ok(method));
        }
        let error = "Spawn".parse::<StartMethod>().unwrap_err();
        assert!(error.to_string().contains("`Spawn`") && error.to_string().contains("forkserver"), "{error}");
    }

    /// The only test here that touches the default of the process.
    #[test]
    fn default_is_decided_once_and_falls_back_only_if_nobody_set_it() {
        assert_eq!(decided(), None);
        assert_eq!(default(), supported()[0]);
        assert!(matches!(set_default(StartMethod::Spawn), Err(Error::MethodDecided { .. })));
        force_default(None).unwrap();
        assert_eq!(default(), StartMethod::ForkServer);
        assert!(falls_back(StartMethod::ForkServer));
        assert_eq!(default(), StartMethod::Spawn);
        assert!(!falls_back(StartMethod::Spawn));
        force_default(None).unwrap();
        set_default(StartMethod::ForkServer).unwrap();
        assert!(!falls_back(StartMethod::ForkServer));
        force_default(Some(StartMethod::Spawn)).unwrap();
        assert_eq!(supported()[0], StartMethod::Spawn);
        inherit(bequest(Some(StartMethod::ForkServer)));
        assert_eq!(Decision::now(), Decision::Set(StartMethod::ForkServer));
        assert_eq!(bequest(None), Decision::now());
    }
}
