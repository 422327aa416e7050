//! The web app is built into the hub: a new build of it is a reason to build the hub again.

fn main() {
    println!("cargo::rerun-if-changed=../../dashboards/dist");
}
