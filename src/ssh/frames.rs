//! Frames: how many connections share one stream of bytes between us and a relay of ours (`relay.pl`, `relay.py`).
//!
//! A letter, the connection's number, a length (32 bits each, big endian); for opening and data so many bytes follow.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes that may be on their way in one direction of a connection before the other side has asked for more; the same
/// in the relays. Enough for 50 MB/s over a link of 10 ms.
pub(super) const WINDOW: u32 = 512 * 1024;

/// What one side tells the other of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    /// Connect to a path, or to `address port`. From us only.
    Open(String),
    /// Never empty.
    Data(Vec<u8>),
    /// This direction has ended.
    End,
    /// Both directions have, for whatever reason: the other side forgets it.
    Gone,
    /// So many bytes more may be sent.
    Credit(u32),
}

impl Frame {
    /// Appends the frame for connection `number` to `bytes`.
    pub(super) fn write(&self, number: u32, bytes: &mut Vec<u8>) {
        let (letter, length, body): (u8, usize, &[u8]) = match self {
            Self::Open(to) => (b'o', to.len(), to.as_bytes()),
            Self::Data(data) => (b'd', data.len(), data),
            Self::End => (b'e', 0, &[]),
            Self::Gone => (b'c', 0, &[]),
            Self::Credit(more) => (b'w', *more as usize, &[]),
        };
        bytes.push(letter);
        bytes.extend(number.to_be_bytes());
        bytes.extend(u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend(body);
    }

    /// Reads what a relay sends: its connection's number and the frame.
    ///
    /// # Errors
    /// The stream has ended, or is not a relay's.
    pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<(u32, Self)> {
        let letter = stream.read_u8().await?;
        let (number, length) = (stream.read_u32().await?, stream.read_u32().await?);
        let frame = match letter {
            b'd' if (1..=WINDOW).contains(&length) => {
                let mut data = vec![0; length as usize];
                stream.read_exact(&mut data).await?;
                Self::Data(data)
            }
            b'e' => Self::End,
            b'c' => Self::Gone,
            b'w' if length <= WINDOW => Self::Credit(length),
            _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "this is not a relay's frame")),
        };
        Ok((number, frame))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(mut bytes: &[u8]) -> io::Result<(u32, Frame)> {
        tokio::runtime::Builder::new_current_thread().build()?.block_on(Frame::read(&mut bytes))
    }

    fn frames() -> impl Strategy<Value = Frame> {
        prop_oneof![
            proptest::collection::vec(any::<u8>(), 1..300).prop_map(Frame::Data),
            Just(Frame::End),
            Just(Frame::Gone),
            (0..=WINDOW).prop_map(Frame::Credit),
        ]
    }

    proptest! {
        #[test]
        fn a_frame_is_read_as_it_was_written(number: u32, frame in frames()) {
            let mut bytes = Vec::new();
            frame.write(number, &mut bytes);
            prop_assert_eq!(read(&bytes)?, (number, frame));
            bytes.pop();
            prop_assert!(read(&bytes).is_err());
        }

        #[test]
        fn no_bytes_are_too_odd(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = read(&bytes);
        }
    }

    #[test]
    fn what_no_relay_sends_is_refused() {
        for odd in ["o\0\0\0\0\0\0\0\0", "d\0\0\0\0\0\0\0\0", "d\0\0\0\0\x7f\0\0\0", "w\0\0\0\0\x7f\0\0\0", "perl: wha"]
        {
            assert_eq!(read(odd.as_bytes()).expect_err("odd").kind(), io::ErrorKind::InvalidData, "{odd:?}");
        }
        let mut open = Vec::new();
        Frame::Open("/run/docker.sock".into()).write(7, &mut open);
        assert_eq!(open, b"o\0\0\0\x07\0\0\0\x10/run/docker.sock");
    }
}
