//! What can be typed after `dunlin node`.

use clap::{Args, Subcommand};

use super::Durability;

/// `dunlin node`
#[derive(Debug, Subcommand)]
pub(crate) enum Node {
    /// Move everything that runs on a node elsewhere; nothing new comes until `undrain`
    #[command(
        after_help = "What runs there is ready elsewhere before it stops. What fits nowhere else stays, and `dunlin ps` says \
                      why; with --deadline it stops then all the same.\n\n\
                      Examples:\n  dunlin node drain n3\n  dunlin node drain n3 --deadline 10m --wait"
    )]
    Drain {
        /// Its name, its id, or the beginning of its id
        node: String,
        /// After this time, as 90s, 10m or 2h, what is left stops all the same
        #[arg(long, value_name = "T")]
        deadline: Option<String>,
        /// Wait until nothing runs there any more: for the deadline and --timeout
        #[arg(long)]
        wait: bool,
        #[command(flatten)]
        options: OrderOptions,
    },
    /// Let a drained node keep what it has and take work again; nothing moves back
    #[command(after_help = "Example:\n  dunlin node undrain n3")]
    Undrain {
        /// Its name, its id, or the beginning of its id
        node: String,
        #[command(flatten)]
        options: OrderOptions,
    },
    /// Let nothing new come to a node; what runs there stays
    #[command(after_help = "Example:\n  dunlin node cordon n3")]
    Cordon {
        /// Its name, its id, or the beginning of its id
        node: String,
        #[command(flatten)]
        options: OrderOptions,
    },
    /// Let new work come to a cordoned node again
    #[command(after_help = "Example:\n  dunlin node uncordon n3")]
    Uncordon {
        /// Its name, its id, or the beginning of its id
        node: String,
        #[command(flatten)]
        options: OrderOptions,
    },
    /// Give a node labels, which stand over those of its agent, or take them back
    #[command(after_help = "Examples:\n  dunlin node label n3 disk=ssd rack=7\n  dunlin node label n3 disk-")]
    Label(Labels),
    /// Keep work off a node that does not tolerate it (`x-dunlin.tolerations`), or take that back
    #[command(
        after_help = "EFFECT is no-schedule (nothing new comes; the default) or no-execute (what runs there stops as well).\n\n\
                      Examples:\n  dunlin node taint n3 gpu=old\n  dunlin node taint n3 burnt:no-execute\n  dunlin node taint n3 gpu-"
    )]
    Taint(Labels),
    /// Remove a node for good: it can neither connect nor come back, and its work moves to the others
    #[command(
        after_help = "Ask a node that stays. The removed node stops what it runs and ends as soon as it hears of it.\n\n\
                      Examples:\n  dunlin node rm n3\n  dunlin node rm 8c6976e5 --ack all\n  dunlin node rm n3 --compromised"
    )]
    Rm {
        /// Its name, its id, or the beginning of its id
        node: String,
        /// Somebody else may hold its keys: list whom it let in, make all tokens worthless, replace the authority
        #[arg(long)]
        compromised: bool,
        #[command(flatten)]
        durability: Durability,
        /// One JSON document
        #[arg(long)]
        json: bool,
    },
}

/// `dunlin node label` and `taint`
#[derive(Debug, Args)]
pub(crate) struct Labels {
    /// Its name, its id, or the beginning of its id
    pub(crate) node: String,
    /// What to give, and with a trailing `-` what to take back
    #[arg(required = true, value_name = "WHAT")]
    pub(crate) what: Vec<String>,
    #[command(flatten)]
    pub(crate) options: OrderOptions,
}

/// Options of every order.
#[derive(Debug, Args)]
pub(crate) struct OrderOptions {
    #[command(flatten)]
    pub(crate) durability: Durability,
    /// One JSON document
    #[arg(long)]
    pub(crate) json: bool,
}
