//! Shows a maintenance page, which the web server serves while its file exists, and removes it again.
//!
//! ```sh
//! cargo run -p deploykit --example maintenance
//! ```

use std::error::Error;
use std::time::Duration;

use deploykit::jiff::Timestamp;
use deploykit::operations::maintenance::{Goal, Maintenance, Page};
use deploykit::operations::{self};
use deploykit::{Check, Context};

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("maintenance.html");
    let page = Some(Page { path: path.clone(), html: None });
    let message = Some("Back at noon.".to_owned());
    let goal = Goal::On { start: Timestamp::now(), message, notice: Duration::ZERO };
    let on = Maintenance { goal, announcement: None, page: page.clone() };
    let mut context = Context::default();

    operations::apply(&on, &mut context)?;
    assert!(std::fs::read_to_string(&path)?.contains("Back at noon."));
    println!("{} is there", path.display());

    let off = Maintenance { goal: Goal::Off, announcement: None, page };
    operations::apply(&off, &mut context)?;
    assert!(!path.exists());
    let Check::Unchanged { reason } = operations::apply(&off, &mut context)? else {
        return Err("the page was removed twice".into());
    };
    println!("nothing to do: {reason}");
    Ok(())
}
