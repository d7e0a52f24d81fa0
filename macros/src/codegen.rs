//! From the interface to code: the proxy, the messages in both their forms, and the actor.
//!
//! A call has two forms with the same bytes: `Call<'_>` borrows the caller's arguments and is written, `Message` owns what
//! arrived and is read. Both are enums with a variant for each method, named like it, in the order of the block; they live
//! in an unnamed constant, so they take no names away from the user.

use crate::ir::{Arg, Interface, Method, Output};
use proc_macro2::TokenStream;
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Generics, Ident, parse_quote};

/// What is generated behind the block.
pub(crate) fn code(interface: &Interface) -> TokenStream {
    let Interface { cfgs, .. } = interface;
    let (proxy, traits, verbs) = (proxy(interface), proxy_traits(interface), verbs(interface));
    let (messages, actor) = (messages(interface), actor(interface));
    quote! {
        #proxy
        #(#cfgs)*
        #[allow(
            dead_code, deprecated, non_camel_case_types, private_bounds, private_interfaces, unreachable_pub,
            unused_qualifications, clippy::all, clippy::pedantic
        )]
        const _: () = {
            #messages
            #actor
            #traits
            #verbs
        };
    }
}

fn proxy_name(interface: &Interface) -> Ident {
    format_ident!("{}Proxy", interface.name)
}

fn proxy(interface: &Interface) -> TokenStream {
    let Interface { vis, name, actor, generics, cfgs, .. } = interface;
    let proxy = proxy_name(interface);
    let clause = &generics.where_clause;
    let doc = format!(
        "Calls the methods of a [`{name}`] in another process. It can be sent to any process of the family."
    );
    quote! {
        #(#cfgs)*
        #[doc = #doc]
        #[allow(private_bounds, private_interfaces, unreachable_pub, dead_code)]
        #vis struct #proxy #generics #clause {
            caller: ::procession::__private::Caller,
            actor: ::core::marker::PhantomData<fn() -> #actor>,
        }
    }
}

/// The traits of a proxy, none of which asks anything of the actor's parameters.
fn proxy_traits(interface: &Interface) -> TokenStream {
    let Interface { generics, .. } = interface;
    let proxy = proxy_name(interface);
    let (params, args, clause) = generics.split_for_impl();
    let text = proxy.unraw().to_string();
    let mut de = generics.clone();
    de.params.insert(0, parse_quote!('de));
    let (de_params, ..) = de.split_for_impl();
    quote! {
        impl #params ::procession::Proxy for #proxy #args #clause {
            fn from_caller(caller: ::procession::__private::Caller) -> Self {
                Self { caller, actor: ::core::marker::PhantomData }
            }

            fn caller(&self) -> &::procession::__private::Caller {
                &self.caller
            }
        }

        impl #params ::core::clone::Clone for #proxy #args #clause {
            fn clone(&self) -> Self {
                <Self as ::procession::Proxy>::from_caller(::core::clone::Clone::clone(&self.caller))
            }
        }

        impl #params ::core::fmt::Debug for #proxy #args #clause {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.debug_tuple(#text).field(&self.caller.address()).finish()
            }
        }

        /// Two proxies are equal if they call the same actor.
        impl #params ::core::cmp::PartialEq for #proxy #args #clause {
            fn eq(&self, other: &Self) -> bool {
                self.caller == other.caller
            }
        }

        impl #params ::core::cmp::Eq for #proxy #args #clause {}

        impl #params ::procession::__private::serde::Serialize for #proxy #args #clause {
            fn serialize<S: ::procession::__private::serde::Serializer>(
                &self,
                serializer: S,
            ) -> ::core::result::Result<S::Ok, S::Error> {
                ::procession::__private::serde::Serialize::serialize(&self.caller, serializer)
            }
        }

        impl #de_params ::procession::__private::serde::Deserialize<'de> for #proxy #args #clause {
            fn deserialize<D: ::procession::__private::serde::Deserializer<'de>>(
                deserializer: D,
            ) -> ::core::result::Result<Self, D::Error> {
                let caller = ::procession::__private::serde::Deserialize::deserialize(deserializer)?;
                ::core::result::Result::Ok(<Self as ::procession::Proxy>::from_caller(caller))
            }
        }
    }
}

