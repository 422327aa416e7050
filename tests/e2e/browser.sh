#!/usr/bin/env bash
# Starts a hub and an agent, then drives the web app in a real browser; then the same while both break. The last line says how it went.
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
bin=$target/debug
work=$(mktemp -d -t tideline-browser-XXXXXX)
pids=()
finish() {
	local code=$?
	for pid in "${pids[@]:-}"; do [ -n "$pid" ] && kill -TERM "$pid" 2>/dev/null; done
	wait
	if [ "$code" != 0 ]; then tail -n 20 "$work"/*.log >&2; fi
	rm -rf "$work"
	if [ "$code" = 0 ]; then echo 'browser: passed'; else echo 'browser: failed'; fi
	exit "$code"
}
trap finish EXIT
trap 'exit 130' INT TERM
fail() { echo "$1" >&2; exit 1; }
for name in cloud-hub edge-agent; do [ -x "$bin/$name" ] || fail "$bin/$name is missing: run make build first"; done

# Four free ports, held at once so that they differ.
ports=$(node -e '
const net = require("node:net"), all = [0, 0, 0, 0].map(() => net.createServer().listen(0, "127.0.0.1"));
Promise.all(all.map((s) => new Promise((r) => s.on("listening", r)))).then(() => {
  console.log(all.map((s) => s.address().port).join(" ")); all.forEach((s) => s.close()); });') || fail 'no free ports'
read -r http https quic local <<<"$ports"
for name in "${!TIDELINE_@}"; do unset "$name"; done

TIDELINE_HTTP_LISTEN=127.0.0.1:$http TIDELINE_HTTPS_LISTEN=127.0.0.1:$https TIDELINE_QUIC_LISTEN=127.0.0.1:$quic \
	TIDELINE_MQTT_LISTEN_TLS= TIDELINE_HUB_PUBLIC_ADDRESS=127.0.0.1 "$bin/cloud-hub" serve --data "$work/hub" >"$work/hub.log" 2>&1 &
pids+=($!)
curl -fsS --retry 60 --retry-delay 1 --retry-connrefused --noproxy '*' "http://127.0.0.1:$http/readyz" >/dev/null || fail 'the hub did not become ready'

password=browser-$RANDOM$RANDOM$RANDOM
printf '%s\n' "$password" | "$bin/cloud-hub" user create browser --password-stdin --data "$work/hub" >&2 || fail 'no user'
token=$("$bin/cloud-hub" enroll-token create --device browser-1 --data "$work/hub") || fail 'no token'
"$bin/edge-agent" enroll "$token" --data "$work/agent" >&2 || fail 'the agent did not enrol'
printf '[http]\nlisten = "127.0.0.1:%s"\n' "$local" >"$work/agent.toml"
"$bin/edge-agent" run --data "$work/agent" --config "$work/agent.toml" >"$work/agent.log" 2>&1 &
pids+=($!)

cd "$root/dashboards" || exit 1
TIDELINE_URL=http://127.0.0.1:$http TIDELINE_USER=browser TIDELINE_PASSWORD=$password TIDELINE_DEVICE=browser-1 \
	TIDELINE_SHOTS=$target/screenshots node e2e/smoke.mjs || exit 1
TIDELINE_AGENT_URL=http://127.0.0.1:$local TIDELINE_BIN=$bin TIDELINE_SHOTS=$target/screenshots node e2e/agent.mjs || exit 1
TIDELINE_BIN=$bin TIDELINE_SHOTS=$target/screenshots node e2e/site.mjs || exit 1
TIDELINE_BIN=$bin TIDELINE_SHOTS=$target/screenshots node e2e/outage.mjs || exit 1
