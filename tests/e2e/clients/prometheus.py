"""Reads with PyPI's prometheus-api-client: `prometheus.py URL TOKEN TIME`."""

import sys
from datetime import datetime, timezone
from prometheus_api_client import PrometheusConnect
url, token, at = sys.argv[1], sys.argv[2], int(sys.argv[3])
prom = PrometheusConnect(url=url, auth=("grafana", token))
assert prom.check_prometheus_connection()
assert sorted(prom.all_metrics()) == ["flow_total", "level", "oil_temp"], prom.all_metrics()
assert sorted(prom.get_label_names()) == ["__name__", "device", "point"], prom.get_label_names()
assert sorted(prom.get_label_values("device")) == ["pump-1", "pump-2", "valve-1"]
value = prom.custom_query("count(level)", params={"time": at})
assert value[0]["value"][1] == "2", value
start, end = (datetime.fromtimestamp(t, timezone.utc) for t in (at - 600, at))
rows = prom.custom_query_range("avg(oil_temp)", start_time=start, end_time=end, step="60")
assert len(rows[0]["values"]) == 11, rows
raw = prom.get_metric_range_data("level", {"device": "pump-1"}, start_time=start, end_time=end)
assert len(raw[0]["values"]) == 60, len(raw[0]["values"])
print("ok")
