//! What a supervisor is told about itself and its children: plain data, with OTP's words and defaults.

pub use super::intensity::Intensity;
use super::request::Place;
use crate::actor::{Actor, Blueprint};
use crate::{Error, Result};
use procession_ipc::codec::Wire;
use procession_ipc::rendezvous::Address;
use procession_ipc::start::target::Target;
use procession_ipc::start::{Recipe, StartMethod};
use serde::{Deserialize, Serialize};
use std::any::type_name;
use std::collections::HashSet;
use std::time::Duration;

/// Separates the ids in the path of a child of a nested supervisor, as in `inner/counter`.
pub const PATH_SEPARATOR: char = '/';

/// Which children are restarted when one has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Strategy {
    /// Only that one: children do not need each other. OTP's default.
    #[default]
    OneForOne,
    /// All: the others are stopped first, from the last to the first.
    OneForAll,
    /// That one and all after it: those before do not need it.
    RestForOne,
}

/// When a child that has ended is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Restart {
    /// Always. OTP's default.
    #[default]
    Permanent,
    /// When it ended abnormally: by a panic, a signal, or an exit code other than 0.
    Transient,
    /// Never: a temporary child is forgotten when it has ended, whatever ended it.
    Temporary,
}

/// How a child is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Shutdown {
    /// At once, by SIGKILL (OTP's `brutal_kill`).
    Kill,
    /// It is asked to end, and killed when it has not ended after this time. OTP's default for workers is 5 s.
    After(Duration),
    /// It is asked to end, and has all the time it wants (OTP's `infinity`, the default for supervisors).
    Unlimited,
}

impl From<Duration> for Shutdown {
    fn from(time: Duration) -> Self {
        Self::After(time)
    }
}

/// Whether a supervisor ends by itself when its work is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum AutoShutdown {
    /// It does not. OTP's default.
    #[default]
    Never,
    /// When one of its significant children has ended and is not to be restarted.
    AnySignificant,
    /// When the last of its significant children has.
    AllSignificant,
}

/// What a child is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ChildKind {
    /// A process that does something.
    Worker,
    /// A process that supervises others.
    Supervisor,
}

/// How one child is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// What it is.
    pub kind: ChildKind,
    /// When it is started again.
    pub restart: Restart,
    /// How it is stopped.
    pub shutdown: Shutdown,
    /// Whether its end may end the supervisor, see [`AutoShutdown`].
    pub significant: bool,
}

impl Rules {
    /// OTP's defaults.
    #[must_use]
    pub fn new(kind: ChildKind) -> Self {
        let shutdown = match kind {
            ChildKind::Worker => Shutdown::After(Duration::from_secs(5)),
            ChildKind::Supervisor => Shutdown::Unlimited,
        };
        Self { kind, restart: Restart::default(), shutdown, significant: false }
    }
}

/// How a supervisor treats its children together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flags {
    /// Which children are restarted when one has ended.
    pub strategy: Strategy,
    /// How many restarts are too many.
    pub intensity: Intensity,
    /// Whether it ends by itself.
    pub auto_shutdown: AutoShutdown,
}

/// OTP's defaults: one for one, and one restart in five seconds.
impl Default for Flags {
    fn default() -> Self {
        let intensity = Intensity { restarts: 1, period: Duration::from_secs(5) };
        Self { strategy: Strategy::default(), intensity, auto_shutdown: AutoShutdown::default() }
    }
}

impl Flags {
    /// Refuses flags that cannot work.
    ///
    /// # Errors
    ///
    /// [`Error::Zero`] for a period of no time.
    pub fn check(&self) -> Result<()> {
        if self.intensity.period.is_zero() {
            return Err(Error::Zero { what: "a supervisor's period in nanoseconds" });
        }
        Ok(())
    }

    /// Refuses a child that cannot work under these flags.
    ///
    /// # Errors
    ///
    /// [`Error::BadChild`] for an id that is empty or looks like a path, and for a significant child that is permanent, or
    /// whose supervisor never ends by itself.
    pub fn check_child(&self, id: &str, rules: &Rules) -> Result<()> {
        let reason = if id.is_empty() {
            "its id is empty"
        } else if id.contains(PATH_SEPARATOR) {
            "`/` in an id would make a path of it"
        } else if rules.significant && self.auto_shutdown == AutoShutdown::Never {
            "it is significant, but its supervisor never shuts down by itself: set `auto_shutdown`"
        } else if rules.significant && rules.restart == Restart::Permanent {
            "it is significant, but a permanent child never ends for good: make it transient or temporary"
        } else {
            return Ok(());
        };
        Err(Error::BadChild { id: id.to_owned(), reason: reason.to_owned() })
    }

