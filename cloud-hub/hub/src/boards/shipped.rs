//! The boards that ship: files of dashboards/boards, built into the binary.

use super::form::Board;

const TEXTS: [(&str, &str); 3] = [
    ("fleet", include_str!("../../../../dashboards/boards/fleet.json")),
    ("energy-meter", include_str!("../../../../dashboards/boards/energy-meter.json")),
    ("machine", include_str!("../../../../dashboards/boards/machine.json")),
];

/// All of them by their ids.
pub fn all() -> impl Iterator<Item = (&'static str, Board)> {
    // A test reads them all.
    TEXTS.iter().filter_map(|(id, text)| Some((*id, serde_json::from_str(text).ok()?)))
}

/// The one of this id.
#[must_use]
pub fn named(id: &str) -> Option<Board> {
    let (_, text) = TEXTS.iter().find(|(name, _)| *name == id)?;
    serde_json::from_str(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boards::check;

    #[test]
    fn each_is_a_board_with_nothing_wrong() {
        for (id, text) in TEXTS {
            let board: Board = serde_json::from_str(text).unwrap();
            assert_eq!(check::problems(&board), Vec::<String>::new(), "{id}");
            assert_eq!(named(id), Some(board));
        }
        assert_eq!(all().count(), TEXTS.len());
    }

    #[test]
    fn each_file_of_the_folder_ships() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dashboards/boards");
        let mut found: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        found.sort();
        let mut named: Vec<String> = TEXTS.iter().map(|(id, _)| format!("{id}.json")).collect();
        named.sort();
        assert_eq!(found, named);
    }
}
