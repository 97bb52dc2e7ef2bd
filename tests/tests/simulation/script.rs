//! What happens in a run: which step comes when, from the seed.

mod commands;

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use rulemill_tests::random::{Random, from_environment};

use crate::{
    feed::{Feed, Mix},
    model::Event,
    world::{End, Request, Settings, World},
};

/// Steps of a run.
const STEPS: usize = 900;

/// After so many failures no further seed is begun.
const FAILURES_MAX: u64 = 4;

/// What happens at least ten times in a thousand runs, or the script no longer tries what it says.
const OFTEN: [&str; 31] = [
    "a change while a plugin is rebuilt",
    "a column is added",
    "a column is dropped that a rule names",
    "a column is dropped that no rule names",
    "a crash",
    "a crash while a plugin is rebuilt",
    "a gap that was skipped",
    "a key for another body",
    "a plugin goes",
    "a plugin is refused",
    "a rebuild is to be given up",
    "a rebuild since the log has forgotten",
    "a rebuild that a start gives up",
    "a rebuild that a version begins again",
    "a rebuild that goes on after a start",
    "a rebuild that was switched in",
    "a restart",
    "a restart while a plugin is rebuilt",
    "a rule for timers is paused",
    "a rule for timers is resumed",
    "a rule goes on with another version",
    "a rule that a switch has left behind",
    "a rule that the log has left behind",
    "a rule whose column is gone",
    "a skipped change is asked for by its number",
    "all is mended, and as if nothing had failed",
    "one dead letter is dropped",
    "one dead letter is retried",
    "parked changes are dropped",
    "the log is pruned",
    "timers fire as a rule catches up",
];

/// Fewer runs than these may miss some.
const OFTEN_RUNS: u64 = 500;

/// How one run differs from another.
#[derive(Debug)]
struct Profile {
    mix: Mix,
    /// How eager the committer is: one step in so many.
    hand_over_in: u64,
    settle_in: u64,
    /// One step in so many is a command, a crash, a failing disk.
    command_in: u64,
    crash_in: u64,
    fail_in: u64,
    /// Transactions that are decided as one, at the most.
    merged_max: u64,
}

struct Run {
    world: World,
    feed: Feed,
    profile: Profile,
    requests: u64,
}

fn pick<T: Copy>(random: &mut Random, of: &[T]) -> T {
    of[random.below(of.len() as u64) as usize]
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x9909_f11e);
        let mut limits = Settings::limits();
        limits.batch_changes_max = pick(&mut random, &[3, 16, 64, 64, 4_096, 4_096]);
        limits.commit_changes_max = pick(&mut random, &[5, 60, 131_072]);
        limits.scan_page_rows_max = pick(&mut random, &[1, 3, 1_024]);
        let is_loose = random.one_in(3);
        // Where there is little room, which change finds none depends on the batches.
        if is_loose {
            limits.dead_letters_max = pick(&mut random, &[3, 12, 100_000, 100_000]);
        }
        let mix = Mix {
            flaw_in: pick(&mut random, &[0, 10, 30, 100]),
            changes_max: pick(&mut random, &[3, 6, 20]),
            keys: pick(&mut random, &[8, 25, 90]),
            schema_in: pick(&mut random, &[0, 15, 60]),
        };
        let profile = Profile {
            mix,
            hand_over_in: pick(&mut random, &[2, 4, 12]),
            settle_in: pick(&mut random, &[2, 4, 12]),
            command_in: pick(&mut random, &[20, 40, 90]),
            crash_in: pick(&mut random, &[200, 500, 1_000]),
            fail_in: pick(&mut random, &[300, 900, 1_000_000]),
            merged_max: pick(&mut random, &[1, 2, 5]),
        };
        let settings = Settings { limits, is_loose };
        Self {
            world: World::new(seed, settings),
            feed: Feed::new(seed, mix),
            profile,
            requests: 0,
        }
    }

    fn run(&mut self) -> Result<(), String> {
        let mut end = self.world.start();
        while self.world.steps < STEPS {
            end = match end {
                Ok(()) => self.step(),
                Err(End::Disk) => self.world.crash().and_then(|()| self.world.check()),
                Err(End::Wrong(what)) => return Err(what),
            };
        }
        loop {
            end = match end {
                Ok(()) => match self.finish() {
                    Ok(()) => return Ok(()),
                    Err(end) => Err(end),
                },
                Err(End::Disk) => self.world.crash().and_then(|()| self.world.check()),
                Err(End::Wrong(what)) => return Err(what),
            };
        }
    }

    fn step(&mut self) -> Result<(), End> {
        let (profile, world) = (&self.profile, &mut self.world);
        let random = &mut world.random;
        if random.one_in(profile.crash_in) {
            return if random.one_in(3) {
                self.restart()
            } else {
                world.crash()?;
                world.check()
            };
        }
        if random.one_in(profile.fail_in) {
            let operations = random.below(60);
            world.disk.fail_after(operations);
            world.note(format_args!("the disk fails after {operations} operations"));
            return Ok(());
        }
        if random.one_in(profile.command_in) {
            return self.command();
        }
        if random.one_in(profile.hand_over_in) {
            return world.hand_over();
        }
        if random.one_in(profile.settle_in) {
            world.commit()?;
            // Between the disk and the engine's knowing, more may happen.
            return match world.random.one_in(3) {
                true => Ok(()),
                false => world.settle(),
            };
        }
        match random.below(10) {
            0 => world.settle(),
            1 | 2 => {
                world.step_behind()?;
                Ok(())
            }
            3 => self.tick(),
            4 => self.request(),
            _ => self.source(),
        }
    }

    fn source(&mut self) -> Result<(), End> {
        let world = &mut self.world;
        if world.engine().is_full() {
            return Ok(());
        }
        let mut batches = Vec::new();
        let mut count = 1 + world.random.below(self.profile.merged_max) as usize;
        while count > 0 {
            let batch = 1 + world.random.below(count as u64) as usize;
            batches.push(batch);
            count -= batch;
        }
        let needed: usize = world.position + batches.iter().sum::<usize>();
        while world.sent.len() < needed {
            let transaction = self.feed.transaction();
            world.sent.push(transaction);
        }
        world.source(&batches)
    }

    fn request(&mut self) -> Result<(), End> {
        let world = &mut self.world;
        if world.engine().is_full() {
            return Ok(());
        }
        if let Some(request) = world.unanswered.pop_front() {
            return world.request(request, false);
        }
        if !world.answered.is_empty() && world.random.one_in(3) {
            let place = world.random.below(world.answered.len() as u64) as usize;
            let request = world.answered[place].clone();
            let other_body = world.random.one_in(3);
            return world.request(request, other_body);
        }
        self.requests += 1;
        let request = Request {
            id: self.requests,
            said: self.feed.transaction(),
        };
        world.request(request, false)
    }

    fn tick(&mut self) -> Result<(), End> {
        let world = &mut self.world;
        let now = self.feed.now().max(world.now()) + world.random.below(30) as i64;
        world.clock.store(now, Ordering::SeqCst);
        world.command(Event::Tick { clock: now })
    }

    fn finish(&mut self) -> Result<(), End> {
        while let Some(request) = self.world.unanswered.pop_front() {
            self.world.request(request, false)?;
        }
        self.world.mend()
    }
}

