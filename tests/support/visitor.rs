//! Visitors who read and write while a site is updated; the code is the demo site's.

#[allow(unused_imports, reason = "each test binary uses a part of it")]
pub use super::site::demo_site::crowd::*;
#[allow(unused_imports, reason = "each test binary uses a part of it")]
pub use super::site::demo_site::visitor::*;
