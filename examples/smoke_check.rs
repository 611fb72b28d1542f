//! Requests pages until they are as expected, from a small HTTP server that takes a moment to start.
//!
//! ```sh
//! cargo run -p deploykit --example smoke_check
//! ```

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::time::Duration;

use deploykit::Context;
use deploykit::operations::smoke_check::{Page, SmokeCheck};
use deploykit::operations::{self, ApplyError};

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let base = format!("http://{}/", listener.local_addr()?);
    std::thread::spawn(move || serve(&listener));

    let home = Page { contains: vec!["Welcome".to_owned()], ..Page::new("/") };
    let check = SmokeCheck { base: Some(base), pages: vec![home.clone()], ..SmokeCheck::default() };
    operations::apply(&check, &mut Context::default())?;
    println!("the home page is as expected");

    let about = Page { contains: vec!["About".to_owned()], ..Page::new("/about/") };
    let check = SmokeCheck { pages: vec![home, about], settle: Duration::ZERO, ..check };
    let error = operations::apply(&check, &mut Context::default()).unwrap_err();
    assert!(matches!(error, ApplyError::Undone { .. }));
    println!("{error}");
    Ok(())
}

/// Answers the first request with an error, and any other one with a page.
fn serve(listener: &TcpListener) {
    for (number, stream) in listener.incoming().flatten().enumerate() {
        let head = BufReader::new(&stream).lines().map_while(Result::ok);
        let _ = head.take_while(|line| !line.is_empty()).count();
        let (status, body) =
            if number == 0 { ("502 Bad Gateway", "") } else { ("200 OK", "<h1>Welcome</h1>") };
        let length = body.len();
        // A visitor who has gone is no failure of the server.
        let _ = write!(
            &stream,
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
    }
}