/// What a run has come to.
#[derive(Debug, Default)]
struct Done {
    steps: usize,
    entries: usize,
    /// How often what has happened.
    counts: BTreeMap<&'static str, u64>,
}

impl Done {
    fn of(run: &mut Run) -> Self {
        let world = &mut run.world;
        let mut counts = std::mem::take(&mut world.counts);
        counts.insert("a column is added", run.feed.added);
        counts.insert("a column is dropped that no rule names", run.feed.dropped);
        counts.insert(
            "a column is dropped that a rule names",
            run.feed.dropped_named,
        );
        if !world.settings.is_loose {
            counts.extend(world.model().outcomes.clone());
        }
        Self {
            steps: world.steps,
            entries: world.history.len(),
            counts,
        }
    }

    fn add(&mut self, other: Self) {
        self.steps += other.steps;
        self.entries += other.entries;
        for (kind, count) in other.counts {
            *self.counts.entry(kind).or_default() += count;
        }
    }
}

/// One run, or what went wrong and the last steps before.
fn simulate(seed: u64) -> Result<Done, String> {
    let mut run = Run::new(seed);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run.run()));
    let wrong = match result {
        Ok(Ok(())) => return Ok(Done::of(&mut run)),
        Ok(Err(wrong)) => wrong,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            format!("a panic: {}", text.unwrap_or_default())
        }
    };
    let last: Vec<_> = run.world.trace.iter().cloned().collect();
    Err(format!(
        "The last steps of seed {seed}, {:?}, {:?}:\n{}\n\nseed {seed}: {wrong}\n\nRepeat it with\n  RULEMILL_SEED={seed} RULEMILL_SEEDS=1 cargo test --workspace --test simulation seeds",
        run.profile,
        run.world.settings,
        last.join("\n"),
    ))
}

#[test]
fn seeds_end_as_the_recomputation_says() {
    let first = from_environment("RULEMILL_SEED", 1);
    let count = from_environment("RULEMILL_SEEDS", 2_000);
    let started = Instant::now();
    let next = AtomicU64::new(first);
    let failed = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let results: Vec<_> = std::thread::scope(|scope| {
        let work = || {
            let mut done = Vec::new();
            while failed.load(Ordering::SeqCst) < FAILURES_MAX {
                let seed = next.fetch_add(1, Ordering::SeqCst);
                if seed >= first + count {
                    break;
                }
                let result = simulate(seed);
                if result.is_err() {
                    failed.fetch_add(1, Ordering::SeqCst);
                }
                done.push(result);
            }
            done
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| thread.join().unwrap();
        threads.into_iter().flat_map(join).collect()
    });
    let mut wrong = Vec::new();
    let mut all = Done::default();
    for result in results {
        match result {
            Ok(done) => all.add(done),
            Err(failure) => wrong.push(failure),
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of the first seeds failed.\n\n{}",
        wrong.len(),
        wrong.join("\n\n")
    );
    println!(
        "{count} seeds from {first}: {} steps, {} accepted events in {:.1?}",
        all.steps,
        all.entries,
        started.elapsed()
    );
    for (kind, count) in &all.counts {
        println!("{count:>8}  {kind}");
    }
    if count >= OFTEN_RUNS {
        let times = |kind: &&str| all.counts.get(*kind).copied().unwrap_or_default();
        let is_rare = |kind: &&str| times(kind) * 100 < count;
        let rare: Vec<_> = OFTEN.into_iter().filter(is_rare).collect();
        assert!(rare.is_empty(), "hardly ever in {count} seeds: {rare:?}");
    }
}
