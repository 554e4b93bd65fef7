//! The life of a daemon: owned long tasks, signals, an orderly end.
//!
//! A long task that ends on its own, by a value, an error or a panic, is a defect: the process would go on looking alive
//! while part of its work is dead. [`Process::spawn`] therefore makes every such end stop the whole process with an error,
//! and the kubelet starts it afresh.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How a process ended other than by a signal and in order.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// A long task ended although nobody had asked for it.
    #[error("task {task} ended unexpectedly: {how}; stopping, so that the process is started afresh")]
    TaskEnded {
        /// The name given to [`Process::spawn`].
        task: String,
        /// Its error, or how else it ended.
        how: String,
    },
    /// Tasks did not end in the time given to them.
    #[error("{left} tasks still ran {after:?} after the stop signal")]
    Stuck {
        /// How many.
        left: usize,
        /// The grace period.
        after: Duration,
    },
    /// Signal handlers could not be installed.
    #[error("failed to listen for signals: {0}")]
    Signals(#[source] Arc<std::io::Error>),
}

/// The tasks of this process and the token that ends them.
#[derive(Clone, Debug, Default)]
pub struct Process {
    token: CancellationToken,
    tracker: TaskTracker,
    failure: Arc<Mutex<Option<Error>>>,
}

impl Process {
    /// A process without tasks.
    pub fn new() -> Self {
        Self::default()
    }

    /// The token that is cancelled when the process is to stop. Every long task watches it.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Asks all tasks to stop.
    pub fn stop(&self) {
        self.token.cancel();
    }

    /// Has the process been asked to stop?
    pub fn is_stopping(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Runs `task` until it ends or the process is to stop, whichever comes first: for tasks that may be dropped at any await.
    pub fn until_stop<F: Future<Output = ()> + Send>(&self, task: F) -> impl Future<Output = ()> + Send + use<F> {
        let token = self.token();
        async move {
            token.run_until_cancelled(task).await;
        }
    }

    /// Starts a task that lives as long as the process. If it ends before the stop signal, or panics or fails after it, the
    /// process stops with an error that carries `name`.
    pub fn spawn<E: std::fmt::Display>(
        &self,
        name: impl Into<String>,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let (name, process) = (name.into(), self.clone());
        self.tracker.spawn(async move {
            let how = match std::panic::AssertUnwindSafe(task).catch_unwind().await {
                Ok(Ok(())) if process.is_stopping() => return,
                Ok(Ok(())) => "it came to its end".to_owned(),
                Ok(Err(error)) => error.to_string(),
                Err(panic) => format!("it panicked: {}", panic_text(panic.as_ref())),
            };
            process.fail(Error::TaskEnded { task: name, how });
        });
    }

    /// As [`Self::spawn`], for a task that cannot fail.
    pub fn spawn_infallible(&self, name: impl Into<String>, task: impl Future<Output = ()> + Send + 'static) {
        self.spawn(name, async move {
            task.await;
            Ok::<_, std::convert::Infallible>(())
        });
    }

    /// Runs `task` until `stop` is cancelled or the process is to stop, and drops it then. If it ends before, or panics, the
    /// process stops with an error that carries `name`.
    pub fn spawn_until(
        &self,
        name: impl Into<String>,
        stop: CancellationToken,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let (name, process) = (name.into(), self.clone());
        self.tracker.spawn(async move {
            let task = async {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => true,
                    () = process.token.cancelled() => true,
                    () = task => false,
                }
            };
            let how = match std::panic::AssertUnwindSafe(task).catch_unwind().await {
                Ok(true) => return,
                Ok(false) => "it came to its end".to_owned(),
                Err(panic) => format!("it panicked: {}", panic_text(panic.as_ref())),
            };
            process.fail(Error::TaskEnded { task: name, how });
        });
    }

    /// Starts a short task that may end at any time, but which a stopping process waits for.
    pub fn spawn_short(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(task);
    }

    /// Records why the process has to stop, and stops it. The first reason counts.
    pub fn fail(&self, error: Error) {
        tracing::error!(%error, "stopping");
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(error);
        self.token.cancel();
    }

    /// Waits for SIGTERM, SIGINT or the first failure, then up to `grace` for the tasks. The error is what the process
    /// should end with a non-zero status for.
    pub async fn run(&self, grace: Duration) -> Result<(), Error> {
        self.signalled().await?;
        self.finish(grace).await
    }

    /// Waits for SIGTERM, SIGINT or the first failure. After a signal all tasks go on until [`Self::finish`].
    pub async fn signalled(&self) -> Result<(), Error> {
        let listen = |kind| signal(kind).map_err(|error| Error::Signals(Arc::new(error)));
        let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
        tokio::select! {
            _ = terminate.recv() => tracing::info!(signal = "SIGTERM", "stopping"),
            _ = interrupt.recv() => tracing::info!(signal = "SIGINT", "stopping"),
            () = self.token.cancelled() => {}
        }
        Ok(())
    }

    /// Stops all tasks and waits for them for up to `grace`.
    pub async fn finish(&self, grace: Duration) -> Result<(), Error> {
        self.token.cancel();
        self.tracker.close();
        let drained = tokio::time::timeout(grace, self.tracker.wait()).await.is_ok();
        if let Some(error) = self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            return Err(error);
        }
        if drained {
            Ok(())
        } else {
            Err(Error::Stuck {
                left: self.tracker.len(),
                after: grace,
            })
        }
    }
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn a_task_that_ends_by_itself_stops_the_process() {
        let process = Process::new();
        process.spawn_infallible("watch pools", async {});
        process.token().cancelled().await;
        let error = process.finish(GRACE).await.unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("task watch pools ended unexpectedly: it came to its end"),
            "{error}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_stops_the_process_and_is_told() {
        let process = Process::new();
        process.spawn_infallible("watch pools", async { panic!("no such luck") });
        process.token().cancelled().await;
        assert!(
            process
                .finish(GRACE)
                .await
                .unwrap_err()
                .to_string()
                .contains("it panicked: no such luck")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn tasks_that_end_after_the_signal_are_in_order() {
        let process = Process::new();
        let token = process.token();
        process.spawn_infallible("watch pools", async move { token.cancelled().await });
        process.stop();
        assert!(process.finish(GRACE).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_stop_is_reported() {
        let process = Process::new();
        process.spawn_infallible("watch pools", std::future::pending());
        assert!(matches!(process.finish(GRACE).await, Err(Error::Stuck { left: 1, .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_while_stopping_is_not_hidden() {
        let process = Process::new();
        process.spawn("lease", async { Err::<(), _>("writers went on") });
        assert!(
            process
                .finish(GRACE)
                .await
                .unwrap_err()
                .to_string()
                .contains("writers went on")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_with_its_own_stop_ends_alone_but_not_of_itself() {
        let (process, stop) = (Process::new(), CancellationToken::new());
        process.spawn_until("watch a", stop.clone(), std::future::pending());
        stop.cancel();
        tokio::task::yield_now().await;
        assert!(!process.is_stopping());
        process.spawn_until("watch b", CancellationToken::new(), std::future::pending());
        process.spawn_until("watch c", CancellationToken::new(), async { panic!("no such luck") });
        process.token().cancelled().await;
        let error = process.finish(GRACE).await.unwrap_err().to_string();
        assert!(error.contains("watch c") && error.contains("no such luck"), "{error}");
    }
}
