//! What the lists say: nodes with what they give, tasks with what they ask.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use dunlin_core::place::{device, rank};
use dunlin_gossip::hash::{hash64, mix};
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{
    DeviceGroup, DeviceRequest, DriverKind, MAX_DEVICES, NodeHeader, NodeName, Placing, Platform, Resources,
    ServiceSpec, Strategy, Supply, Tail, WHOLE, Workload,
};

use super::csv::{Row, Table};

/// The kind under which GPUs go.
const GPU: &str = "gpu";
/// More thousandths of a cpu, or MiB of memory, than any machine has.
const MAX_AMOUNT: u64 = 1 << 40;

/// A node of a list.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) node: NodeId,
    pub(super) header: NodeHeader,
    pub(super) hash: u64,
    pub(super) weight: u64,
    pub(super) units: Vec<u32>,
}

/// Tasks of a list: what is asked for, each different request once, and which of them each task is.
#[derive(Debug)]
pub(super) struct Tasks {
    pub(super) specs: Vec<ServiceSpec>,
    pub(super) tasks: Vec<usize>,
}

/// Reads a list of nodes: `cpu_milli`, `memory_mib`, and if there are such columns `sn` (name), `gpu` (how many), `model`.
pub(super) fn nodes(file: &str, text: &str) -> Result<Vec<Host>, String> {
    let table = Table::read(file, text, &["cpu_milli", "memory_mib"])?;
    let mut names = BTreeSet::new();
    table.rows().enumerate().map(|(at, row)| host(&row, at, &mut names)).collect()
}

fn host(row: &Row<'_>, at: usize, names: &mut BTreeSet<String>) -> Result<Host, String> {
    let name = row.text("sn").map_or_else(|| format!("node-{at}"), str::to_owned);
    if !names.insert(name.clone()) {
        return Err(row.wrong("sn", &format!("a second node {name:?}; names tell nodes apart")));
    }
    let count = row.number("gpu", MAX_DEVICES as u64)?.unwrap_or(0);
    let model = row.text("model").unwrap_or_default().to_owned();
    let group = DeviceGroup { kind: GPU.to_owned(), model, count: u32::try_from(count).unwrap_or(0) };
    let supply = Supply { devices: Vec::from_iter((count > 0).then_some(group)), ..Supply::default() };
    let allocatable = resources(row)?;
    let hash = hash64(name.as_bytes());
    let node = NodeId((u128::from(hash) << 64 | u128::from(mix(hash, 1))).to_be_bytes());
    Ok(Host {
        node,
        hash: rank::node_hash(node),
        weight: rank::weight(&allocatable),
        units: device::whole(&supply),
        header: NodeHeader {
            name: NodeName::new(&format!("n{at}")).map_err(|e| row.wrong("sn", &e.to_string()))?,
            addresses: Vec::new(),
            service_address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            labels: BTreeMap::new(),
            allocatable,
            drivers: vec![DriverKind::Exec],
            platform: Platform { os: "linux".to_owned(), arch: "amd64".to_owned() },
            version: String::new(),
            certificate: Default::default(),
            adopted: Vec::new(),
            supply: Tail(supply),
        },
    })
}

/// Reads a list of tasks: `cpu_milli`, `memory_mib`, and if there are such columns `num_gpu`, `gpu_milli` (the part of one),
/// `gpu_spec` (models, with `|` between).
pub(super) fn tasks(file: &str, text: &str, strategy: Strategy) -> Result<Tasks, String> {
    let table = Table::read(file, text, &["cpu_milli", "memory_mib"])?;
    let mut known: BTreeMap<(u64, u64, u32, u32, Vec<String>), usize> = BTreeMap::new();
    let (mut specs, mut tasks) = (Vec::new(), Vec::new());
    for row in table.rows() {
        let reservation = resources(&row)?;
        let request = request(&row)?;
        let (count, milli, models) =
            request.as_ref().map_or((0, 0, Vec::new()), |r| (r.count, r.milli, r.models.clone()));
        let key = (reservation.cpu_milli, reservation.memory_bytes, count, milli, models);
        let spec = *known.entry(key).or_insert_with(|| {
            specs.push(spec(reservation, request, strategy));
            specs.len() - 1
        });
        tasks.push(spec);
    }
    Ok(Tasks { specs, tasks })
}

