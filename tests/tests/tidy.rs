//! House rules as a test: sizes of files and functions, purity of the pure packages, docs that name every package.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Lines of a file without its test module.
const MAX_FILE: usize = 500;
/// Lines of a function, signature to brace.
const MAX_FUNCTION: usize = 70;

/// Exceptions, each with its reason: (file, what, lines allowed).
const LONGER: &[(&str, &str, usize)] = &[
    // One value, a line for each field of the engine.
    ("gossip/core/src/engine.rs", "new", 80),
];

/// Packages that may do no I/O, by folder.
const PURE: [&str; 4] = ["gossip/core", "dns/names", "node/core", "node/compose"];

/// What must not be in a pure package's dependency tree: runtimes, sockets, entropy.
const FORBIDDEN: [&str; 6] = ["tokio", "mio", "socket2", "quinn", "getrandom", "hickory-proto"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_path_buf()
}

/// Every Rust file of the workspace, relative to its root.
fn sources() -> Vec<PathBuf> {
    let mut open: Vec<PathBuf> =
        ["gossip", "dns", "node", "sim", "tests"].iter().map(|folder| root().join(folder)).collect();
    let mut files = Vec::new();
    while let Some(path) = open.pop() {
        for entry in fs::read_dir(&path).expect("a readable folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() && path.file_name().is_none_or(|name| name != "target") {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    assert!(files.len() > 50, "the search for sources found only {}", files.len());
    files
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).expect("inside the workspace").display().to_string()
}

fn allowed(file: &str, what: &str, default: usize) -> usize {
    LONGER.iter().find(|(f, w, _)| *f == file && *w == what).map_or(default, |(_, _, lines)| *lines)
}

/// The part before the test module.
fn without_tests(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    // `mod tests;` among the other modules ends nothing.
    let begins = |pair: &[&str]| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{');
    if let Some(end) = lines.windows(2).position(begins) {
        lines.truncate(end);
    }
    lines
}

fn is_test_file(file: &str) -> bool {
    file.contains("/tests/") || file.ends_with("/tests.rs")
}

#[test]
fn files_are_short_enough_to_hold_in_mind() {
    let mut long = Vec::new();
    for path in sources() {
        let file = relative(&path);
        let lines = without_tests(&fs::read_to_string(&path).expect("text")).len();
        if !is_test_file(&file) && lines > allowed(&file, "file", MAX_FILE) {
            long.push(format!("{file}: {lines} lines"));
        }
    }
    assert!(long.is_empty(), "over {MAX_FILE} lines:\n{}", long.join("\n"));
}

/// Functions of rustfmt's output: from the line with `fn` to the closing brace at the same indent.
fn functions(lines: &[&str]) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let trimmed = line.trim_start();
        // The brackets of `pub(crate)` are not those of the arguments.
        let Some((before, after)) = trimmed.split_once("fn ") else { continue };
        if !(before.is_empty() || before.ends_with(' ')) {
            continue;
        }
        let name = after.split(['(', '<']).next().unwrap_or_default();
        if trimmed.starts_with("//") || trimmed.starts_with('"') {
            continue;
        }
        let indent = line.len() - trimmed.len();
        let close = format!("{}}}", " ".repeat(indent));
        let end = lines.iter().skip(start).position(|l| *l == close);
        found.push((name.to_owned(), end.map_or(1, |n| n + 1)));
    }
    found
}

#[test]
fn functions_do_one_thing() {
    let mut long = Vec::new();
    for path in sources() {
        let file = relative(&path);
        let text = fs::read_to_string(&path).expect("text");
        for (name, lines) in functions(&without_tests(&text)) {
            if lines > allowed(&file, &name, MAX_FUNCTION) {
                long.push(format!("{file}: {name}: {lines} lines"));
            }
        }
    }
    assert!(long.is_empty(), "over {MAX_FUNCTION} lines:\n{}", long.join("\n"));
}

#[test]
fn every_module_opens_with_what_it_is_for() {
    let silent: Vec<String> = sources()
        .iter()
        .filter(|path| !is_test_file(&relative(path)))
        .filter(|path| !fs::read_to_string(path).expect("text").starts_with("//!"))
        .map(|path| relative(path))
        .collect();
    assert!(silent.is_empty(), "no `//!` at the top:\n{}", silent.join("\n"));
}

#[test]
fn pure_packages_depend_on_nothing_that_does_io() {
    for package in PURE {
        let manifest = root().join(package).join("Cargo.toml");
        let output = Command::new(env!("CARGO"))
            .args(["tree", "--offline", "--edges", "normal", "--prefix", "none", "--manifest-path"])
            .arg(&manifest)
            .output()
            .expect("cargo tree runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let tree = String::from_utf8_lossy(&output.stdout).into_owned();
        let names: BTreeSet<&str> = tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
        assert!(names.len() > 3, "{package}: cargo tree printed {names:?}");
        let found: Vec<_> = FORBIDDEN.iter().filter(|bad| names.contains(**bad)).collect();
        assert!(found.is_empty(), "{package} depends on {found:?}");
        let lib = fs::read_to_string(root().join(package).join("src/lib.rs")).expect("lib.rs");
        assert!(lib.contains("#![no_std]"), "{package} is not no_std");
        assert!(lib.contains("#![forbid(unsafe_code)]"), "{package} does not forbid unsafe code");
    }
}

#[test]
fn the_architecture_page_names_every_package() {
    let page = fs::read_to_string(root().join("docs/src/design/architecture.md")).expect("the architecture page");
    let workspace = fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml");
    let members = workspace.split("members = [").nth(1).and_then(|rest| rest.split(']').next()).expect("members");
    for member in members.split(',').map(|m| m.trim().trim_matches('"')).filter(|m| !m.is_empty()) {
        assert!(page.contains(&format!("`{member}`")), "docs/src/design/architecture.md does not name `{member}`");
    }
}
