//! `dunlin token`: tokens that let new nodes join.

use std::process::ExitCode;
use std::time::Duration;

use dunlin_agent::api::types::{NewToken, TokenBody, WrittenBody};
use serde_json::Value;

use super::listing::{number, text};
use super::{Done, write};
use crate::args::Token;
use crate::client::Client;
use crate::render;
use crate::render::table::Table;

pub(super) fn run(client: &Client, args: &Token) -> Done {
    match args {
        Token::Create { label, hours, uses, json } => {
            let body = TokenBody { label: label.clone(), ttl_s: u64::from(*hours) * 3_600, uses: *uses };
            let token: NewToken = client.post("tokens", &body, Duration::from_secs(10))?;
            if *json {
                render::json(&token)?;
            } else {
                render::print_line(&token.token)?;
                let nodes = match uses {
                    None => String::new(),
                    Some(1) => " and one node".to_owned(),
                    Some(n) => format!(" and {n} nodes"),
                };
                eprintln!("good for {hours} h{nodes}; keep it secret. On the new host:\n  {}", token.join);
            }
            Ok(ExitCode::SUCCESS)
        }
        Token::Ls(listing) => {
            let value: Value = client.get("tokens")?;
            if listing.json {
                render::json(&value)?;
                return Ok(ExitCode::SUCCESS);
            }
            let mut table = Table::new(&["ID", "LABEL", "ISSUER", "AGE", "EXPIRES", "USED"]);
            for row in value.as_array().into_iter().flatten() {
                let [id, label, issuer] = ["id", "label", "issuer"].map(|key| text(row, key));
                let expires = render::until(number(row, "expires_ms"), "expired");
                let used = number(row, "used");
                let used = row["uses"].as_u64().map_or_else(|| used.to_string(), |uses| format!("{used} of {uses}"));
                table.row(vec![id, label, issuer, render::age(number(row, "created_ms")), expires, used]);
            }
            table.print("no tokens; make one with: dunlin token create")?;
            Ok(ExitCode::SUCCESS)
        }
        Token::Rm { id, json } => {
            let written: WrittenBody = client.delete(&format!("tokens/{id}"))?;
            write::report(&written, &format!("token {id} removed"), *json)
        }
    }
}
