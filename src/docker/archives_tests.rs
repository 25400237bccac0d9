//! What engines say of a file, and what else could be said.

use super::*;

fn stat(header: &str) -> Result<FileStat, Failure> {
    file_stat(&Response::builder().header("x-docker-container-path-stat", header).body(()).unwrap())
}

fn encoded(json: &str) -> String {
    BASE64_STANDARD.encode(json)
}

#[test]
fn an_engines_header_is_read() {
    let file = r#"{"name":"sh","size":1234,"mode":493,"mtime":"2026-11-23T22:10:36Z","linkTarget":""}"#;
    assert_eq!(stat(&encoded(file)).unwrap(), FileStat { size: 1234, kind: FileKind::Regular });
    let directory = r#"{"name":"tmp","size":4096,"mode":2148532735}"#;
    assert_eq!(stat(&encoded(directory)).unwrap().kind, FileKind::Directory);
    let link = r#"{"name":"l","size":7,"mode":134218239,"linkTarget":"/a"}"#;
    assert_eq!(stat(&encoded(link)).unwrap().kind, FileKind::Other);
}

#[test]
fn another_header_is_no_answer() {
    let long = encoded(&format!(r#"{{"size":1,"mode":1,"name":"{}"}}"#, "x".repeat(9000)));
    for header in ["", "!", &encoded("[]"), &encoded(r#"{"size":-1,"mode":1}"#), &long] {
        assert!(matches!(stat(header), Err(Failure::Malformed(_))), "{header:.60}");
    }
    assert!(file_stat(&Response::new(())).is_err());
}

proptest::proptest! {
    #[test]
    fn hostile_headers_never_panic(bytes in proptest::collection::vec(32u8..127, 0..200), json in ".{0,100}") {
        let _ = stat(&String::from_utf8(bytes).unwrap());
        let _ = stat(&encoded(&json));
    }
}
