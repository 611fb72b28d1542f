//! Installs what a requirements file asks for, in a virtualenv that is built beside the old one.
//!
//! It makes a virtualenv and a package in a temporary directory; no index is asked.
//!
//! ```sh
//! cargo run -p deploykit --example pip_install
//! ```

use std::error::Error;
use std::fs;
use std::path::Path;

use deploykit::operations::{self, AnyOperation, pip_install::PipInstall};
use deploykit::{Check, Command, Context, Host};

/// Writes a wheel: an archive of a module and of what is known about it.
const WHEEL: &str = r#"
import sys, zipfile
with zipfile.ZipFile(sys.argv[1] + "/greeting-1.0-py3-none-any.whl", "w") as wheel:
    wheel.writestr("greeting.py", "TEXT = 'hello'\n")
    wheel.writestr("greeting-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n")
    wheel.writestr("greeting-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    wheel.writestr("greeting-1.0.dist-info/RECORD", "")
"#;

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let path = |name: &str| directory.path().join(name);
    let host = Host::new();
    fs::create_dir(path("site"))?;
    fs::create_dir(path("wheels"))?;
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
    host.run(&Command::new(&python).args(["-m", "venv"]).arg(path("venv")))?;
    host.run(&Command::new(&python).args(["-c", WHEEL]).arg(path("wheels")))?;
    let requirements = path("site").join("requirements.txt");
    fs::write(&requirements, format!("--no-index\n--find-links {}\ngreeting\n", path("wheels").display()))?;

    let install = PipInstall::new(path("venv"), vec![requirements], path("site"), path("virtualenvs"));
    let mut context = Context::from(host);
    let Check::Change(change) = operations::apply(&install, &mut context)? else {
        return Err("the package is installed already".into());
    };
    println!("{}: {}", change.reason, change.details.join(", "));
    assert_eq!(greeting(&path("venv"), &context.host)?, "hello\n");

    // A second run finds nothing to do.
    let again: &dyn AnyOperation = &install;
    let Check::Unchanged { reason } = again.check(&context.host)? else {
        return Err("the package is installed, and would be installed again".into());
    };
    println!("nothing to do: {reason}");

    operations::undo(&change, &mut context)?;
    assert!(greeting(&path("venv"), &context.host).is_err(), "the previous virtualenv has no such package");
    Ok(())
}

fn greeting(virtualenv: &Path, host: &Host) -> Result<String, deploykit::CommandError> {
    let python = Command::new(virtualenv.join("bin/python"));
    host.run(&python.args(["-c", "import greeting; print(greeting.TEXT)"])).map(|output| output.stdout)
}
