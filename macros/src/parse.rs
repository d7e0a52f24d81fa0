//! From tokens to the interface. All mistakes are reported at once, each where it stands, with what to do instead.

use crate::ir::{Arg, Interface, Method, Output};
use proc_macro2::{Span, TokenStream};
use quote::format_ident;
use std::collections::BTreeSet;
use syn::ext::IdentExt;
use syn::parse::Parser;
use syn::spanned::Spanned;
use syn::visit::Visit;
use syn::visit_mut::VisitMut;
use syn::{
    Attribute, Error, FnArg, GenericArgument, GenericParam, Generics, Ident, ImplItem, ImplItemFn, ItemImpl,
    Lifetime, LitStr, Pat, PathArguments, ReceiverKind, Result, ReturnType, Safety, Signature, Type,
    TypeReference, Visibility, WherePredicate, parse_quote, parse_quote_spanned,
};

/// Attributes that say something about the proxy's method too.
const KEPT: [&str; 6] = ["doc", "deprecated", "must_use", "allow", "warn", "cfg_attr"];

/// Reads the options of the attribute and the block below it.
pub(crate) fn interface(options: TokenStream, block: TokenStream) -> Result<Interface> {
    let vis = visibility(options)?;
    let block: ItemImpl = syn::parse2(block).map_err(|error| {
        Error::new(error.span(), "`#[procession::actor]` stands on an `impl` block: `impl Counter { .. }`")
    })?;
    let name = check_head(&block)?;
    let mut mistakes = Mistakes::default();
    check_parameters(&block.generics, &mut mistakes);
    let methods = methods(&block, &mut mistakes);
    if methods.is_empty() && mistakes.is_empty() {
        mistakes.add(
            block.self_ty.span(),
            "no method can be called from another process: make at least one `pub`, with `&self` or `&mut self`",
        );
    }
    check_names(&methods, &mut mistakes);
    mistakes.into_result()?;
    let (cfgs, _) = split_cfgs(&block.attrs);
    Ok(Interface { vis, name, actor: *block.self_ty, generics: block.generics, cfgs, methods })
}

/// What was found so far.
#[derive(Default)]
struct Mistakes(Option<Error>);

impl Mistakes {
    fn add(&mut self, span: Span, text: impl std::fmt::Display) {
        self.combine(Error::new(span, text));
    }

    fn combine(&mut self, error: Error) {
        match &mut self.0 {
            Some(errors) => errors.combine(error),
            None => self.0 = Some(error),
        }
    }

    fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    fn into_result(self) -> Result<()> {
        self.0.map_or(Ok(()), Err)
    }
}

/// `vis = ".."`, or nothing.
fn visibility(options: TokenStream) -> Result<Visibility> {
    let mut vis = parse_quote!(pub);
    let parser = syn::meta::parser(|meta| {
        if !meta.path.is_ident("vis") {
            return Err(meta.error("the only option is the visibility of the proxy: `vis = \"pub(crate)\"`"));
        }
        vis = meta.value()?.parse::<LitStr>()?.parse()?;
        Ok(())
    });
    parser.parse2(options)?;
    Ok(vis)
}

/// Checks what stands before the brace; the name of the type.
fn check_head(block: &ItemImpl) -> Result<Ident> {
    if let Some((path, _)) = &block.trait_ {
        return Err(Error::new_spanned(
            path,
            "the methods of an actor are its own, not those of a trait: write `impl Counter { .. }`",
        ));
    }
    for param in &block.generics.params {
        if let GenericParam::Lifetime(lifetime) = param {
            return Err(Error::new_spanned(
                lifetime,
                "an actor lives in another process and cannot borrow: let it own its data",
            ));
        }
    }
    match &*block.self_ty {
        Type::Path(path) if path.qself.is_none() => match path.path.segments.last() {
            Some(last) => Ok(last.ident.clone()),
            None => Err(Error::new_spanned(path, "the type has no name")),
        },
        other => Err(Error::new_spanned(other, "an actor is a type with a name: a struct or an enum")),
    }
}

/// A parameter without any bound may borrow, so no actor can have it.
fn check_parameters(generics: &Generics, mistakes: &mut Mistakes) {
    let clause = generics.where_clause.iter().flat_map(|clause| &clause.predicates);
    let bounded: Vec<&Type> = clause
        .filter_map(|predicate| match predicate {
            WherePredicate::Type(predicate) => Some(bare(&predicate.bounded_ty)),
            _ => None,
        })
        .collect();
    for param in generics.type_params().filter(|param| param.bounds.is_empty()) {
        let is_it = |ty: &&Type| matches!(ty, Type::Path(path) if path.path.is_ident(&param.ident));
        if !bounded.iter().any(is_it) {
            let name = &param.ident;
            let text = format!(
                "an actor's parameter owns its data: write `{name}: Wire` if a method takes or returns it, otherwise \
                 `{name}: Send + 'static`"
            );
            mistakes.add(param.span(), text);
        }
    }
}

