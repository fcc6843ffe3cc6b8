//! What can be typed to ask placement.

use std::path::PathBuf;

use clap::Args;

/// `dunlin plan`
#[derive(Debug, Args)]
pub(crate) struct Plan {
    /// The Compose file; `-` is standard input
    #[arg(short, long, default_value = "compose.yaml", value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// The stack's name [default: the file's `name:`, else its folder]
    #[arg(long, value_name = "S")]
    pub(crate) stack: Option<String>,
    /// One JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

/// `dunlin whatif`
#[derive(Debug, Args)]
#[group(required = true, multiple = true, args = ["lose", "drain", "add", "label"])]
pub(crate) struct Whatif {
    /// Nodes that die, by name or label; repeat for more
    #[arg(long, value_name = "node=A,B|LABEL=VALUE")]
    pub(crate) lose: Vec<String>,
    /// Nodes whose work goes elsewhere, likewise
    #[arg(long, value_name = "node=A,B|LABEL=VALUE")]
    pub(crate) drain: Vec<String>,
    /// Nodes that come, like one that is there, and how many
    #[arg(long, value_name = "like=NODE[,COUNT]")]
    pub(crate) add: Vec<String>,
    /// A label that changes; without a value it goes
    #[arg(long, value_name = "NODE:KEY=[VALUE]")]
    pub(crate) label: Vec<String>,
    /// One JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

/// `dunlin explain`
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// A replica, as in shop/web.3, or web.3 where that is unambiguous
    pub(crate) replica: String,
    /// One JSON document
    #[arg(long)]
    pub(crate) json: bool,
}
