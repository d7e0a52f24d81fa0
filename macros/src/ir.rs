//! What an actor's block says, with everything checked.

use syn::{Attribute, Generics, Ident, Type, Visibility};

/// The methods that other processes can call.
pub(crate) struct Interface {
    /// Visibility of the proxy.
    pub(crate) vis: Visibility,
    /// Last part of the type's path.
    pub(crate) name: Ident,
    /// The type as the block names it.
    pub(crate) actor: Type,
    /// Parameters and bounds of the block.
    pub(crate) generics: Generics,
    /// `#[cfg]` of the block.
    pub(crate) cfgs: Vec<Attribute>,
    pub(crate) methods: Vec<Method>,
}

/// A method.
pub(crate) struct Method {
    /// Documentation and lints, for the proxy's method.
    pub(crate) attrs: Vec<Attribute>,
    /// `#[cfg]`, for everything that belongs to the method.
    pub(crate) cfgs: Vec<Attribute>,
    pub(crate) vis: Visibility,
    pub(crate) name: Ident,
    pub(crate) is_async: bool,
    pub(crate) args: Vec<Arg>,
    pub(crate) output: Output,
}

/// An argument.
pub(crate) struct Arg {
    pub(crate) name: Ident,
    /// What the caller gives.
    pub(crate) param: Type,
    /// What arrives; the method gets a reference to it if `is_lent`.
    pub(crate) owned: Type,
    pub(crate) is_lent: bool,
}

/// What a method returns.
pub(crate) struct Output {
    /// The value when all went well.
    pub(crate) ok: Type,
    /// The error of a `Result`, of which the caller gets a flattened one.
    pub(crate) err: Option<Type>,
}
