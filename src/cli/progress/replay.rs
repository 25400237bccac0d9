//! Made-up runs in real time, to look at: `K3ARM_REPLAY=50 cargo test --lib replay -- --ignored --nocapture`.

use std::collections::BTreeSet;
use std::time::Duration;

use super::board::tests::{done, failed, mega, started};
use crate::cli::settings::Format;
use crate::host::HostName;
use crate::plan::{Events, Progress};

const IMAGE: &str = "rancher/k3s:v1.36.2-k3s1";

/// Four times a second.
const TICK: Duration = Duration::from_millis(250);

struct Run {
    events: Events,
    hosts: u64,
    ended: BTreeSet<u64>,
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "started by hand in a terminal"]
async fn replay() {
    let hosts = std::env::var("K3ARM_REPLAY").ok().and_then(|text| text.parse().ok()).unwrap_or(4);
    let format = if std::env::var_os("K3ARM_REPLAY_JSON").is_some() { Format::Json } else { Format::Table };
    let interrupt = crate::cli::catch_interrupts();
    let mut run = Run { events: super::events(format), hosts, ended: BTreeSet::new() };
    run.each(|run, host| run.events.on(&name(host), started("connecting")));
    let mut ticks = tokio::time::interval(TICK);
    tokio::select! {
        () = async {
            for tick in 0..160 {
                ticks.tick().await;
                run.step(tick);
            }
        } => {}
        () = interrupt.raised() => {
            run.events.overall(started("removing what was made (--keep leaves it)"));
            tokio::time::sleep(TICK * 20).await;
            run.events.overall(done("removed what was made"));
        }
    }
    drop(run);
    println!("the report comes here");
}

fn name(host: u64) -> HostName {
    HostName::new(format!("h{host}"))
}

impl Run {
    fn each(&mut self, mut act: impl FnMut(&mut Self, u64)) {
        (1..=self.hosts).for_each(|host| act(self, host));
    }

    fn step(&mut self, tick: u64) {
        let pulling = tick.saturating_sub(4);
        if tick >= 4 {
            self.events.overall(mega((pulling * 5).min(375), 375));
            self.each(|run, host| run.host(host, pulling));
        }
        if tick == 20 {
            self.events.overall(Progress::Warning { what: "the registry answers slowly".into() });
        }
    }

    /// A few hosts at a time, each at its own speed; every seventh stalls for twenty seconds, the fifth fails.
    fn host(&mut self, host: u64, tick: u64) {
        if tick == 0 {
            self.events.on(&name(host), started(&format!("pulling {IMAGE}")));
        }
        if !self.ended.insert(host) {
            return;
        }
        let turn = tick.saturating_sub(host / 16 * 20);
        let turn = if host.is_multiple_of(7) && turn > 8 { 8 + turn.saturating_sub(88) } else { turn };
        let sent = (turn * (host * 7 % 5 + 1)).min(124);
        self.events.on(&name(host), mega(sent, 124));
        if host == 5 && tick == 30 {
            self.events.on(&name(host), failed("the disk is full: 12.0 MB are free, 124.0 MB are needed"));
        } else if sent == 124 {
            self.events.on(&name(host), done(&format!("{IMAGE} pulled")));
        } else {
            self.ended.remove(&host);
        }
    }
}