fn resources(row: &Row<'_>) -> Result<Resources, String> {
    let must = |name: &str| row.number(name, MAX_AMOUNT)?.ok_or_else(|| row.wrong(name, "is empty; write a number"));
    Ok(Resources { cpu_milli: must("cpu_milli")?, memory_bytes: must("memory_mib")? << 20 })
}

fn request(row: &Row<'_>) -> Result<Option<DeviceRequest>, String> {
    let count = row.number("num_gpu", MAX_DEVICES as u64)?.unwrap_or(0);
    let milli = row.number("gpu_milli", u64::from(WHOLE))?;
    let milli = match (count, milli) {
        (0, None | Some(0)) => return Ok(None),
        (0, Some(_)) => return Err(row.wrong("gpu_milli", "a part of a GPU, and num_gpu says that it takes none")),
        (1, Some(0)) => return Err(row.wrong("gpu_milli", "no part of the GPU that num_gpu asks for; write 1 to 1000")),
        (1, Some(milli)) => u32::try_from(milli).unwrap_or(WHOLE),
        _ => WHOLE,
    };
    let models = row.text("gpu_spec").map(|text| text.split('|').map(|m| m.trim().to_owned()).collect());
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    Ok(Some(DeviceRequest { kind: GPU.to_owned(), models: models.unwrap_or_default(), count, milli }))
}

fn spec(reservation: Resources, request: Option<DeviceRequest>, strategy: Strategy) -> ServiceSpec {
    let placing = Tail(Placing { devices: Vec::from_iter(request), strategy, ..Placing::default() });
    ServiceSpec { reservation, placing, ..ServiceSpec::bare(Workload::program("task")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_may_be_elsewhere_or_missing() {
        let hosts = nodes("n", "memory_mib,cpu_milli\n1024,2000\n").expect("it reads");
        assert_eq!(hosts[0].header.allocatable, Resources { cpu_milli: 2_000, memory_bytes: 1 << 30 });
        assert!(hosts[0].units.is_empty());
        let list = "gpu_spec,extra,memory_mib,num_gpu,cpu_milli\nA|B,x,1,2,5\n,,1,,5\nA|B,y,1,2,5\n";
        let tasks = tasks("t", list, Strategy::Apart).expect("it reads");
        assert_eq!((tasks.tasks.as_slice(), tasks.specs.len()), ([0, 1, 0].as_slice(), 2));
        let asked = &tasks.specs[0].placing.devices[0];
        assert_eq!((asked.count, asked.milli, asked.models.len()), (2, 1_000, 2));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_place() {
        let fault = |text: &str| tasks("t", text, Strategy::Apart).map(drop).expect_err("it is wrong");
        assert!(fault("cpu_milli,memory_mib\n1,\n").starts_with("t:2:3: memory_mib: is empty"));
        assert!(fault("cpu_milli,memory_mib,num_gpu,gpu_milli\n1,1,0,5\n").starts_with("t:2:7: gpu_milli: a part"));
        assert!(fault("cpu_milli,memory_mib,num_gpu,gpu_milli\n1,1,1,0\n").starts_with("t:2:7: gpu_milli: no part"));
        assert!(fault("cpu_milli,memory_mib,num_gpu,gpu_milli\n1,1,1,1001\n").contains("more than 1000"));
        let twice = nodes("n", "sn,cpu_milli,memory_mib\na,1,1\na,1,1\n").map(drop).expect_err("a name twice");
        assert!(twice.starts_with("n:3:1: sn: a second node"));
    }
}
