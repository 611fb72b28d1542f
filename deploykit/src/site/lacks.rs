//! What a configuration lacks, so that an update leaves something out.

use super::Site;
use crate::keys::Environment;
use crate::services::Role;

impl Site {
    /// Says what an update of this site leaves out, each with what to do about that.
    #[doc(hidden)]
    #[must_use]
    pub fn lacks(&self) -> Vec<(&'static str, &'static str)> {
        let config = &self.config;
        let serves = config.environment != Environment::Development;
        let mut lacks = Vec::new();
        if serves && config.services.iter().all(|service| service.role != Role::Web) {
            lacks.push((
                "no service has the role `web`: the program that serves the site is not restarted and keeps running the old code",
                "write `role = \"web\"` into the `[[services]]` table of the program that serves the site",
            ));
        }
        if serves && self.smoke_check().is_none() {
            lacks.push((
                "[smoke] has no page and no command: whether the new version works is not checked",
                "set `smoke.pages`, such as `pages = [\"/\"]`",
            ));
        }
        if config.python.wanted().is_empty() {
            lacks.push((
                "[python] has neither `requirements` nor `lock`: packages are left as they are",
                "set `python.requirements` or `python.lock`",
            ));
        }
        lacks
    }
}
