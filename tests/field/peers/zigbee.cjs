// What the converters of Zigbee2MQTT say of sensors: what they expose, and what becomes of attributes that such sensors
// report. Arguments: the folder that zigbee-herdsman-converters is installed in. Prints one line of JSON.
"use strict";

const {createRequire} = require("node:module");
const {join} = require("node:path");

const converters = createRequire(join(process.argv[2], "package.json"))("zigbee-herdsman-converters");
converters.setLogger({debug() {}, info() {}, warning() {}, error() {}});

// By model id and maker as the sensor tells them over Zigbee.
const SENSORS = [
    ["lumi.weather", "LUMI"],
    ["TH01", "eWeLink"],
];

// What stands in attributes, by the Zigbee Cluster Library: hundredths of a degree and of a percent, hPa and tenths of
// it, half percents and tenths of a volt.
const REPORTS = {
    msTemperatureMeasurement: {measuredValue: -1137},
    msRelativeHumidity: {measuredValue: 4721},
    msPressureMeasurement: {measuredValue: 1013, scale: -1, scaledValue: 10134},
    // The maker's own: mV, and what the others are.
    genBasic: {65281: {1: 2985, 100: -1137, 101: 4721, 102: 101340}},
    genPowerCfg: {batteryPercentageRemaining: 174, batteryVoltage: 29},
};

async function sensor([modelID, manufacturerName]) {
    const device = {modelID, manufacturerName, ieeeAddr: "0x0000000000000001", type: "EndDevice", meta: {}};
    const endpoint = {ID: 1, meta: {}, getDevice: () => device, device, getClusterAttributeValue: (cluster, name) => REPORTS[cluster]?.[name]};
    Object.assign(device, {endpoints: [endpoint], getEndpoint: () => endpoint});
    const definition = await converters.findByDevice(device);
    const exposes = typeof definition.exposes === "function" ? definition.exposes(device, {}) : definition.exposes;
    const published = {};
    for (const converter of definition.fromZigbee) {
        const data = REPORTS[converter.cluster];
        if (data === undefined) continue;
        const message = {data, type: "attributeReport", cluster: converter.cluster, device, endpoint, meta: {}};
        const meta = {state: published, device, logger: console};
        const converted = await converter.convert(definition, message, () => {}, {}, meta);
        Object.assign(published, converted ?? {});
    }
    converters.postProcessConvertedFromZigbeeMessage(definition, published, {}, device);
    const {model, vendor} = definition;
    return {model, vendor, exposes, published};
}

Promise.all(SENSORS.map(sensor)).then((found) => process.stdout.write(`${JSON.stringify(found)}\n`));
