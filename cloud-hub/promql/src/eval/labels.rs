//! Functions over labels.

use super::{Error, Evaluator, Grid, Row, merged, misplaced};
use crate::ast::{Call, Expr};
use crate::matcher::anchored;
use crate::source::Source;

fn texts(call: &Call) -> Result<Vec<&str>, Error> {
    let mut out = Vec::new();
    for arg in call.args.iter().skip(1) {
        match arg {
            Expr::Text(text) => out.push(text.as_str()),
            other => return Err(misplaced(other)),
        }
    }
    Ok(out)
}

impl<S: Source> Evaluator<'_, S> {
    fn relabelled(
        &self,
        call: &Call,
        grid: Grid,
        (name, of): (&str, impl Fn(&Row) -> Option<String>),
    ) -> Result<Vec<Row>, Error> {
        if name.is_empty() {
            let what = format!("invalid destination label name in {}(): {name}", call.function.name);
            return Err(Error::Execution(what));
        }
        let vector = call.args.first().ok_or_else(|| misplaced(&Expr::Call(call.clone())))?;
        let mut rows = self.vector(vector, grid)?;
        for row in &mut rows {
            if let Some(value) = of(row) {
                row.labels = row.labels.with(name, &value);
            }
        }
        merged(rows)
    }

    /// `label_replace(v, name, replacement, source, regex)`: where the whole value of the source label
    /// matches, the named label becomes the replacement with its `$1` filled in.
    pub(super) fn label_replace(&self, call: &Call, grid: Grid) -> Result<Vec<Row>, Error> {
        let &[name, replacement, source, regex] = texts(call)?.as_slice() else {
            return Err(misplaced(&Expr::Call(call.clone())));
        };
        let bad = |error| Error::Execution(format!("label_replace(): {error}"));
        let regex = anchored(regex).map_err(bad)?;
        let replaced = |row: &Row| {
            let captures = regex.captures(row.labels.value(source))?;
            let mut value = String::new();
            captures.expand(replacement, &mut value);
            Some(value)
        };
        self.relabelled(call, grid, (name, replaced))
    }

    /// `label_join(v, name, separator, source, …)`: the named label becomes the values of the others.
    pub(super) fn label_join(&self, call: &Call, grid: Grid) -> Result<Vec<Row>, Error> {
        let texts = texts(call)?;
        let [name, separator, sources @ ..] = texts.as_slice() else {
            return Err(misplaced(&Expr::Call(call.clone())));
        };
        let joined = |row: &Row| {
            let values: Vec<&str> = sources.iter().map(|source| row.labels.value(source)).collect();
            Some(values.join(separator))
        };
        self.relabelled(call, grid, (name, joined))
    }
}
