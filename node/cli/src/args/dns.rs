//! What can be typed about names.

use std::net::SocketAddr;

use clap::{Args, Subcommand};

/// `dunlin dns`
#[derive(Debug, Subcommand)]
pub(crate) enum Dns {
    /// What a name answers, and which allocations are left out of it and why
    #[command(
        after_help = "A name that does not end with a dot is meant within the cluster's zone. The answer is this node's; \
                      another may know something newer.\n\nExamples:\n  dunlin dns query web.shop\n  dunlin dns query \
                      _http._tcp.web.shop\n  dunlin dns query web.shop.dunlin.internal --json"
    )]
    Query(DnsQuery),
    /// All names as a zone file, as this node knows them now
    #[command(after_help = "Example:\n  dunlin dns export > dunlin.internal.zone")]
    Export {
        /// One JSON document
        #[arg(long)]
        json: bool,
    },
    /// A name server of made-up names, without a cluster, to measure: s0, s1, ... in default.dunlin.internal
    #[command(
        after_help = "It serves until it is killed.\n\nExample:\n  dunlin dns bench-server --names 1000 --changes-per-s 0 \
                      --listen 127.0.0.1:5300"
    )]
    BenchServer(BenchServer),
}

/// `dunlin dns query`
#[derive(Debug, Args)]
pub(crate) struct DnsQuery {
    /// The name
    pub(crate) name: String,
    /// One JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

/// `dunlin dns bench-server`
#[derive(Debug, Args)]
pub(crate) struct BenchServer {
    /// How many services, with one address each
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) names: u32,
    /// How many of them get another address each second
    #[arg(long, default_value_t = 0, value_name = "R", value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub(crate) changes_per_s: u32,
    /// Where to answer, UDP and TCP
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) listen: SocketAddr,
}
