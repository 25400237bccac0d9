//! The list of images that a release of k3s starts of its own accord, published among the release's files.

use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

use super::auth::Grant;
use super::transport::Request;
use super::{Asked, Client, Error, Object};
use crate::oci::Reference;

/// The file's name.
const FILE: &str = "k3s-images.txt";
/// The real lists have eight lines, half a KiB.
const MOST_BYTES: u64 = 64 << 10;
/// Longer than any reference can be.
const LONGEST_LINE: usize = 512;
/// The `+` of a version is escaped, as in the addresses that are published.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'-').remove(b'_');

/// Why a text is not a list of images.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// Not text.
    #[error("it is not text")]
    Text,
    /// A line is not a reference with a tag or a digest; a page for browsers is none either.
    #[error("line {0} is not an image with its tag")]
    Line(usize),
    /// No line names an image.
    #[error("it names no image")]
    Empty,
}

impl Client {
    /// The images of the release `version`, spelled as k3s does (`v1.36.3+k3s1`), in the list's order.
    ///
    /// # Errors
    /// [`Error`] with [`Object::ReleaseImages`]; [`Error::NotFound`] where there is no such release or it has no list,
    /// [`Error::Malformed`] with a [`ListError`] where what is there is no list.
    pub async fn release_images(&self, version: &str) -> Result<Vec<Reference>, Error> {
        let url = self.list_url(version)?;
        match self.release_images_once(version, &url).await {
            // A machine without internet has none a second later; callers know other lists.
            Err(error @ Error::Connect { .. }) => Err(error),
            Err(error) if error.is_transient() => {
                self.inner.retry.run(|| self.release_images_once(version, &url)).await
            }
            done => done,
        }
    }

    fn list_url(&self, version: &str) -> Result<Url, Error> {
        let version = utf8_percent_encode(version, ESCAPED);
        let address = format!("{}/{version}/{FILE}", self.inner.releases_url.trim_end_matches('/'));
        address.parse().map_err(|source| Error::Settings {
            what: "the address of the releases is not one".into(),
            source: Some(Box::new(source)),
        })
    }

    async fn release_images_once(&self, version: &str, url: &Url) -> Result<Vec<Reference>, Error> {
        let asked = Asked::new(Object::ReleaseImages { version: version.into() }, url);
        let deadline: Duration = self.inner.transport.timeouts.document;
        let answer = self.inner.transport.send(Request::get(asked.clone(), url.clone())).await?;
        let host = url.host_str().unwrap_or_default();
        let bytes = Grant::anonymous().judge(answer, host).await?.body.whole(MOST_BYTES, deadline).await?;
        parse(&bytes).map_err(|source| Error::Malformed { asked: Box::new(asked), source: Box::new(source) })
    }
}

/// One reference a line; empty lines and lines that start with `#` are none.
fn parse(bytes: &[u8]) -> Result<Vec<Reference>, ListError> {
    let text = std::str::from_utf8(bytes).map_err(|_| ListError::Text)?;
    let lines = text.lines().enumerate().map(|(number, line)| (number + 1, line.trim()));
    let named = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let images = named.map(|(number, line)| image(line).ok_or(ListError::Line(number)));
    let images: Vec<Reference> = images.collect::<Result<_, _>>()?;
    if images.is_empty() { Err(ListError::Empty) } else { Ok(images) }
}

/// A word alone would be an image called so, with the tag `latest`: a list has no such thing.
fn image(line: &str) -> Option<Reference> {
    let image: Reference = Some(line).filter(|line| line.len() <= LONGEST_LINE)?.parse().ok()?;
    (image.digest().is_some() || image.tag().is_some_and(|tag| line.ends_with(&format!(":{tag}")))).then_some(image)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{Credentials, Settings};

    #[test]
    fn a_list_is_read_line_by_line() {
        let text = b"# of v1\r\ndocker.io/rancher/klipper-lb:v0.4.17\r\n\n  rancher/mirrored-pause:3.6 \n";
        let names: Vec<String> = parse(text).unwrap().iter().map(Reference::familiar).collect();
        assert_eq!(names, ["rancher/klipper-lb:v0.4.17", "rancher/mirrored-pause:3.6"]);
    }

    #[test]
    fn what_is_no_list_is_refused() {
        let long = format!("a/{}:1", "b".repeat(600));
        for (text, error) in [
            ("", ListError::Empty),
            ("# nothing\n\n", ListError::Empty),
            ("<!DOCTYPE html>", ListError::Line(1)),
            ("Not Found", ListError::Line(1)),
            ("gone", ListError::Line(1)),
            ("a/b:1\na/b", ListError::Line(2)),
            ("a/b:latest\nlatest", ListError::Line(2)),
            (&long, ListError::Line(1)),
        ] {
            assert_eq!(parse(text.as_bytes()), Err(error), "{text}");
        }
        assert_eq!(parse(b"\xff"), Err(ListError::Text));
    }

    #[test]
    fn the_address_is_the_published_one() {
        let client = |releases_url: &str| {
            let settings = Settings { credentials: Credentials::none(), ..Settings::default() };
            let releases_url =
                if releases_url.is_empty() { settings.releases_url.clone() } else { releases_url.into() };
            Client::new(Settings { releases_url, ..settings }).unwrap()
        };
        let url = client("").list_url("v1.36.3+k3s1").unwrap();
        assert_eq!(url.as_str(), "https://github.com/k3s-io/k3s/releases/download/v1.36.3%2Bk3s1/k3s-images.txt");
        let url = client("http://127.0.0.1:1/x/").list_url("../v1?#").unwrap();
        assert_eq!(url.as_str(), "http://127.0.0.1:1/x/..%2Fv1%3F%23/k3s-images.txt");
        assert!(matches!(client("nowhere").list_url("v1"), Err(Error::Settings { .. })));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn every_printed_reference_is_read(name in "[a-z0-9]{1,9}(/[a-z0-9]{1,9}){0,2}", tag in "[A-Za-z0-9_][A-Za-z0-9._-]{0,20}") {
            let image: Reference = format!("{name}:{tag}").parse().unwrap();
            proptest::prop_assert_eq!(parse(image.to_string().as_bytes()), Ok(vec![image]));
        }
    }
}
