//! Images in archive files: written as a stream, read as a source of images.
//!
//! **Writing.** [`Contents`] are packed into a tar of an OCI image layout ([`Packed`]): documents first, then every
//! layer once, streamed from the store while the store fetches it. Its size is known to the byte before the first byte,
//! and equal contents give equal bytes. The hybrid [`Form`] has Docker's `manifest.json` too, so that both of an
//! engine's image stores load it; layers that the receiver has can be left out. [`Wrapping`] makes any stream of known
//! size a file in another tar. A stream that cannot be completed ends with an error, never as a well-formed shorter
//! tar.
//!
//! **Reading.** [`Archive`] opens a tar of an OCI image layout, what `docker save` of any engine since 1.10 writes,
//! both also compressed, and a folder that is an image layout. Only the headers of a tar are read, by seeking; nothing
//! is ever extracted to a path, and nothing in an archive is believed: sizes, counts and names are bounded and checked
//! when it is opened, documents against their digests when they are read, layers by the store that fetches them.
//!
//! Uses the nouns of [`crate::oci`], and [`crate::store`] as the place that blobs come from and go to.

mod contents;
mod entries;
mod error;
mod name;
mod names;
mod open;
mod pack;
mod pax;
mod place;
mod saved;
mod spool;
mod wrapping;

pub use contents::{Blob, Contents, Entry, Form, Image, Layer};
pub use error::{Cause, Error, Flaw};
pub use names::NamedImage;
pub use open::Archive;
pub use pack::Packed;
pub use wrapping::{Wrapped, Wrapping};

/// Tar's unit, in bytes.
const BLOCK: u64 = 512;

/// The bytes between the end of a file of `size` bytes and the next header.
const fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK
}