fn methods(block: &ItemImpl, mistakes: &mut Mistakes) -> Vec<Method> {
    let mut methods = Vec::new();
    for item in &block.items {
        let ImplItem::Fn(method) = item else { continue };
        let is_private = matches!(method.vis, Visibility::Inherited);
        if is_private || method.sig.receiver().is_none() {
            continue;
        }
        match self::method(method, &block.self_ty) {
            Ok(method) => methods.push(method),
            Err(error) => mistakes.combine(error),
        }
    }
    methods
}

fn method(method: &ImplItemFn, actor: &Type) -> Result<Method> {
    let sig = &method.sig;
    let mut mistakes = Mistakes::default();
    check_signature(sig, &mut mistakes);
    let mut args = Vec::new();
    for (index, input) in sig.inputs.iter().enumerate() {
        let FnArg::Typed(input) = input else { continue };
        let name = match &*input.pat {
            Pat::Ident(pat) if pat.subpat.is_none() => pat.ident.clone(),
            _ => format_ident!("arg{index}"),
        };
        match arg(name, (*input.ty).clone(), actor) {
            Ok(arg) => args.push(arg),
            Err(error) => mistakes.combine(error),
        }
    }
    let output = output(&sig.output, actor).unwrap_or_else(|error| {
        mistakes.combine(error);
        Output { ok: parse_quote!(()), err: None }
    });
    mistakes.into_result()?;
    let (cfgs, others) = split_cfgs(&method.attrs);
    let kept = |attr: &Attribute| KEPT.iter().any(|kept| attr.path().is_ident(kept));
    Ok(Method {
        attrs: others.into_iter().filter(kept).collect(),
        cfgs,
        vis: method.vis.clone(),
        name: sig.ident.clone(),
        is_async: sig.asyncness.is_some(),
        args,
        output,
    })
}

fn split_cfgs(attrs: &[Attribute]) -> (Vec<Attribute>, Vec<Attribute>) {
    attrs.iter().cloned().partition(|attr| attr.path().is_ident("cfg"))
}

fn check_signature(sig: &Signature, mistakes: &mut Mistakes) {
    if let Some(receiver) = sig.receiver()
        && !matches!(receiver.kind, ReceiverKind::Reference(..))
    {
        mistakes.add(receiver.span(), "an actor stays in its process: take `&self` or `&mut self`");
    }
    if let Some(param) = sig.generics.params.first() {
        let text = match param {
            GenericParam::Lifetime(_) => {
                "nothing can be borrowed from another process: leave the lifetimes out, as in `text: &str`"
            }
            _ => {
                "a method with parameters of its own has no single message: put the parameter on the type, or write a \
                 method for each type (without `pub` it is not exposed)"
            }
        };
        mistakes.add(param.span(), text);
    }
    if let Safety::Unsafe(token) = &sig.safety {
        mistakes.add(token.span(), "a caller in another process cannot promise what `unsafe` asks for");
    }
    if let Some(abi) = &sig.abi {
        mistakes.add(abi.span(), "only Rust's own calling convention can be called from another process");
    }
}

/// Takes off the groups that `macro_rules!` puts around types.
fn bare(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => bare(&group.elem),
        Type::Paren(paren) => bare(&paren.elem),
        other => other,
    }
}

fn arg(name: Ident, mut ty: Type, actor: &Type) -> Result<Arg> {
    NameSelf(actor).visit_type_mut(&mut ty);
    let owned = match bare(&ty) {
        Type::Reference(reference) => owned_of(reference)?,
        other => {
            check_owned(
                other,
                "a reference inside another type cannot travel: own it, as in `Option<String>`",
            )?;
            other.clone()
        }
    };
    let is_lent = matches!(bare(&ty), Type::Reference(_));
    Ok(Arg { name, param: ty, owned, is_lent })
}

