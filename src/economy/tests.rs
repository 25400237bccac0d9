//! Decisions reckoned by hand, with figures of a real k3s node image; and that no decision makes a run slower.

use proptest::prelude::*;

use super::*;

const MB: f64 = 1e6;
/// 20 and 100 Mbit/s.
const SLOW: f64 = 2.5 * MB;
const FAST: f64 = 12.5 * MB;

fn level(level: u8) -> ZstdLevel {
    ZstdLevel::new(level).unwrap()
}

fn host(name: &str) -> HostName {
    HostName::new(name)
}

fn layer_name(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

/// 83 MB: level 3 takes 0.6 s and gives 80 MB, level 10 3.7 s and 70 MB, level 19 84 s and 60 MB.
fn node_image(hosts: &[&str]) -> LayerFigures {
    let one =
        |number, seconds: f64, size: f64| Yield { level: level(number), rate: 83.0 * MB / seconds, ratio: size / 83.0 };
    LayerFigures {
        size: 83_000_000,
        is_held: true,
        made: None,
        yields: vec![one(3, 0.6, 80.0), one(10, 3.7, 70.0), one(19, 84.0, 60.0)],
        wanted_by: hosts.iter().map(|name| host(name)).collect(),
    }
}

fn fleet(rates: &[(&str, f64)]) -> Figures {
    let names: Vec<&str> = rates.iter().map(|(name, _)| *name).collect();
    let figures = |rate| HostFigures { rate: Some(rate), takes_zstd: true };
    Figures {
        layers: [(layer_name("node"), node_image(&names))].into(),
        hosts: rates.iter().map(|(name, rate)| (host(name), figures(*rate))).collect(),
        uplink: None,
        cores: 2,
    }
}

fn node(figures: &mut Figures) -> &mut LayerFigures {
    figures.layers.get_mut(&layer_name("node")).unwrap()
}

fn route(decision: &Decision, name: &str) -> Route {
    decision.route(&layer_name("node"), &host(name))
}

fn seconds(prediction: Prediction) -> (f64, f64) {
    let rounded = |seconds: Option<f64>| (seconds.unwrap() * 10.0).round() / 10.0;
    (rounded(prediction.as_published), rounded(prediction.decided))
}

#[test]
fn a_slow_link_is_worth_a_wait_and_a_fast_one_is_not() {
    let slow = decide(&fleet(&[("h1", SLOW)]), Recompress::Auto);
    assert_eq!(route(&slow, "h1"), Route::Make(level(10)));
    // 83 / 2.5; 3.7 + 70 / 2.5.
    assert_eq!(seconds(slow.run), (33.2, 31.7));
    assert_eq!(slow.run.to_string(), "31.7 s as decided, 33.2 s as published");
    assert_eq!(slow.to_make(), [(layer_name("node"), level(10))].into());
    // 13 MB are a second there, and level 3 saves a quarter of one for 0.6.
    let fast = decide(&fleet(&[("h1", FAST)]), Recompress::Auto);
    assert_eq!((route(&fast, "h1"), seconds(fast.run)), (Route::AsPublished, (6.6, 6.6)));
    assert!(fast.to_make().is_empty());
}

#[test]
fn the_highest_level_is_for_links_of_another_age() {
    let run = |rate: f64| {
        let decision = decide(&fleet(&[("h1", rate * MB)]), Recompress::Auto);
        (route(&decision, "h1"), seconds(decision.run).1)
    };
    // 3.7 + 70 / 0.2 against 84 + 60 / 0.2.
    assert_eq!(run(0.2), (Route::Make(level(10)), 353.7));
    // 3.7 + 70 / 0.1 against 84 + 60 / 0.1.
    assert_eq!(run(0.1), (Route::Make(level(19)), 684.0));
}

#[test]
fn a_margin_is_kept() {
    let run = |rate: f64| route(&decide(&fleet(&[("h1", rate * MB)]), Recompress::Auto), "h1");
    // Level 10 saves 13 MB for 3.7 s, and has to save 4.44 s: up to 2.93 MB/s. Level 3: 3 MB for 0.72 s, up to 4.17 MB/s.
    assert_eq!(run(2.92), Route::Make(level(10)));
    assert_eq!(run(2.94), Route::Make(level(3)));
    assert_eq!(run(4.16), Route::Make(level(3)));
    assert_eq!(run(4.18), Route::AsPublished);
}

#[test]
fn one_core_has_half_of_it_for_compressing() {
    let mut figures = fleet(&[("h1", SLOW)]);
    figures.cores = 1;
    let decision = decide(&figures, Recompress::Auto);
    // Level 10 would take 7.4 s for the 5.2 that it saves; level 3 takes 1.2 and saves 1.2; neither is a clear gain.
    assert_eq!(route(&decision, "h1"), Route::AsPublished);
    figures.hosts.get_mut(&host("h1")).unwrap().rate = Some(1.25 * MB);
    // 7.4 + 70 / 1.25.
    let decision = decide(&figures, Recompress::Auto);
    assert_eq!((route(&decision, "h1"), seconds(decision.run)), (Route::Make(level(10)), (66.4, 63.4)));
}

#[test]
fn what_is_still_to_be_fetched_delays_the_start() {
    let decided = |uplink: f64| {
        let mut figures = fleet(&[("h1", SLOW)]);
        node(&mut figures).is_held = false;
        figures.uplink = Some(uplink * MB);
        decide(&figures, Recompress::Auto)
    };
    // The uplink is what limits: as published it streams through.
    let limited = decided(1.0);
    assert_eq!((route(&limited, "h1"), seconds(limited.run)), (Route::AsPublished, (83.0, 83.0)));
    // 0.83 s to fetch: level 10 must save 1.2 × 4.53 = 5.44 s and saves 5.2; level 3 must save 1.72 and saves 1.2.
    assert_eq!(route(&decided(100.0), "h1"), Route::AsPublished);
    // 0.08 s: 1.2 × 3.78 = 4.54 s.
    assert_eq!(route(&decided(1000.0), "h1"), Route::Make(level(10)));
}

#[test]
fn what_is_there_is_used_whatever_is_known_and_by_whoever_can() {
    let mut figures = fleet(&[("h1", SLOW), ("h2", SLOW)]);
    node(&mut figures).made = Some(56_000_000);
    for host in figures.hosts.values_mut() {
        host.rate = None;
    }
    figures.hosts.get_mut(&host("h2")).unwrap().takes_zstd = false;
    let decision = decide(&figures, Recompress::Auto);
    assert_eq!((route(&decision, "h1"), route(&decision, "h2")), (Route::Held, Route::AsPublished));
    assert_eq!(decision.run.to_string(), "unknown time as decided, unknown time as published");
    assert_eq!(route(&decide(&figures, Recompress::Off), "h1"), Route::AsPublished);
    node(&mut figures).made = Some(83_000_001);
    assert_eq!(route(&decide(&figures, Recompress::Auto), "h1"), Route::AsPublished);
}

#[test]
fn nothing_is_made_on_unknown_figures() {
    let mut unknown_rate = fleet(&[("h1", SLOW)]);
    unknown_rate.hosts.get_mut(&host("h1")).unwrap().rate = None;
    let mut unknown_uplink = fleet(&[("h1", SLOW)]);
    node(&mut unknown_uplink).is_held = false;
    let mut unknown_yield = fleet(&[("h1", SLOW)]);
    node(&mut unknown_yield).yields.clear();
    for figures in [unknown_rate, unknown_uplink, unknown_yield] {
        assert_eq!(route(&decide(&figures, Recompress::Auto), "h1"), Route::AsPublished, "{figures:?}");
    }
}

#[test]
fn only_hosts_that_win_wait() {
    let decision = decide(&fleet(&[("slow", SLOW), ("fast", 10.0 * FAST)]), Recompress::Auto);
    assert_eq!((route(&decision, "slow"), route(&decision, "fast")), (Route::Make(level(10)), Route::AsPublished));
    assert_eq!((seconds(decision.run), seconds(decision.hosts[&host("fast")])), ((33.2, 31.7), (0.7, 0.7)));
}

#[test]
fn what_lets_the_run_end_no_earlier_is_not_done() {
    let mut figures = fleet(&[("old", SLOW / 2.0), ("new", SLOW)]);
    figures.hosts.get_mut(&host("old")).unwrap().takes_zstd = false;
    node(&mut figures).yields.retain(|one| one.level == level(10));
    let decision = decide(&figures, Recompress::Auto);
    assert!(decision.to_make().is_empty(), "{decision:?}");
}

#[test]
fn a_layer_that_hardly_shrinks_is_not_waited_for() {
    let mut figures = fleet(&[("h1", SLOW)]);
    let mut dense = node_image(&["h1"]);
    dense.yields.iter_mut().for_each(|one| one.ratio = 0.99);
    figures.layers.insert(layer_name("dense"), dense);
    let decision = decide(&figures, Recompress::Auto);
    assert_eq!(decision.to_make(), [(layer_name("node"), level(10))].into());
    assert_eq!(seconds(decision.run), (66.4, 64.9));
}

#[test]
fn a_level_that_was_asked_for_is_made_for_everyone_who_takes_it() {
    let mut figures = fleet(&[("h1", FAST), ("h2", FAST)]);
    figures.hosts.get_mut(&host("h2")).unwrap().takes_zstd = false;
    let decision = decide(&figures, Recompress::Zstd(level(19)));
    assert_eq!((route(&decision, "h1"), route(&decision, "h2")), (Route::Make(level(19)), Route::AsPublished));
    // 84 + 60 / 12.5.
    assert_eq!(seconds(decision.hosts[&host("h1")]), (6.6, 88.8));
}

#[test]
fn engines_that_take_zstd_under_the_same_name() {
    let engine = |version: &str, store| EngineFacts {
        version: version.into(),
        api_version: "1.45".into(),
        os: "linux".into(),
        arch: "aarch64".into(),
        store,
        storage_driver: "overlay2".into(),
        root_dir: "/var/lib/docker".into(),
        disk: Default::default(),
        images: None,
        rootless: false,
        id: "id".into(),
    };
    let takes = |version, store| takes_zstd(&engine(version, store));
    assert!(takes("26.1.5+dfsg1", ImageStore::Classic) && takes("23.0.0", ImageStore::Classic));
    assert!(!takes("20.10.24+dfsg1", ImageStore::Classic) && !takes("dev", ImageStore::Classic));
    assert!(!takes("28.5.2", ImageStore::Containerd));
}

#[test]
fn only_what_could_save_seconds_is_tried() {
    let mut figures = fleet(&[("h1", SLOW)]);
    assert!(worth_sampling(&figures).is_empty(), "it is known");
    node(&mut figures).yields.clear();
    // A hundredth of 33.2 s.
    let budget = |figures: &Figures| worth_sampling(figures).get(&layer_name("node")).map(Duration::as_millis);
    assert_eq!(budget(&figures), Some(332));
    figures.hosts.get_mut(&host("h1")).unwrap().rate = Some(10.0 * FAST);
    assert_eq!(budget(&figures), None);
    figures.hosts.get_mut(&host("h1")).unwrap().rate = None;
    assert_eq!(budget(&figures), None);
}

#[test]
fn wishes_are_read() {
    for text in ["auto", "off", "zstd:7"] {
        assert_eq!(text.parse::<Recompress>().unwrap().to_string(), text);
    }
    assert_eq!("zstd".parse(), Ok(Recompress::Zstd(ZstdLevel::DEFAULT)));
    for text in ["", "gzip", "on", "zstd:0", "zstd:x", "Auto"] {
        assert!(text.parse::<Recompress>().is_err(), "{text}");
    }
}

fn yields() -> impl Strategy<Value = Vec<Yield>> {
    let one = (prop::sample::select(vec![3, 10, 19]), 1e4..1e9_f64, 0.3..1.2_f64);
    let one = one.prop_map(|(number, rate, ratio)| Yield { level: level(number), rate, ratio });
    prop::collection::vec(one, 0..4)
}

fn layer(hosts: usize) -> impl Strategy<Value = LayerFigures> {
    let wanted_by = prop::collection::btree_set(0..hosts, 0..=hosts);
    (0..1_u64 << 30, any::<bool>(), prop::option::of(0..1_u64 << 30), yields(), wanted_by).prop_map(
        |(size, is_held, made, yields, wanted_by)| {
            let wanted_by = wanted_by.into_iter().map(|number| host(&format!("h{number}"))).collect();
            LayerFigures { size, is_held, made, yields, wanted_by }
        },
    )
}

fn figures() -> impl Strategy<Value = Figures> {
    let rate =
        || prop::option::weighted(0.8, prop_oneof![1e4..1e9_f64, Just(0.0), Just(f64::NAN), Just(f64::INFINITY)]);
    let host_figures = (rate(), any::<bool>()).prop_map(|(rate, takes_zstd)| HostFigures { rate, takes_zstd });
    let layers = prop::collection::vec(layer(5), 0..6);
    (layers, prop::collection::vec(host_figures, 5), rate(), 0..5_usize).prop_map(|(layers, hosts, uplink, cores)| {
        Figures {
            layers: layers
                .into_iter()
                .enumerate()
                .map(|(number, one)| (layer_name(&number.to_string()), one))
                .collect(),
            hosts: hosts.into_iter().enumerate().map(|(number, one)| (host(&format!("h{number}")), one)).collect(),
            uplink,
            cores,
        }
    })
}

proptest! {
    #[test]
    fn nothing_is_predicted_to_be_slower_than_as_published(figures in figures()) {
        let decision = decide(&figures, Recompress::Auto);
        for (host, Prediction { as_published, decided }) in &decision.hosts {
            if let Some(as_published) = as_published {
                let decided = decided.ok_or_else(|| TestCaseError::fail(format!("{host} became unpredictable")))?;
                prop_assert!(decided <= *as_published, "{host}: {decided} > {as_published}");
            }
        }
        if let (Some(now), Some(then)) = (decision.run.as_published, decision.run.decided) {
            let is_same_set = decision.hosts.values().all(|one| one.as_published.is_some() == one.decided.is_some());
            prop_assert!(then <= now || !is_same_set);
        }
    }

    #[test]
    fn a_host_gets_only_what_it_takes_and_what_is_there(figures in figures(), wish in 0..3_u8) {
        let wish = [Recompress::Auto, Recompress::Off, Recompress::Zstd(level(19))][usize::from(wish)];
        let decision = decide(&figures, wish);
        for (digest, layer) in &figures.layers {
            let sent: BTreeSet<_> = decision.routes[digest].values().flatten().cloned().collect();
            prop_assert_eq!(&sent, &layer.wanted_by);
            for host in &layer.wanted_by {
                match decision.route(digest, host) {
                    Route::AsPublished => {}
                    Route::Held => prop_assert!(figures.hosts[host].takes_zstd && layer.made < Some(layer.size)),
                    Route::Make(_) => prop_assert!(figures.hosts[host].takes_zstd),
                }
            }
        }
    }
}
