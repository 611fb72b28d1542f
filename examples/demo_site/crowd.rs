//! Many visitors at once, who come whether those before them were served or not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::visitor::{Address, Answer, request};

/// How many wait at most: on a machine that cannot answer so many, nobody else comes meanwhile.
const MOST: usize = 1000;

/// How long each visitor of a crowd waits for an answer.
const PATIENCE: Duration = Duration::from_secs(120);

/// Visitors who come at a steady rate, each on a connection of its own, whatever becomes of those before them.
pub struct Crowd {
    counts: Arc<Counts>,
    thread: Option<JoinHandle<Vec<Seen>>>,
}

/// What the visitors and who waits for them know of each other.
#[derive(Default)]
struct Counts {
    over: AtomicBool,
    ended: AtomicUsize,
    served: AtomicUsize,
}

/// How a crowd comes.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// From one visitor to the next.
    pub beat: Duration,
    /// Asked for in turn; the empty one is an entry that is written.
    pub pages: &'static [&'static str],
}

/// A hundred a second, of whom every fourth writes.
pub const OFTEN: Pace = Pace { beat: Duration::from_millis(10), pages: &["/", "/version/", "/version/", ""] };

/// What one of them saw.
#[derive(Debug)]
pub struct Seen {
    /// Where it asked, and for what.
    pub request: String,
    /// Whether it asked to write.
    pub wrote: bool,
    /// When it asked.
    pub asked: Instant,
    /// What it got.
    pub answer: std::io::Result<Answer>,
    /// From its question to the whole answer.
    pub waited: Duration,
}

impl Seen {
    /// Tells whether it got what it asked for.
    pub fn is_good(&self) -> bool {
        self.answer.as_ref().is_ok_and(|answer| answer.status < 400)
    }
}

impl Crowd {
    /// Lets them come, to each of these addresses for all pages in turn.
    pub fn come(addresses: &[&str], host: &'static str, pace: Pace) -> Self {
        let addresses: Vec<Address> = addresses.iter().map(|address| Address::from(*address)).collect();
        let counts = Arc::new(Counts::default());
        let known = Arc::clone(&counts);
        let thread = std::thread::spawn(move || {
            let (begun, mut visitors) = (Instant::now(), Vec::new());
            let places =
                addresses.iter().flat_map(|address| pace.pages.iter().map(move |page| (address, *page)));
            for (number, (address, page)) in (0..).zip(places.cycle()) {
                let is_over = || known.over.load(Ordering::Relaxed);
                while visitors.len() > known.ended.load(Ordering::Relaxed) + MOST && !is_over() {
                    std::thread::sleep(pace.beat);
                }
                if is_over() {
                    break;
                }
                std::thread::sleep((begun + pace.beat * number).saturating_duration_since(Instant::now()));
                let (address, counts) = (address.clone(), Arc::clone(&known));
                visitors.push(std::thread::spawn(move || visit(number, &address, page, host, &counts)));
            }
            visitors.into_iter().map(|visitor| visitor.join().expect("a visitor")).collect()
        });
        Crowd { counts, thread: Some(thread) }
    }

    /// Returns how many have got what they asked for.
    pub fn served(&self) -> usize {
        self.counts.served.load(Ordering::Relaxed)
    }

    /// Lets nobody come any more, and waits until all have been answered.
    pub fn leave(mut self) -> Vec<Seen> {
        self.counts.over.store(true, Ordering::Relaxed);
        self.thread.take().expect("it is asked once").join().expect("a crowd")
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.counts.over.store(true, Ordering::Relaxed);
    }
}

fn visit(number: u32, address: &Address, page: &str, host: &str, counts: &Counts) -> Seen {
    let form = page.is_empty().then(|| format!("author=Crowd&text=Line+{number}"));
    let path = if page.is_empty() { "/entries/" } else { page };
    let asked = Instant::now();
    let answer = request(address, host, path, form.as_deref(), PATIENCE);
    let waited = asked.elapsed();
    let seen = Seen { request: format!("{address}{path}"), wrote: form.is_some(), asked, answer, waited };
    counts.served.fetch_add(usize::from(seen.is_good()), Ordering::Relaxed);
    counts.ended.fetch_add(1, Ordering::Relaxed);
    seen
}
