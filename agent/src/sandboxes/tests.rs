use super::*;
use std::fs::File;
use std::os::unix::fs::symlink;
use tempfile::TempDir;

const AT_WORK: Duration = Duration::from_secs(240);

/// A node with its folders.
struct Host(TempDir);

impl Host {
    fn new() -> Self {
        let host = Self(tempfile::tempdir().unwrap());
        for folder in ["cni/results", "netns"] {
            fs::create_dir_all(host.path(folder)).unwrap();
        }
        host
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn sandboxes(&self, memory: Memory) -> Sandboxes {
        Sandboxes::new(
            &self.path("cni"),
            &self.path("netns"),
            &self.path("ended"),
            AT_WORK,
            memory,
        )
    }

    fn result(&self, folder: &str, container: &str, uid: &str, netns: &str) {
        let netns = if netns.is_empty() {
            String::new()
        } else {
            format!(r#""netns":"{netns}","#)
        };
        let text = format!(
            r#"{{"kind":"cniCacheV1","containerId":"{container}","config":"e30=","ifName":"eth0","networkName":"lan",
            {netns}"cniArgs":[["IgnoreUnknown","1"],["K8S_POD_UID","{uid}"]],"result":{{"ips":[]}}}}"#
        );
        let folder = self.path("cni").join(folder);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("lan-{container}-eth0")), text).unwrap();
    }

    /// A namespace of this name: that of this process.
    fn netns(&self, name: &str) {
        symlink("/proc/self/ns/net", self.path("netns").join(name)).unwrap();
    }
}

async fn word(sandboxes: &Sandboxes, uid: &str) -> Word {
    of(sandboxes, uid, &["c1"]).await.word
}

async fn of(sandboxes: &Sandboxes, uid: &str, containers: &[&str]) -> Said {
    sandboxes.look().await.of(uid, containers)
}

#[tokio::test]
async fn a_result_whose_namespace_is_there_is_a_sandbox() {
    let host = Host::new();
    host.netns("a");
    host.result("results", "c1", "live", "/var/run/netns/a");
    host.result("results", "c2", "dead", "/var/run/netns/b");
    host.result("multus/results", "c3", "of-multus", "/run/netns/a");
    host.result("results", "c4", "elsewhere", "/proc/77/ns/net");
    host.result("results", "c5", "unnamed", "");
    let sandboxes = host.sandboxes(Memory::All);
    for (uid, expected) in [
        ("live", Word::Some),
        ("dead", Word::None),
        ("of-multus", Word::Some),
        ("elsewhere", Word::Unsaid),
        ("unnamed", Word::Unsaid),
        ("unheard-of", Word::None),
    ] {
        assert_eq!(word(&sandboxes, uid).await, expected, "{uid}");
    }
}

#[tokio::test]
async fn a_pod_with_several_results_has_a_sandbox_as_long_as_one_has() {
    let host = Host::new();
    host.netns("a");
    host.result("results", "c1", "u", "/run/netns/gone");
    let sandboxes = host.sandboxes(Memory::All);
    assert_eq!(word(&sandboxes, "u").await, Word::None);
    host.result("multus/results", "c1", "u", "/run/netns/a");
    assert_eq!(word(&sandboxes, "u").await, Word::Some);
}

#[tokio::test]
async fn what_cannot_be_read_says_nothing() {
    let host = Host::new();
    let sandboxes = host.sandboxes(Memory::All);
    fs::write(host.path("cni/results/lan-c1-eth0"), "").unwrap();
    assert_eq!(word(&sandboxes, "u").await, Word::Unsaid);
    assert_eq!(of(&sandboxes, "u", &["c2"]).await.word, Word::None);
    assert_eq!(of(&sandboxes, "u", &[]).await.word, Word::Unsaid);
    fs::remove_file(host.path("cni/results/lan-c1-eth0")).unwrap();
    assert_eq!(word(&sandboxes, "u").await, Word::None);
    // A file, and no namespace.
    host.result("results", "c1", "u", "/run/netns/f");
    fs::write(host.path("netns/f"), "").unwrap();
    assert_eq!(word(&sandboxes, "u").await, Word::Unsaid);
    fs::remove_dir_all(host.path("netns")).unwrap();
    assert_eq!(word(&sandboxes, "u").await, Word::Unsaid);
    fs::remove_dir_all(host.path("cni")).unwrap();
    assert_eq!(word(&sandboxes, "unheard-of").await, Word::Unsaid);
}

#[tokio::test]
async fn other_users_of_libcni_have_no_pods() {
    let host = Host::new();
    let text = r#"{"kind":"cniCacheV1","containerId":"c1","ifName":"eth0","networkName":"podman"}"#;
    fs::write(host.path("cni/results/podman-c1-eth0"), text).unwrap();
    assert_eq!(word(&host.sandboxes(Memory::All), "u").await, Word::None);
}

