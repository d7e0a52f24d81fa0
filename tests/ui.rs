//! What the compiler says to those who err: the texts are part of the interface.
//!
//! A closure that captures is refused when the program is *built*, not when it is checked. trybuild only builds when the
//! set has a program that must pass, so `pass.rs` is here for more than itself.

#[test]
fn mistakes_are_told_in_the_words_of_the_library() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/ui/pass.rs");
    cases.compile_fail("tests/ui/fail/*.rs");
}
