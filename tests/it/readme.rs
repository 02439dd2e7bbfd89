//! The README's thirty lines are the examples, to the letter.

#[test]
fn the_readme_shows_the_examples_and_they_have_thirty_lines() {
    let readme = include_str!("../../README.md");
    for example in [include_str!("../../examples/counter.rs"), include_str!("../../examples/axum.rs")] {
        let code = &example[example.find("use ").unwrap()..];
        assert!(readme.contains(&format!("```rust,no_run\n{code}```\n")));
        assert!(code.lines().count() <= 30, "{}", code.lines().count());
    }
}
