//! Hosts that are not all alike: what each has, how it is labelled, and in which zone it stands.

use std::collections::BTreeMap;

use dunlin_gossip::model::{DeviceGroup, Further, NodeName, Resources, Supply, Tail};

use super::model::quoted;
use super::parse::small;
use super::write::zone_letter;
use super::yaml::Value;
use super::{MOST_ZONES, Scenario};

/// So many hosts that are alike.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeLine {
    /// How many.
    pub count: u32,
    /// What the only one of them is called; none: by its number.
    pub name: Option<NodeName>,
    /// What each has.
    pub capacity: Resources,
    /// What each has besides.
    pub supply: Supply,
    /// Labels, `zone` among them if it is not the zone's letter.
    pub labels: BTreeMap<String, String>,
    /// In which zone they stand, by its number; none: dealt in turn.
    pub zone: Option<u32>,
}

impl NodeLine {
    /// `{count: 3, zone: a, cpu-milli: 4000, memory: 8GiB, labels: {disk: ssd}}`
    pub(super) fn read(value: Value<'_>, usual: Resources) -> Result<Self, String> {
        let mut map = value.map()?;
        let count = map.take("count");
        let name = map.take("name");
        if let (Some(count), Some(_)) = (&count, &name) {
            return Err(count.refuse("cannot be given beside `name`: one host has one name"));
        }
        let count = count.map_or(Ok(1), |v| match small(&v)? {
            0 => Err(v.refuse("must be at least 1")),
            n => Ok(n),
        })?;
        let name = name.map(|v| NodeName::new(&v.text()?).map_err(|e| v.refuse(&e.to_string()))).transpose()?;
        let capacity = Resources {
            cpu_milli: map.maybe("cpu-milli", usual.cpu_milli, |v| v.number())?,
            memory_bytes: map.maybe("memory", usual.memory_bytes, |v| v.bytes())?,
        };
        let supply = Supply {
            further: Further {
                pids: map.maybe("pids", 0, |v| v.number())?,
                disk_bytes: map.maybe("disk", 0, |v| v.bytes())?,
            },
            devices: map.maybe("devices", Vec::new(), |v| v.list()?.into_iter().map(devices).collect())?,
            ..Supply::default()
        };
        let labels = map.maybe("labels", BTreeMap::new(), |v| {
            v.map()?.all().map(|(key, value)| Ok((key, value.text()?))).collect::<Result<_, String>>()
        })?;
        let zone = map.maybe("zone", None, |v| {
            let text = v.text()?;
            let letter = text.bytes().next().filter(|b| text.len() == 1 && b.is_ascii_lowercase());
            letter.map(|b| Some(u32::from(b - b'a'))).ok_or_else(|| v.refuse("must be a letter such as a, b"))
        })?;
        map.end("count, name, zone, cpu-milli, memory, pids, disk, devices, labels")?;
        Ok(Self { count, name, capacity, supply, labels, zone })
    }

    /// As a mapping that reads as the same.
    #[must_use]
    pub fn text(&self) -> String {
        let mut parts = vec![match &self.name {
            Some(name) => format!("name: {}", quoted(name.as_str())),
            None => format!("count: {}", self.count),
        }];
        parts.extend(self.zone.map(|zone| format!("zone: {}", zone_letter(zone))));
        parts.push(format!("cpu-milli: {}, memory: {}MiB", self.capacity.cpu_milli, self.capacity.memory_bytes >> 20));
        let Supply { further, devices, came: _ } = &self.supply;
        parts.extend((further.pids > 0).then(|| format!("pids: {}", further.pids)));
        parts.extend((further.disk_bytes > 0).then(|| format!("disk: {}MiB", further.disk_bytes >> 20)));
        if !devices.is_empty() {
            let group = |g: &DeviceGroup| {
                format!("{{kind: {}, model: {}, count: {}}}", quoted(&g.kind), quoted(&g.model), g.count)
            };
            parts.push(format!("devices: [{}]", devices.iter().map(group).collect::<Vec<_>>().join(", ")));
        }
        if !self.labels.is_empty() {
            parts.push(format!("labels: {}", quoted(&self.labels)));
        }
        format!("{{{}}}", parts.join(", "))
    }

    /// What a host of it says of its labels, in that zone.
    pub(crate) fn labels_in(&self, zone: u32) -> BTreeMap<String, String> {
        let mut labels = self.labels.clone();
        labels.entry("zone".to_owned()).or_insert_with(|| zone_letter(zone).to_string());
        labels
    }

