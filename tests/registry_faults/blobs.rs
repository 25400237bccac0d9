//! Blobs over connections that break.

use std::time::Duration;

use k3arm::oci::MAX_MANIFEST_BYTES;
use k3arm::registry::{Client, Error, Object, Settings};

use crate::faulty::{Act, Faulty, Seen, answer, head};
use crate::fixture::{client, content, descriptor, drain, reference, settings};

const SIZE: usize = 300_000;

/// Answers a request for a range as a good server does, but gives `give` bytes at most.
fn part(seen: &Seen, bytes: &[u8], give: usize) -> Vec<Act> {
    let range = seen.header("range").map(|range| range.trim_start_matches("bytes=").split_once('-').unwrap());
    let from: usize = range.map_or(0, |(from, _)| from.parse().unwrap());
    let length = (bytes.len() - from).to_string();
    let content_range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
    let head = match range {
        Some(_) => head(206, &[("content-length", &length), ("content-range", &content_range)]),
        None => head(200, &[("content-length", &length)]),
    };
    let end = bytes.len().min(from + give);
    vec![Act::Send(head), Act::Send(bytes[from..end].to_vec())]
}

#[tokio::test]
async fn a_blob_that_is_cut_goes_on_where_it_ended() {
    let server = Faulty::start(|_, seen| part(seen, &content(SIZE), 100_000)).await;
    let bytes = content(SIZE);
    let repository = reference(&server.address, "a/b:1");
    let stream = client().blob(&repository, &descriptor(&bytes), 0).await.unwrap();
    let (got, error) = drain(stream).await;
    assert!(error.is_none() && got == bytes, "{error:?} after {}", got.len());
    let ranges: Vec<_> = server.seen().iter().map(|seen| seen.header("range").map(str::to_string)).collect();
    assert_eq!(ranges[0], None);
    assert_eq!(ranges[1].as_deref(), Some("bytes=100000-299999"));
    assert_eq!(ranges.len(), 3);
}

#[tokio::test]
async fn resets_and_silence_are_cuts_too() {
    let server = Faulty::start(|n, seen| {
        let mut acts = part(seen, &content(SIZE), 100_000);
        match n {
            // A reset throws away what is not yet read, so give the client time.
            0 => acts.extend([Act::Pause(Duration::from_millis(100)), Act::Reset]),
            1 => acts.push(Act::Pause(Duration::from_secs(60))),
            _ => {}
        }
        acts
    });
    let server = server.await;
    let bytes = content(SIZE);
    let stream = client().blob(&reference(&server.address, "a/b:1"), &descriptor(&bytes), 0).await.unwrap();
    let (got, error) = drain(stream).await;
    assert!(error.is_none() && got == bytes, "{error:?} after {}", got.len());
}

#[tokio::test]
async fn an_offset_is_a_range_or_is_skipped() {
    let bytes = content(SIZE);
    for ignores_ranges in [false, true] {
        let server = Faulty::start(move |_, seen| match ignores_ranges {
            false => part(seen, &content(SIZE), SIZE),
            true => answer(200, &[], &content(SIZE)),
        });
        let server = server.await;
        let repository = reference(&server.address, "a/b:1");
        let stream = client().blob(&repository, &descriptor(&bytes), 123_456).await.unwrap();
        let (got, error) = drain(stream).await;
        assert!(error.is_none() && got == bytes[123_456..], "{error:?} after {}", got.len());
        assert_eq!(server.seen()[0].header("range"), Some("bytes=123456-299999"));

        let stream = client().blob(&repository, &descriptor(&bytes), SIZE as u64).await.unwrap();
        let (got, error) = drain(stream).await;
        assert!(got.is_empty() && error.is_none(), "all of it is there already");
        let beyond = client().blob(&repository, &descriptor(&bytes), SIZE as u64 + 1).await;
        assert!(matches!(beyond, Err(Error::Range { .. })), "{beyond:?}");
        assert_eq!(server.seen().len(), 1);
    }
}

#[tokio::test]
async fn a_wrong_range_is_refused() {
    for range in ["bytes 0-299999/300000", "bytes 10-299999/300001", "bytes 10-20/300000", "nonsense", ""] {
        let server = Faulty::start(move |_, _| answer(206, &[("content-range", range)], &content(SIZE)[10..])).await;
        let result = client().blob(&reference(&server.address, "a/b:1"), &descriptor(&content(SIZE)), 10).await;
        assert!(matches!(&result, Err(Error::Range { got, .. }) if got == range), "{range}: {result:?}");
    }
}

