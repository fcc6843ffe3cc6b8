//! What this machine offers to tests of whole clusters.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

pub use dunlin_test_host::left_out;

/// True if the tests run as root.
#[must_use]
pub fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|out| out.stdout.trim_ascii() == b"0")
}

/// True if network namespaces can be made here. Tried once: two tests of one process that tried at the same time would
/// each find the other's trial in the way.
#[must_use]
pub fn has_namespaces() -> bool {
    static TRIED: OnceLock<bool> = OnceLock::new();
    *TRIED.get_or_init(|| {
        let quiet = |args: &[&str]| {
            let status = Command::new("ip").args(args).stdout(Stdio::null()).stderr(Stdio::null()).status();
            status.is_ok_and(|s| s.success())
        };
        let name = format!("dunlin-probe-{}", std::process::id());
        is_root() && quiet(&["netns", "add", &name]) && quiet(&["netns", "del", &name])
    })
}

/// True if the binary under test has faults that a test can ask for: not one that was named.
#[must_use]
pub fn has_faults() -> bool {
    std::env::var_os("DUNLIN_BINARY").is_none()
}

/// True if a program is there.
#[must_use]
pub fn has_program(name: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(name).is_file()))
}

/// The `dunlin` binary under test: the one that `DUNLIN_BINARY` names, or that of this build, built once if a single package
/// was asked for. That has the faults compiled in which tests ask for by environment; no release has them.
///
/// # Panics
/// If it cannot be built: nothing could be tested then.
#[must_use]
pub fn dunlin() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(named) = std::env::var_os("DUNLIN_BINARY") {
            return PathBuf::from(named);
        }
        let mut command = Command::new(env!("CARGO"));
        command.args(["build", "--quiet", "--package", "dunlin", "--features", "test-faults", "--manifest-path"]);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"));
        let test = std::env::current_exe().expect("this program's own path");
        let is_profile = |dir: &&Path| dir.ends_with("debug") || dir.ends_with("release");
        let profile = test.ancestors().find(is_profile).expect("target/PROFILE").to_path_buf();
        if profile.ends_with("release") {
            command.arg("--release");
        }
        // What cargo tells a test of its package would make build scripts run again, and all that stands on them.
        for (name, _) in std::env::vars_os() {
            let told =
                ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|prefix| name.to_string_lossy().starts_with(prefix));
            if told {
                command.env_remove(name);
            }
        }
        command.env("CARGO_TARGET_DIR", profile.parent().expect("target"));
        assert!(command.status().is_ok_and(|s| s.success()), "cargo build of the dunlin binary failed");
        profile.join("dunlin")
    })
}
