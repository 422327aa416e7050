//! The files that the rules look at: what git tracks or would track, never build output.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::lexer;

/// Folders that hold no sources; only needed where there is no git to ask.
const OUTPUT_FOLDERS: [&str; 4] = [".git", "target", "node_modules", "dist"];

/// A text file of the repository.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// Path from the repository's root, with `/`.
    pub path: String,
    /// The whole text.
    pub text: String,
    /// The text with comments and literals blanked, for `.rs` files; empty for others.
    pub code: String,
}

impl SourceFile {
    /// Takes a path from the root and the text.
    pub fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        let (path, text) = (path.into(), text.into());
        let code = if is_rust(&path) { lexer::mask(&text) } else { String::new() };
        Self { path, text, code }
    }

    /// Whether it is Rust source.
    #[must_use]
    pub fn is_rust(&self) -> bool {
        is_rust(&self.path)
    }
}

/// All text files of the checkout.
#[derive(Debug, Default)]
pub struct Repository {
    /// In the order of their paths.
    pub files: Vec<SourceFile>,
}

impl Repository {
    /// Reads the checkout at `root`. Files that are not UTF-8 are left out: no rule is about them.
    ///
    /// # Errors
    /// When a listed file exists and cannot be read.
    pub fn load(root: &Path) -> io::Result<Self> {
        let mut paths = match tracked_paths(root) {
            Some(paths) => paths,
            None => walked_paths(root)?,
        };
        paths.sort();
        let mut files = Vec::new();
        for path in paths {
            match std::fs::read(root.join(&path)) {
                Ok(bytes) => {
                    files.extend(String::from_utf8(bytes).ok().map(|text| SourceFile::new(path, text)))
                }
                // Deleted but not yet committed, or a link to a folder.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) if error.kind() == io::ErrorKind::IsADirectory => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self { files })
    }

    /// A repository of the given files.
    #[must_use]
    pub fn of(files: &[(&str, &str)]) -> Self {
        Self { files: files.iter().map(|(path, text)| SourceFile::new(*path, *text)).collect() }
    }

    /// The file at a path from the root.
    #[must_use]
    pub fn file(&self, path: &str) -> Option<&SourceFile> {
        self.files.iter().find(|file| file.path == path)
    }

    /// All Rust sources.
    pub fn rust(&self) -> impl Iterator<Item = &SourceFile> {
        self.files.iter().filter(|file| file.is_rust())
    }
}

fn is_rust(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|extension| extension == "rs")
}

/// `None` where there is no git or no repository, as in an unpacked source archive.
fn tracked_paths(root: &Path) -> Option<Vec<String>> {
    let output = Command::new("git")
        // A runner's checkout may belong to another user; listing it is harmless.
        .args(["-c", "safe.directory=*", "ls-files", "-co", "--exclude-standard", "-z"])
        .current_dir(root)
        .output()
        .ok()?;
    if !output.status.success() {
        return None;
    }
    let listing = String::from_utf8_lossy(&output.stdout).into_owned();
    Some(listing.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect())
}

fn walked_paths(root: &Path) -> io::Result<Vec<String>> {
    let mut paths = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root.join(&folder))? {
            let entry = entry?;
            let name = entry.file_name();
            let path = folder.join(&name);
            if !entry.file_type()?.is_dir() {
                paths.push(path.to_string_lossy().into_owned());
            } else if !OUTPUT_FOLDERS.iter().any(|output| name == *output) {
                folders.push(path);
            }
        }
    }
    Ok(paths)
}
