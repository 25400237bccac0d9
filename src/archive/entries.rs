//! What is where in a tar, found by reading headers only. Everything here blocks.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Bound;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_tar::{EntryType, Header};

use super::pax::{self, Attributes};
use super::{BLOCK, Error, Flaw, name, padding};

/// The most headers that are read: two for each of some 60,000 blobs.
const MAX_HEADERS: usize = 131_072;

/// How many links may follow each other to a file.
const MAX_HOPS: usize = 8;

/// Where a file's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// Of the first byte.
    pub(super) start: u64,
    /// In bytes. What is behind `start + size` has been looked at: the sum does not overflow.
    pub(super) size: u64,
}

/// A tar, not compressed.
#[derive(Debug)]
pub(super) struct Tar {
    pub(super) file: Arc<File>,
    size: u64,
    name: PathBuf,
}

#[derive(Debug)]
enum Node {
    File(Span),
    /// To another name.
    Link(String),
}

/// The files of a tar, by name.
#[derive(Debug)]
pub(super) struct Entries {
    nodes: BTreeMap<String, Node>,
}

impl Tar {
    /// `name` is for messages.
    pub(super) fn new(file: File, name: &Path) -> Result<Self, Error> {
        let size = file.metadata().map_err(|error| Error::io("reading", name, error))?.len();
        Ok(Self { file: Arc::new(file), size, name: name.to_path_buf() })
    }

    pub(super) fn invalid(&self, flaw: Flaw) -> Error {
        Error::Invalid { archive: self.name.clone(), flaw }
    }

    /// The bytes of a file called `what`, if they are at most `limit`.
    pub(super) fn read(&self, what: &str, span: Span, limit: u64) -> Result<Vec<u8>, Error> {
        if span.size > limit {
            return Err(self.invalid(Flaw::TooLarge { name: what.into(), size: span.size, limit }));
        }
        let mut bytes = vec![0; usize::try_from(span.size).unwrap_or_default()];
        self.fill(&mut bytes, span.start)?;
        Ok(bytes)
    }

    pub(super) fn fill(&self, bytes: &mut [u8], at: u64) -> Result<(), Error> {
        self.file.read_exact_at(bytes, at).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.invalid(Flaw::CutOff { size: self.size }),
            _ => Error::io("reading", &self.name, error),
        })
    }

    /// All that is in it, up to the mark at its end.
    pub(super) fn entries(&self) -> Result<Entries, Error> {
        let mut entries = Entries { nodes: BTreeMap::new() };
        let mut attributes = Attributes::default();
        let mut at = 0;
        for _ in 0..MAX_HEADERS {
            let mut block = [0; BLOCK as usize];
            self.fill(&mut block, at)?;
            if block == [0; BLOCK as usize] {
                return Ok(entries);
            }
            let header = header(at, &block).map_err(|flaw| self.invalid(flaw))?;
            let span = self.span(header, at, attributes.size)?;
            match header.entry_type() {
                EntryType::XHeader | EntryType::GNULongName | EntryType::GNULongLink => {
                    let content = self.read("extended header", span, pax::MOST)?;
                    extend(&mut attributes, header.entry_type(), at, &content).map_err(|flaw| self.invalid(flaw))?;
                }
                EntryType::XGlobalHeader => {}
                _ => {
                    entries.add(header, at, span, std::mem::take(&mut attributes)).map_err(|flaw| self.invalid(flaw))?
                }
            }
            at = span.start + span.size + padding(span.size);
        }
        Err(self.invalid(Flaw::TooMany { what: "entries", limit: MAX_HEADERS }))
    }

    /// Where the content of the entry at `at` is; with its padding it is inside the file.
    fn span(&self, header: &Header, at: u64, size: Option<u64>) -> Result<Span, Error> {
        let own = header.raw_entry_size();
        let own = own.map_err(|_| self.invalid(Flaw::Damaged { at, what: "its size is not a number" }))?;
        let is_extension = matches!(
            header.entry_type(),
            EntryType::XHeader | EntryType::XGlobalHeader | EntryType::GNULongName | EntryType::GNULongLink
        );
        let span = Span { start: at + BLOCK, size: if is_extension { own } else { size.unwrap_or(own) } };
        let end = span.start.checked_add(span.size).and_then(|end| end.checked_add(padding(span.size)));
        match end {
            Some(end) if end <= self.size => Ok(span),
            _ => Err(self.invalid(Flaw::CutOff { size: self.size })),
        }
    }
}

/// A header whose checksum is right.
fn header(at: u64, block: &[u8; BLOCK as usize]) -> Result<&Header, Flaw> {
    // The checksum is made as if its own field were blank.
    let (field, blank) = (148..156, u32::from(b' '));
    let byte = |(index, byte): (usize, &u8)| if field.contains(&index) { blank } else { u32::from(*byte) };
    let sum: u32 = block.iter().enumerate().map(byte).sum();
    let header = Header::from_byte_slice(block);
    if header.cksum().is_ok_and(|said| said == sum) {
        return Ok(header);
    }
    let what = if at == 0 { "it is not a tar" } else { "no entry begins there" };
    Err(Flaw::Damaged { at, what })
}

fn extend(attributes: &mut Attributes, kind: EntryType, at: u64, content: &[u8]) -> Result<(), Flaw> {
    match kind {
        EntryType::GNULongName => attributes.path = Some(pax::long_name(content)),
        EntryType::GNULongLink => attributes.link = Some(pax::long_name(content)),
        _ => attributes.add_records(at, content)?,
    }
    Ok(())
}

impl Entries {
    fn add(&mut self, header: &Header, at: u64, span: Span, attributes: Attributes) -> Result<(), Flaw> {
        let path = attributes.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let link = || attributes.link.clone().or_else(|| header.link_name_bytes().map(|name| name.into_owned()));
        let kind = header.entry_type();
        let (is_file, is_sparse) = (kind.is_file() || kind.is_contiguous(), kind.is_gnu_sparse());
        if is_sparse {
            return Err(pax::sparse(at));
        }
        if !is_file && span.size > 0 {
            return Err(Flaw::Damaged { at, what: "only files have content" });
        }
        let entry = name::plain(&path)?;
        let node = match kind {
            // As tars were written before they knew directories.
            _ if is_file && path.ends_with(b"/") => return Ok(()),
            _ if is_file => Node::File(span),
            EntryType::Link => Node::Link(name::plain(&link().unwrap_or_default())?),
            EntryType::Symlink => Node::Link(name::linked(&entry, &link().unwrap_or_default())?),
            // Directories, devices, pipes: nothing is in them.
            _ => return Ok(()),
        };
        match self.nodes.insert(entry.clone(), node) {
            Some(_) => Err(Flaw::Twice { name: entry }),
            None => Ok(()),
        }
    }

    /// The file of that name, also through links.
    pub(super) fn find(&self, name: &str) -> Option<Span> {
        let mut name = name;
        for _ in 0..MAX_HOPS {
            match self.nodes.get(name)? {
                Node::File(span) => return Some(*span),
                Node::Link(target) => name = target,
            }
        }
        None
    }

    /// The files, links not among them, whose names begin with `folder`, with the rest of their names.
    pub(super) fn below<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = (&'a str, Span)> {
        let from = self.nodes.range::<str, _>((Bound::Included(folder), Bound::Unbounded));
        let inside = from.map_while(move |(name, node)| Some((name.strip_prefix(folder)?, node)));
        inside.filter_map(|(name, node)| match node {
            Node::File(span) => Some((name, *span)),
            Node::Link(_) => None,
        })
    }
}