/// What arrives for a parameter that is a reference.
fn owned_of(reference: &TypeReference) -> Result<Type> {
    if let Some(mutability) = &reference.mutability {
        return Err(Error::new_spanned(
            mutability,
            "a method in another process cannot write into its caller's value: take it by value and return it",
        ));
    }
    if let Some(lifetime) = &reference.lifetime {
        return Err(Error::new_spanned(
            lifetime,
            "what is borrowed here does not live there: leave the lifetime out, as in `&str`",
        ));
    }
    let elem = bare(&reference.elem);
    check_owned(elem, "a reference behind a reference cannot travel: take `&T`, `&str` or `&[T]`")?;
    Ok(match elem {
        Type::Slice(slice) => {
            let elem = &slice.elem;
            parse_quote!(::std::vec::Vec<#elem>)
        }
        Type::Path(path) => match path.path.segments.last().map(|last| last.ident.to_string()).as_deref() {
            Some("str") => parse_quote!(::std::string::String),
            Some("Path") => parse_quote!(::std::path::PathBuf),
            Some("OsStr") => parse_quote!(::std::ffi::OsString),
            Some("CStr") => parse_quote!(::std::ffi::CString),
            _ => elem.clone(),
        },
        other => other.clone(),
    })
}

fn output(output: &ReturnType, actor: &Type) -> Result<Output> {
    let ReturnType::Type(_, ty) = output else { return Ok(Output { ok: parse_quote!(()), err: None }) };
    let mut ty = (**ty).clone();
    NameSelf(actor).visit_type_mut(&mut ty);
    if matches!(bare(&ty), Type::Never(_)) {
        return Err(Error::new_spanned(ty, "a method that never returns answers nobody: return `()`"));
    }
    check_owned(
        &ty,
        "a reference cannot leave the actor's process: return an owned value, such as `String`",
    )?;
    Ok(match result_types(&ty) {
        Some((ok, err)) => Output { ok, err: Some(err) },
        None => Output { ok: ty, err: None },
    })
}

/// The two types of a type whose name is `Result`.
fn result_types(ty: &Type) -> Option<(Type, Type)> {
    let Type::Path(path) = bare(ty) else { return None };
    let last = path.path.segments.last().filter(|last| last.ident == "Result")?;
    if let PathArguments::AngleBracketed(arguments) = &last.arguments
        && let [GenericArgument::Type(ok), GenericArgument::Type(err)] =
            arguments.args.iter().collect::<Vec<_>>()[..]
    {
        return Some((ok.clone(), err.clone()));
    }
    // An alias: only the compiler knows what it hides.
    let of = |part: &str| {
        let (part, span) = (Ident::new(part, ty.span()), ty.span());
        parse_quote_spanned!(span=> <#ty as ::procession::__private::ResultLike>::#part)
    };
    Some((of("Ok"), of("Err")))
}

/// Refuses references, lifetimes and `impl Trait`.
fn check_owned(ty: &Type, about_references: &'static str) -> Result<()> {
    let mut visitor = Borrows { about_references, mistakes: Mistakes::default() };
    visitor.visit_type(ty);
    visitor.mistakes.into_result()
}

struct Borrows {
    about_references: &'static str,
    mistakes: Mistakes,
}

impl<'ast> Visit<'ast> for Borrows {
    fn visit_type_reference(&mut self, reference: &'ast TypeReference) {
        self.mistakes.add(reference.span(), self.about_references);
    }

    fn visit_lifetime(&mut self, lifetime: &'ast Lifetime) {
        self.mistakes.add(lifetime.span(), self.about_references);
    }

    fn visit_type_impl_trait(&mut self, ty: &'ast syn::TypeImplTrait) {
        self.mistakes.add(ty.span(), "the other process must know the type: name it instead of `impl ..`");
    }
}

/// Replaces `Self`, which means something else in the proxy, by the actor's type.
struct NameSelf<'a>(&'a Type);

impl VisitMut for NameSelf<'_> {
    fn visit_type_mut(&mut self, ty: &mut Type) {
        if let Type::Path(path) = ty
            && path.qself.is_none()
            && path.path.is_ident("Self")
        {
            *ty = self.0.clone();
        } else {
            syn::visit_mut::visit_type_mut(self, ty);
        }
    }
}

/// The proxy has each name twice, and some of its own.
fn check_names(methods: &[Method], mistakes: &mut Mistakes) {
    let names: BTreeSet<String> = methods.iter().map(|method| method.name.unraw().to_string()).collect();
    for method in methods {
        let name = method.name.unraw().to_string();
        if let Some(base) = name.strip_suffix("_async")
            && names.contains(base)
        {
            let text = format!(
                "the proxy has a `{name}` already, the twin of `{base}` that does not wait: rename this method"
            );
            mistakes.add(method.name.span(), text);
        }
        if name == "clone" {
            mistakes.add(method.name.span(), "it would hide the proxy's own `clone`: rename this method");
        }
    }
}