#[tokio::test]
async fn more_than_the_size_is_never_yielded() {
    let bytes = content(SIZE);
    let announced = Faulty::start(|_, _| answer(200, &[], &content(SIZE + 1))).await;
    let result = client().blob(&reference(&announced.address, "a/b:1"), &descriptor(&bytes), 0).await;
    assert!(matches!(result, Err(Error::Oversized { limit, .. }) if limit == SIZE as u64), "{result:?}");

    let flood = Faulty::start(|_, _| vec![Act::Send(head(200, &[])), Act::Flood(content(4096))]).await;
    let stream = client().blob(&reference(&flood.address, "a/b:1"), &descriptor(&bytes), 0).await.unwrap();
    let (got, error) = drain(stream).await;
    assert!(matches!(error, Some(Error::Oversized { .. })), "{error:?}");
    assert!(got.len() <= SIZE);

    // One byte too many, alone in a chunk after the last of the blob.
    let late = Faulty::start(|_, _| {
        let pause = Act::Pause(Duration::from_millis(100));
        vec![Act::Send(head(200, &[])), Act::Send(content(SIZE)), pause, Act::Send(b"x".to_vec())]
    });
    let late = late.await;
    let stream = client().blob(&reference(&late.address, "a/b:1"), &descriptor(&bytes), 0).await.unwrap();
    let (got, error) = drain(stream).await;
    assert!(matches!(error, Some(Error::Oversized { .. })) && got == bytes, "{error:?} after {}", got.len());
}

#[tokio::test]
async fn a_server_that_makes_no_progress_is_given_up() {
    let server = Faulty::start(|_, seen| part(seen, &content(SIZE), 1)).await;
    let stream = client().blob(&reference(&server.address, "a/b:1"), &descriptor(&content(SIZE)), 0).await.unwrap();
    let (got, error) = drain(stream).await;
    assert!(matches!(error, Some(Error::Truncated { .. })), "{error:?}");
    assert_eq!((got.len(), server.seen().len()), (3, 3));
}

#[tokio::test]
async fn a_shorter_blob_than_described_is_truncated() {
    let server = Faulty::start(|_, _| answer(200, &[], &content(SIZE - 1))).await;
    let result = client().blob(&reference(&server.address, "a/b:1"), &descriptor(&content(SIZE)), 0).await;
    assert!(matches!(result, Err(Error::Truncated { .. })), "{result:?}");
}

#[tokio::test]
async fn a_missing_blob_is_not_a_missing_manifest() {
    let server = Faulty::start(|_, _| answer(404, &[], b"")).await;
    let bytes = content(SIZE);
    let error = client().blob(&reference(&server.address, "a/b:1"), &descriptor(&bytes), 0).await.unwrap_err();
    assert!(matches!(&error, Error::NotFound { asked, .. }
        if matches!(&asked.object, Object::Blob { digest, .. } if *digest == descriptor(&bytes).digest)));
    assert_eq!(server.lines(), [format!("GET /v2/a/b/blobs/{}", descriptor(&bytes).digest)]);
}

#[tokio::test]
async fn a_mirror_that_dies_in_the_middle_is_replaced() {
    let mirror = Faulty::start(|n, seen| match n {
        0 => part(seen, &content(SIZE), 100_000),
        _ => answer(404, &[], b""),
    });
    let mirror = mirror.await;
    let real = Faulty::start(|_, seen| part(seen, &content(SIZE), SIZE)).await;
    let mirrors = vec![format!("{}=http://{}", real.address, mirror.address).parse().unwrap()];
    let client = Client::new(Settings { mirrors, ..settings() }).unwrap();
    let bytes = content(SIZE);
    let stream = client.blob(&reference(&real.address, "a/b:1"), &descriptor(&bytes), 0).await.unwrap();
    let (got, error) = drain(stream).await;
    assert!(error.is_none() && got == bytes, "{error:?} after {}", got.len());
    assert_eq!(real.seen()[0].header("range"), Some("bytes=100000-299999"));
}

#[tokio::test]
async fn small_blobs_are_small_and_checked() {
    let server = Faulty::start(|_, _| answer(200, &[], b"{}")).await;
    let repository = reference(&server.address, "a/b:1");
    assert_eq!(&client().small_blob(&repository, &descriptor(b"{}")).await.unwrap()[..], b"{}");
    let other = client().small_blob(&repository, &descriptor(b"[]")).await;
    assert!(matches!(other, Err(Error::WrongDigest { .. })), "{other:?}");
    let mut large = descriptor(b"{}");
    large.size = MAX_MANIFEST_BYTES + 1;
    let refused = client().small_blob(&repository, &large).await;
    assert!(matches!(refused, Err(Error::Oversized { .. })), "{refused:?}");
    assert_eq!(server.seen().len(), 2, "what is too large is not asked for");
}

#[tokio::test]
async fn no_more_blobs_at_a_time_than_allowed() {
    let server = Faulty::start(|_, seen| {
        if seen.line.contains("/blobs/") {
            return part(seen, &content(SIZE), 1000).into_iter().chain([Act::Pause(Duration::from_secs(60))]).collect();
        }
        answer(404, &[], b"")
    });
    let server = server.await;
    let client = Client::new(Settings { parallel: 2, ..settings() }).unwrap();
    let repository = reference(&server.address, "a/b:1");
    let bytes = descriptor(&content(SIZE));
    let first = client.blob(&repository, &bytes, 0).await.unwrap();
    let _second = client.blob(&repository, &bytes, 0).await.unwrap();
    let third = client.blob(&repository, &bytes, 0);
    tokio::pin!(third);
    let waited = tokio::time::timeout(Duration::from_millis(200), &mut third).await;
    assert!(waited.is_err(), "the third waits");
    assert!(client.document(&repository).await.unwrap_err().is_not_found(), "a document does not wait for blobs");
    drop(first);
    assert!(tokio::time::timeout(Duration::from_secs(2), third).await.unwrap().is_ok());
}
