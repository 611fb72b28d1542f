//! Log lines on the standard error, from a thread of their own: a terminal that does not read must not hold up a window.

use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::PATIENCE;

static LINES: OnceLock<Sender<Message>> = OnceLock::new();

enum Message {
    Bytes(Vec<u8>),
    /// Answered when everything before it was shown.
    Flush(Sender<()>),
}

/// Where the logger writes to.
pub struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sender = LINES.get_or_init(|| {
            let (sender, lines) = channel();
            std::thread::spawn(move || show(&lines));
            sender
        });
        // A thread that is gone has nobody to show it to.
        let _ = sender.send(Message::Bytes(bytes.to_vec()));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Waits until everything was shown, but not for ever for a terminal that takes nothing.
pub fn flush() {
    let Some(lines) = LINES.get() else { return };
    let (sender, done) = channel();
    if lines.send(Message::Flush(sender)).is_ok() {
        let _ = done.recv_timeout(PATIENCE);
    }
}

fn show(lines: &Receiver<Message>) {
    for message in lines {
        match message {
            Message::Bytes(bytes) => {
                let _ = io::stderr().write_all(&bytes);
            }
            Message::Flush(done) => {
                let _ = done.send(());
            }
        }
    }
}
