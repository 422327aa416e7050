//! What profiles may say that has no effect yet, so that nobody believes in it.

use crate::Profile;
use crate::form::protocol::Protocol;
use crate::form::section::Firmware;

impl Profile {
    /// What the profile says that has no effect yet, each with the reason.
    #[must_use]
    pub fn unused(&self) -> Vec<String> {
        let mut all = Vec::new();
        if *self.firmware() != Firmware::default() {
            all.push("firmware has no effect yet: no firmware is rolled out to devices".to_owned());
        }
        for (name, command) in self.commands() {
            let said = [
                ("title", !command.title.is_empty()),
                ("confirm", command.confirm),
                ("timeout_ms", command.timeout_ms.is_some()),
            ];
            let said = said.into_iter().filter(|(_, is_said)| *is_said);
            let why =
                "has no effect yet: points are written by their ids, at once, within the time of who writes";
            all.extend(said.map(|(key, _)| format!("commands.{name}.{key} {why}")));
        }
        if !self.identity().hardware.is_empty() {
            all.push("identity.hardware has no effect yet: it is for readers of the profile".to_owned());
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
            flow = { unit = \"l/s\", min = 0, max = 90 }\nstate = { type = \"text\" }\n\
            [delivery.a]\nclass = \"state\"\nexpire_h = 2\n[delivery.b]\npoints = [\"flow\"]\nkeep_days = 9\n\
            rollups = [\"1h\"]\n[alarms.much]\npoint = \"flow\"\nabove = 80\n";
        let profile = Profile::parse("pump.toml", text).unwrap();
        let told: Vec<String> = profile.unused();
        let begins: Vec<&str> = told.iter().filter_map(|told| told.split(" has ").next()).collect();
        let expected = ["identity.hardware"];
        assert_eq!(begins, expected);
        let delivery = |point: &str| profile.delivery_of(point).and_then(|delivery| delivery.keep_days);
        assert_eq!((delivery("flow"), delivery("state")), (Some(9), None));
        assert_eq!(profile.delivery_of("state").and_then(|delivery| delivery.expire_h), Some(2));
    }
}
