//! Where requests of commands may go.

use std::fmt;

use url::Url;

/// An address below which all may be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix(Url);

impl Prefix {
    /// Of http or https, with a host, and nothing but a path behind it.
    ///
    /// # Errors
    /// Says what is wrong, and what is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let allowed =
            || format!("{text:?} is no such address; allowed is for example http://192.168.1.7:8080/api/");
        let url = Url::parse(text).map_err(|error| format!("{}: {error}", allowed()))?;
        let plain = url.query().is_none() && url.fragment().is_none() && is_plain(&url);
        if plain { Ok(Self(url)) } else { Err(allowed()) }
    }

    /// Whether it is of https.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Whether the address is below it: the same scheme, host and port, and a path that goes on where a segment ends.
    #[must_use]
    pub fn covers(&self, url: &Url) -> bool {
        let end = |url: &Url| {
            (url.scheme().to_owned(), url.host().map(|host| host.to_owned()), url.port_or_known_default())
        };
        let (own, path) = (self.0.path(), url.path().to_ascii_lowercase());
        let below = url.path().strip_prefix(own);
        let at_border =
            below.is_some_and(|rest| rest.is_empty() || own.ends_with('/') || rest.starts_with('/'));
        // Who serves it may take them for the slashes that they were not here.
        let hides = path.contains("%2f") || path.contains("%5c") || path.contains("%2e");
        // Or cut segments at what follows a semicolon before it goes up.
        let climbs = path.split('/').any(|segment| {
            let end = [segment.find(';'), segment.find("%3b")].into_iter().flatten().min();
            matches!(segment.get(..end.unwrap_or(segment.len())), Some("." | ".."))
        });
        is_plain(url) && end(&self.0) == end(url) && at_border && !hides && !climbs
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Of HTTP, and without somebody's name before the host.
fn is_plain(url: &Url) -> bool {
    let anonymous = url.username().is_empty() && url.password().is_none();
    ["http", "https"].contains(&url.scheme()) && url.has_host() && anonymous
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn covers(prefix: &str, url: &str) -> bool {
        Url::parse(url).is_ok_and(|url| Prefix::parse(prefix).unwrap().covers(&url))
    }

    #[test]
    fn an_address_is_below_another_where_a_segment_ends() {
        let api = "http://10.0.0.7:8080/api";
        for good in [
            "http://10.0.0.7:8080/api",
            "http://10.0.0.7:8080/api/x?y=1",
            "HTTP://10.0.0.7:8080/a/../api/",
            "http://10.0.0.7:8080/api/x;..;y/...;",
        ] {
            assert!(covers(api, good), "{good}");
        }
        for bad in [
            "https://10.0.0.7:8080/api",
            "http://10.0.0.7/api",
            "http://10.0.0.7:8080/apix",
            "http://10.0.0.7:8080/api/../x",
            "http://10.0.0.7:8080/api/%2e%2e/x",
            "http://10.0.0.7:8080/api/..%2fx",
            "http://10.0.0.7:8080/api/..%5Cx",
            "http://10.0.0.7:8080/api/..;/x",
            "http://10.0.0.7:8080/api/..;a=1/x",
            "http://10.0.0.7:8080/api/..%3Bb;/x",
            "http://10.0.0.7:8080/api/x/.;",
            "http://10.0.0.7:8080@evil.example/api",
            "http://evil.example#@10.0.0.7:8080/api",
            "http://u:p@10.0.0.7:8080/api",
            "http://10.0.0.7.evil.example:8080/api",
            "file:///api",
        ] {
            assert!(!covers(api, bad), "{bad}");
        }
        assert!(covers("http://Box.Example/", "http://box.example:80/any"));
        // What stands for the same host is the same.
        assert!(covers("http://127.0.0.1/", "http://2130706433/any"));
    }

    #[test]
    fn what_is_no_prefix_is_refused() {
        for bad in ["", "10.0.0.7", "ftp://x/", "http://u@x/", "http://x/?a", "http://x/#a", "unix:/x"] {
            let error = Prefix::parse(bad).unwrap_err();
            assert!(error.contains("allowed is for example"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_covered_has_the_host_and_the_path(text in "http://(10\\.0\\.0\\.7|[a-z@:/.%0-9]{1,12})[/a-z.%@:?#0-9\\\\]{0,24}") {
            if let Ok(url) = Url::parse(&text) && Prefix::parse("http://10.0.0.7/a/").unwrap().covers(&url) {
                prop_assert_eq!(url.host_str(), Some("10.0.0.7"));
                prop_assert!(url.path().starts_with("/a/"));
            }
        }
    }
}
