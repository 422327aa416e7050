//! Rules about packages: which way dependencies point, and that all share the workspace's lints.
//!
//! The rules take the JSON of `cargo metadata --no-deps`, so that they are tested without cargo.

use serde_json::Value;

use crate::{Repository, Violation};

/// What a package of the product may use of the product. Packages under `tests/` may use all.
const LAYERS: [(&str, &[&str]); 13] = [
    ("tideline-protocol", &[]),
    ("tideline-link", &["tideline-protocol"]),
    ("tideline-twin", &["tideline-protocol"]),
    ("tideline-profiles", &["tideline-protocol"]),
    ("tideline-spool", &["tideline-protocol"]),
    ("tideline-pipeline", &["tideline-protocol", "tideline-profiles"]),
    ("tideline-store", &["tideline-protocol"]),
    ("tideline-formats", &["tideline-protocol"]),
    ("tideline-streams", &["tideline-protocol"]),
    ("tideline-promql", &[]),
    ("tideline-sql", &["tideline-protocol", "tideline-store"]),
    (
        "edge-agent",
        &[
            "tideline-protocol",
            "tideline-link",
            "tideline-twin",
            "tideline-formats",
            "tideline-profiles",
            "tideline-pipeline",
            "tideline-spool",
        ],
    ),
    (
        "cloud-hub",
        &[
            "tideline-protocol",
            "tideline-link",
            "tideline-twin",
            "tideline-profiles",
            "tideline-store",
            "tideline-formats",
            "tideline-streams",
            "tideline-promql",
            "tideline-sql",
        ],
    ),
];

/// The core does no I/O, so it knows nothing that does.
const FORBIDDEN_IN_PROTOCOL: [&str; 6] = ["tokio", "quinn", "rumqttc", "redb", "axum", "polars"];

/// Polars' API churns and its build is most of the hub's: two crates wrap it, one for what is stored and one for SQL.
const POLARS_USERS: [&str; 2] = ["tideline-store", "tideline-sql"];

/// A package of the workspace, as far as the rules care.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Path of its manifest from the root.
    pub manifest: String,
    /// Names of what it depends on, in builds, tests and build scripts.
    pub dependencies: Vec<String>,
}

/// Takes the packages out of the output of `cargo metadata --no-deps --format-version 1`.
/// `None` when it is not of that shape.
#[must_use]
pub fn packages(metadata: &Value) -> Option<Vec<Package>> {
    let root = format!("{}/", metadata.get("workspace_root")?.as_str()?);
    let listed = metadata.get("packages")?.as_array()?;
    listed
        .iter()
        .map(|package| {
            let manifest = package.get("manifest_path")?.as_str()?;
            let dependencies = package.get("dependencies")?.as_array()?;
            let names =
                dependencies.iter().map(|dependency| Some(dependency.get("name")?.as_str()?.to_owned()));
            Some(Package {
                name: package.get("name")?.as_str()?.to_owned(),
                manifest: manifest.strip_prefix(&root).unwrap_or(manifest).to_owned(),
                dependencies: names.collect::<Option<_>>()?,
            })
        })
        .collect()
}

/// Dependencies point from the rim to the core, and heavy ones stay where they belong.
#[must_use]
pub fn dependency_direction(packages: &[Package], repository: &Repository) -> Vec<Violation> {
    let mut found = Vec::new();
    for package in packages {
        for dependency in &package.dependencies {
            if let Some(allowed) = breach(package, dependency, packages) {
                let message = format!("{} must not depend on {dependency}: {allowed}", package.name);
                let line = dependency_line(repository, &package.manifest, dependency);
                found.push(Violation::new(&package.manifest, line, message));
            }
        }
        if !is_test_package(package) && !LAYERS.iter().any(|(name, _)| *name == package.name) {
            let message =
                format!("{} has no layer; say in tests/tidy's LAYERS what it may use", package.name);
            found.push(Violation::new(&package.manifest, 1, message));
        }
    }
    found
}

/// Each package inherits the workspace's lints.
#[must_use]
pub fn shared_lints(packages: &[Package], repository: &Repository) -> Vec<Violation> {
    let lax = packages.iter().filter(|package| {
        let text = repository.file(&package.manifest).map_or("", |file| file.text.as_str());
        let mut section = "";
        !text.lines().map(str::trim).any(|line| {
            if line.starts_with('[') {
                section = line;
            }
            let inherits = line.replace(' ', "").starts_with("workspace=true");
            (section == "[lints]" && inherits) || line.replace(' ', "").starts_with("lints.workspace=true")
        })
    });
    lax.map(|package| {
        let message = "the package has lints of its own; it must say `[lints]` `workspace = true`";
        Violation::new(&package.manifest, 1, message)
    })
    .collect()
}

/// What is allowed instead, when the dependency breaks a rule.
fn breach(package: &Package, dependency: &str, packages: &[Package]) -> Option<String> {
    if package.name == "tideline-protocol" && FORBIDDEN_IN_PROTOCOL.contains(&dependency) {
        return Some("the core does no I/O; drivers do it and call the core".to_owned());
    }
    let is_polars = dependency == "polars" || dependency.starts_with("polars-");
    if is_polars && !POLARS_USERS.contains(&package.name.as_str()) {
        return Some(format!("only {} may; ask them through their own types", POLARS_USERS.join(" and ")));
    }
    let internal = packages.iter().find(|other| other.name == dependency)?;
    if is_test_package(package) {
        return None;
    }
    if is_test_package(internal) {
        return Some("nothing in the product may use a package of tests/".to_owned());
    }
    let (_, allowed) = LAYERS.iter().find(|(name, _)| *name == package.name)?;
    (!allowed.contains(&dependency)).then(|| match allowed {
        [] => "it may use no other package of the product".to_owned(),
        names => format!("of the product it may use {}", names.join(", ")),
    })
}

