//! The GPUs of this host, found without anybody's library: in what the kernel's drivers say of themselves under `/proc`,
//! `/sys` and `/dev`.
//!
//! NVIDIA's come first, in the order of their PCI addresses, as `nvidia-smi` counts them; then AMD's, in the order of the
//! compute driver's nodes. A device that the kernel knows and this agent cannot open does not count: in a container the
//! former is the machine's, the latter the container's. The root of all paths is given, for tests.

use std::fs;
use std::path::{Path, PathBuf};

use dunlin_gossip::model::{DeviceGroup, MAX_DEVICES};

/// What devices of this sort are called in requests.
pub const GPU: &str = "gpu";
const NVIDIA: &str = "proc/driver/nvidia/gpus";
const AMD: &str = "sys/class/kfd/kfd/topology/nodes";

/// A GPU.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gpu {
    /// Its make, as constraints name it: without the vendor's name, `-` for blanks.
    pub model: String,
    /// Who made it, and how a workload comes to it.
    pub access: Access,
}

/// How a workload comes to a GPU.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Access {
    /// By this number of NVIDIA's own.
    Nvidia(u32),
    /// By these device nodes, and this number of AMD's own.
    Amd(u32, Vec<PathBuf>),
}

/// The GPUs below a root, in the order in which they are numbered.
#[must_use]
pub fn find(root: &Path) -> Vec<Gpu> {
    let mut found = nvidia(root);
    found.extend(amd(root));
    found.truncate(MAX_DEVICES);
    found
}

/// GPUs as a node states them: neighbours that are alike together, so that the numbers stay.
#[must_use]
pub fn groups(gpus: &[Gpu]) -> Vec<DeviceGroup> {
    let runs = gpus.chunk_by(|a, b| a.model == b.model);
    let group = |run: &[Gpu]| {
        let model = run.first().map(|gpu| gpu.model.clone()).unwrap_or_default();
        DeviceGroup { kind: GPU.to_owned(), model, count: u32::try_from(run.len()).unwrap_or(u32::MAX) }
    };
    runs.map(group).collect()
}

fn nvidia(root: &Path) -> Vec<Gpu> {
    let mut number = 0;
    let mut found = Vec::new();
    for folder in sorted(&root.join(NVIDIA), |name| Some(name.to_owned())) {
        let text = fs::read_to_string(folder.join("information")).unwrap_or_default();
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'));
            line.map(str::trim)
        };
        let Some(minor) = field("Device Minor").and_then(|minor| minor.parse::<u32>().ok()) else { continue };
        if root.join(format!("dev/nvidia{minor}")).exists() {
            let model = model(field("Model").unwrap_or_default(), &["NVIDIA ", "Tesla ", "Quadro "]);
            found.push(Gpu { model, access: Access::Nvidia(number) });
            number += 1;
        }
    }
    found
}

fn amd(root: &Path) -> Vec<Gpu> {
    let compute = root.join("dev/kfd");
    if !compute.exists() {
        return Vec::new();
    }
    let mut found = Vec::new();
    for folder in sorted(&root.join(AMD), |name| name.parse::<u32>().ok()) {
        let text = fs::read_to_string(folder.join("properties")).unwrap_or_default();
        let property = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|number| number.trim().parse::<u32>().ok())
        };
        // Processors are nodes too, without vector units.
        let (Some(1..), Some(minor)) = (property("simd_count"), property("drm_render_minor")) else { continue };
        let render = root.join(format!("dev/dri/renderD{minor}"));
        if render.exists() {
            let name = fs::read_to_string(folder.join("name")).unwrap_or_default();
            let number = u32::try_from(found.len()).unwrap_or(u32::MAX);
            let access = Access::Amd(number, vec![compute.clone(), render]);
            found.push(Gpu { model: model(name.trim(), &[]), access });
        }
    }
    found
}

fn model(name: &str, vendors: &[&str]) -> String {
    let bare = vendors.iter().fold(name, |name, vendor| name.strip_prefix(vendor).unwrap_or(name));
    let words: Vec<&str> = bare.split_whitespace().collect();
    words.join("-")
}

/// The entries of a folder that a key can be read of, by that key.
fn sorted<K: Ord>(folder: &Path, key: impl Fn(&str) -> Option<K>) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<(K, PathBuf)> =
        entries.filter_map(|entry| Some((key(entry.file_name().to_str()?)?, entry.path()))).collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found.into_iter().map(|(_, path)| path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn card(root: &Path, address: &str, minor: u32, name: &str) {
        let text = format!("Model: \t\t {name}\nIRQ:   \t\t 16\nBus Type: \t PCIe\nDevice Minor: \t {minor}\n");
        put(root, &format!("{NVIDIA}/{address}/information"), &text);
        put(root, &format!("dev/nvidia{minor}"), "");
    }

    #[test]
    fn a_host_without_gpus_has_none() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(find(dir.path()), []);
    }

    #[test]
    fn nvidia_counts_by_address_and_what_a_container_was_not_given_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        card(root, "0000:5e:00.0", 0, "Tesla T4");
        card(root, "0000:3b:00.0", 1, "NVIDIA A100-SXM4-40GB");
        card(root, "0000:86:00.0", 2, "Tesla T4");
        card(root, "0000:af:00.0", 3, "NVIDIA GeForce RTX 3090");
        fs::remove_file(root.join("dev/nvidia2")).unwrap();
        let found = find(root);
        let models: Vec<&str> = found.iter().map(|gpu| gpu.model.as_str()).collect();
        assert_eq!(models, ["A100-SXM4-40GB", "T4", "GeForce-RTX-3090"]);
        assert_eq!(found[2].access, Access::Nvidia(2));
        let groups: Vec<(String, u32)> = groups(&found).into_iter().map(|group| (group.model, group.count)).collect();
        assert_eq!(
            groups,
            [("A100-SXM4-40GB".to_owned(), 1), ("T4".to_owned(), 1), ("GeForce-RTX-3090".to_owned(), 1)]
        );
    }

    #[test]
    fn amd_counts_compute_nodes_that_have_vector_units_and_can_be_opened() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        put(root, "dev/kfd", "");
        put(root, &format!("{AMD}/0/properties"), "cpu_cores_count 64\nsimd_count 0\ndrm_render_minor 0\n");
        for (node, minor) in [(10, 129), (2, 128), (3, 130)] {
            put(root, &format!("{AMD}/{node}/properties"), &format!("simd_count 440\ndrm_render_minor {minor}\n"));
            put(root, &format!("{AMD}/{node}/name"), "aldebaran\n");
        }
        put(root, "dev/dri/renderD128", "");
        put(root, "dev/dri/renderD129", "");
        let found = find(root);
        let nodes = |minor: u32| vec![root.join("dev/kfd"), root.join(format!("dev/dri/renderD{minor}"))];
        let accesses: Vec<Access> = found.iter().map(|gpu| gpu.access.clone()).collect();
        assert_eq!(accesses, [Access::Amd(0, nodes(128)), Access::Amd(1, nodes(129))]);
        assert_eq!(groups(&found), [DeviceGroup { kind: GPU.into(), model: "aldebaran".into(), count: 2 }]);
    }
}
