//! Names of files in an archive: relative, plain, short.

use super::Flaw;

/// The longest name that is read. An archive of images has none above some 80 bytes.
const LONGEST: usize = 255;

/// `name` without `.` and empty parts: `./a//b/` is `a/b`; empty for the archive's own root.
///
/// # Errors
/// [`Flaw::Name`] where it is absolute, climbs, is too long or not UTF-8.
pub(super) fn plain(name: &[u8]) -> Result<String, Flaw> {
    beside("", name)
}

/// `name` as seen from the folder of the entry `entry`, as a symlink in a tar names its target. It may climb, but not
/// out of the archive.
pub(super) fn linked(entry: &str, name: &[u8]) -> Result<String, Flaw> {
    beside(entry.rsplit_once('/').map_or("", |(folder, _)| folder), name)
}

fn beside(folder: &str, name: &[u8]) -> Result<String, Flaw> {
    let refused = || Flaw::Name { name: String::from_utf8_lossy(name.get(..LONGEST).unwrap_or(name)).into_owned() };
    let text = std::str::from_utf8(name).ok().filter(|text| text.len() <= LONGEST && !text.starts_with('/'));
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in text.ok_or_else(refused)?.split('/') {
        match part {
            "" | "." => {}
            ".." if folder.is_empty() || parts.pop().is_none() => return Err(refused()),
            ".." => {}
            part if part.contains('\0') => return Err(refused()),
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_or_refused() {
        for (name, expected) in [("a/b", "a/b"), ("./a//b/", "a/b"), ("./", ""), ("..a/b..", "..a/b..")] {
            assert_eq!(plain(name.as_bytes()).unwrap(), expected);
        }
        let long = "a".repeat(LONGEST + 1);
        for name in ["/a", "..", "a/../b", "a/..", "../a", "a\0b", &long] {
            assert!(matches!(plain(name.as_bytes()), Err(Flaw::Name { .. })), "{name}");
        }
        assert!(plain(b"a\xff").is_err());
    }

    #[test]
    fn links_stay_inside() {
        assert_eq!(linked("x/layer.tar", b"../y/layer.tar").unwrap(), "y/layer.tar");
        assert_eq!(linked("x/layer.tar", b"./z").unwrap(), "x/z");
        for (entry, name) in [("x/l", "../../y"), ("l", "../y"), ("x/l", "/y")] {
            assert!(linked(entry, name.as_bytes()).is_err(), "{entry} -> {name}");
        }
    }
}
