//! The page of one twin: what is wanted and what is, conflicts with their values, its newest history, and a form for who knows the
//! token, with the name of who writes.
//!
//! It does the same without scripts and without the hub, and never asks for itself again, so that what is typed stays.

mod seen;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use serde_json::{Map, Value};
use tideline_twin::{Section, Twin};

use self::seen::{Seen, digest};
use super::html::{cut, put, text, time};
use crate::twin::TwinError;
use crate::twin::command::{percent, wanted};
use crate::twin::desk::Desk;

/// Longest form in bytes: a text of a twin, and each of its bytes as three.
const FORM_BYTES_MAX: usize = 32 * 1024;
/// Sections that people write.
const SECTIONS: [Section; 3] = [Section::Desired, Section::Tags, Section::Notes];
/// Longest name of an author, in characters.
const AUTHOR_CHARS_MAX: usize = 64;

/// The page of each twin.
pub fn router(desk: Desk) -> Router {
    Router::new()
        .route("/twin/{device}/page", get(show).post(write))
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
        .with_state(desk)
}

/// What was typed.
#[derive(Debug, Default, Clone)]
struct Typed {
    token: String,
    author: String,
    section: String,
    key: String,
    value: String,
    /// The button.
    act: String,
}

impl Typed {
    fn of(body: &[u8]) -> Self {
        let mut typed = Self::default();
        for (name, value) in url::form_urlencoded::parse(body) {
            let place = match name.as_ref() {
                "token" => &mut typed.token,
                "author" => &mut typed.author,
                "section" => &mut typed.section,
                "key" => &mut typed.key,
                "value" => &mut typed.value,
                "act" => &mut typed.act,
                _ => continue,
            };
            *place = value.into_owned();
        }
        typed
    }

    /// The patch that the button stands for, of the twin as it is.
    fn patch(&self, twin: &Twin) -> Result<Value, TwinError> {
        let wrong = |text: String| TwinError::Wrong(text);
        let of = |section: &str, key: &str, value: &str| {
            let of = Section::parse(section).ok_or_else(|| wrong(format!("/{section}: is no section")))?;
            let patch = wanted(of, Some(key), Some(value), None).map_err(|error| wrong(error.to_string()))?;
            Ok(Value::Object(Map::from_iter([(section.to_owned(), patch)])))
        };
        let mut words = self.act.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("set"), None, ..) => of(&self.section, &self.key, &self.value),
            (Some("remove"), None, ..) => of(&self.section, &self.key, "null"),
            (Some("keep"), Some(section), Some(named), Some(key)) => {
                let conflicts = twin.conflicts();
                let meant =
                    conflicts.iter().find(|it| it.section.name() == section && it.key.as_str() == key);
                let value = meant.and_then(|it| it.values.iter().find(|leaf| digest(&leaf.value) == named));
                let value =
                    value.ok_or_else(|| wrong(format!("{section}/{key} has no such value any more")))?;
                of(section, key, &value.value.to_string())
            }
            _ => Err(wrong("this is none of the page's buttons".to_owned())),
        }
    }
}

async fn show(State(desk): State<Desk>, Path(name): Path<String>) -> Response {
    page(&desk, &name, &Typed::default(), None).await
}

async fn write(State(desk): State<Desk>, Path(name): Path<String>, body: Bytes) -> Response {
    let typed = Typed::of(&body);
    if !desk.knows(&typed.token) {
        let why = "The token is another: `edge-agent status` shows it.".to_owned();
        return page(&desk, &name, &typed, Some((StatusCode::UNAUTHORIZED, why))).await;
    }
    let author = typed.author.trim().to_owned();
    if author.is_empty() {
        let why = "Say who you are: the change carries your name.".to_owned();
        return page(&desk, &name, &typed, Some((StatusCode::BAD_REQUEST, why))).await;
    }
    let patch = typed.clone();
    match desk.write(&name, author, move |twin| patch.patch(twin)).await {
        // Loaded again, it is not sent again.
        Ok(_) => (StatusCode::SEE_OTHER, [(header::LOCATION, format!("/twin/{}/page", percent(&name)))])
            .into_response(),
        Err(error) => page(&desk, &name, &typed, Some((error.status(), error.to_string()))).await,
    }
}

async fn page(desk: &Desk, name: &str, typed: &Typed, wrong: Option<(StatusCode, String)>) -> Response {
    match desk.look(name, Seen::of).await {
        Ok(seen) => {
            let (status, why) = wrong.map_or((StatusCode::OK, None), |(status, why)| (status, Some(why)));
            (status, super::answer(html(name, &seen, typed, why.as_deref()))).into_response()
        }
        Err(error) => error.into_response(),
    }
}

