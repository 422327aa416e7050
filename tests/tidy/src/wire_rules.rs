//! The wire format has one home: its magic and its header length are defined in `wire` alone.
//!
//! Spool and store have formats of their own, with names and magics of their own.

use crate::lexer::{line_at, words};
use crate::{Repository, SourceFile, Violation};

/// Path prefix of the wire format's sources (`wire.rs` and `wire/…`).
pub const WIRE_PREFIX: &str = "shared/protocol/src/wire";

/// A value this short (`0`, `b""`) says nothing about its meaning.
const TELLING_BYTES_MIN: usize = 4;

/// The frame's constants are defined in the wire sources and nowhere else.
#[must_use]
pub fn one_wire_format(repository: &Repository) -> Vec<Violation> {
    let (wire, others): (Vec<_>, Vec<_>) =
        repository.rust().partition(|file| file.path.starts_with(WIRE_PREFIX));
    let header_defined = wire.iter().any(|file| constants(file).any(|found| found.name == "HEADER_LEN"));
    let magics: Vec<String> = wire
        .iter()
        .flat_map(|file| constants(file))
        .filter(|found| found.name.contains("MAGIC"))
        .map(|found| found.value)
        .collect();
    let mut found = Vec::new();
    if !header_defined || magics.is_empty() {
        let message =
            "no `const HEADER_LEN` and `const …MAGIC` in the wire sources; both must be defined there";
        found.push(Violation::new(format!("{WIRE_PREFIX}.rs"), 1, message));
    }
    for file in others {
        for constant in constants(file) {
            let repeats = constant.value.len() >= TELLING_BYTES_MIN && magics.contains(&constant.value);
            if constant.name == "HEADER_LEN" || constant.name == "FRAME_MAGIC" || repeats {
                let message = format!(
                    "`const {} = {}` repeats the wire format; allowed is only a use of tideline_protocol::wire \
                     (a storage format names its own, like RECORD_HEADER_LEN)",
                    constant.name, constant.value
                );
                found.push(Violation::new(&file.path, constant.line, message));
            }
        }
    }
    found
}

struct Constant {
    name: String,
    /// Without white space.
    value: String,
    line: usize,
}

fn constants(file: &SourceFile) -> impl Iterator<Item = Constant> + '_ {
    words(&file.code, "const").filter_map(|at| {
        let code = file.code.get(at..)?;
        let name = code.strip_prefix("const")?.trim_start().split(':').next()?.trim();
        let equals = code.find('=')?;
        // The `;` of an array type stands before the `=`.
        let end = equals + code.get(equals..)?.find(';')?;
        // Offsets in the masked code are offsets in the text, where the literals still are.
        let value = file.text.get(at + equals + 1..at + end)?;
        let value = value.chars().filter(|c| !c.is_whitespace()).collect();
        Some(Constant { name: name.to_owned(), value, line: line_at(&file.code, at) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIRE: (&str, &str) = (
        "shared/protocol/src/wire.rs",
        "pub const MAGIC: [u8; 2] = *b\"TL\";\npub const HEADER_LEN: usize = 24;\nconst fn f() {}\n",
    );

    #[test]
    fn one_definition_is_right() {
        let spool =
            ("edge-agent/spool/src/lib.rs", "const MAGIC: &[u8] = b\"SPOOL\";\nuse wire::HEADER_LEN;\n");
        assert_eq!(one_wire_format(&Repository::of(&[WIRE, spool])), vec![]);
    }

    #[test]
    fn a_second_definition_is_found() {
        let hub =
            ("cloud-hub/hub/src/a.rs", "\nconst HEADER_LEN: usize = 24;\nconst START: [u8; 2] = *b\"TL\";\n");
        let found = one_wire_format(&Repository::of(&[WIRE, hub]));
        assert_eq!(found.iter().map(|violation| violation.line).collect::<Vec<_>>(), vec![2, 3]);
    }

    #[test]
    fn a_missing_definition_is_found() {
        assert_eq!(one_wire_format(&Repository::of(&[("a.rs", "")])).len(), 1);
    }
}
