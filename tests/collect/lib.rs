//! The `#[test]` of `tests/`: Rust's own harness cannot skip a test that finds out while it runs that a program is missing.

use proc_macro::{TokenStream, TokenTree};

/// Registers a function without arguments in `support::harness::TESTS`.
#[proc_macro_attribute]
pub fn test(_arguments: TokenStream, function: TokenStream) -> TokenStream {
    let is_fn = |token: &TokenTree| matches!(token, TokenTree::Ident(word) if word.to_string() == "fn");
    let mut tokens = function.clone().into_iter().skip_while(|token| !is_fn(token)).skip(1);
    let Some(TokenTree::Ident(name)) = tokens.next() else {
        return "compile_error!(\"`#[test]` belongs to a function\");".parse().unwrap_or_default();
    };
    let registration = format!(
        "#[allow(unsafe_code)] const _: () = {{
            #[::linkme::distributed_slice(crate::support::harness::TESTS)]
            static TEST: crate::support::harness::Test =
                crate::support::harness::Test {{ module: ::core::module_path!(), name: \"{name}\", run: {name} }};
        }};"
    );
    let registration: TokenStream = registration.parse().unwrap_or_default();
    [function, registration].into_iter().collect()
}
