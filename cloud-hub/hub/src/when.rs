//! Times as people and programs write them, for the API and the command line.

pub use tideline_formats::when::{
    BadSpan, BadTime, ms, parse_span, parse_span_ns, parse_time, show_ms, show_ns,
};
