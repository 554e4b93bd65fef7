//! One image as a docker-archive: a layer, a configuration and a manifest in a tar, all dates zero and names sorted.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;

use crate::paths;

/// What is at a path of the image.
enum Entry {
    Folder { mode: u32 },
    File { mode: u32, content: Vec<u8> },
    Link { to: String },
}

/// An image with a single layer.
pub struct Image {
    entries: BTreeMap<String, Entry>,
    user: String,
    entrypoint: Vec<String>,
}

impl Image {
    /// An image with the folders and files that programs rely on, and a user `nonroot` (65532).
    pub fn new() -> Self {
        let mut image = Self {
            entries: BTreeMap::new(),
            user: String::new(),
            entrypoint: Vec::new(),
        };
        image.entries.insert("tmp".into(), Entry::Folder { mode: 0o1777 });
        for folder in ["dev", "proc", "run", "sys", "var"] {
            image.entries.insert(folder.into(), Entry::Folder { mode: 0o755 });
        }
        image.link("var/run", "/run");
        let passwd = "root:x:0:0:root:/:/bin/sh\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n";
        image.file("etc/passwd", 0o644, passwd.into());
        image.file("etc/group", 0o644, "root:x:0:\nnonroot:x:65532:\n".into());
        image
    }

    /// Adds a file; folders on the way are made.
    pub fn file(&mut self, path: &str, mode: u32, content: Vec<u8>) {
        self.parents(path);
        self.entries.insert(path.to_owned(), Entry::File { mode, content });
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, to: &str) {
        self.parents(path);
        self.entries.insert(path.to_owned(), Entry::Link { to: to.to_owned() });
    }

    /// The user that containers run as unless told otherwise.
    pub fn user(&mut self, user: &str) {
        user.clone_into(&mut self.user);
    }

    /// The program that containers run unless told otherwise.
    pub fn entrypoint(&mut self, command: &[&str]) {
        self.entrypoint = command.iter().map(|word| (*word).to_owned()).collect();
    }

    /// The archive under a name with tag.
    pub fn archive(&self, name: &str) -> Result<Vec<u8>> {
        let layer = self.layer().context("composing an image's layer")?;
        let digest = paths::hash(&layer);
        let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let mut config = json!({ "Env": [path] });
        if !self.user.is_empty() {
            config["User"] = json!(self.user);
        }
        if !self.entrypoint.is_empty() {
            config["Entrypoint"] = json!(self.entrypoint);
        }
        let config = json!({
            "architecture": architecture(),
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
            "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "cargo xtask images"}],
        })
        .to_string();
        let config_file = format!("{}.json", paths::hash(config.as_bytes()));
        let layer_file = format!("{digest}/layer.tar");
        let manifest = json!([{"Config": config_file, "RepoTags": [name], "Layers": [layer_file]}]).to_string();
        let mut tar = tar::Builder::new(Vec::new());
        for (file, content) in [
            (&config_file[..], config.as_bytes()),
            (&layer_file, &layer),
            ("manifest.json", manifest.as_bytes()),
        ] {
            append(&mut tar, file, 0o644, content).context("composing an image archive")?;
        }
        tar.into_inner().context("composing an image archive")
    }

    fn layer(&self) -> std::io::Result<Vec<u8>> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, entry) in &self.entries {
            match entry {
                Entry::File { mode, content } => append(&mut tar, path, *mode, content)?,
                Entry::Folder { mode } => {
                    let mut header = header(tar::EntryType::Directory, *mode, 0);
                    tar.append_data(&mut header, format!("{path}/"), std::io::empty())?;
                }
                Entry::Link { to } => {
                    let mut header = header(tar::EntryType::Symlink, 0o777, 0);
                    tar.append_link(&mut header, path, to)?;
                }
            }
        }
        tar.into_inner()
    }

    fn parents(&mut self, path: &str) {
        for (at, _) in path.match_indices('/') {
            self.entries
                .entry(path[..at].to_owned())
                .or_insert(Entry::Folder { mode: 0o755 });
        }
    }
}

impl Default for Image {
    fn default() -> Self {
        Self::new()
    }
}

/// Writes a file unless it has this content already: its date then tells when the content changed.
pub fn write_if_changed(file: &Path, content: &[u8]) -> Result<bool> {
    if std::fs::read(file).is_ok_and(|old| old == content) {
        return Ok(false);
    }
    paths::write_atomically(file, content)?;
    Ok(true)
}

fn append(tar: &mut tar::Builder<Vec<u8>>, path: &str, mode: u32, content: &[u8]) -> std::io::Result<()> {
    let mut header = header(
        tar::EntryType::Regular,
        mode,
        u64::try_from(content.len()).unwrap_or(u64::MAX),
    );
    tar.append_data(&mut header, path, content)
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// The machine's architecture as images call it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn sample() -> Vec<u8> {
        let mut image = Image::new();
        image.file("usr/bin/tool", 0o755, b"x".to_vec());
        image.user("65532:65532");
        image.archive("localhost/tool:v1").unwrap()
    }

    fn files(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
        let mut tar = tar::Archive::new(archive);
        let read = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            assert_eq!(entry.header().mtime().unwrap(), 0);
            (entry.path().unwrap().display().to_string(), content)
        };
        tar.entries().unwrap().map(read).collect()
    }

    #[test]
    fn the_manifest_leads_to_configuration_and_layer() {
        let files: BTreeMap<_, _> = files(&sample()).into_iter().collect();
        let manifest: serde_json::Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
        assert_eq!(manifest[0]["RepoTags"][0], "localhost/tool:v1");
        let config: serde_json::Value =
            serde_json::from_slice(&files[manifest[0]["Config"].as_str().unwrap()]).unwrap();
        let layer = &files[manifest[0]["Layers"][0].as_str().unwrap()];
        assert_eq!(
            config["rootfs"]["diff_ids"][0],
            format!("sha256:{}", paths::hash(layer))
        );
        assert_eq!(config["config"]["User"], "65532:65532");
    }

    #[test]
    fn layers_hold_parents_before_children() {
        let archive = files(&sample());
        let layer = &archive.iter().find(|(name, _)| name.ends_with("layer.tar")).unwrap().1;
        let names: Vec<String> = files(layer).into_iter().map(|(name, _)| name).collect();
        let at = |wanted: &str| {
            names
                .iter()
                .position(|name| name.trim_end_matches('/') == wanted)
                .unwrap()
        };
        assert!(at("usr") < at("usr/bin") && at("usr/bin") < at("usr/bin/tool"));
        assert!(at("var") < at("var/run"));
    }

    #[test]
    fn the_same_content_gives_the_same_archive() {
        assert_eq!(sample(), sample());
        let scratch = tempfile::tempdir().unwrap();
        let file = scratch.path().join("i.tar");
        assert!(write_if_changed(&file, &sample()).unwrap());
        assert!(!write_if_changed(&file, &sample()).unwrap());
    }
}
