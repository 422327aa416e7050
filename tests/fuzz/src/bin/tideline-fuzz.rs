//! `tideline-fuzz seeds FOLDER` writes the targets' seeds for libFuzzer; `tideline-fuzz run TARGET
//! FILE…` runs inputs on stable Rust, as to look at a crasher with a debugger.

use std::path::Path;
use std::process::ExitCode;

use tideline_fuzz::{TARGETS, Target};

const USAGE: &str = "usage: tideline-fuzz seeds FOLDER | tideline-fuzz run TARGET FILE…";

fn help() -> std::io::Result<()> {
    let names = TARGETS.iter().map(|target| target.name).collect::<Vec<_>>().join(", ");
    let text = format!(
        "{USAGE}\n\n  seeds  writes the targets' seeds into FOLDER/TARGET, for libFuzzer\n  run    runs TARGET on each FILE, as to look \
         at a crasher\n\nTargets: {names}\n"
    );
    std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes())
}

fn seeds(folder: &Path) -> std::io::Result<()> {
    for target in TARGETS {
        let folder = folder.join(target.name);
        std::fs::create_dir_all(&folder)?;
        for (number, seed) in target.seeds().iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{number}")), seed)?;
        }
    }
    Ok(())
}

fn replay(target: &str, files: &[String]) -> std::io::Result<()> {
    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    let unknown =
        || std::io::Error::other(format!("{target}: unknown target; allowed are {}", names.join(", ")));
    let target = Target::named(target).ok_or_else(unknown)?;
    for file in files {
        target.run(&std::fs::read(file)?);
    }
    Ok(())
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["seeds", folder] => seeds(Path::new(folder)),
        ["run", target, _, ..] => replay(target, args.get(2..).unwrap_or_default()),
        ["-h" | "--help"] => help(),
        _ => Err(std::io::Error::other(USAGE)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _unheard = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{error}\n"));
            ExitCode::FAILURE
        }
    }
}
