//! Many small pieces of work at once, over the cores of the machine.

use std::num::NonZero;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, Builder};

use super::{Host, process, umask};

impl Host {
    /// Does something with each of these, in any order and several at once, and returns the results in theirs. At low
    /// priority it yields to whoever else wants the cores, like a program that this host runs.
    pub(crate) fn on_all_cores<T: Sync, R: Send>(
        &self,
        items: &[T],
        work: impl Fn(&T) -> R + Sync,
    ) -> Vec<R> {
        let next = AtomicUsize::new(0);
        let share = || {
            let mut done = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(item) = items.get(index) else { return done };
                done.push((index, work(item)));
            }
        };
        let share_of_worker = || {
            if self.low_priority {
                // Of this thread alone: only root can undo it.
                process::lower_priority(None);
            }
            umask::take(self.umask);
            share()
        };
        let cores = thread::available_parallelism().map_or(1, NonZero::get).min(items.len());
        let mut done = thread::scope(|scope| {
            let workers: Vec<_> =
                (0..cores).filter_map(|_| Builder::new().spawn_scoped(scope, share_of_worker).ok()).collect();
            // Where the system grants no more threads.
            let mut done = if workers.is_empty() { share() } else { Vec::new() };
            for worker in workers {
                done.extend(worker.join().unwrap_or_else(|panic| resume_unwind(panic)));
            }
            done
        });
        done.sort_unstable_by_key(|(index, _)| *index);
        done.into_iter().map(|(_, result)| result).collect()
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::getpriority_process;

    use super::*;

    #[test]
    fn everything_is_done_once_and_the_results_are_in_order() {
        let items: Vec<usize> = (0..1000).collect();
        let count = AtomicUsize::new(0);
        let results = Host::new().on_all_cores(&items, |item| {
            count.fetch_add(1, Ordering::Relaxed);
            item * 2
        });
        assert_eq!(results, items.iter().map(|item| item * 2).collect::<Vec<_>>());
        assert_eq!(count.into_inner(), items.len());
        assert_eq!(Host::new().on_all_cores(&[] as &[u8], |_| ()), []);
    }

    #[test]
    fn only_the_workers_yield() {
        let before = getpriority_process(None).unwrap();
        let low = Host::new().with_low_priority(true);
        let nice = low.on_all_cores(&[(); 8], |()| getpriority_process(None).unwrap());
        assert!(nice.iter().all(|nice| *nice >= process::NICE), "{nice:?}");
        assert_eq!(getpriority_process(None).unwrap(), before);
        assert_eq!(Host::new().on_all_cores(&[()], |()| getpriority_process(None).unwrap()), [before]);
    }
}
