//! The floor of the agent's clock. A device without a clock battery boots in 1970, where no
//! certificate is valid yet; but it is never earlier than when this program was built, nor than
//! when the hub issued the token.

use std::sync::Arc;

use tideline_link::tls::FloorTime;
use tideline_protocol::time::Clock;

/// When this program was built, in Unix seconds.
pub const BUILD_S: i64 = match i64::from_str_radix(env!("TIDELINE_BUILD_S"), 10) {
    Ok(build_s) => build_s,
    Err(_) => panic!("TIDELINE_BUILD_S is not in Unix seconds"),
};

/// `clock`, but never before the build nor before `token_s`, the token's issue in Unix seconds.
pub fn floored(clock: Arc<dyn Clock>, token_s: i64) -> FloorTime {
    FloorTime::new(clock, token_s.max(BUILD_S))
}

#[cfg(test)]
mod tests {
    use tideline_protocol::time::ManualClock;

    use super::*;

    fn now_s(clock_s: i64, token_s: i64) -> i64 {
        floored(Arc::new(ManualClock::at(clock_s * 1_000_000_000)), token_s).now_s()
    }

    #[test]
    fn the_build_is_after_this_was_written_and_not_in_the_far_future() {
        let (written_s, year_2100_s) = (1_760_000_000, 4_102_444_800);
        // Whoever sets SOURCE_DATE_EPOCH may have any time in mind.
        if option_env!("SOURCE_DATE_EPOCH").is_none() {
            assert!((written_s..year_2100_s).contains(&BUILD_S), "{BUILD_S}");
        }
    }

    #[test]
    fn the_latest_of_clock_build_and_token_is_now() {
        assert_eq!(now_s(0, 0), BUILD_S);
        assert_eq!(now_s(0, BUILD_S - 5), BUILD_S);
        assert_eq!(now_s(0, BUILD_S + 5), BUILD_S + 5);
        assert_eq!(now_s(BUILD_S + 9, BUILD_S + 5), BUILD_S + 9);
    }
}
