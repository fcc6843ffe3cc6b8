//! Services as a Compose file has them: the file that a user deploys stands in the scenario, by name or whole, and is read
//! by the code that `dunlin deploy` reads it with.

use std::collections::BTreeMap;

use dunlin_compose::{Project, Source};
use dunlin_gossip::model::{Service, ServiceName, Waves};

use super::model::line;
use super::waves::MOST_FIRST;
use super::yaml::Value;
use super::{ServiceLine, WaveLine, parse};
use crate::queue::{MS, Nanos};

/// The services of `compose`, and the waves if the file asks for such.
pub(super) fn read(value: Value<'_>, hosts: u32) -> Result<(Vec<ServiceLine>, Option<WaveLine>), String> {
    let place = value.refuse("cannot be run");
    let mut map = value.map()?;
    let variables = map.maybe("variables", BTreeMap::new(), |v| {
        v.map()?.all().map(|(key, value)| Ok((key, value.text()?))).collect::<Result<_, String>>()
    })?;
    let (name, text, refusal) = match (map.take("file"), map.take("text")) {
        (Some(file), None) => {
            let (name, text) = file.file()?;
            (name, text, file.refuse("cannot be run"))
        }
        (None, Some(text)) => ("compose".to_owned(), text.text()?, text.refuse("cannot be run")),
        _ => {
            return Err(format!("{place}; say either `file: compose.yaml` or `text: |` with the file's text below it"));
        }
    };
    let project = dunlin_compose::parse(Source { file: &name, text: &text }, &|key| variables.get(key).cloned());
    let project = project.map_err(|problems| {
        let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
        format!("{refusal}:\n{}", all.join("\n"))
    })?;
    let mut lines = services(&project);
    if let Some(processes) = map.take("processes") {
        for (name, value) in processes.map()?.all() {
            let found = lines.iter_mut().find(|line| line.name == name);
            let found = found.ok_or_else(|| value.refuse("is no service of the Compose file"))?;
            let mut map = value.map()?;
            found.behaviour = parse::times(&mut map, found.behaviour)?;
            map.end(parse::TIMES)?;
        }
    }
    map.end("file, text, variables, processes")?;
    Ok((lines, project.waves.map(|asked| waves(asked, hosts))))
}

fn services(project: &Project) -> Vec<ServiceLine> {
    let of = |(name, service): (&ServiceName, &Service)| {
        let mut service = service.clone();
        // Whoever is named by the name of the own stack is meant in it: there is one stack here.
        for affinity in &mut service.spec.placing.affinities {
            if affinity.stack == project.name {
                affinity.stack = None;
            }
        }
        line(name.as_str(), service, project.policies.get(name).copied().unwrap_or_default())
    };
    project.services.iter().map(of).collect()
}

fn waves(asked: Waves, hosts: u32) -> WaveLine {
    let first = u32::try_from(asked.first.of(usize::try_from(hosts).unwrap_or(usize::MAX))).unwrap_or(u32::MAX);
    let wait = u64::try_from(asked.wait.as_nanos()).unwrap_or(Nanos::MAX) / MS * MS;
    WaveLine { first: first.clamp(1, MOST_FIRST), wait }
}