fn html(name: &str, seen: &Seen, typed: &Typed, wrong: Option<&str>) -> String {
    let mut out = String::with_capacity(16 * 1024);
    out.push_str("<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">");
    out.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">");
    out.push_str("<meta name=\"color-scheme\" content=\"light dark\"><link rel=\"icon\" href=\"data:,\">");
    put!(&mut out, "<title>{} – Tideline agent</title>", text(name));
    put!(
        &mut out,
        "<link rel=\"stylesheet\" href=\"/page.css\"></head><body><header><h1>{}</h1>",
        text(name)
    );
    put!(&mut out, "<p><a href=\"/\">The agent</a>, <a href=\"/twin/{}\">as JSON</a>", percent(name));
    match seen.unconfirmed {
        0 => out.push_str("; all changes made here are known to the hub"),
        changes => put!(&mut out, "; {changes} changes made here wait for the hub"),
    }
    out.push_str("</p></header><main>");
    if let Some(why) = wrong {
        put!(&mut out, "<p class=\"bad\" role=\"alert\"><b>Not changed:</b> {}</p>", text(why));
    }
    // One form for all buttons, so that who writes says once who they are.
    out.push_str("<form method=\"post\">");
    who(&mut out, typed);
    // The return key presses the first button, which is not to be one that keeps a value.
    change(&mut out, typed);
    conflicts(&mut out, seen);
    out.push_str("</form>");
    leaves(&mut out, seen);
    history(&mut out, seen);
    out.push_str("</main></body></html>");
    out
}

fn who(out: &mut String, typed: &Typed) {
    out.push_str("<p><label>Your name <input name=\"author\" required autocomplete=\"name\" ");
    put!(
        out,
        "maxlength=\"{AUTHOR_CHARS_MAX}\" value=\"{}\"></label> ",
        text(&cut(&typed.author, AUTHOR_CHARS_MAX))
    );
    out.push_str("<label>Token <input name=\"token\" type=\"password\" required ");
    out.push_str("autocomplete=\"current-password\"></label></p>");
}

fn change(out: &mut String, typed: &Typed) {
    out.push_str("<section id=\"change\"><h2>Change</h2><p><label>Section <select name=\"section\">");
    for section in SECTIONS {
        let selected = if typed.section == section.name() { " selected" } else { "" };
        put!(out, "<option{selected}>{}</option>", section.name());
    }
    put!(
        out,
        "</select></label> <label>Leaf <input name=\"key\" placeholder=\"motor/speed\" value=\"{}\"></label> ",
        text(&typed.key)
    );
    put!(
        out,
        "<label>Value <input name=\"value\" placeholder=\"40, true or a text\" value=\"{}\"></label> ",
        text(&typed.value)
    );
    out.push_str("<button name=\"act\" value=\"set\">Set</button> ");
    out.push_str("<button name=\"act\" value=\"remove\">Remove</button></p></section>");
}

fn conflicts(out: &mut String, seen: &Seen) {
    if seen.conflicts.is_empty() {
        return;
    }
    out.push_str("<section id=\"conflicts\"><h2>Written at several ends at once</h2><table><thead><tr>");
    out.push_str("<th scope=\"col\">Leaf</th><th scope=\"col\">Value</th><th scope=\"col\">By</th>");
    out.push_str("<th scope=\"col\"></th></tr></thead><tbody>");
    for found in &seen.conflicts {
        put!(out, "<tr><th scope=\"row\">{}/{}</th>", found.section, text(&found.key));
        put!(out, "<td class=\"t\">{}</td>", text(&found.value));
        put!(
            out,
            "<td class=\"t\">{} {}</td><td>",
            text(&found.by),
            found.time_ns.map(time).unwrap_or_default()
        );
        if found.is_kept_here {
            let act = format!("keep {} {} {}", found.section, found.named, found.key);
            put!(out, "<button name=\"act\" value=\"{}\">Keep</button>", text(&act));
        }
        out.push_str("</td></tr>");
    }
    out.push_str("</tbody></table>");
    more(out, seen.conflicts_more, "values; all are in the JSON of its conflicts");
    out.push_str("</section>");
}

fn leaves(out: &mut String, seen: &Seen) {
    out.push_str("<section id=\"leaves\"><h2>As it is</h2><table><thead><tr><th scope=\"col\">Leaf</th>");
    out.push_str("<th scope=\"col\">Wanted</th><th scope=\"col\">Reported</th></tr></thead><tbody>");
    for leaf in &seen.leaves {
        let class = if leaf.differs { " class=\"warn\"" } else { "" };
        put!(out, "<tr{class}><th scope=\"row\">{}</th>", text(&leaf.key));
        put!(
            out,
            "<td class=\"t\">{}</td><td class=\"t\">{}</td></tr>",
            text(&leaf.wanted),
            text(&leaf.reported)
        );
    }
    out.push_str("</tbody></table>");
    more(out, seen.leaves_more, "leaves; all are in the JSON");
    out.push_str("</section>");
}

fn history(out: &mut String, seen: &Seen) {
    out.push_str(
        "<section id=\"history\"><h2>Newest changes</h2><table><thead><tr><th scope=\"col\">When</th>",
    );
    out.push_str("<th scope=\"col\">Who</th><th scope=\"col\">Leaf</th><th scope=\"col\">Became</th></tr></thead><tbody>");
    for step in &seen.steps {
        put!(out, "<tr><td>{}</td><td class=\"t\">{}</td>", time(step.time_ns), text(&step.by));
        put!(out, "<td class=\"t\">{}</td><td class=\"t\">{}</td></tr>", text(&step.key), text(&step.value));
    }
    out.push_str("</tbody></table></section>");
}

fn more(out: &mut String, left: usize, what: &str) {
    if left > 0 {
        put!(out, "<p>{left} more {what}.</p>");
    }
}

#[cfg(test)]
mod tests;
