//! The user's flags, looked at before k3s silently skips them.

use crate::cluster::{Cluster, OWNED_FLAGS, flags};
use crate::host::{Finding, rules};

pub(super) fn findings(cluster: &Cluster) -> Vec<Finding> {
    let of_flag = |flag: &String| {
        if OWNED_FLAGS.contains(&flag.trim_end_matches('+')) {
            let finding = rules::OWNED_FLAG.overall(format!("k3s.config sets {flag}, which k3arm sets itself"));
            return Some(finding.with_hint(format!("remove {flag} from k3s.config")));
        }
        if flags::is_known(flag) {
            return None;
        }
        let finding = rules::UNKNOWN_FLAG.overall(format!("k3s knows no flag {flag} and will skip it"));
        Some(match flags::closest(flag) {
            Some(known) => finding.with_hint(format!("did you mean {known}?")),
            None => finding,
        })
    };
    cluster.k3s.config.keys().filter_map(of_flag).collect()
}
