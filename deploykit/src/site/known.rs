//! What is known of a site without booting its Django.

use std::path::PathBuf;

use super::Site;
use crate::django::SiteFacts;
use crate::state::Known;

impl Site {
    /// Returns the site's `TIME_ZONE`: what its Django said last, else what its settings spell out; `None`: it is not known.
    #[must_use]
    pub fn time_zone(&self) -> Option<String> {
        let known = self.state().known().time_zone;
        let site = &self.config.site;
        known.or_else(|| crate::django::spelled_time_zone(&site.project, site.settings.as_deref()?))
    }

    /// Returns the file that the site's maintenance commands write, as far as it is known without booting Django.
    #[must_use]
    pub fn status_file(&self) -> Option<PathBuf> {
        self.config.maintenance.status_file.clone().or_else(|| self.state().known().status_file)
    }

    /// Tells whether the site has commands that announce maintenance, as far as it is known without booting Django.
    #[must_use]
    pub fn announces(&self) -> bool {
        self.config.maintenance.on.is_some() || self.state().known().announces
    }

    /// Remembers what Django said.
    pub(crate) fn remember(&self, facts: &SiteFacts) {
        let remember = || -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
            let commands = self.maintenance_commands(facts)?;
            Ok(self.state().set_known(&Known {
                time_zone: facts.time_zone.clone(),
                announces: commands.is_some(),
                status_file: commands.and_then(|commands| commands.status_file),
            })?)
        };
        // It only spares a boot, or makes times easier to read.
        if let Err(error) = remember() {
            log::info!("{}", crate::error_chain(error.as_ref()));
        }
    }
}
