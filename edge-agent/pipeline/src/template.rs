//! Names of series and points that a stage makes: text in which `{…}` stands for something of the reading.

use tideline_protocol::model::{DeviceId, PointId, SeriesDef};

/// A checked template.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Device,
    Point,
    Aggregate,
}

impl Template {
    fn parse(text: &str, allowed: &[&str]) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let names = || allowed.iter().map(|name| format!("{{{name}}}")).collect::<Vec<_>>().join(", ");
            let (name, after) = after.split_once('}').ok_or("has a `{` without a `}`")?;
            let part = match name {
                _ if !allowed.contains(&name) => {
                    return Err(format!("has {{{name}}}; allowed are {}", names()));
                }
                "device" => Part::Device,
                "point" => Part::Point,
                _ => Part::Aggregate,
            };
            parts.extend([Part::Text(before.to_owned()), part]);
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
        let bad = parts.iter().find_map(|part| match part {
            Part::Text(text) => text.chars().find(|c| !fits(*c)),
            _ => None,
        });
        match bad {
            Some(c) => Err(format!("holds {c:?}; allowed are letters, digits, '.', '_', '-' and '/'")),
            None if text.is_empty() => Err("is empty".into()),
            None => Ok(Self(parts)),
        }
    }

    fn fill(&self, of: &SeriesDef, aggregate: &str) -> String {
        let text = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Device => of.device.as_str().to_owned(),
            Part::Point => of.point.as_str().to_owned(),
            Part::Aggregate => aggregate.to_owned(),
        };
        self.0.iter().map(text).collect()
    }
}

/// The device and point of what a stage makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    device: Template,
    point: Template,
}

impl Place {
    /// Takes both apart; `{aggregate}` is allowed of a window's results.
    ///
    /// # Errors
    /// Says of which key what is wrong.
    pub fn parse(device: &str, point: &str, aggregates: bool) -> Result<Self, (&'static str, String)> {
        let names: &[&str] =
            if aggregates { &["device", "point", "aggregate"] } else { &["device", "point"] };
        let device = Template::parse(device, names).map_err(|what| ("device", what))?;
        Ok(Self { device, point: Template::parse(point, names).map_err(|what| ("point", what))? })
    }

    /// Whether results of different aggregates have different names.
    pub fn tells_aggregates_apart(&self) -> bool {
        [&self.device, &self.point].iter().any(|template| template.0.contains(&Part::Aggregate))
    }

    /// Both with all names filled in.
    ///
    /// # Errors
    /// They are no names.
    pub fn fill(&self, of: &SeriesDef, aggregate: &str) -> Result<(DeviceId, PointId), String> {
        let device = DeviceId::parse(&self.device.fill(of, aggregate)).map_err(|error| error.to_string())?;
        let point = PointId::parse(&self.point.fill(of, aggregate)).map_err(|error| error.to_string())?;
        Ok((device, point))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_filled_in_and_what_is_wrong_is_told() {
        let def = SeriesDef::new("pump".parse().unwrap(), "a/b".parse().unwrap(), String::new());
        let place = Place::parse("{device}-1", "{point}/{aggregate}", true).unwrap();
        let (device, point) = place.fill(&def, "mean").unwrap();
        assert_eq!((device.as_str(), point.as_str()), ("pump-1", "a/b/mean"));
        assert!(place.tells_aggregates_apart());
        let told = |device, point| Place::parse(device, point, false).unwrap_err();
        assert_eq!(
            told("x", "{aggregate}"),
            ("point", "has {aggregate}; allowed are {device}, {point}".into())
        );
        assert_eq!(told("{device", "x"), ("device", "has a `{` without a `}`".into()));
        assert_eq!(told("x", ""), ("point", "is empty".into()));
        assert!(told("a b", "x").1.contains("holds ' '"));
        let long = Place::parse("{device}", &"p".repeat(65), false).unwrap();
        assert!(long.fill(&def, "").unwrap_err().contains("65 bytes long"));
        // A device has no slash.
        assert!(Place::parse("{point}", "x", false).unwrap().fill(&def, "").is_err());
    }
}
