//! What profiles may say that has no effect yet, so that nobody believes in it.

use crate::Profile;
use crate::form::protocol::Protocol;
use crate::form::section::Firmware;

impl Profile {
    /// What the profile says that has no effect yet, each with the reason.
    #[must_use]
    pub fn unused(&self) -> Vec<String> {
        let mut all = Vec::new();
        let versions = self.firmware().versions;
        if *self.firmware() != (Firmware { versions, ..Firmware::default() }) {
            let all_but = "firmware has no effect yet but for how versions are compared: no firmware is rolled out to devices";
            all.push(all_but.to_owned());
        }
        let is_asked = matches!(
            self.protocol(),
            Protocol::Modbus(_) | Protocol::SunSpec(_) | Protocol::Mqtt(_) | Protocol::Coap(_)
        );
        if !self.identity().detect.is_empty() && !is_asked {
            let rather =
                "has an effect on Modbus, SunSpec, MQTT and CoAP alone: devices of others are not looked for";
            all.push(format!("identity.detect {rather}"));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_effect_is_told_and_what_has_is_not() {
        let text = "name = \"pump\"\n[identity]\nvendor = \"any\"\nmodel = \"P 7\"\nhardware = \"B\"\n[points]\n\
            flow = { unit = \"l/s\", min = 0, max = 90 }\nstate = { type = \"text\" }\nvalve = { type = \"bool\", access = \"write\" }\n\
            [delivery.a]\nclass = \"state\"\nexpire_h = 2\n[delivery.b]\npoints = [\"flow\"]\nkeep_days = 9\n\
            rollups = [\"1h\"]\n[alarms.much]\npoint = \"flow\"\nabove = 80\n";
        let profile = Profile::parse("pump.toml", text).unwrap();
        assert_eq!(profile.unused(), Vec::<String>::new());
        let with = |rest: &str| Profile::parse("pump.toml", &format!("{text}{rest}")).unwrap().unused();
        let told = with(
            "[commands.stop]\npoint = \"valve\"\ntitle = \"Stop\"\nconfirm = true\ntimeout_ms = 900\n[firmware]\nversions = \"date\"\n",
        );
        assert_eq!(told, Vec::<String>::new());
        let told = with("[firmware]\nmethod = \"upload\"\nversions = \"number\"\n");
        let begins: Vec<&str> = told.iter().filter_map(|told| told.split(" has ").next()).collect();
        assert_eq!(begins, ["firmware"]);
        let delivery = |point: &str| profile.delivery_of(point).and_then(|delivery| delivery.keep_days);
        assert_eq!((delivery("flow"), delivery("state")), (Some(9), None));
        assert_eq!(profile.delivery_of("state").and_then(|delivery| delivery.expire_h), Some(2));
    }
}
