//! Answers of real machines, and answers that no machine gives.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// A Raspberry Pi OS (Debian 13) with a server of its own and a node of ours.
const PI: &str = "\
Welcome to pi1!
k3arm-machine-1
hostname=Pi1
arch=aarch64
kernel=6.12.47+rpt-rpi-v8
time=1000010
user=pi
total_kib=947000
free_kib=100000
available_kib=700000
limit=max
cgroup=v2
controllers=cpuset cpu io memory pids
ssh_address=10.0.0.11
address=eth0 10.0.0.11
address=docker0 172.17.0.1
address=wlan0 192.168.1.9
route_address=192.168.1.9
listener=tcp 192B
listener=tcp 192B
listener=udp 2118
k3s=server 
k3s=agent 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
socket=denied /var/run/docker.sock
end
";

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn read(output: &str) -> Result<(MachineFacts, EngineSocket), ParseError> {
    parse_machine(output, at(1_000_000)..=at(1_000_000))
}

fn facts(output: &str) -> MachineFacts {
    read(output).expect("a good answer").0
}

#[test]
fn a_pi_is_read() {
    let (mut machine, socket) = read(PI).expect("a good answer");
    assert_eq!((machine.hostname.as_str(), machine.kernel_arch.as_str()), ("pi1", "aarch64"));
    assert_eq!(machine.kernel_release, "6.12.47+rpt-rpi-v8");
    assert_eq!((machine.memory_total, machine.memory_available), (947_000 * 1024, 700_000 * 1024));
    assert_eq!((machine.cgroup, machine.clock_offset), (CgroupVersion::V2, 10));
    assert_eq!(machine.controllers, ["cpu", "cpuset", "io", "memory", "pids"]);
    assert_eq!(machine.address, Some(IpAddr::from([10, 0, 0, 11])));
    assert_eq!(machine.interface.as_deref(), Some("eth0"));
    assert_eq!(machine.listeners, [Listener { port: 6443, udp: false }, Listener { port: 8472, udp: true }]);
    assert_eq!(machine.k3s_processes, ["k3s agent (container 0123456789ab)", "k3s server"]);
    assert_eq!(socket, EngineSocket::Denied { path: "/var/run/docker.sock".into(), user: "pi".into() });
    machine.forget_k3s_in(["short", "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"]);
    assert_eq!(machine.k3s_processes, ["k3s server"]);
}

#[test]
fn the_smallest_limit_counts() {
    let limited = PI.replace("limit=max", "limit=9223372036854771712\nlimit=536870912\nlimit=0");
    let machine = facts(&limited);
    assert_eq!((machine.memory_total, machine.memory_available), (512 << 20, 512 << 20));
}

#[test]
fn huge_pages_are_missed_on_a_small_machine_only() {
    let misses = |from: &str, to: &str| {
        let said = PI.replace("cgroup=v2", "huge_pages=always [madvise] never\nkept_kib=22528\ncgroup=v2");
        facts(&said.replace(from, to)).misses_for_huge_pages().map(|bytes| bytes >> 20)
    };
    assert_eq!(misses("", ""), Some(22));
    assert_eq!(misses("always [madvise] never", "[always] madvise never"), Some(22));
    assert_eq!(misses("[madvise] never", "madvise [never]"), None);
    assert_eq!(misses("huge_pages=", "a="), None, "it has none");
    assert_eq!(misses("kept_kib=22528", "kept_kib=3008"), None);
    assert_eq!(misses("kept_kib=22528", "kept_kib=16384"), None, "what Raspberry Pi OS sets for its network");
    assert_eq!(misses("total_kib=947000", "total_kib=3947000"), None);
    assert_eq!(misses("limit=max", "limit=536870912"), None, "a container's kernel is not its own");
    assert_eq!(misses("kept_kib=22528", "kept_kib=67584"), None, "nor is it where /proc is");
}

#[test]
fn huge_pages_are_only_dropped_where_that_gives_memory_and_lasts() {
    let can = |release: &str, tmpfiles: &str| {
        let said = PI.replace("kernel=6.12.47+rpt-rpi-v8", &format!("kernel={release}{tmpfiles}"));
        facts(&said).can_drop_huge_pages()
    };
    assert!(can("6.1.0-18-arm64", "\ntmpfiles=yes") && can("5.16.0", "\ntmpfiles=yes"));
    assert!(!can("6.1.0-18-arm64", "") && !can("5.10.0-28-arm64", "\ntmpfiles=yes") && !can("odd", "\ntmpfiles=yes"));
}

