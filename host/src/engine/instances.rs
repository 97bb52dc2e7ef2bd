//! Instances made and dropped aside.
//!
//! A panic costs a plugin its instance. While panics are to be expected a thread has the next one ready and takes the old
//! ones apart, so that the engine waits for neither. Where nothing is ready, or there is no thread (the engine without
//! threads, or the system refuses one), the engine does it itself: what is made is the same.

use std::{
    sync::Arc,
    thread::{self, JoinHandle},
};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::rule::{Fault, Instance, Plugin};

use super::Engine;

/// Instances that wait to be made or dropped, at the most: a plugin that takes long must not have others' pile up.
const JOBS_MAX: usize = 8;

enum Job {
    Make(Arc<dyn Plugin>, Sender<Result<Box<dyn Instance>, Fault>>),
    Drop(Box<dyn Instance>),
}

/// Where instances are made and dropped.
#[derive(Default)]
pub(super) struct Workshop {
    jobs: Option<(Sender<Job>, JoinHandle<()>)>,
    /// There is to be a thread, once something is ordered.
    may_open: bool,
}

/// An instance that is being made, or waits to be used.
pub(super) type Spare = Receiver<Result<Box<dyn Instance>, Fault>>;

impl Workshop {
    /// One with a thread of its own, from its first order on.
    pub(super) fn with_thread() -> Self {
        Self {
            jobs: None,
            may_open: true,
        }
    }

    fn open(&mut self) {
        self.may_open = false;
        let (jobs, work) = bounded(JOBS_MAX);
        let thread = thread::Builder::new().name("instances".into());
        let thread = thread.spawn(move || {
            for job in work {
                match job {
                    // Nobody waits for it if the plugin has been replaced.
                    Job::Make(plugin, spare) => drop(spare.send(plugin.instantiate())),
                    Job::Drop(instance) => drop(instance),
                }
            }
        });
        match thread {
            Ok(thread) => self.jobs = Some((jobs, thread)),
            Err(error) => {
                tracing::warn!(%error, "no thread for new instances: faults take longer");
            }
        }
    }

    /// Begins to make an instance; `None` if there is nobody to do so.
    pub(super) fn order(&mut self, plugin: &Arc<dyn Plugin>) -> Option<Spare> {
        if self.may_open {
            self.open();
        }
        let (jobs, _) = self.jobs.as_ref()?;
        let (spare, made) = bounded(1);
        jobs.try_send(Job::Make(plugin.clone(), spare)).ok()?;
        Some(made)
    }

    /// Drops an instance.
    pub(super) fn discard(&self, instance: Box<dyn Instance>) {
        if let Some((jobs, _)) = &self.jobs {
            match jobs.try_send(Job::Drop(instance)) {
                // What comes back is dropped here.
                Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
            }
        }
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        if let Some((jobs, thread)) = self.jobs.take() {
            drop(jobs);
            if thread.join().is_err() {
                tracing::error!("the thread that makes instances panicked");
            }
        }
    }
}

impl Engine {
    /// Sees to it that the plugin has an instance, and that another is at hand if it may soon lose this one.
    pub(super) fn renew_instance(&mut self, plugin: usize) -> Result<(), Fault> {
        let linked = &mut self.plugins[plugin];
        if linked.instance.is_none() {
            let spare = linked
                .spare
                .as_ref()
                .and_then(|spare| spare.try_recv().ok());
            linked.instance = Some(match spare {
                Some(made) => {
                    linked.spare = None;
                    made?
                }
                None => linked.plugin.instantiate()?,
            });
        }
        if linked.wary == 0 {
            linked.spare = None;
        } else if linked.spare.is_none() {
            linked.spare = self.workshop.order(&linked.plugin);
        }
        Ok(())
    }

    /// Drops the plugin's instance: its last effects don't count.
    pub(super) fn drop_instance(&mut self, plugin: usize) {
        if let Some(instance) = self.plugins[plugin].instance.take() {
            self.workshop.discard(instance);
        }
    }
}
