use super::*;
use spiderpool_wire::journal::{encode, file_name, unfinished_name};
use std::collections::BTreeMap;
use std::sync::Mutex;
use tokio::sync::mpsc;

const PATIENCE: Duration = Duration::from_secs(20);

fn args(container: &str) -> IpamDelArgs {
    IpamDelArgs {
        container_id: container.to_owned(),
        if_name: "eth0".to_owned(),
        ..IpamDelArgs::default()
    }
}

/// Leaves an entry as the plugin does.
fn leave(folder: &Path, container: &str) {
    let (name, text) = (file_name(&args(container)).unwrap(), encode(&args(container)).unwrap());
    let fresh = folder.join(unfinished_name(&name, 1));
    fs::write(&fresh, text).unwrap();
    fs::rename(fresh, folder.join(name)).unwrap();
}

/// A journal that is being taken up; each DEL fails as often as the number at the end of its container's name says.
struct Replay {
    folder: tempfile::TempDir,
    served: mpsc::UnboundedReceiver<String>,
    task: tokio::task::JoinHandle<()>,
}

impl Replay {
    fn start(folder: tempfile::TempDir) -> Self {
        let path = folder.path().to_owned();
        Self::start_in(folder, path)
    }

    fn start_in(folder: tempfile::TempDir, path: PathBuf) -> Self {
        let (sender, served) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            let failures = Mutex::new(BTreeMap::<String, u32>::new());
            let serve = |args: IpamDelArgs| {
                let container = args.container_id;
                let wanted = container
                    .chars()
                    .last()
                    .and_then(|last| last.to_digit(10))
                    .unwrap_or_default();
                let mut failures = failures.lock().unwrap();
                let so_far = failures.entry(container.clone()).or_default();
                *so_far += 1;
                let done = *so_far > wanted;
                if done {
                    sender.send(container).unwrap();
                }
                async move { done }
            };
            replay(&path, serve).await.unwrap();
        });
        Self { folder, served, task }
    }

    async fn next(&mut self) -> String {
        tokio::time::timeout(PATIENCE, self.served.recv())
            .await
            .unwrap()
            .unwrap()
    }

    /// Waits until nothing is left: an entry goes right after it was served.
    async fn emptied(&self) {
        let watch = Watch::new(self.folder.path(), WatchFlags::DELETE).unwrap();
        while fs::read_dir(self.folder.path()).unwrap().next().is_some() {
            let changed = tokio::time::timeout(PATIENCE, watch.changed()).await;
            changed.unwrap().unwrap();
        }
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test]
async fn what_was_left_before_and_what_comes_later_is_served_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    leave(folder.path(), "early");
    let mut replay = Replay::start(folder);
    assert_eq!(replay.next().await, "early");
    for container in ["a", "b", "c"] {
        leave(replay.folder.path(), container);
        assert_eq!(replay.next().await, container);
    }
    replay.emptied().await;
}

#[tokio::test]
async fn what_fails_stays_and_is_tried_again_without_holding_up_others() {
    let folder = tempfile::tempdir().unwrap();
    leave(folder.path(), "fails-2");
    leave(folder.path(), "works");
    let mut replay = Replay::start(folder);
    assert_eq!(replay.next().await, "works");
    assert_eq!(replay.next().await, "fails-2");
    replay.emptied().await;
}

#[tokio::test]
async fn a_folder_that_is_removed_or_renamed_and_made_again_is_taken_up() {
    let host = tempfile::tempdir().unwrap();
    let folder = host.path().join("journal");
    let mut replay = Replay::start_in(host, folder.clone());
    fs::create_dir_all(&folder).unwrap();
    leave(&folder, "first");
    assert_eq!(replay.next().await, "first");
    fs::remove_dir_all(&folder).unwrap();
    fs::create_dir_all(&folder).unwrap();
    leave(&folder, "second");
    assert_eq!(replay.next().await, "second");
    fs::rename(&folder, folder.with_extension("old")).unwrap();
    fs::create_dir_all(&folder).unwrap();
    leave(&folder, "third");
    assert_eq!(replay.next().await, "third");
}

#[tokio::test]
async fn a_crash_may_cut_an_entry_at_any_byte() {
    let folder = tempfile::tempdir().unwrap();
    let text = encode(&args("cut")).unwrap();
    for length in 0..text.len() {
        // under an entry's name, as no writer leaves it but a broken disk may
        fs::write(folder.path().join(format!("cut-{length}@eth0.del")), &text[..length]).unwrap();
        // and as a writer that dies leaves it
        let unfinished = folder.path().join(unfinished_name("cut@eth0.del", length as u32));
        let file = fs::File::create(&unfinished).unwrap();
        std::io::Write::write_all(&mut &file, &text[..length]).unwrap();
        let long_ago = std::time::SystemTime::now() - 2 * ABANDONED;
        file.set_modified(long_ago).unwrap();
    }
    leave(folder.path(), "whole");
    let mut replay = Replay::start(folder);
    assert_eq!(replay.next().await, "whole");
    replay.emptied().await;
    assert!(replay.served.try_recv().is_err());
}

#[test]
fn a_file_that_is_being_written_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let unfinished = folder.path().join(unfinished_name("c@eth0.del", 1));
    fs::write(&unfinished, "{").unwrap();
    fs::write(folder.path().join("README"), "not ours").unwrap();
    assert_eq!(entries(folder.path()).unwrap(), Vec::<PathBuf>::new());
    assert!(unfinished.exists());
}
