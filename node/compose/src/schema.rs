//! Every key that there is: used, or refused with a reason.
//!
//! One table a mapping. The tables are complete with respect to the Compose Specification, so that a key which exists is
//! never called unknown; a key that does not exist is refused with the nearest one that does.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::problem::Log;
use crate::value::{Member, Value};

/// What becomes of a key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verdict {
    /// Read and meant.
    Used,
    /// Known and refused: why, and what to do.
    Refused(&'static str, &'static str),
}

/// One mapping of the specification.
#[derive(Debug)]
pub(crate) struct Table {
    /// What the mapping is, for messages.
    pub(crate) name: &'static str,
    /// Its keys, by name.
    pub(crate) keys: &'static [(&'static str, Verdict)],
    /// Whether `x-*` are extension fields here, ignored as Compose says.
    pub(crate) extensible: bool,
}

use Verdict::{Refused, Used};

const NO_LIMITS: &str = "remove it, or use deploy.resources.limits";
const NO_ISOLATION: &str = "remove it; the service then runs with the engine's default";
const NO_VOLUMES: &str = "volumes are not supported yet: data would not follow a replica to another node";
const NO_NETWORKS: &str = "networks are not supported: services reach each other by name over their nodes' addresses";
const KEEP_OUT: &str = "remove it; a service that needs it cannot run here yet";
const BY_NAME: &str = "remove it and use the service's name, which resolves at every node";

/// The top level of a file.
pub(crate) const TOP: Table = Table {
    name: "a Compose file",
    extensible: true,
    keys: &[
        ("configs", Refused("configs are not supported yet", "pass the values in 'environment'")),
        ("include", Refused("including other files is not supported yet", "put the services into this file")),
        ("models", Refused("models are not supported", "run the model's server as a service")),
        ("name", Used),
        ("networks", Refused(NO_NETWORKS, "remove it, and 'networks' of the services")),
        ("secrets", Refused("secrets are not supported yet", "remove it, and 'secrets' of the services")),
        ("services", Used),
        ("version", Used),
        ("volumes", Refused(NO_VOLUMES, "remove it, and run what keeps data elsewhere")),
        ("x-dunlin", Used),
    ],
};

/// `x-dunlin` at the top level.
pub(crate) const DUNLIN_TOP: Table =
    Table { name: "'x-dunlin' of a file", extensible: false, keys: &[("waves", Used)] };

/// `x-dunlin.waves`.
pub(crate) const WAVES: Table = Table { name: "'waves'", extensible: false, keys: &[("first", Used), ("wait", Used)] };