fn is_test_package(package: &Package) -> bool {
    package.manifest.starts_with("tests/")
}

fn dependency_line(repository: &Repository, manifest: &str, dependency: &str) -> usize {
    let text = repository.file(manifest).map_or("", |file| file.text.as_str());
    let names = |line: &str| {
        let rest = line.trim().strip_prefix(dependency);
        rest.is_some_and(|rest| rest.trim_start().starts_with(['.', '=']))
    };
    text.lines().position(names).map_or(1, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, manifest: &str, dependencies: &[&str]) -> Package {
        let dependencies = dependencies.iter().map(|name| (*name).to_owned()).collect();
        Package { name: name.to_owned(), manifest: manifest.to_owned(), dependencies }
    }

    fn workspace(changed: Package) -> Vec<Package> {
        let mut all = vec![
            package("tideline-protocol", "shared/protocol/Cargo.toml", &["serde"]),
            package("tideline-link", "shared/link/Cargo.toml", &["tideline-protocol", "tokio"]),
            package("tideline-profiles", "firmware-profiles/Cargo.toml", &["tideline-protocol"]),
            package("tideline-spool", "edge-agent/spool/Cargo.toml", &["tideline-protocol", "redb"]),
            package("tideline-store", "cloud-hub/store/Cargo.toml", &["tideline-protocol", "polars"]),
            package("tideline-streams", "cloud-hub/streams/Cargo.toml", &["tideline-protocol", "serde"]),
            package("edge-agent", "edge-agent/agent/Cargo.toml", &["tideline-spool", "tideline-link"]),
            package("cloud-hub", "cloud-hub/hub/Cargo.toml", &["tideline-store", "tideline-profiles"]),
            package("tideline-sim", "tests/sim/Cargo.toml", &["tideline-store", "tideline-spool"]),
        ];
        all.retain(|package| package.name != changed.name);
        all.push(changed);
        all
    }

    fn breaches(name: &str, manifest: &str, dependencies: &[&str]) -> usize {
        dependency_direction(&workspace(package(name, manifest, dependencies)), &Repository::default()).len()
    }

    #[test]
    fn the_intended_workspace_is_right() {
        assert_eq!(breaches("tideline-sim", "tests/sim/Cargo.toml", &["cloud-hub", "edge-agent"]), 0);
    }

    #[test]
    fn each_wrong_direction_is_found() {
        for forbidden in FORBIDDEN_IN_PROTOCOL {
            assert!(
                breaches("tideline-protocol", "shared/protocol/Cargo.toml", &[forbidden]) > 0,
                "{forbidden}"
            );
        }
        assert_eq!(breaches("tideline-protocol", "shared/protocol/Cargo.toml", &["tideline-link"]), 1);
        assert_eq!(breaches("tideline-link", "shared/link/Cargo.toml", &["tideline-profiles"]), 1);
        assert_eq!(breaches("tideline-profiles", "firmware-profiles/Cargo.toml", &["tideline-link"]), 1);
        assert_eq!(breaches("edge-agent", "edge-agent/agent/Cargo.toml", &["tideline-store"]), 1);
        assert_eq!(breaches("edge-agent", "edge-agent/agent/Cargo.toml", &["cloud-hub"]), 1);
        assert_eq!(breaches("cloud-hub", "cloud-hub/hub/Cargo.toml", &["tideline-spool", "edge-agent"]), 2);
        assert_eq!(breaches("cloud-hub", "cloud-hub/hub/Cargo.toml", &["polars"]), 1);
        assert_eq!(breaches("tideline-streams", "cloud-hub/streams/Cargo.toml", &["tideline-store"]), 1);
        assert_eq!(breaches("cloud-hub", "cloud-hub/hub/Cargo.toml", &["tideline-sim"]), 1);
        assert_eq!(breaches("tideline-sim", "tests/sim/Cargo.toml", &["polars-core"]), 1);
        assert_eq!(breaches("tideline-common", "shared/common/Cargo.toml", &[]), 1);
    }

    #[test]
    fn a_breach_names_the_line_of_the_manifest() {
        let manifest =
            ("cloud-hub/hub/Cargo.toml", "[dependencies]\npolars-x.workspace = true\npolars = \"1\"\n");
        let packages = workspace(package("cloud-hub", manifest.0, &["polars"]));
        let found = dependency_direction(&packages, &Repository::of(&[manifest]));
        assert_eq!(found.iter().map(|violation| violation.line).collect::<Vec<_>>(), vec![3]);
    }

    #[test]
    fn missing_lints_are_found() {
        let packages = [package("a", "a/Cargo.toml", &[])];
        let of = |text: &str| shared_lints(&packages, &Repository::of(&[("a/Cargo.toml", text)])).len();
        assert_eq!(of("[package]\n\n[lints]\nworkspace = true\n\n[dependencies]\n"), 0);
        assert_eq!(of("[package]\nversion.workspace = true\n[dependencies]\nworkspace = true\n"), 1);
        assert_eq!(of("[lints.rust]\nunsafe_code = \"allow\"\n"), 1);
    }

    #[test]
    fn metadata_is_read() {
        let text = r#"{"workspace_root":"/r","packages":[
            {"name":"a","manifest_path":"/r/a/Cargo.toml","dependencies":[{"name":"tokio","kind":"dev"}]}]}"#;
        let metadata = serde_json::from_str(text).expect("the snippet is JSON");
        assert_eq!(packages(&metadata), Some(vec![package("a", "a/Cargo.toml", &["tokio"])]));
        assert_eq!(packages(&Value::Null), None);
    }
}
