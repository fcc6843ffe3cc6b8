//! What nobody would write: truncations and flipped bytes of a good file, random text, and the files of others.

use std::fs;
use std::path::{Path, PathBuf};

use dunlin_compose::{Problem, Source, parse};
use proptest::prelude::*;

const GOOD: &str = include_str!("good.compose.yaml");

/// Line breaks as YAML 1.2 (section 5.4) counts them: a lone carriage return is one, too.
fn line_breaks(text: &str) -> usize {
    text.replace("\r\n", "\n").matches(['\n', '\r']).count()
}

/// Reads a text that may be anything; whatever is said of it has a place and a key.
fn read(file: &str, text: &str) -> Result<(), Vec<Problem>> {
    let lines = u32::try_from(line_breaks(text)).expect("a small file") + 1;
    let result = parse(Source { file, text }, &|name| (name.len() % 2 == 0).then(|| name.to_string()));
    if let Err(problems) = &result {
        assert!(!problems.is_empty(), "refused without a reason: {file}");
        for problem in problems {
            assert!(problem.line >= 1 && problem.line <= lines && problem.column >= 1, "no place: {problem}");
            assert!(!problem.key.is_empty() && !problem.what.is_empty() && !problem.remedy.is_empty(), "{problem}");
        }
        let places: Vec<(u32, u32)> = problems.iter().map(|p| (p.line, p.column)).collect();
        assert!(places.is_sorted(), "not sorted: {problems:?}");
    }
    result.map(|_| ())
}

#[test]
fn every_truncation() {
    for end in (0..=GOOD.len()).filter(|&i| GOOD.is_char_boundary(i)) {
        let _either = read("truncated", &GOOD[..end]);
    }
}

proptest! {
    // One seed, so that the gate says the same of the same tree.
    #![proptest_config(ProptestConfig {
        cases: 2_000,
        failure_persistence: None,
        rng_seed: proptest::test_runner::RngSeed::Fixed(1),
        ..ProptestConfig::default()
    })]

    #[test]
    fn flipped_bytes(flips in prop::collection::vec((0..GOOD.len(), any::<u8>()), 1..8)) {
        let mut bytes = GOOD.as_bytes().to_vec();
        for (at, with) in flips {
            bytes[at] ^= with;
        }
        let _either = read("flipped", &String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn swapped_pieces(cuts in prop::collection::vec(0..GOOD.len(), 2..6)) {
        let text: String = cuts.windows(2).map(|w| &GOOD[w[0].min(w[1])..w[0].max(w[1])]).collect();
        let _either = read("swapped", &text);
    }

    #[test]
    fn signs_of_yaml(text in "[-:{}\\[\\],&*!|>'\"%@`#?<~$ \n\ta0é]{0,60}") {
        let _either = read("signs", &text);
        let _either = read("signs", &format!("services:\n  s:\n    image: {text}\n"));
        let _either = read("signs", &format!("services:\n  s:\n    image: i\n    ports: [{text}]\n"));
    }
}

fn yaml_files(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).expect("a folder").map(|e| e.expect("an entry").path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            yaml_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "yaml" || e == "yml") {
            found.push(path);
        }
    }
}

#[test]
fn real_files() {
    let Some(folder) = std::env::var_os("DUNLIN_DATA") else {
        dunlin_test_host::left_out("real_files", "DUNLIN_DATA names no folder with real Compose files");
        return;
    };
    let mut files = Vec::new();
    yaml_files(&Path::new(&folder).join("compose"), &mut files);
    assert!(files.len() >= 50, "only {} Compose files in {}", files.len(), folder.display());
    let (mut accepted, mut refused) = (0_usize, 0_usize);
    for path in files {
        let text = String::from_utf8_lossy(&fs::read(&path).expect("a readable file")).into_owned();
        match read(&path.display().to_string(), &text) {
            Ok(()) => accepted += 1,
            Err(_) => refused += 1,
        }
    }
    println!("real Compose files: {accepted} accepted, {refused} refused");
    assert!(accepted > 0 && refused > 0);
}