/// A service.
pub(crate) const SERVICE: Table = Table {
    name: "a service",
    extensible: true,
    keys: &[
        ("annotations", Refused("annotations are not supported yet", "remove it; nothing reads them")),
        ("attach", Refused("replicas run in the background, 'attach' has no meaning", "remove it; read 'dunlin logs'")),
        ("blkio_config", Refused("limits of disk input and output are not supported yet", NO_ISOLATION)),
        ("build", Refused("images are not built here", "build and push it elsewhere, and name it in 'image'")),
        ("cap_add", Refused("capabilities are not supported yet", KEEP_OUT)),
        ("cap_drop", Refused("capabilities are not supported yet", NO_ISOLATION)),
        ("cgroup", Refused("the choice of a cgroup namespace is not supported", NO_ISOLATION)),
        ("cgroup_parent", Refused("cgroups are made by the node", "remove it")),
        ("command", Used),
        ("configs", Refused("configs are not supported yet", "pass the values in 'environment'")),
        ("container_name", Refused("each replica has its own name, a fixed one cannot be given", BY_NAME)),
        ("cpu_count", Refused("not supported, and Windows only", NO_LIMITS)),
        ("cpu_percent", Refused("not supported, and Windows only", NO_LIMITS)),
        ("cpu_period", Refused("raw scheduler settings are not supported", NO_LIMITS)),
        ("cpu_quota", Refused("raw scheduler settings are not supported", NO_LIMITS)),
        ("cpu_rt_period", Refused("real-time scheduling is not supported", "remove it")),
        ("cpu_rt_runtime", Refused("real-time scheduling is not supported", "remove it")),
        ("cpu_shares", Refused("relative weights mean nothing across nodes", "use deploy.resources.reservations.cpus")),
        ("cpus", Refused("'cpus' of the service itself is not supported", "use deploy.resources.limits.cpus")),
        ("cpuset", Refused("pinning to processors is not supported yet", "use deploy.resources.reservations.cpus")),
        ("credential_spec", Refused("credential specifications are not supported", "remove it")),
        (
            "depends_on",
            Refused("an order of starting is not supported yet", "remove it, and let the service try again"),
        ),
        ("deploy", Used),
        ("develop", Refused("'develop' is for work on one machine", "remove it")),
        ("device_cgroup_rules", Refused("devices are not supported yet", KEEP_OUT)),
        ("devices", Refused("devices are not supported yet", KEEP_OUT)),
        ("dns", Refused("name servers of a replica are given by its node", "remove it")),
        ("dns_opt", Refused("resolver options of a replica are given by its node", "remove it")),
        ("dns_search", Refused("the search domain of a replica is its stack", "remove it, or write names in full")),
        ("domainname", Refused("replicas are named by dunlin", BY_NAME)),
        ("entrypoint", Used),
        ("env_file", Refused("files of variables are not supported yet", "put the variables into 'environment'")),
        ("environment", Used),
        ("expose", Refused("a port that is not published is not reachable", "list it under 'ports', as in \"8080\"")),
        ("extends", Refused("'extends' is not supported yet", "use a YAML anchor and '<<', or write it out")),
        ("external_links", Refused("links are not supported", BY_NAME)),
        ("extra_hosts", Refused("entries of /etc/hosts are not supported yet", "use a name that DNS resolves")),
        ("gpus", Refused("GPUs are not supported yet", KEEP_OUT)),
        ("group_add", Refused("further groups are not supported yet", KEEP_OUT)),
        ("healthcheck", Used),
        ("hostname", Refused("replicas are named by dunlin", BY_NAME)),
        ("image", Used),
        ("init", Refused("an init process is not supported yet", "remove it, or begin 'entrypoint' with one")),
        ("ipc", Refused("sharing of IPC is not supported", NO_ISOLATION)),
        ("isolation", Refused("not supported, and Windows only", "remove it")),
        ("label_file", Refused("labels are not supported yet", "remove it; nothing reads them")),
        ("labels", Refused("labels are not supported yet", "remove it; nothing reads them")),
        ("links", Refused("links are not supported", BY_NAME)),
        ("logging", Refused("log drivers are not supported", "remove it; the node keeps the output for 'dunlin logs'")),
        ("mac_address", Refused("addresses of the link layer are not supported", "remove it")),
        ("mem_limit", Refused("'mem_limit' is not supported", "use deploy.resources.limits.memory")),
        ("mem_reservation", Refused("'mem_reservation' is not supported", "use deploy.resources.reservations.memory")),
        ("mem_swappiness", Refused("swap settings are not supported", "remove it")),
        ("memswap_limit", Refused("swap settings are not supported", "remove it")),
        ("models", Refused("models are not supported", "run the model's server as a service")),
        ("network_mode", Refused("the choice of a network is not supported yet", "remove it, and publish 'ports'")),
        ("networks", Refused(NO_NETWORKS, "remove it")),
        ("oom_kill_disable", Refused("settings of the OOM killer are not supported", "remove it")),
        ("oom_score_adj", Refused("settings of the OOM killer are not supported", "remove it")),
        ("pid", Refused("sharing of process ids is not supported", NO_ISOLATION)),
        (
            "pids_limit",
            Refused("'pids_limit' of the service itself is not supported", "use deploy.resources.limits.pids"),
        ),
        (
            "platform",
            Refused("'platform' is not supported", "use deploy.placement.constraints: node.platform.arch == arm64"),
        ),
        ("ports", Used),
        ("post_start", Refused("hooks are not supported yet", "do it in the service's own start")),
        ("pre_stop", Refused("hooks are not supported yet", "handle the stop signal in the service")),
        ("privileged", Refused("privileged services are not supported", KEEP_OUT)),
        ("profiles", Refused("profiles are not supported yet", "keep one file for each set of services")),
        ("provider", Refused("providers are not supported", "run it as a service")),
        (
            "pull_policy",
            Refused("pull policies are not supported yet", "remove it; an image that a node lacks is pulled"),
        ),
        ("pull_refresh_after", Refused("pull policies are not supported yet", "remove it")),
        ("read_only", Refused("a read-only root is not supported yet", NO_ISOLATION)),
        ("restart", Used),
        ("runtime", Refused("the choice of a container runtime is not supported", "remove it")),
        ("scale", Refused("'scale' is not supported", "use deploy.replicas")),
        (
            "secrets",
            Refused("secrets are not supported yet", "remove it; a service that needs them cannot run here yet"),
        ),
        ("security_opt", Refused("security options are not supported yet", KEEP_OUT)),
        ("shm_size", Refused("the size of shared memory is not supported yet", "remove it")),
        ("stdin_open", Refused("a replica has no terminal", "remove it")),
        ("stop_grace_period", Used),
        ("stop_signal", Used),
        ("storage_opt", Refused("storage options are not supported", "remove it")),
        ("sysctls", Refused("kernel settings are not supported yet", KEEP_OUT)),
        ("tmpfs", Refused(NO_VOLUMES, "remove it, or write into the container's own file system")),
        ("tty", Refused("a replica has no terminal", "remove it")),
        ("ulimits", Refused("resource limits of processes are not supported yet", "remove it")),
        ("use_api_socket", Refused("the engine's socket is not given to services", "remove it")),
        ("user", Refused("running as another user is not supported yet", "set the user in the image")),
        ("userns_mode", Refused("user namespaces are not supported", NO_ISOLATION)),
        ("uts", Refused("sharing of the host's name is not supported", NO_ISOLATION)),
        ("volumes", Refused(NO_VOLUMES, "remove it, and run what keeps data elsewhere")),
        ("volumes_from", Refused(NO_VOLUMES, "remove it")),
        ("working_dir", Used),
        ("x-dunlin", Used),
    ],
};

