//! OPC UA: how nodes are named in profiles.

/// Whether a text names a node: a node id, or a path of browse names below the folder Objects.
///
/// # Errors
/// It does not; says what is allowed.
pub fn check(address: &str) -> Result<(), String> {
    let wrong = || {
        format!(
            "{address:?} names no node; allowed are for example ns=2;s=Pump.Flow, nsu=urn:maker;i=7 and /2:Pump/2:Flow"
        )
    };
    if let Some(path) = address.strip_prefix('/') {
        return if path.split('/').all(|name| !name.is_empty()) { Ok(()) } else { Err(wrong()) };
    }
    let id = match address.split_once(';') {
        Some((space, id)) => {
            let known = space.strip_prefix("ns=").is_some_and(|index| index.parse::<u16>().is_ok())
                || space.strip_prefix("nsu=").is_some_and(|uri| !uri.is_empty());
            if known { id } else { return Err(wrong()) }
        }
        None => address,
    };
    let is_id = match id.split_once('=') {
        Some(("i", number)) => number.parse::<u32>().is_ok(),
        Some(("s" | "g" | "b", text)) => !text.is_empty(),
        _ => false,
    };
    if is_id { Ok(()) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_named_by_ids_and_paths() {
        for text in [
            "i=85",
            "ns=2;s=Pump;Flow",
            "nsu=urn:maker;i=7",
            "ns=3;g=09087e75-8e5e-499b-954f-f2a9603db28a",
            "/2:a/2:b",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
        for text in ["", "/", "/a//b", "i=x", "ns=70000;i=1", "x=1", "ns=2", "s=", "nsu=;i=1"] {
            assert!(check(text).is_err(), "{text}");
        }
    }
}
