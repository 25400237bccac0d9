//! The end-to-end suite: the real program against real sshds and real Docker engines, in a lab of `ci/lab`.
//!
//! `ci/test lab [FILTER]` brings the lab up and runs it. Every scenario looks at three things: what k3arm says, its exit
//! code, and what stands on the hosts afterwards. Waits have a condition and a deadline.
//!
//! The lab: h1 (engine 26.1), h2 (20.10), h3 (28.5 with containerd's image store), h4 (26.1). `K3ARM_TEST_RELEASE` names
//! the release that nodes run. a1 is an emulated arm64 machine (engine 26.1), for the scenarios that ask for it.

#![allow(clippy::expect_used)]

mod bad_hosts;
mod by_load;
mod causes;
mod causes_at_start;
mod channels;
mod check;
mod cluster_file;
mod create;
mod cuts;
mod delete;
mod forwarding;
mod host;
mod images;
mod interrupt_create;
mod interrupt_prewarm;
mod k3arm;
mod kubectl;
mod lab;
mod local;
mod lock;
mod missing;
mod mixed;
mod offline;
mod placed;
mod prewarm;
mod recompressed;
mod resolve;
mod secrets;
mod sources;
mod wait;

/// Why these tests do not run by themselves.
#[macro_export]
macro_rules! scenario {
    ($(#[$doc:meta])* fn $name:ident($lab:ident) $body:block) => {
        $(#[$doc])*
        #[test]
        #[ignore = "needs the lab: ci/test lab"]
        fn $name() {
            let $lab = $crate::lab::Lab::fresh();
            $body
        }
    };
}