/// `deploy`.
pub(crate) const DEPLOY: Table = Table {
    name: "'deploy'",
    extensible: true,
    keys: &[
        (
            "endpoint_mode",
            Refused("'endpoint_mode' is not supported yet: names always answer with the nodes' addresses", "remove it"),
        ),
        ("labels", Refused("labels are not supported yet", "remove it; nothing reads them")),
        ("mode", Used),
        ("placement", Used),
        ("replicas", Used),
        ("resources", Used),
        ("restart_policy", Used),
        ("rollback_config", Used),
        ("update_config", Used),
    ],
};

/// `deploy.update_config` and `deploy.rollback_config`.
pub(crate) const UPDATE: Table = Table {
    name: "a policy of updates",
    extensible: true,
    keys: &[
        ("delay", Used),
        ("failure_action", Used),
        ("max_failure_ratio", Used),
        ("monitor", Used),
        ("order", Used),
        ("parallelism", Used),
    ],
};

/// `x-dunlin.canary`.
pub(crate) const CANARY: Table =
    Table { name: "a canary", extensible: false, keys: &[("after", Used), ("count", Used), ("promote", Used)] };

/// `deploy.placement`.
pub(crate) const PLACEMENT: Table = Table {
    name: "'placement'",
    extensible: true,
    keys: &[("constraints", Used), ("max_replicas_per_node", Used), ("preferences", Used)],
};

/// One of `deploy.placement.preferences`.
pub(crate) const PREFERENCE: Table = Table { name: "a preference", extensible: true, keys: &[("spread", Used)] };

/// One of `deploy.resources.reservations.devices`.
pub(crate) const DEVICE: Table = Table {
    name: "a device",
    extensible: true,
    keys: &[
        ("capabilities", Used),
        ("count", Used),
        ("device_ids", Refused("the node chooses which of its devices a replica gets", "use 'count'")),
        ("driver", Refused("drivers of devices are the node's own", "remove it")),
        ("options", Refused("options of devices are not supported", "remove it")),
    ],
};

/// One of `deploy.resources.reservations.generic_resources`.
pub(crate) const GENERIC: Table =
    Table { name: "a generic resource", extensible: true, keys: &[("discrete_resource_spec", Used)] };

/// `discrete_resource_spec`.
pub(crate) const DISCRETE: Table =
    Table { name: "'discrete_resource_spec'", extensible: true, keys: &[("kind", Used), ("value", Used)] };

/// One of `x-dunlin.devices`.
pub(crate) const DUNLIN_DEVICE: Table = Table {
    name: "a device of 'x-dunlin'",
    extensible: false,
    keys: &[("count", Used), ("kind", Used), ("models", Used), ("share", Used)],
};

/// One of `x-dunlin.affinity`.
pub(crate) const AFFINITY: Table = Table {
    name: "an affinity",
    extensible: false,
    keys: &[("anti", Used), ("label", Used), ("service", Used), ("weight", Used)],
};

/// `deploy.resources`.
pub(crate) const RESOURCES: Table =
    Table { name: "'resources'", extensible: true, keys: &[("limits", Used), ("reservations", Used)] };

/// `deploy.resources.limits`.
pub(crate) const LIMITS: Table =
    Table { name: "'limits'", extensible: true, keys: &[("cpus", Used), ("memory", Used), ("pids", Used)] };