#[tokio::test(start_paused = true)]
async fn an_add_is_a_sandbox_before_the_runtime_keeps_its_result() {
    let host = Host::new();
    let sandboxes = host.sandboxes(Memory::All);
    host.netns("a");
    sandboxes.added("u", "c1", "/run/netns/a");
    assert_eq!(word(&sandboxes, "u").await, Word::Some);
    fs::remove_file(host.path("netns/a")).unwrap();
    assert_eq!(word(&sandboxes, "u").await, Word::None);
    // Of a namespace that cannot be seen, time tells.
    sandboxes.added("u", "c1", "/proc/77/ns/net");
    let said = of(&sandboxes, "u", &["c1"]).await;
    assert_eq!(said.word, Word::Unsaid);
    assert_eq!(said.again, Some(Instant::now() + AT_WORK));
    tokio::time::advance(AT_WORK).await;
    assert_eq!(word(&sandboxes, "u").await, Word::None);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_was_restarted_waits_for_what_the_one_before_served() {
    let host = Host::new();
    let sandboxes = host.sandboxes(Memory::Own);
    host.result("results", "c1", "dead", "/run/netns/gone");
    assert_eq!(word(&sandboxes, "dead").await, Word::Unsaid);
    tokio::time::advance(AT_WORK).await;
    assert_eq!(word(&sandboxes, "dead").await, Word::None);
}

#[tokio::test(start_paused = true)]
async fn sandboxes_of_pods_that_nobody_knows_are_forgotten() {
    let host = Host::new();
    let sandboxes = host.sandboxes(Memory::All);
    host.netns("a");
    sandboxes.added("u", "c1", "/run/netns/a");
    let known = || sandboxes.added.lock().unwrap().len();
    sandboxes.forget(|_| false);
    assert_eq!(known(), 1);
    tokio::time::advance(AT_WORK).await;
    sandboxes.forget(|uid| uid == "u");
    assert_eq!(known(), 1);
    sandboxes.forget(|_| false);
    assert_eq!(known(), 0);
}

#[tokio::test(start_paused = true)]
async fn of_a_pod_whose_add_keeps_failing_only_what_may_count_is_remembered() {
    let host = Host::new();
    let sandboxes = host.sandboxes(Memory::All);
    host.netns("a");
    fs::write(host.path("netns/f"), "").unwrap();
    for (container, netns) in [
        ("c1", "/run/netns/a"),
        ("c2", "/run/netns/gone"),
        ("c3", "/proc/77/ns/net"),
        ("c4", "/run/netns/f"),
    ] {
        sandboxes.added("u", container, netns);
    }
    sandboxes.added("v", "c5", "/run/netns/gone");
    let known = |uid: &str| {
        let added = sandboxes.added.lock().unwrap();
        let of_pod = added.get(uid).into_iter().flatten();
        of_pod.map(|add| add.container.clone()).collect::<Vec<_>>()
    };
    sandboxes.forget(|_| true);
    assert_eq!(known("u").len(), 4);
    tokio::time::advance(AT_WORK).await;
    sandboxes.added("u", "c6", "/run/netns/gone");
    sandboxes.forget(|_| true);
    assert_eq!(known("u"), ["c1", "c6"]);
    assert!(!sandboxes.added.lock().unwrap().contains_key("v"));
}

#[tokio::test]
async fn a_file_that_is_older_than_this_boot_is_about_no_sandbox() {
    let host = Host::new();
    let booted = SystemTime::now();
    let mut sandboxes = host.sandboxes(Memory::All);
    let path = host.path("cni/results/lan-c1-eth0");
    fs::write(&path, "").unwrap();
    let written = |at: SystemTime| {
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(at)
            .unwrap()
    };
    let told = |sandboxes: &Sandboxes| sandboxes.told.lock().unwrap().len();
    for (boot, at, expected) in [
        (Some(booted), booted - Duration::from_secs(1), Word::None),
        (Some(booted), booted + Duration::from_secs(1), Word::Unsaid),
        (None, booted - Duration::from_secs(1), Word::Unsaid),
    ] {
        sandboxes.booted = boot;
        written(at);
        assert_eq!(of(&sandboxes, "u", &[]).await.word, expected, "{boot:?} {at:?}");
        assert_eq!(of(&sandboxes, "u", &["c1"]).await.word, expected, "{boot:?} {at:?}");
        assert_eq!(told(&sandboxes), 1);
    }
    fs::remove_file(&path).unwrap();
    assert_eq!(of(&sandboxes, "u", &[]).await.word, Word::None);
    assert_eq!(told(&sandboxes), 0);
}

#[test]
fn the_kernel_says_when_it_was_started() {
    let stat = "cpu  1 2 3\nctxt 7\nbtime 1700000000\nprocesses 9\n";
    assert_eq!(
        booted_by(stat),
        Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000))
    );
    assert_eq!(booted_by("cpu 1\nbtime soon\n"), None);
}

