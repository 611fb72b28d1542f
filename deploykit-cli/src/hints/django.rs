//! Hints about Django and its databases.

use deploykit::internal::django::DjangoError;

pub(super) fn hint(error: &DjangoError) -> Option<String> {
    Some(match error {
        DjangoError::NoCommand { .. } => {
            "correct `database.migrate-command`; `manage.py help` lists the commands".into()
        }
        DjangoError::InDatabase { source, .. } => return hint(source),
        DjangoError::NoManage { .. } => {
            "set `site.project` to the directory of manage.py, inside the repository".into()
        }
        DjangoError::NoSettings { .. } => "set `site.settings` to the site's DJANGO_SETTINGS_MODULE".into(),
        DjangoError::Mute { .. } => {
            "check that its server runs and accepts connections; `database.deadline` sets the timeout".into()
        }
        DjangoError::Busy { .. } => "end those sessions in the database, then run this again".into(),
        DjangoError::Existing { .. } => {
            "if it is what the migration would make, record the migration with `manage.py migrate APP NAME --fake`; else rename or remove it".into()
        }
        DjangoError::Inconsistent { .. } => {
            "a release that had to be installed in between may have been skipped: update to that one first".into()
        }
        DjangoError::Conflicts { .. } => {
            "make a merge migration upstream: manage.py makemigrations --merge".into()
        }
        DjangoError::ToolMissing { program } => {
            let package = match program.as_str() {
                "mysqldump" | "mysql" => "MySQL's own: mysql-client",
                other if other.starts_with('p') => "Debian: postgresql-client",
                _ => "Debian: mariadb-client",
            };
            format!("install it ({package}), or add its directory to PATH in `site.env`, or name a program of your own in `database.backup-command`")
        }
        DjangoError::ToolForeign { server, .. } => {
            format!("install {server}'s client programs and put their directory first in PATH in `site.env`, or name programs of your own in `database.backup-command` and `database.restore-command`")
        }
        DjangoError::ToolTooOld { .. } => {
            "install the tools of the server's version, and put their directory first in PATH in `site.env`".into()
        }
        DjangoError::RightsMissing { rights } => {
            format!("GRANT {} ON that database to it, or name programs of your own in `database.backup-command` and `database.restore-command`", rights.join(", "))
        }
        DjangoError::NotOwned { .. } => {
            "let that user own them, or name programs of your own in `database.backup-command` and `database.restore-command`".into()
        }
        _ => return None,
    })
}