/// `deploy.resources.reservations`.
pub(crate) const RESERVATIONS: Table = Table {
    name: "'reservations'",
    extensible: true,
    keys: &[("cpus", Used), ("devices", Used), ("generic_resources", Used), ("memory", Used)],
};

/// `deploy.restart_policy`.
pub(crate) const RESTART_POLICY: Table = Table {
    name: "'restart_policy'",
    extensible: true,
    keys: &[("condition", Used), ("delay", Used), ("max_attempts", Used), ("window", Used)],
};

/// `healthcheck`.
pub(crate) const HEALTHCHECK: Table = Table {
    name: "'healthcheck'",
    extensible: true,
    keys: &[
        ("disable", Used),
        ("interval", Used),
        ("retries", Used),
        ("start_interval", Refused("another interval for the start is not supported yet", "use a short 'interval'")),
        ("start_period", Used),
        ("test", Used),
        ("timeout", Used),
    ],
};

/// One of `ports`, in its long form.
pub(crate) const PORT: Table = Table {
    name: "a port",
    extensible: true,
    keys: &[
        (
            "app_protocol",
            Refused("application protocols are not supported yet", "say it in 'name', which SRV records show"),
        ),
        ("host_ip", Used),
        ("mode", Used),
        ("name", Used),
        ("protocol", Used),
        ("published", Used),
        ("target", Used),
    ],
};

/// `x-dunlin` of a service.
pub(crate) const DUNLIN: Table = Table {
    name: "'x-dunlin'",
    extensible: false,
    keys: &[
        ("affinity", Used),
        ("canary", Used),
        ("constraints", Used),
        ("devices", Used),
        ("disk", Used),
        ("healthcheck", Used),
        ("job", Used),
        ("max_skew", Used),
        ("partition", Used),
        ("pids", Used),
        ("ports", Used),
        ("preemptible", Used),
        ("prefer", Used),
        ("priority", Used),
        ("rebalance", Used),
        ("schedule", Used),
        ("strategy", Used),
        ("tolerations", Used),
    ],
};

/// `x-dunlin.schedule`.
pub(crate) const SCHEDULE: Table = Table {
    name: "'x-dunlin.schedule'",
    extensible: false,
    keys: &[
        ("cron", Used),
        ("deadline", Used),
        ("history", Used),
        ("missed", Used),
        ("overlap", Used),
        ("timezone", Used),
    ],
};

/// `x-dunlin.job`.
pub(crate) const JOB: Table = Table {
    name: "'x-dunlin.job'",
    extensible: false,
    keys: &[("backoff_limit", Used), ("parallelism", Used), ("timeout", Used)],
};

/// `x-dunlin.healthcheck`.
pub(crate) const DUNLIN_HEALTH: Table = Table {
    name: "'x-dunlin.healthcheck'",
    extensible: false,
    keys: &[
        ("http", Used),
        ("interval", Used),
        ("retries", Used),
        ("start_period", Used),
        ("tcp", Used),
        ("test", Refused("commands are Compose's own", "use 'healthcheck.test' of the service")),
        ("timeout", Used),
    ],
};

/// `x-dunlin.healthcheck.http`.
pub(crate) const HTTP: Table = Table { name: "'http'", extensible: false, keys: &[("path", Used), ("port", Used)] };

/// `x-dunlin.healthcheck.tcp`.
pub(crate) const TCP: Table = Table { name: "'tcp'", extensible: false, keys: &[("port", Used)] };

/// The used keys of a mapping, by name.
#[derive(Debug)]
pub(crate) struct Fields<'t>(Vec<Member<'t>>);

impl<'t> Fields<'t> {
    /// Checks every key of a value against a table. Refused and unknown keys go to the log, null counts as absent.
    pub(crate) fn read(table: &Table, value: &Value<'t>, log: &mut Log<'_>) -> Option<Self> {
        let members = value.map(log, &format!("write {} as 'key: value' lines", table.name))?;
        Some(Self(members.into_iter().filter(|member| check(table, member, log)).collect()))
    }

    /// The used keys of a mapping that was, or will be, checked elsewhere.
    pub(crate) fn quiet(table: &Table, value: &Value<'t>) -> Option<Self> {
        let mut unheard = Log::new("");
        Self::read(table, value, &mut unheard)
    }

