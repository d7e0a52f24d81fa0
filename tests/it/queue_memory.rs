//! How much memory all queues of a family may take.

use crate::family::{contexts, run};
use crate::support::isolated;
use procession::prelude::*;
use procession::set_queue_memory;

const MIB: usize = 1 << 20;

/// How many MiB there is room for in a queue with something in it already.
fn fill(queue: Queue<Vec<u8>>) -> usize {
    (0..).take_while(|_| queue.put(vec![7; MIB]).is_ok()).count()
}

/// Lowers what the family may take, and tells whether one more is refused.
fn lower(queue: Queue<Vec<u8>>) -> bool {
    set_queue_memory(0).unwrap();
    matches!(queue.put(vec![7; MIB]).unwrap_err().kind(), ErrorKind::OutOfSpace { limit, .. } if *limit == 256 << 10)
}

#[test]
fn the_limit_is_for_all_processes_and_may_change_at_any_time() {
    isolated(|| {
        for context in contexts() {
            let queue = Queue::new().unwrap();
            set_queue_memory(8 * MIB as u64).unwrap();
            let first = run(&context, fill, (queue.clone(),));
            assert!((5..=7).contains(&first), "{first}: a queue has its own segment, {context:?}");
            set_queue_memory(16 * MIB as u64).unwrap();
            assert!((6..=9).contains(&fill(queue.clone())), "{context:?}");
            assert!(run(&context, lower, (queue.clone(),)));
            let there = queue.len();
            for _ in 0..there {
                assert_eq!(queue.get().unwrap().len(), MIB);
            }
            set_queue_memory(u64::MAX).unwrap();
            queue.put(vec![7; 20 * MIB]).unwrap();
        }
    });
}