    /// Refuses children that cannot work together under these flags.
    ///
    /// # Errors
    ///
    /// Those of [`check_child`](Self::check_child); [`Error::BadChild`] for an id that is there twice.
    pub fn check_children<'a>(&self, children: impl IntoIterator<Item = (&'a str, &'a Rules)>) -> Result<()> {
        let mut ids = HashSet::new();
        for (id, rules) in children {
            self.check_child(id, rules)?;
            if !ids.insert(id) {
                let reason = "there is another child with this id".to_owned();
                return Err(Error::BadChild { id: id.to_owned(), reason });
            }
        }
        Ok(())
    }
}

/// A child as its supervisor is told about it. A clone shares the arguments.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ChildSpec {
    /// Its name among its siblings, and the name of its process.
    pub id: String,
    /// How it is treated.
    pub rules: Rules,
    /// What runs.
    pub start: Start,
}

/// What runs in the process of a child.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Start {
    /// A function.
    Process(Recipe),
    /// A typed actor.
    Actor(Role),
    /// A supervisor with its children.
    Supervisor(Tree),
}

/// What a child does that is an actor.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Role {
    /// How each incarnation is made.
    pub(super) blueprint: Blueprint,
    /// Name of the actor's type.
    pub(super) actor: String,
    /// Where it is called; chosen by the supervisor at the root, so that copies of a specification are children of their own.
    pub(super) address: Option<Address>,
}

/// A supervisor and its children, as data: it can be sent to the process that shall be the supervisor.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Tree {
    /// How it treats them together.
    pub flags: Flags,
    /// The children, in the order of their starts.
    pub children: Vec<ChildSpec>,
    /// Start method of their processes; `None` is the default method of the supervisor's process.
    pub method: Option<StartMethod>,
    /// Whether `fork` may leave threads behind that are not ours.
    pub allow_threads: bool,
}

impl Start {
    /// A process that runs `f(args)`.
    ///
    /// # Errors
    ///
    /// Arguments that cannot travel, or a function outside the main image.
    pub fn process<F, A, M>(f: F, args: &A) -> Result<Self>
    where
        F: Target<A, M, Output: Wire>,
    {
        Ok(Self::Process(Recipe::new(f, args)?))
    }

    /// The actor that `f(args)` makes.
    ///
    /// # Errors
    ///
    /// As [`process`](Self::process).
    pub fn actor<F, A, M>(f: F, args: &A) -> Result<Self>
    where
        F: Target<A, M, Output: Actor>,
    {
        let blueprint = Blueprint::of_factory(f, args)?;
        Ok(Self::Actor(Role { blueprint, actor: type_name::<F::Output>().to_owned(), address: None }))
    }

    /// Where it is called, if it is an actor.
    pub(super) fn place(&self) -> Option<Place> {
        match self {
            Self::Actor(Role { address: Some(address), actor, .. }) => {
                Some(Place { address: *address, actor: actor.clone() })
            }
            _ => None,
        }
    }

    /// Chooses the addresses of actors, here or further down, that have none.
    pub(super) fn give_addresses(&mut self) -> Result<()> {
        match self {
            Self::Process(_) | Self::Actor(Role { address: Some(_), .. }) => Ok(()),
            Self::Actor(role) => {
                role.address = Some(Address::random()?);
                Ok(())
            }
            Self::Supervisor(tree) => tree.give_addresses(),
        }
    }
}

impl ChildSpec {
    /// Refuses a child that cannot work under these flags, here or further down.
    pub(super) fn check(&self, flags: &Flags) -> Result<()> {
        flags.check_child(&self.id, &self.rules)?;
        self.check_below()
    }

    fn check_below(&self) -> Result<()> {
        match &self.start {
            Start::Process(_) | Start::Actor(_) => Ok(()),
            Start::Supervisor(tree) => tree.check(),
        }
    }
}

impl Tree {
    /// Chooses the addresses of all actors in it that have none.
    pub(super) fn give_addresses(&mut self) -> Result<()> {
        self.children.iter_mut().try_for_each(|child| child.start.give_addresses())
    }

    /// Refuses a tree that cannot work.
    pub(super) fn check(&self) -> Result<()> {
        self.flags.check()?;
        self.flags.check_children(self.children.iter().map(|child| (child.id.as_str(), &child.rules)))?;
        self.children.iter().try_for_each(ChildSpec::check_below)
    }
}
