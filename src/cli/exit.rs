//! Exit codes. They are part of the interface.

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// 0: done, or nothing to do.
    Done,
    /// 1: something failed.
    Failed,
    /// 2: the command line or the cluster file is wrong.
    Usage,
    /// 3: preflight found what must be mended first; nothing was changed.
    Refused,
    /// 4: some hosts failed, the others are done.
    Partial,
    /// 130: interrupted by the user.
    Interrupted,
}

impl Exit {
    /// What shells use for SIGINT.
    pub(super) const INTERRUPTED: u8 = 130;

    pub(super) fn code(self) -> ExitCode {
        ExitCode::from(match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::Partial => 4,
            Self::Interrupted => Self::INTERRUPTED,
        })
    }
}
