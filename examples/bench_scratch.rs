//! scratch
use procession::prelude::*;
use std::time::Instant;
fn id(x: u64) -> u64 {
    x
}
fn main() -> Result<(), Error> {
    let pool = Pool::new(2)?;
    for _ in 0..3 {
        pool.apply(id, (1,))?;
        let t = Instant::now();
        let n = 20_000;
        for i in 0..n {
            assert_eq!(pool.apply(id, (i,))?, i);
        }
        println!("apply {:.0}/s", n as f64 / t.elapsed().as_secs_f64());
        let t = Instant::now();
        let n = 100_000;
        let rs: Vec<_> = (0..n).map(|i| pool.apply_async(id, (i,)).unwrap()).collect();
        for (i, r) in rs.iter().enumerate() {
            assert_eq!(r.get()?, i as u64);
        }
        println!("apply_async {:.0}/s", n as f64 / t.elapsed().as_secs_f64());
        let t = Instant::now();
        let n = 200_000;
        let v = pool.options().chunksize(1).map(id, 0..n)?;
        assert_eq!(v.len(), n as usize);
        println!("map1 {:.2}M/s", n as f64 / t.elapsed().as_secs_f64() / 1e6);
        let t = Instant::now();
        let n = 4_000_000u64;
        let v = pool.map(id, 0..n)?;
        assert!(v.iter().copied().eq(0..n));
        println!("map auto {:.2}M/s", n as f64 / t.elapsed().as_secs_f64() / 1e6);
        let t = Instant::now();
        let n = 100_000;
        let s: u64 = pool.imap(id, 0..n)?.map(|r| r.unwrap()).sum();
        assert_eq!(s, n * (n - 1) / 2);
        println!("imap {:.2}M/s", n as f64 / t.elapsed().as_secs_f64() / 1e6);
        for m in [StartMethod::Spawn, StartMethod::ForkServer] {
            let c = Context::new(m);
            let t = Instant::now();
            for _ in 0..200 {
                Process::builder(|| ()).context(&c).start()?.join()?;
            }
            println!("{m:?} {:?}", t.elapsed() / 200);
        }
    }
    pool.close();
    pool.join()?;
    Ok(())
}
