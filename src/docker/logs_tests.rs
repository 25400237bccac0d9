//! Framing, lines and times of logs, also hostile ones.

use super::*;

fn frame(stream: u8, text: &[u8]) -> Vec<u8> {
    let mut frame = vec![stream, 0, 0, 0];
    frame.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(text);
    frame
}

fn lines(bytes: &[u8], step: usize) -> Vec<String> {
    let mut frames = Frames::default();
    for piece in bytes.chunks(step) {
        frames.add(Bytes::copy_from_slice(piece)).unwrap();
    }
    frames.finish();
    frames.lines.into()
}

#[test]
fn streams_are_taken_apart_and_partial_lines_joined() {
    let bytes = [frame(1, b"one\ntw"), frame(2, b"err\r\n"), frame(1, b"o\n\n"), frame(1, b"\xff end")].concat();
    for step in [1, 3, 7, 8, 9, bytes.len()] {
        assert_eq!(lines(&bytes, step), ["one", "err", "two", "", "\u{fffd} end"], "in steps of {step}");
    }
}

#[test]
fn long_lines_are_cut_and_the_next_one_is_whole() {
    let bytes = [frame(1, &[b'x'; 20_000]), frame(1, &[b'y'; 20_000]), frame(1, b"\nnext\n")].concat();
    let lines = lines(&bytes, 1000);
    assert_eq!((lines[0].len(), lines[1].as_str(), lines.len()), (LINE_LIMIT, "next", 2));
    assert!(lines[0].bytes().all(|b| b == b'x'));
}

#[test]
fn a_frame_that_claims_gigabytes_holds_no_memory() {
    let mut frames = Frames::default();
    frames.add(Bytes::from_static(&[1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff])).unwrap();
    for _ in 0..100 {
        frames.add(Bytes::from(vec![b'x'; 100_000])).unwrap();
    }
    assert_eq!(frames.partial[1].bytes.len(), LINE_LIMIT);
    assert!(Frames::default().add(Bytes::from_static(&[9, 0, 0, 0, 0, 0, 0, 1])).is_err());
}

#[test]
fn the_engines_times_are_read() {
    let seconds = |text| since_epoch(text).map(|time| time.as_secs());
    assert_eq!(seconds("1970-01-01T00:00:00Z"), Some(0));
    assert_eq!(seconds("2000-02-29T12:00:00Z"), Some(951_825_600));
    assert_eq!(since_epoch("2026-11-23T22:10:36.5Z"), Some(Duration::new(1_795_471_836, 500_000_000)));
    assert_eq!(seconds("2026-11-23T23:10:36+01:00"), seconds("2026-11-23T22:10:36Z"));
    assert_eq!(seconds("2026-11-23T20:40:36.5-01:30"), seconds("2026-11-23T22:10:36Z"));
    for text in ["", "0001-01-01T00:00:00Z", "2026-11-23T22:10:36", "2026-13-01T00:00:00Z", "x-y-zTa:b:cZ"] {
        assert_eq!(since_epoch(text), None, "{text}");
    }
}

proptest::proptest! {
    #[test]
    fn hostile_frames_never_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300), step in 1usize..9) {
        let mut frames = Frames::default();
        for piece in bytes.chunks(step) {
            if frames.add(Bytes::copy_from_slice(piece)).is_err() {
                break;
            }
        }
        frames.finish();
    }

    #[test]
    fn hostile_times_never_panic(text in "\\PC{0,40}") {
        let _ = since_epoch(&text);
    }
}
