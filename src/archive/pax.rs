//! What extended headers say about the entry after them: GNU's long names, and pax records.

use super::Flaw;

/// The most bytes of an extended header. Names are short, and nothing else in it matters here.
pub(super) const MOST: u64 = 64 << 10;

/// What the next entry's own header does not say, or says wrongly.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
}

impl Attributes {
    /// Adds the records of a pax header at byte `at`.
    pub(super) fn add_records(&mut self, at: u64, mut bytes: &[u8]) -> Result<(), Flaw> {
        while !bytes.is_empty() {
            let damaged = Flaw::Damaged { at, what: "its extended header is malformed" };
            let (key, value, rest) = record(bytes).ok_or(damaged)?;
            match key {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => {
                    let size = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                    self.size = Some(size.ok_or(Flaw::Damaged { at, what: "its size is not a number" })?);
                }
                key if key.starts_with(b"GNU.sparse.") => return Err(sparse(at)),
                _ => {}
            }
            bytes = rest;
        }
        Ok(())
    }
}

/// A file with holes: what is in the tar is not what is in the file.
pub(super) fn sparse(at: u64) -> Flaw {
    Flaw::Damaged { at, what: "sparse files are not read; make the archive without --sparse" }
}

/// A GNU long name, without the zero at its end.
pub(super) fn long_name(bytes: &[u8]) -> Vec<u8> {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
}

/// The first of `LENGTH KEY=VALUE\n…`, and what is after it.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(20).position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
    let content = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = content.iter().position(|byte| *byte == b'=')?;
    Some((&content[..equals], &content[equals + 1..], bytes.get(length..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Attributes, Flaw> {
        let mut attributes = Attributes::default();
        attributes.add_records(0, bytes).map(|()| attributes)
    }

    #[test]
    fn records_are_read() {
        let attributes = read(b"30 mtime=1350244992.023960108\n12 path=a=b\n14 size=12345\n14 linkpath=c\n").unwrap();
        let (path, link) = (Some(b"a=b".to_vec()), Some(b"c".to_vec()));
        assert_eq!(attributes, Attributes { path, link, size: Some(12345) });
        assert_eq!(long_name(b"abc\0def"), b"abc");
    }

    #[test]
    fn malformed_records_are_refused() {
        for bytes in
            ["x", "12 path=a=b", "0 a=b\n", "3 \n", "6 path\n", "99 path=a\n", "10 size=x\n", "22 GNU.sparse.major=1\n"]
        {
            assert!(read(bytes.as_bytes()).is_err(), "{bytes}");
        }
    }

    proptest::proptest! {
        #[test]
        fn hostile_records_never_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..80)) {
            let _ = read(&bytes);
        }

        #[test]
        fn nearly_well_formed_records_never_panic(text in "[0-9]{1,20} ?[a-z=]{0,10}\n?") {
            let _ = read(text.as_bytes());
        }
    }
}
