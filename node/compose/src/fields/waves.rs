//! `x-dunlin.waves` of a file: how many nodes act on a deploy first, and for how long all is to stay well there.

use alloc::format;

use dunlin_gossip::model::{Share, Waves};
use dunlin_gossip::time::Duration;

use super::amounts::positive_duration;
use crate::problem::Log;
use crate::schema::{self, Fields};
use crate::value::Value;

/// For so long all is to stay well unless the file says otherwise.
const WAIT: Duration = Duration::from_secs(30);
/// A node is not watched for longer: whoever wants a day means two deploys.
const LONGEST: Duration = Duration::from_secs(24 * 3_600);
/// As many as can be named.
const MOST: u32 = 256;

pub(crate) fn waves(value: &Value<'_>, log: &mut Log<'_>) -> Option<Waves> {
    let fields = Fields::read(&schema::WAVES, value, log)?;
    let Some(first) = fields.get("first") else {
        value.error(log, "waves without 'first'", "say how many nodes act first, as in first: 1 or first: 5%");
        return None;
    };
    let first = share(first, log)?;
    let wait = match fields.get("wait") {
        None => WAIT,
        Some(at) => {
            let wait = positive_duration(at, log)?;
            if wait > LONGEST {
                at.error(log, "the wait is longer than a day", "write a shorter one");
                return None;
            }
            wait
        }
    };
    Some(Waves { first, wait })
}

fn share(value: &Value<'_>, log: &mut Log<'_>) -> Option<Share> {
    let remedy = format!("write a number of nodes from 1 to {MOST}, or a share from 1% to 99%");
    let text = value.scalar(log, "a number of nodes or a share", &remedy)?;
    let number = |text: &str, most: u32| text.parse::<u32>().ok().filter(|n| (1..=most).contains(n));
    let found = match text.strip_suffix('%') {
        Some(percent) => number(percent, 99).map(Share::Percent),
        None => number(text, MOST).map(Share::Nodes),
    };
    if found.is_none() {
        value.wrong(log, "a number of nodes or a share", remedy);
    }
    found
}