#[test]
fn addresses_are_chosen_in_order() {
    let address = |output: &str| {
        let machine = facts(output);
        (machine.address.map(|address| address.to_string()).unwrap_or_default(), machine.interface.unwrap_or_default())
    };
    let of = |a: &str, b: &str| (a.to_string(), b.to_string());
    // SSH came through a NAT: not an address of this machine.
    let natted = PI.replace("ssh_address=10.0.0.11", "ssh_address=203.0.113.1");
    assert_eq!(address(&natted), of("192.168.1.9", "wlan0"));
    let no_route = natted.replace("route_address=192.168.1.9\n", "").replace("address=eth0 10.0.0.11\n", "");
    assert_eq!(address(&no_route), of("192.168.1.9", "wlan0"));
    let without_ip = PI.lines().filter(|line| !line.starts_with("address=")).collect::<Vec<_>>().join("\n");
    assert_eq!(address(&without_ip), of("10.0.0.11", ""));
    let ipv6 = PI.replace("ssh_address=10.0.0.11", "ssh_address=fe80::1");
    assert_eq!(address(&ipv6), of("192.168.1.9", "wlan0"));
    let vlan = PI.replace("address=eth0 10", "address=eth0.5@eth0 10");
    assert_eq!(address(&vlan), of("10.0.0.11", "eth0.5"));
    // Where this is run in a container of the machine itself.
    for inner in ["docker0", "br-0123456789ab"] {
        let inside = PI.replace("address=eth0 10.0.0.11", &format!("address={inner} 10.0.0.11"));
        assert_eq!(address(&inside), of("192.168.1.9", "wlan0"));
    }
    let bridged = PI.replace("address=eth0 10.0.0.11", "address=br-lan 10.0.0.11");
    assert_eq!(address(&bridged), of("10.0.0.11", "br-lan"));
    let none = without_ip.replace("ssh_address=10.0.0.11\n", "").replace("route_address=192.168.1.9\n", "");
    assert_eq!(address(&none), of("", ""));
}

#[test]
fn clocks_are_compared_in_whole_seconds() {
    let offset = |ours| parse_machine(PI, ours..=ours).expect("a good answer").0.clock_offset;
    assert_eq!(offset(at(1_000_010)), 0);
    assert_eq!(offset(at(1_000_010) + Duration::from_millis(999)), 0);
    assert_eq!(offset(at(1_003_610)), -3599);
    assert_eq!(offset(UNIX_EPOCH), 1_000_010);
    let slow = parse_machine(PI, at(1_000_001)..=at(1_000_030)).expect("a good answer").0;
    assert_eq!(slow.clock_offset, 0, "it took half a minute to answer");
}

#[test]
fn a_cut_answer_is_none() {
    let begin = PI.find("k3arm-machine").expect("it begins");
    for length in 0..PI.trim_end().len() {
        if !PI.is_char_boundary(length) {
            continue;
        }
        let cut = read(&PI[..length]);
        assert!(cut.is_err(), "{length}");
        assert!(length > begin || matches!(cut, Err(ParseError::Cut(_))));
    }
}

#[test]
fn what_is_not_needed_is_unknown_where_it_is_odd() {
    let odd = PI.replace("hostname=Pi1", "hostname=(none)\nos_name=a\tb\nos_id= debian ");
    let machine = read(&odd).expect("it is good enough").0;
    assert_eq!(machine.hostname, "(none)");
    assert_eq!((machine.system.name, machine.system.id.as_deref()), (None, Some("debian")));
    for strange in ["eth/0 10.0.0.11", "eth0 10.0.0.256", "büro0 10.8.0.1/24 1500", "eth0"] {
        let machine = facts(&PI.replace("address=eth0 10.0.0.11", &format!("address={strange}")));
        assert_eq!(machine.interface.as_deref(), Some("wlan0"), "{strange}");
    }
    assert_eq!(
        facts(&format!("\x1b]0;pi1\x07{}", &PI[PI.find("k3arm-machine").expect("it begins")..])).hostname,
        "pi1"
    );
}

#[test]
fn impossible_values_are_refused() {
    for (from, to) in [
        ("hostname=Pi1", "hostname="),
        ("arch=aarch64", "arch=\u{1b}[31m"),
        ("total_kib=947000", "total_kib=18446744073709551615"),
        ("total_kib=947000", "total_kib=-1"),
        ("total_kib=947000\n", ""),
        ("time=1000010", "time=99999999999999999999"),
        ("time=1000010", "time=18446744073709551615"),
        ("limit=max", "limit=lots"),
        ("cgroup=v2", "cgroup=v3"),
        ("controllers=cpuset", "controllers=\"cpuset"),
        ("listener=udp 2118", "listener=udp 12118"),
        ("listener=udp 2118", "listener=raw 2118"),
        ("k3s=server ", "k3s=rm"),
        ("k3s=server ", "k3s=server é"),
        ("socket=denied /var", "socket=denied var"),
        ("socket=denied", "socket=open"),
        ("user=pi", "user"),
    ] {
        assert!(PI.contains(from));
        let answer = PI.replace(from, to);
        assert!(read(&answer).is_err(), "{to}");
    }
    let long = PI.replace("end\n", &"listener=tcp 192B\n".repeat(5000)) + "end\n";
    assert_eq!(read(&long), Err(ParseError::TooLong));
}

proptest! {
    #[test]
    fn no_answer_makes_it_panic(text in "\\PC{0,200}", lines in proptest::collection::vec("[a-z_0-9]{1,14}=\\PC{0,30}", 0..30)) {
        let _ = read(&text);
        let _ = read(&format!("{BEGIN}\n{}\nend\n", lines.join("\n")));
    }

    #[test]
    fn no_change_of_a_good_answer_makes_it_panic(at in 0..PI.len(), with in any::<char>()) {
        let mut changed = PI.to_string();
        if changed.is_char_boundary(at) && changed.is_char_boundary(at + 1) {
            changed.replace_range(at..=at, &with.to_string());
        }
        let _ = read(&changed);
    }
}
