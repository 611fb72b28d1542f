//! A mistake in a configuration, with its place.

use std::ops::Range;

/// One mistake in a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The bytes of the file that the mistake is in; empty and at the start when it concerns the whole file.
    pub span: Range<usize>,
    /// The key from the top of the file, such as `git.branch`; empty for a mistake of the file itself.
    pub key: String,
    /// What is wrong, and what would be right.
    pub message: String,
}
