//! Which layers count, and how much an engine is asked for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::*;
use crate::docker::transport::tests::Fake;

fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

/// An engine that lists `images` and answers about each with `inspected`; counts what is asked, and how much at once.
struct Counted {
    fake: Fake,
    asked: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

fn engine(images: Value, inspected: impl Fn(&str) -> Option<Value> + Clone + Send + 'static) -> Counted {
    let [asked, most, now] = std::array::from_fn(|_| Arc::new(AtomicUsize::new(0)));
    let counters = (asked.clone(), most.clone());
    let fake = Fake::serving(move |request, mut stream| {
        let (asked, most, now, inspected, images) =
            (asked.clone(), most.clone(), now.clone(), inspected.clone(), images.clone());
        async move {
            let path = request.split(' ').nth(1).unwrap_or_default();
            let body = match path.strip_prefix("/images/") {
                Some("json") => Some(images),
                Some(name) => {
                    asked.fetch_add(1, Ordering::SeqCst);
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    now.fetch_sub(1, Ordering::SeqCst);
                    inspected(name)
                }
                None => Some(json!("OK")),
            };
            let answer = match body {
                Some(body) => format!("HTTP/1.1 200 OK\r\n\r\n{body}"),
                None => "HTTP/1.1 500 No\r\n\r\n{\"message\":\"sick\"}".into(),
            };
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    Counted { fake, asked: counters.0, most: counters.1 }
}

#[tokio::test]
async fn chains_of_complete_images_count_each_image_once() {
    let [a, b, c] = ["a", "b", "c"].map(digest);
    let [shared, incomplete, broken] = ["shared", "incomplete", "broken"].map(digest);
    let images =
        json!([{ "Id": shared }, { "Id": shared }, { "Id": incomplete }, { "Id": broken }, { "Id": c, "Created": 5 }]);
    let (layers, other) = (json!([a, b]), json!([a, c]));
    let counted = engine(images, move |name| match name.strip_suffix("/json")? {
        id if id == shared.to_string() => Some(json!({ "RootFS": { "Type": "layers", "Layers": layers } })),
        id if id == incomplete.to_string() => Some(json!({ "RootFS": {} })),
        id if id == broken.to_string() => None,
        _ => Some(json!({ "RootFS": { "Layers": other } })),
    });
    let chains = counted.fake.engine().await.unwrap().chains().await.unwrap();
    let expected = [chain_ids(&[a.clone(), b]), chain_ids(&[a, c])].concat();
    assert_eq!(chains, expected.into_iter().collect());
    assert_eq!(counted.asked.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn an_engine_with_too_many_images_is_asked_about_the_newest_a_few_at_once() {
    let images = (0..MAX_IMAGES + 100).map(|n| json!({ "Id": digest(&n.to_string()), "Created": n })).collect();
    let newest = digest(&(MAX_IMAGES + 99).to_string());
    let counted = engine(images, |name| Some(json!({ "RootFS": { "Layers": [name.strip_suffix("/json")?] } })));
    let chains = counted.fake.engine().await.unwrap().chains().await.unwrap();
    assert_eq!((chains.len(), counted.asked.load(Ordering::SeqCst)), (MAX_IMAGES, MAX_IMAGES));
    assert!(chains.contains(&newest) && !chains.contains(&digest("0")));
    let most = counted.most.load(Ordering::SeqCst);
    assert!((2..=AT_ONCE).contains(&most), "{most} at once");
}

#[tokio::test]
async fn an_image_is_unpacked_if_all_of_its_layers_have_a_size() {
    let image = Expected {
        reference: "rancher/k3s:v1".parse().unwrap(),
        index: Some(digest("index")),
        manifest: digest("manifest"),
        config: digest("config"),
    };
    let index = format!("{}/history", digest("index"));
    let counted = engine(json!([]), move |name| {
        (name == index).then(|| json!([{ "Size": 0 }, { "Size": 8192 }, { "Size": 0 }, { "Size": 4096 }]))
    });
    let engine = counted.fake.engine().await.unwrap();
    assert_eq!(engine.unpacked(&image, 2).await.unwrap(), Some(digest("index")));
    assert_eq!(engine.unpacked(&image, 3).await.unwrap(), None);
    assert_eq!(engine.unpacked(&image, 0).await.unwrap(), None);
}