#[tokio::test(start_paused = true)]
async fn where_results_cannot_be_read_dels_are_remembered_for_some_time() {
    let host = Host::new();
    fs::remove_dir_all(host.path("cni/results")).unwrap();
    host.sandboxes(Memory::Own).ended("c0", "eth0");
    let sandboxes = host.sandboxes(Memory::Own);
    tokio::time::advance(AT_WORK / 2).await;
    sandboxes.ended("c1", "eth0");
    assert!(sandboxes.look().await.is_ended("c0", "eth0"));
    tokio::time::advance(AT_WORK / 2).await;
    let look = sandboxes.look().await;
    assert!(!look.is_ended("c0", "eth0") && look.is_ended("c1", "eth0"));
    tokio::time::advance(AT_WORK / 2).await;
    assert!(!sandboxes.look().await.is_ended("c1", "eth0"));
    assert_eq!(fs::read_dir(host.path("ended")).unwrap().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_del_is_remembered_for_some_time_after_the_result_is_gone() {
    let host = Host::new();
    let sandboxes = host.sandboxes(Memory::Own);
    sandboxes.ended("c1", "eth0");
    tokio::time::advance(AT_WORK / 2).await;
    assert!(sandboxes.look().await.is_ended("c1", "eth0"));
    // The agent that died in the middle of it had its endpoint left.
    assert!(host.sandboxes(Memory::Own).look().await.is_ended("c1", "eth0"));
    tokio::time::advance(AT_WORK / 2).await;
    assert!(!sandboxes.look().await.is_ended("c1", "eth0"));
    assert_eq!(fs::read_dir(host.path("ended")).unwrap().count(), 0);
}

#[test]
fn the_first_agent_after_a_start_of_the_machine_knows_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    for (boot, expected) in [
        // There may have been one that left no note.
        ("one", Memory::Own),
        ("one", Memory::Own),
        ("two", Memory::All),
        ("two", Memory::Own),
    ] {
        assert_eq!(memory_of(&path, boot).unwrap(), expected, "{boot}");
    }
}

#[tokio::test(start_paused = true)]
async fn attachments_of_ours_are_known_with_their_addresses_until_they_are_taken_down() {
    let host = Host::new();
    host.netns("a");
    for (container, config) in [
        // {"plugins":[{"type":"macvlan","ipam":{"type":"spiderpool"}},{"type":"coordinator"}]}
        (
            "c1",
            "eyJwbHVnaW5zIjpbeyJ0eXBlIjoibWFjdmxhbiIsImlwYW0iOnsidHlwZSI6InNwaWRlcnBvb2wifX0seyJ0eXBlIjoiY29vcmRpbmF0b3IifV19",
        ),
        // {"ipam":{"type":"host-local"}}
        ("c2", "eyJpcGFtIjp7InR5cGUiOiJob3N0LWxvY2FsIn19"),
    ] {
        let text = format!(
            r#"{{"kind":"cniCacheV1","containerId":"{container}","config":"{config}","ifName":"eth0","networkName":"lan",
            "netns":"/run/netns/a","cniArgs":[["K8S_POD_NAMESPACE","ns"],["K8S_POD_NAME","pod"],["K8S_POD_UID","u"]],
            "result":{{"ips":[{{"address":"10.0.0.1/24"}},{{"address":"fd00::1/64","gateway":"fd00::2"}}]}}}}"#
        );
        fs::write(host.path("cni/results").join(container), text).unwrap();
    }
    let expected = Attachment {
        namespace: "ns".to_owned(),
        pod: "pod".to_owned(),
        uid: "u".to_owned(),
        container: "c1".to_owned(),
        nic: "eth0".to_owned(),
        addresses: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
        netns: Some("/run/netns/a".to_owned()),
    };
    let sandboxes = host.sandboxes(Memory::Own);
    assert_eq!(sandboxes.look().await.attachments(), [&expected]);
    sandboxes.ended("c1", "eth0");
    assert!(sandboxes.look().await.attachments().is_empty());
    // What could be read still counts where something else could not.
    fs::write(host.path("cni/multus"), "").unwrap();
    tokio::time::advance(AT_WORK * 2).await;
    assert!(sandboxes.look().await.attachments().is_empty());
}
