//! What a client asks for: paths and ranges, as hostile text.

use std::ops::Range;

use crate::oci::Digest;

/// A well-formed path of the pull API.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target<'a> {
    /// `/v2/`: is this a registry?
    Base,
    /// Something in a repository behind a door.
    Item {
        /// The first component of the name.
        door: &'a str,
        /// The rest of the name.
        repository: &'a str,
        /// What in it.
        item: Item<'a>,
    },
}

/// What in a repository.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item<'a> {
    /// An index or a manifest by digest.
    Manifest(Digest),
    /// An index or a manifest by tag.
    Tag(&'a str),
    /// A blob.
    Blob(Digest),
}

impl<'a> Target<'a> {
    /// Reads the path of a request, without its query. `None`: nothing that a registry has.
    pub(super) fn parse(path: &'a str) -> Option<Self> {
        let rest = path.strip_prefix("/v2")?;
        if rest.is_empty() || rest == "/" {
            return Some(Self::Base);
        }
        let (rest, what) = rest.strip_prefix('/')?.rsplit_once('/')?;
        let (name, kind) = rest.rsplit_once('/')?;
        let (door, repository) = name.split_once('/')?;
        let item = match (kind, what.parse()) {
            ("manifests", Ok(digest)) => Item::Manifest(digest),
            ("manifests", Err(_)) => Item::Tag(what),
            ("blobs", Ok(digest)) => Item::Blob(digest),
            _ => return None,
        };
        Some(Self::Item { door, repository, item })
    }
}

/// Which bytes are wanted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All.
    Whole,
    /// Some.
    Part(Range<u64>),
    /// Some that there are not.
    Unsatisfiable,
}

impl Wanted {
    /// Reads a `Range` header for a blob of `size` bytes (RFC 9110, 14.2). What is malformed, or several ranges, is
    /// ignored, as the RFC allows.
    pub(super) fn parse(header: Option<&str>, size: u64) -> Self {
        header.and_then(|header| Self::single(header, size)).unwrap_or(Self::Whole)
    }

    fn single(header: &str, size: u64) -> Option<Self> {
        let (first, last) = header.trim().strip_prefix("bytes=")?.split_once('-')?;
        let range = match (first, last) {
            ("", suffix) => size.saturating_sub(number(suffix)?)..size,
            (first, "") => number(first)?..size,
            (first, last) if number(first)? <= number(last)? => {
                number(first)?..number(last)?.saturating_add(1).min(size)
            }
            _ => return None,
        };
        Some(if range.start < range.end { Self::Part(range) } else { Self::Unsatisfiable })
    }
}

/// Digits only; more than a number holds is as good as the largest.
fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_pull_api_are_read() {
        let digest = Digest::of(b"");
        let item = |item| Some(Target::Item { door: "k3arm-1", repository: "rancher/k3s", item });
        assert_eq!(Target::parse("/v2/"), Some(Target::Base));
        assert_eq!(Target::parse("/v2"), Some(Target::Base));
        assert_eq!(Target::parse("/v2/k3arm-1/rancher/k3s/manifests/v1"), item(Item::Tag("v1")));
        let path = format!("/v2/k3arm-1/rancher/k3s/manifests/{digest}");
        assert_eq!(Target::parse(&path), item(Item::Manifest(digest.clone())));
        let path = format!("/v2/k3arm-1/rancher/k3s/blobs/{digest}");
        assert_eq!(Target::parse(&path), item(Item::Blob(digest)));
    }

    #[test]
    fn other_paths_are_not() {
        for path in
            ["", "/", "/v1/", "/v2x", "/v2/_catalog", "/v2/a/tags/list", "/v2/a/b/blobs/x", "/v2/blobs/x", "//v2/"]
        {
            assert_eq!(Target::parse(path), None, "{path}");
        }
    }

    #[test]
    fn ranges_are_read_as_the_rfc_says() {
        let part = |range| Wanted::Part(range);
        for (header, wanted) in [
            ("bytes=0-", part(0..100)),
            ("bytes=10-19", part(10..20)),
            ("bytes=90-200", part(90..100)),
            ("bytes=-5", part(95..100)),
            ("bytes=-500", part(0..100)),
            ("bytes=99-99", part(99..100)),
            ("bytes=99-99999999999999999999999", part(99..100)),
            ("bytes=100-", Wanted::Unsatisfiable),
            ("bytes=-0", Wanted::Unsatisfiable),
            ("bytes=5-4", Wanted::Whole),
            ("bytes=0-1,5-6", Wanted::Whole),
            ("bytes=+1-2", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("items=0-1", Wanted::Whole),
        ] {
            assert_eq!(Wanted::parse(Some(header), 100), wanted, "{header}");
        }
        assert_eq!(Wanted::parse(None, 100), Wanted::Whole);
        assert_eq!(Wanted::parse(Some("bytes=0-"), 0), Wanted::Unsatisfiable);
    }

    proptest::proptest! {
        #[test]
        fn hostile_text_never_panics(text in "(/v2)?(/|[a-z:=,-]|manifests|blobs|sha256:|bytes=|\\PC|[0-9]){0,30}", size: u64) {
            let _ = Target::parse(&text);
            if let Wanted::Part(range) = Wanted::parse(Some(&text), size) {
                proptest::prop_assert!(range.start < range.end && range.end <= size);
            }
        }

        #[test]
        fn what_is_read_can_be_written_again(path in "/v2/[a-z]{1,5}(/[a-z]{1,5}){1,3}/manifests/[a-z]{1,5}") {
            let Some(Target::Item { door, repository, item: Item::Tag(tag) }) = Target::parse(&path) else {
                panic!("{path}");
            };
            proptest::prop_assert_eq!(format!("/v2/{door}/{repository}/manifests/{tag}"), path);
        }
    }
}
