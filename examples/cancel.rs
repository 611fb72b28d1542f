//! Ends an operation from another thread: it checks a page that never comes, until somebody loses patience.
//!
//! ```sh
//! cargo run -p deploykit --example cancel
//! ```

use std::error::Error;
use std::net::TcpListener;

use deploykit::operations;
use deploykit::operations::smoke_check::{Page, SmokeCheck, SmokeError};
use deploykit::{Cancel, Context, Host, find_source};

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let page = Page::new(format!("http://{}/", listener.local_addr()?));
    let check = SmokeCheck { pages: vec![page], ..SmokeCheck::default() };

    let cancel = Cancel::new()?;
    let mut context = Context::from(Host::new().with_cancel(cancel.clone()));
    let patience = std::thread::spawn(move || {
        let visitor = listener.accept();
        cancel.request();
        visitor.map(|_| ())
    });
    match operations::apply(&check, &mut context) {
        Err(error) if matches!(find_source(&error), Some(SmokeError::Cancelled)) => {
            println!("{error}");
        }
        other => return Err(format!("it was not interrupted: {other:?}").into()),
    }
    patience.join().map_err(|_| "the visitor's thread panicked")??;
    Ok(())
}
