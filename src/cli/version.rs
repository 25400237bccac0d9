//! `k3arm version …`

use clap::Subcommand;
use serde_json::json;

use super::exit::Exit;
use super::output;
use super::settings::Format;
use crate::pipeline::{self, Environment, Offer, Stop};

#[derive(Debug, Subcommand)]
pub(super) enum Version {
    /// List the channels of k3s, and the newest release of each line
    #[command(after_help = LIST_EXAMPLES)]
    List,
}

const LIST_EXAMPLES: &str = "\
Examples:
  k3arm version list
  k3arm version list -o json";

impl Version {
    pub(super) async fn run(self, environment: Environment, format: Format) -> Exit {
        let Self::List = self;
        let offers = tokio::select! {
            offers = pipeline::versions(&environment) => offers.map_err(Stop::from),
            () = environment.interrupt.raised() => Err(Stop::Interrupted(Vec::new())),
        };
        match offers {
            Ok(offers) => {
                output::data(format, &json!({ "channels": offers }), || table(&offers));
                Exit::Done
            }
            Err(stop) => output::stop(stop),
        }
    }
}

fn table(offers: &[Offer]) -> String {
    let row = |offer: &Offer| {
        let offline = if offer.catalogued { "yes" } else { "by its own list only" };
        vec![offer.channel.clone(), offer.release.to_string(), offline.into()]
    };
    let rows: Vec<_> = offers.iter().map(row).collect();
    output::table(&["CHANNEL", "RELEASE", "SYSTEM IMAGES KNOWN"], &rows)
}
