//! What operators order of nodes, from the words of a request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dunlin_core::face::{OrderEdit, Problem, ProblemKind, Request};
use dunlin_gossip::model::{Asker, Taint, TaintEffect};
use hyper::StatusCode;

use super::Context;
use super::routes::{Answer, json, keep, problem, within};
use super::types::{OrderNodeBody, OrderWord, OrderedNode};

/// Orders something of a node.
pub(super) async fn order(context: &Arc<Context>, by: &Asker, body: OrderNodeBody) -> Result<Answer, Problem> {
    let edit = edit(&body).map_err(|text| problem(ProblemKind::BadRequest, text))?;
    let OrderNodeBody { node, ack, timeout_ms, .. } = body;
    let meant = context.door.node(node).await?.known;
    let request = Request::Order { node: meant.node, edit, ack, timeout: within(timeout_ms) };
    let written = keep(context, by, request).await?;
    json(StatusCode::OK, &OrderedNode { id: meant.node.to_string(), name: meant.name, written })
}

fn edit(body: &OrderNodeBody) -> Result<OrderEdit, String> {
    let has_lists = !(body.set.is_empty() && body.remove.is_empty());
    let takes_lists = matches!(body.order, OrderWord::Label | OrderWord::Taint);
    if has_lists != takes_lists {
        return Err(format!(
            "the order {}; set and remove belong to label and taint, and one of them must name something",
            if takes_lists { "names nothing" } else { "takes no lists" }
        ));
    }
    if body.deadline_ms.is_some() && body.order != OrderWord::Drain {
        return Err("a deadline without a drain; leave deadline_ms out".to_owned());
    }
    Ok(match body.order {
        OrderWord::Cordon => OrderEdit::Cordon,
        OrderWord::Uncordon => OrderEdit::Uncordon,
        OrderWord::Drain => OrderEdit::Drain { deadline: body.deadline_ms.map(Duration::from_millis) },
        OrderWord::Undrain => OrderEdit::Undrain,
        OrderWord::Label => {
            let pair = |text: &String| {
                let pair = text.split_once('=').map(|(label, value)| (label.to_owned(), value.to_owned()));
                pair.ok_or_else(|| format!("{text} is no label; write LABEL=VALUE, or LABEL- to take it back"))
            };
            let set: BTreeMap<String, String> = body.set.iter().map(pair).collect::<Result<_, _>>()?;
            OrderEdit::Label { set, remove: body.remove.clone() }
        }
        OrderWord::Taint => {
            let set = body.set.iter().map(|text| taint(text)).collect::<Result<_, _>>()?;
            let remove = body.remove.iter().map(|text| taken_back(text)).collect::<Result<_, _>>()?;
            OrderEdit::Taint { set, remove }
        }
    })
}

const TAINT: &str = "write KEY[=VALUE][:EFFECT], where EFFECT is no-schedule (the default) or no-execute";

fn taint(text: &str) -> Result<Taint, String> {
    Taint::read(text).ok_or_else(|| format!("{text} is no taint; {TAINT}"))
}

/// `KEY`, whatever its effect, or `KEY:EFFECT`.
fn taken_back(text: &str) -> Result<(String, Option<TaintEffect>), String> {
    let Some((key, effect)) = text.split_once(':') else { return Ok((text.to_owned(), None)) };
    let effect = TaintEffect::named(effect).ok_or_else(|| format!("{text}- names no taint; {TAINT}"))?;
    Ok((key.to_owned(), Some(effect)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin_core::face::Ack;

    fn read(order: OrderWord, deadline_ms: Option<u64>, set: &[&str], remove: &[&str]) -> Result<OrderEdit, String> {
        let list = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect();
        let (set, remove) = (list(set), list(remove));
        edit(&OrderNodeBody { node: String::new(), order, deadline_ms, set, remove, ack: Ack::Default, timeout_ms: 1 })
    }

    #[test]
    fn words_become_orders() {
        let drain = OrderEdit::Drain { deadline: Some(Duration::from_secs(1)) };
        assert_eq!(read(OrderWord::Drain, Some(1_000), &[], &[]), Ok(drain));
        let taint = |value: &str, effect| Taint { key: "gpu".into(), value: value.into(), effect };
        assert_eq!(
            read(OrderWord::Taint, None, &["gpu=old:NoExecute", "gpu"], &["disk:no-schedule", "net"]),
            Ok(OrderEdit::Taint {
                set: vec![taint("old", TaintEffect::NoExecute), taint("", TaintEffect::NoSchedule)],
                remove: vec![("disk".into(), Some(TaintEffect::NoSchedule)), ("net".into(), None)],
            })
        );
        assert!(read(OrderWord::Label, None, &["a=b=c"], &[]).is_ok());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (order, deadline, set, remove) in [
            (OrderWord::Label, None, &["a"][..], &[][..]),
            (OrderWord::Label, None, &[], &[]),
            (OrderWord::Taint, None, &["a:never"], &[]),
            (OrderWord::Taint, None, &[], &["a:never"]),
            (OrderWord::Cordon, None, &["a=b"], &[]),
            (OrderWord::Cordon, Some(1), &[], &[]),
        ] {
            assert!(read(order, deadline, set, remove).is_err(), "{order:?} {set:?} {remove:?}");
        }
    }
}