    /// The member of that name, unless it is absent or null.
    pub(crate) fn member(&self, name: &str) -> Option<&Member<'t>> {
        self.0.iter().find(|m| m.name == name && !m.value.is_null())
    }

    /// The value of that name, unless it is absent or null.
    pub(crate) fn get(&self, name: &str) -> Option<&Value<'t>> {
        self.member(name).map(|m| &m.value)
    }
}

/// True if the key is used here.
fn check(table: &Table, member: &Member<'_>, log: &mut Log<'_>) -> bool {
    let Member { name, mark, value } = member;
    if let Some((_, verdict)) = table.keys.iter().find(|(key, _)| key == name) {
        if let Refused(why, remedy) = verdict {
            log.error(*mark, &value.path, *why, *remedy);
        }
        return matches!(verdict, Used);
    }
    if table.extensible && name.starts_with("x-") {
        extension(table, member, log);
        return false;
    }
    let remedy = match nearest(table, name) {
        Some(near) => format!("did you mean '{near}'?"),
        None if table.extensible => "remove it; a field of your own begins with 'x-'".into(),
        None => "remove it".into(),
    };
    log.error(*mark, &value.path, format!("{} has no key '{name}'", table.name), remedy);
    false
}

/// Extension fields are ignored, except those that were surely meant for us.
fn extension(table: &Table, member: &Member<'_>, log: &mut Log<'_>) {
    let Member { name, mark, value } = member;
    if *name == "x-dunlin" {
        let remedy = "move it into a service: services.NAME.x-dunlin";
        log.error(*mark, &value.path, format!("'x-dunlin' means nothing in {}", table.name), remedy);
    } else if distance(name, "x-dunlin") <= 2 {
        log.warn(*mark, &value.path, "an extension field, ignored", "did you mean 'x-dunlin'?");
    }
}

/// The key that was probably meant: near in spelling, used ones before refused ones.
fn nearest(table: &Table, name: &str) -> Option<&'static str> {
    let folded: String = name.to_ascii_lowercase().replace('-', "_");
    let allowed = (name.chars().count() / 3).clamp(1, 3);
    table
        .keys
        .iter()
        .map(|(key, verdict)| (distance(&folded, &key.replace('-', "_")), !matches!(verdict, Used), *key))
        .filter(|(far, _, _)| *far <= allowed)
        .min()
        .map(|(_, _, key)| key)
}

/// How many letters must be added, removed, replaced or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    if a.len() > 40 {
        return usize::MAX;
    }
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = alloc::vec![(0..=b.len()).collect()];
    let at =
        |rows: &[Vec<usize>], i: usize, j: usize| rows.get(i).and_then(|r| r.get(j)).copied().unwrap_or(usize::MAX);
    for (i, x) in a.iter().enumerate() {
        let mut row = alloc::vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let replaced = at(&rows, i, j) + usize::from(x != y);
            let removed = at(&rows, i, j + 1) + 1;
            let added = row.get(j).copied().unwrap_or(usize::MAX) + 1;
            let swapped = if i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x) {
                at(&rows, i - 1, j - 1) + 1
            } else {
                usize::MAX
            };
            row.push(replaced.min(removed).min(added).min(swapped));
        }
        rows.push(row);
    }
    at(&rows, a.len(), b.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: &[&Table] = &[
        &TOP,
        &SERVICE,
        &DEPLOY,
        &PLACEMENT,
        &RESOURCES,
        &LIMITS,
        &RESERVATIONS,
        &RESTART_POLICY,
        &HEALTHCHECK,
        &PORT,
        &DUNLIN,
        &DUNLIN_HEALTH,
        &HTTP,
        &TCP,
    ];

    #[test]
    fn tables_are_sorted_and_say_something() {
        for table in ALL {
            assert!(table.keys.is_sorted_by(|a, b| a.0 < b.0), "{} is not sorted", table.name);
            for (key, verdict) in table.keys {
                if let Refused(why, remedy) = verdict {
                    assert!(why.len() > 10 && remedy.len() > 5, "{key} is refused without a reason");
                }
            }
        }
    }

    #[test]
    fn distances() {
        for (a, b, expect) in
            [("", "abc", 3), ("ports", "ports", 0), ("prots", "ports", 1), ("port", "ports", 1), ("imge", "image", 1)]
        {
            assert_eq!(distance(a, b), expect, "{a} {b}");
        }
    }

    #[test]
    fn suggestions() {
        for (name, expect) in [
            ("comand", Some("command")),
            ("Image", Some("image")),
            ("health-check", Some("healthcheck")),
            ("port", Some("ports")),
            ("zzz", None),
        ] {
            assert_eq!(nearest(&SERVICE, name), expect, "{name}");
        }
    }
}
