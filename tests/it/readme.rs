//! The README's thirty lines are the example, to the letter.

#[test]
fn the_readme_shows_the_example_counter_and_it_has_thirty_lines() {
    let readme = include_str!("../../README.md");
    let example = include_str!("../../examples/counter.rs");
    let code = &example[example.find("use ").unwrap()..];
    assert!(readme.contains(&format!("```rust,no_run\n{code}```\n")));
    assert!(code.lines().count() <= 30, "{}", code.lines().count());
}
