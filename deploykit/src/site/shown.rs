//! What a configuration shows to everybody who may read a plan.

use super::Config;

impl Config {
    /// Returns names, paths and hosts of the configuration, one a line: what of them stands in a file of secrets is none. Neither
    /// `env` nor the site's own commands are in it, since passwords may be.
    pub(super) fn shown(&self) -> String {
        let path = |path: &std::path::Path| path.display().to_string();
        let mut shown = vec![
            path(&self.path),
            path(&self.site.repository),
            path(&self.site.project),
            self.git.remote.clone(),
            self.git.branch.clone(),
        ];
        shown.extend(self.python.virtualenv.as_deref().map(path));
        shown.extend(self.site.settings.clone());
        // A person in an address is nobody's business, and what stands before is the scheme.
        let connect = self.smoke.connect.as_ref().map(ToString::to_string);
        let bases = [self.smoke.base.clone(), connect].into_iter().flatten();
        shown.extend(bases.map(|base| base.rsplit('@').next().unwrap_or_default().to_owned()));
        let files = [
            &self.site.env_file,
            &self.secrets.file,
            &self.maintenance.status_file,
            &self.maintenance.page,
            &self.smoke.ca,
        ];
        shown.extend(files.into_iter().flatten().map(|file| path(file)));
        shown.extend(self.python.wanted().files().iter().map(|file| path(file)));
        shown.extend(self.logs.iter().flat_map(|(name, file)| [name.clone(), path(file)]));
        shown.extend(self.services.iter().map(|service| service.name.clone()));
        shown.extend(self.steps.iter().map(|step| step.name.clone()));
        shown.join("\n")
    }
}
