//! The container engine of this machine, through the `docker` command, and an image that needs no registry.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

/// What the image's shell may call.
const PROGRAMS: [&str; 11] = ["sh", "sleep", "echo", "env", "httpd", "touch", "cat", "pwd", "ls", "nslookup", "grep"];

/// Keeps the images of one test process apart.
static IMAGES: AtomicU32 = AtomicU32::new(0);

/// An image made of Debian's `busybox-static`; removed when dropped.
#[derive(Debug)]
pub struct Image {
    /// What to write after `image:`.
    pub name: String,
}

impl Image {
    /// Makes it, with instructions of a Dockerfile such as `CMD ["/bin/sh"]`.
    ///
    /// # Errors
    /// What this machine lacks for that, in one line.
    ///
    /// # Panics
    /// If an engine that is there refuses.
    pub fn make(changes: &[&str]) -> Result<Self, String> {
        let tar = busybox_tree()?;
        if !docker(&["version", "--format", "{{.Server.Version}}"]).is_ok_and(|said| !said.is_empty()) {
            return Err("no container engine answers here".into());
        }
        let serial = IMAGES.fetch_add(1, Ordering::Relaxed);
        let name = format!("dunlin-test/busybox:{}-{serial}", std::process::id());
        let mut import = Command::new("docker");
        import.arg("import");
        for change in changes {
            import.args(["--change", change]);
        }
        let mut import =
            import.args(["-", &name]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("docker import");
        import.stdin.take().expect("its input").write_all(&tar).expect("the tree is taken");
        assert!(import.wait().expect("its end").success(), "docker import failed");
        Ok(Self { name })
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _gone = docker(&["rmi", "--force", &self.name]);
    }
}

/// A file tree with a static busybox, as a tar archive: the one layer of an image.
///
/// # Errors
/// What this machine lacks for that, in one line.
///
/// # Panics
/// If the temporary files cannot be written.
pub fn busybox_tree() -> Result<Vec<u8>, String> {
    let is_static = |path: &&str| {
        // Only a static one runs in an image without libraries.
        let libraries = Command::new("ldd").arg(path).output();
        Path::new(path).exists() && libraries.is_ok_and(|output| !output.status.success())
    };
    let Some(busybox) = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(is_static) else {
        return Err("there is no static busybox (apt-get install busybox-static)".into());
    };
    let tree = TempDir::new().expect("a temporary directory");
    let bin = tree.path().join("bin");
    for folder in ["bin", "tmp"] {
        std::fs::create_dir_all(tree.path().join(folder)).expect("a folder");
    }
    std::fs::copy(busybox, bin.join("busybox")).expect("a copy of busybox");
    for name in PROGRAMS {
        std::os::unix::fs::symlink("busybox", bin.join(name)).expect("a link");
    }
    let tar = Command::new("tar").arg("-C").arg(tree.path()).args(["-c", "."]).output().expect("tar");
    assert!(tar.status.success(), "tar failed");
    Ok(tar.stdout)
}

/// Runs the `docker` command.
///
/// # Errors
/// What it said, if it failed or is not there.
pub fn docker(args: &[&str]) -> Result<String, String> {
    let output = Command::new("docker").args(args).stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// The containers with this label (`name=value`), running or not.
///
/// # Panics
/// If the engine does not say.
#[must_use]
pub fn containers(label: &str) -> Vec<String> {
    let listed = docker(&["ps", "--all", "--quiet", "--no-trunc", "--filter", &format!("label={label}")]);
    listed.expect("docker ps").lines().map(str::to_owned).collect()
}

/// Removes, when dropped, every container with a label: what a failed test leaves.
#[derive(Debug)]
pub struct Clean(pub String);

impl Drop for Clean {
    fn drop(&mut self) {
        for id in containers(&self.0) {
            let _gone = docker(&["rm", "--force", "--volumes", &id]);
        }
    }
}
