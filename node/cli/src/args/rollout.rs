//! `dunlin rollout` and `dunlin rollback`.

use clap::{Args, Subcommand};

use super::{Durability, Listing};

/// What can be asked and said about a service's way from one revision to the next.
#[derive(Debug, Subcommand)]
pub(crate) enum Rollout {
    /// How far each is, and what holds it up
    #[command(after_help = "Examples:\n  dunlin rollout status\n  dunlin rollout status shop/web --wait --timeout 120")]
    Status(RolloutStatus),
    /// The revisions of a service that there are to go back to
    #[command(after_help = "Example:\n  dunlin rollout history shop/web")]
    History(History),
    /// Let no further replica change, in this rollout and in those that follow
    #[command(after_help = "Example:\n  dunlin rollout pause shop/web")]
    Pause(Word),
    /// Let it go on; after a failure, try again
    #[command(after_help = "Example:\n  dunlin rollout resume shop/web")]
    Resume(Word),
    /// The canaries are good: let the other replicas follow
    #[command(after_help = "Example:\n  dunlin rollout promote shop/web")]
    Promote(Word),
}

/// `dunlin rollout status`
#[derive(Debug, Args)]
pub(crate) struct RolloutStatus {
    /// Only this stack or service: shop, shop/web, web
    pub(crate) what: Option<String>,
    /// Wait until it is done; exits 1 if it fails or goes back, 3 if time runs out
    #[arg(long)]
    pub(crate) wait: bool,
    /// How long to wait, in seconds
    #[arg(long, default_value_t = 600, value_name = "S", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub(crate) timeout: u32,
    #[command(flatten)]
    pub(crate) listing: Listing,
}

/// `dunlin rollout history`
#[derive(Debug, Args)]
pub(crate) struct History {
    /// Which service: shop/web, or web where that is unambiguous
    pub(crate) service: String,
    #[command(flatten)]
    pub(crate) listing: Listing,
}

/// `dunlin rollout pause`, `resume` and `promote`
#[derive(Debug, Args)]
pub(crate) struct Word {
    /// Which service: shop/web, or web where that is unambiguous
    pub(crate) service: String,
    #[command(flatten)]
    pub(crate) durability: Durability,
    /// One JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

/// `dunlin rollback`
#[derive(Debug, Args)]
pub(crate) struct Rollback {
    /// Which service: shop/web, or web where that is unambiguous
    pub(crate) service: String,
    /// To which revision, or its beginning, as `dunlin rollout history` lists them [default: the one before]
    #[arg(long, value_name = "REVISION")]
    pub(crate) to: Option<String>,
    #[command(flatten)]
    pub(crate) durability: Durability,
    /// One JSON document
    #[arg(long)]
    pub(crate) json: bool,
}