/// The parameters of the enum that borrows.
fn call_generics(generics: &Generics) -> Generics {
    let mut generics = generics.clone();
    generics.params.insert(0, parse_quote!('__call));
    generics
}

fn messages(interface: &Interface) -> TokenStream {
    let Interface { actor, generics, methods, .. } = interface;
    let clause = &generics.where_clause;
    let call_generics = call_generics(generics);
    let variants = methods.iter().map(|Method { cfgs, name, args, .. }| {
        let owned = args.iter().map(|arg| &arg.owned);
        quote!(#(#cfgs)* #name(#(#owned),*))
    });
    let borrowed = methods.iter().map(|Method { cfgs, name, args, .. }| {
        let params = args.iter().map(borrowed_type);
        quote!(#(#cfgs)* #name(#(#params),*))
    });
    // The last variant cannot exist: it only uses the parameters that no method does.
    quote! {
        #[derive(::procession::__private::serde::Deserialize)]
        #[serde(crate = "::procession::__private::serde", bound = "")]
        pub enum Message #generics #clause {
            #(#variants,)*
            #[serde(skip)]
            __None(::core::convert::Infallible, ::core::marker::PhantomData<fn() -> #actor>),
        }

        #[derive(::procession::__private::serde::Serialize)]
        #[serde(crate = "::procession::__private::serde", bound = "")]
        pub enum Call #call_generics #clause {
            #(#borrowed,)*
            #[serde(skip)]
            __None(::core::convert::Infallible, ::core::marker::PhantomData<&'__call fn() -> #actor>),
        }
    }
}

/// The type of an argument in the enum that borrows.
fn borrowed_type(arg: &Arg) -> TokenStream {
    let Arg { param, owned, is_lent, .. } = arg;
    match param {
        syn::Type::Reference(reference) if *is_lent => {
            let elem = &reference.elem;
            quote_spanned!(param.span()=> &'__call #elem)
        }
        // Mistakes about what is sent are shown at the type that cannot be.
        _ => quote_spanned!(param.span()=> &'__call #owned),
    }
}

fn actor(interface: &Interface) -> TokenStream {
    let Interface { name, actor, generics, methods, .. } = interface;
    let proxy = proxy_name(interface);
    let text = name.unraw().to_string();
    let mut generics = generics.clone();
    if !generics.params.is_empty() {
        // Whoever puts it into a process needs this; a proxy does not.
        let args = interface.generics.split_for_impl().1;
        let clause = generics.make_where_clause();
        clause.predicates.push(parse_quote!(#actor: ::core::marker::Send));
        clause.predicates.push(parse_quote!(Message #args: ::core::marker::Send));
    }
    let (params, args, clause) = generics.split_for_impl();
    let arms = methods.iter().map(arm);
    quote! {
        impl #params ::procession::Actor for #actor #clause {
            type Proxy = #proxy #args;
            type Message = Message #args;
            const NAME: &'static str = #text;

            async fn handle(&mut self, message: Message #args, reply: ::procession::__private::Reply<'_>) {
                match message {
                    #(#arms)*
                    Message::__None(none, _) => match none {},
                }
            }
        }
    }
}

/// The types of a method's answer, for the caller.
fn answer(method: &Method) -> (TokenStream, TokenStream) {
    let Output { ok, err } = &method.output;
    let none = || quote!(::procession::NoError);
    (ok.to_token_stream(), err.as_ref().map_or_else(none, ToTokens::to_token_stream))
}

fn arm(method: &Method) -> TokenStream {
    let Method { cfgs, name, args, is_async, output, .. } = method;
    // Names of the user's could be those of this function.
    let fields: Vec<Ident> = (0..args.len()).map(|index| format_ident!("arg{index}")).collect();
    let given = args.iter().zip(&fields).map(|(arg, field)| match arg.is_lent {
        true => quote!(&#field),
        false => quote!(#field),
    });
    let wait = is_async.then(|| quote!(.await));
    let span = output.ok.span();
    let verb = Ident::new(if output.err.is_some() { "result" } else { "value" }, span);
    let reply = quote_spanned!(span=> reply.#verb(&answer));
    quote! {
        #(#cfgs)* Message::#name(#(#fields),*) => {
            let answer = Self::#name(self #(, #given)*)#wait;
            #reply
        }
    }
}

fn verbs(interface: &Interface) -> TokenStream {
    let Interface { generics, methods, .. } = interface;
    let proxy = proxy_name(interface);
    let (params, args, clause) = generics.split_for_impl();
    let verbs = methods.iter().map(|method| verb(interface, method));
    quote! {
        impl #params #proxy #args #clause {
            #(#verbs)*
        }
    }
}

/// The two methods of the proxy for one of the actor.
fn verb(interface: &Interface, method: &Method) -> TokenStream {
    let Interface { name: actor_name, generics, .. } = interface;
    let generics = generics.split_for_impl().1;
    let turbofish = generics.as_turbofish();
    let Method { attrs, cfgs, vis, name, args, .. } = method;
    let text = format!("{}::{}", actor_name.unraw(), name.unraw());
    let twin = format_ident!("{}_async", name.unraw(), span = name.span());
    let twin_doc = format!("Calls [`{0}`](Self::{0}) without waiting for its answer.", name.unraw());
    let default_doc = format!("Calls `{text}`.");
    let docs = (!attrs.iter().any(|attr| attr.path().is_ident("doc"))).then(|| quote!(#[doc = #default_doc]));
    let deprecated: Vec<_> = attrs.iter().filter(|attr| attr.path().is_ident("deprecated")).collect();
    let params: Vec<TokenStream> = args.iter().map(|Arg { name, param, .. }| quote!(#name: #param)).collect();
    let given: Vec<TokenStream> = args
        .iter()
        .map(|Arg { name, is_lent, .. }| if *is_lent { quote!(#name) } else { quote!(&#name) })
        .collect();
    let (ok, err) = answer(method);
    quote! {
        #(#cfgs)* #(#attrs)* #docs
        #vis fn #name(&self #(, #params)*) -> ::core::result::Result<#ok, ::procession::CallError<#err>> {
            ::procession::__private::call::<Message #generics, _, #ok, #err>(&self.caller, #text, &Call #turbofish ::#name(#(#given),*))
        }

        #(#cfgs)* #(#deprecated)* #[doc = #twin_doc]
        #vis fn #twin(&self #(, #params)*) -> ::procession::Call<#ok, #err> {
            ::procession::__private::call_async::<Message #generics, _, #ok, #err>(&self.caller, #text, &Call #turbofish ::#name(#(#given),*))
        }
    }
}