    pub(crate) fn supply(&self) -> Tail<Supply> {
        Tail(self.supply.clone())
    }
}

/// `{kind: gpu, model: A100, count: 2}`
fn devices(value: Value<'_>) -> Result<DeviceGroup, String> {
    let mut map = value.map()?;
    let kind = map.maybe("kind", "gpu".to_owned(), |v| v.text())?;
    let model = map.maybe("model", String::new(), |v| v.text())?;
    let count = map.maybe("count", 1, |v| small(&v))?;
    map.end("kind, model, count")?;
    Ok(DeviceGroup { kind, model, count })
}

/// The hosts that a list names, and how many zones they need.
pub(super) fn totals(nodes: &[NodeLine], value: &Value<'_>) -> Result<(u32, u32), String> {
    let hosts = nodes.iter().try_fold(0_u32, |sum, line| sum.checked_add(line.count));
    let hosts = hosts.ok_or_else(|| value.refuse("has too many hosts"))?;
    let zones = nodes.iter().filter_map(|line| line.zone).max().map_or(1, |last| last + 1);
    let mut names: Vec<_> = nodes.iter().filter_map(|line| line.name.as_ref()).collect();
    names.sort();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(value.refuse(&format!("names the host {} twice", twice[0])));
    }
    Ok((hosts, zones.min(MOST_ZONES)))
}

impl Scenario {
    /// The line of `nodes` for a host, and whether it is the first that has it: hosts beyond the list take it from its
    /// beginning again.
    pub(crate) fn node(&self, no: u32) -> Option<(&NodeLine, bool)> {
        let listed = self.nodes.iter().map(|line| line.count).sum::<u32>();
        let mut left = no.checked_rem(listed)?;
        let of = self.nodes.iter().find(|line| {
            let is_it = left < line.count;
            left = left.saturating_sub(line.count);
            is_it
        });
        of.map(|line| (line, no < listed))
    }

    /// In which zone a host stands.
    #[must_use]
    pub fn zone_of(&self, no: u32) -> u32 {
        self.node(no).and_then(|(line, _)| line.zone).unwrap_or(no % self.zones.count)
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;

    const LISTED: &str = "name: x\nabout: y\nend: 9s\nsettle: 1s\nnodes:\n  - {count: 2, zone: c, labels: {disk: ssd}}\n  \
                          - {name: big, cpu-milli: 16000, memory: 64GiB, devices: [{model: A100, count: 2}]}\n";

    #[test]
    fn hosts_are_as_many_as_the_list_has_and_begin_again_beyond_it() -> Result<(), String> {
        let scenario = parse("x", LISTED)?;
        assert_eq!((scenario.hosts, scenario.zones.count), (3, 3));
        assert_eq!([0, 1, 2, 3, 5].map(|no| scenario.zone_of(no)), [2, 2, 2, 2, 2]);
        let name = |no| scenario.node(no).and_then(|(line, first)| line.name.as_ref().filter(|_| first)).cloned();
        assert_eq!(name(2).map(|n| n.to_string()).as_deref(), Some("big"));
        assert_eq!((name(5), name(0)), (None, None));
        let labels = scenario.node(4).map(|(line, _)| line.labels_in(2));
        assert_eq!(
            labels.unwrap_or_default().into_iter().map(|(k, v)| k + "=" + &v).collect::<Vec<_>>(),
            ["disk=ssd", "zone=c"]
        );
        assert_eq!(parse("x", &scenario.text())?, scenario, "{}", scenario.text());
        Ok(())
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_place() {
        for (from, to, says) in [
            ("count: 2", "count: 0", "nodes[0].count: must be at least 1"),
            ("name: big", "name: big, count: 2", "nodes[1].count: cannot be given beside `name`"),
            ("zone: c", "zone: eu", "nodes[0].zone: must be a letter"),
            ("count: 2, zone: c", "name: big", "names the host big twice"),
            ("count: 2", "count: 10000", "nodes: must list at most 10000 hosts"),
            ("about: y", "about: y\nhosts: 10001", "hosts: must be at most 10000"),
        ] {
            let refusal = parse("x", &LISTED.replace(from, to)).expect_err(to);
            assert!(refusal.contains(says), "{refusal}");
        }
    }
}
