//! Many visitors at once, who come whether those before them were served or not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::visitor::{Address, Answer, request};

/// Between two requests of a crowd: 100 a second.
const BEAT: Duration = Duration::from_millis(10);

/// How many wait at most: on a machine that cannot answer so many, nobody else comes meanwhile.
const MOST: usize = 1000;

/// How long each visitor of a crowd waits for an answer.
const PATIENCE: Duration = Duration::from_secs(120);

/// Visitors who come at a steady rate, each on a connection of its own, whatever becomes of those before them. Every
/// fourth writes; they ask at each address in turn.
pub struct Crowd {
    over: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    thread: Option<JoinHandle<Vec<Seen>>>,
}

/// What one of them saw.
#[derive(Debug)]
pub struct Seen {
    /// Where it asked, and for what.
    pub request: String,
    /// Whether it asked to write.
    pub wrote: bool,
    /// What it got.
    pub answer: std::io::Result<Answer>,
    /// From its question to the whole answer.
    pub waited: Duration,
}

impl Crowd {
    /// Lets them come, to these addresses.
    pub fn come(addresses: &[&str], host: &'static str) -> Self {
        let addresses: Vec<String> = addresses.iter().map(|address| (*address).to_owned()).collect();
        let (over, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (ends, counts) = (Arc::clone(&over), Arc::clone(&served));
        let thread = std::thread::spawn(move || {
            let (begun, mut visitors) = (Instant::now(), Vec::new());
            for number in 0.. {
                if ends.load(Ordering::Relaxed) {
                    break;
                }
                while visitors.len() > counts.load(Ordering::Relaxed) + MOST && !ends.load(Ordering::Relaxed)
                {
                    std::thread::sleep(BEAT);
                }
                std::thread::sleep((begun + BEAT * number).saturating_duration_since(Instant::now()));
                let address = addresses[(number / 4) as usize % addresses.len()].clone();
                let counts = Arc::clone(&counts);
                visitors.push(std::thread::spawn(move || visit(number, &address, host, &counts)));
            }
            visitors.into_iter().map(|visitor| visitor.join().expect("a visitor")).collect()
        });
        Crowd { over, served, thread: Some(thread) }
    }

    /// Returns how many have got an answer.
    pub fn served(&self) -> usize {
        self.served.load(Ordering::Relaxed)
    }

    /// Lets nobody come any more, and waits until all have been answered.
    pub fn leave(mut self) -> Vec<Seen> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.take().expect("it is asked once").join().expect("a crowd")
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

fn visit(number: u32, address: &str, host: &str, served: &AtomicUsize) -> Seen {
    let form = (number % 4 == 3).then(|| format!("author=Crowd&text=Line+{number}"));
    let path = match number % 4 {
        0 => "/",
        3 => "/entries/",
        _ => "/version/",
    };
    let asked = Instant::now();
    let answer = request(&Address::from(address), host, path, form.as_deref(), PATIENCE);
    served.fetch_add(1, Ordering::Relaxed);
    Seen { request: format!("{address}{path}"), wrote: form.is_some(), answer, waited: asked.elapsed() }
}
