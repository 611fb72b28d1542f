//! The checkout of a site: git2 reads it, the `git` executable transports and writes.
//!
//! libgit2 answers fast and from memory: references, histories, differences between trees, the text of a file in a
//! commit, a rebase that is only tried. It does not know what git was configured with (ssh aliases, credential
//! helpers, LFS and other filters, sparse checkouts), so whatever crosses the network or touches a work tree, and the
//! question what was changed in one, is left to the program.

mod changes;
mod checkout;
mod collisions;
mod credentials;
mod error;
mod exclude;
mod executable;
mod fetch;
mod filters;
mod fix;
mod head;
mod hidden;
mod hooks;
mod kept;
mod local_change;
mod local_state;
mod locks;
mod rebase;
mod repository;
mod staged_tree;
mod submodules;
mod tree;
mod unwritable;
mod written;

pub use changes::{ChangeStatus, PathChange};
pub use collisions::{Collision, Obstacle};
pub use error::{GitError, short};
pub use exclude::Exclude;
pub use fetch::Fetched;
pub use filters::MissingFilter;
pub use head::{Checkout, Head};
pub use local_change::{LocalChange, LocalChangeKind};
pub use rebase::Rebase;
pub use repository::{Commit, commit_of, head};
pub use staged_tree::{Parked, StagedTree};
pub use tree::Tree;
pub use unwritable::Unwritable;
pub use written::{CarryWritten, Written};

pub(crate) use changes::changes;
pub(crate) use collisions::{edits_in_the_way, obstacles};
pub(crate) use error::{Reading, counted};
pub(crate) use fetch::{Fetch, tag_reference, tags_directory};
pub(crate) use filters::{missing_filters, unfiltered};
pub(crate) use kept::{forget_commit, keep_commit};
pub(crate) use local_state::{local_changes, operation_in_progress};
pub(crate) use locks::{age, index_lock, remove_left_locks};
pub(crate) use rebase::rebase;
pub(crate) use repository::{Repository, contents_at, head_holds, oid, own_directory, size_of_tracked};
pub(crate) use submodules::has_submodules;
pub(crate) use tree::tracked_below;
pub(crate) use unwritable::unwritable;
