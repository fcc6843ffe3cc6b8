//! The docker driver with a real engine and images made here from Debian's `busybox-static`; without either each test
//! names what it left out.

#[path = "docker_driver/engine.rs"]
mod engine;
#[path = "docker_driver/host.rs"]
mod host;
#[path = "docker_driver/images.rs"]
mod images;
#[path = "docker_driver/registry.rs"]
mod registry;
#[path = "docker_driver/runs.rs"]
mod runs;
