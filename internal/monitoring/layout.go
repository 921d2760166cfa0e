package monitoring

// section is a row of the dashboard; the first one has no title, so that its panels come first.
type section struct {
	title  string
	panels []panel
}

// panel is one graph, or a table of what is the case now.
type panel struct {
	title, unit string
	// about is the metric whose help text describes the panel.
	about string
	// wide panels take the whole width, the others half of it.
	wide bool
	// stacked graphs are areas that add up.
	stacked bool
	// table shows each query as a column, and a line for every value of rowLabel.
	table    bool
	rowLabel string
	queries  []query
}

type query struct {
	// expression is PromQL.
	expression string
	// legend names the series, or the column of a table.
	legend string
	// unit of the column, where it is another one than that of the panel.
	unit string
}

// one is a graph with one query.
func one(title, unit, about, expression, legend string) panel {
	return panel{title: title, unit: unit, about: about, queries: []query{{expression: expression, legend: legend}}}
}

// quantiles is a graph of the median and of the 99th percentile.
func (c catalogue) quantiles(title, name string) panel {
	return panel{title: title, unit: "s", about: name, queries: []query{
		{expression: c.quantile(0.5, name), legend: "p50"}, {expression: c.quantile(0.99, name), legend: "p99"},
	}}
}

// layout is what the dashboard shows, in the order in which somebody looks for the cause of slow or failed requests.
func (c catalogue) layout() []section {
	return []section{
		{"", c.stages()},
		{"Routes", c.routes()},
		{"Back ends", c.backends()},
		{"Kernel: TCP", c.kernel()},
		{"Connections, TLS and event loops", c.connections()},
		{"Configuration", c.configuration()},
	}
}

func (c catalogue) stages() []panel {
	const stage, duration = "rauta_request_stage_seconds", "rauta_request_duration_seconds"
	split := one("Where the time of a request goes (mean)", "s", stage,
		c.time(stage, "stage")+" / ignoring(stage) group_left "+c.events(duration), legend("stage"))
	split.wide, split.stacked = true, true
	return []panel{
		split,
		one("Requests with time in a stage: p99 of that stage", "s", stage, c.quantile(0.99, stage, "stage"), legend("stage")),
		c.quantiles("Duration of requests", duration),
	}
}

func (c catalogue) routes() []panel {
	const requests, duration = "rauta_requests_total", "rauta_request_duration_seconds"
	failed := c.rateOf(requests, `code="5xx"`, "route")
	return []panel{
		{title: "Routes", about: requests, wide: true, table: true, rowLabel: "route", queries: []query{
			{expression: c.rate(requests, "route"), legend: "requests/s", unit: "reqps"},
			{expression: failed + " / " + c.rate(requests, "route"), legend: "5xx", unit: "percentunit"},
			{expression: c.quantile(0.5, duration, "route"), legend: "p50", unit: "s"},
			{expression: c.quantile(0.99, duration, "route"), legend: "p99", unit: "s"},
			{expression: c.value("rauta_requests_in_flight", "route"), legend: "in flight", unit: "short"},
		}},
		one("Requests by class of status", "reqps", requests, c.rate(requests, "code"), legend("code")),
		one("Routes with most failures (5xx)", "reqps", requests, top(failed), legend("route")),
		one("Slowest routes (p99)", "s", duration, top(c.quantile(0.99, duration, "route")), legend("route")),
		one("Answers and failures of RAUTA by reason", "reqps", "rauta_exchange_reasons_total",
			c.rate("rauta_exchange_reasons_total", "reason"), legend("reason")),
		one("gRPC calls by code", "reqps", "rauta_grpc_requests_total", c.rate("rauta_grpc_requests_total", "code"), legend("code")),
		one("Body bytes", "Bps", "rauta_bytes_total", c.rate("rauta_bytes_total", "direction"), legend("direction")),
	}
}

func (c catalogue) backends() []panel {
	target := []string{"cluster", "endpoint", "pod", "node", "zone"}
	return []panel{
		one("Slowest endpoints to answer (p99 to the head of the response)", "s", "rauta_backend_ttfb_seconds",
			top(c.quantile(0.99, "rauta_backend_ttfb_seconds", target...)), "{{cluster}} {{endpoint}} {{pod}} {{node}} {{zone}}"),
		one("Slowest endpoints to connect to (p99)", "s", "rauta_backend_connect_seconds",
			top(c.quantile(0.99, "rauta_backend_connect_seconds", target...)), "{{cluster}} {{endpoint}} {{pod}} {{node}} {{zone}}"),
		one("Busiest endpoints", "short", "rauta_backend_requests_in_flight",
			top(c.value("rauta_backend_requests_in_flight", target...)), "{{cluster}} {{endpoint}} {{pod}} {{node}} {{zone}}"),
		one("Endpoints with most failures (5xx, or no answer)", "reqps", "rauta_backend_requests_total",
			top(c.rateOf("rauta_backend_requests_total", `code=~"5xx|none"`, "cluster", "endpoint", "code")), legend("cluster", "endpoint", "code")),
		one("Connections that could not be opened", "cps", "rauta_backend_connect_failures_total",
			top(c.rate("rauta_backend_connect_failures_total", "cluster", "endpoint", "pod", "reason")), legend("cluster", "endpoint", "pod", "reason")),
		one("Requests sent again", "reqps", "rauta_retries_total", c.rate("rauta_retries_total"), "retries"),
	}
}

func (c catalogue) kernel() []panel {
	endpoint := []string{"cluster", "endpoint"}
	return []panel{
		c.quantiles("Connections waiting to be accepted", "rauta_accept_queue_seconds"),
		one("Time of the TCP handshake with endpoints (p99)", "s", "rauta_backend_tcp_connect_seconds",
			top(c.quantile(0.99, "rauta_backend_tcp_connect_seconds", endpoint...)), legend("cluster", "endpoint")),
		one("Connects that failed, by errno", "cps", "rauta_backend_tcp_connect_failures_total",
			top(c.rate("rauta_backend_tcp_connect_failures_total", "cluster", "endpoint", "errno")), legend("cluster", "endpoint", "errno")),
		{title: "Retransmitted segments", unit: "pps", about: "rauta_backend_tcp_retransmits_total", queries: []query{
			{expression: top(c.rate("rauta_backend_tcp_retransmits_total", endpoint...)), legend: legend("cluster", "endpoint")},
			{expression: c.rate("rauta_client_tcp_retransmits_total"), legend: "clients"},
		}},
		{title: "Connections reset, by who did it", unit: "cps", about: "rauta_backend_tcp_resets_total", queries: []query{
			{expression: top(c.rate("rauta_backend_tcp_resets_total", "cluster", "endpoint", "direction")), legend: legend("cluster", "endpoint", "direction")},
			{expression: c.rate("rauta_client_tcp_resets_total", "direction"), legend: "clients {{direction}}"},
		}},
		one("Round-trip time to endpoints", "s", "rauta_backend_tcp_srtt_seconds",
			top("max by (cluster, endpoint) (rauta_backend_tcp_srtt_seconds"+selector(c.metric("rauta_backend_tcp_srtt_seconds", "gauge"))+")"),
			legend("cluster", "endpoint")),
	}
}

func (c catalogue) connections() []panel {
	return []panel{
		{title: "Client connections", unit: "short", about: "rauta_connections", queries: []query{
			{expression: c.value("rauta_connections", "instance"), legend: "{{instance}}"},
			{expression: c.value("rauta_connections_max", "instance"), legend: "{{instance}} at most"},
		}},
		one("Connections accepted", "cps", "rauta_connections_total", c.rate("rauta_connections_total", "instance"), legend("instance")),
		one("TLS handshakes with clients", "cps", "rauta_tls_handshakes_total", c.rate("rauta_tls_handshakes_total", "result"), legend("result")),
		one("Certificates: time that is left", "s", "rauta_certificate_expiry_timestamp_seconds",
			"bottomk(10, min by (listener, name) (rauta_certificate_expiry_timestamp_seconds"+
				selector(c.metric("rauta_certificate_expiry_timestamp_seconds", "gauge"))+") - time())", legend("listener", "name")),
		c.quantiles("Turns of event loops that took 10 ms and more", "rauta_loop_stall_seconds"),
		one("Requests that the parser refused", "reqps", "rauta_parse_errors_total", c.rate("rauta_parse_errors_total", "reason"), legend("reason")),
		one("CPU", "short", "process_cpu_seconds_total", c.rate("process_cpu_seconds_total", "instance"), legend("instance")),
		one("Memory", "bytes", "process_resident_memory_bytes", c.value("process_resident_memory_bytes", "instance"), legend("instance")),
	}
}

func (c catalogue) configuration() []panel {
	return []panel{
		c.quantiles("From a change to its being served", "rauta_change_served_seconds"),
		{title: "What that time is for (p99)", unit: "s", about: "rauta_change_served_seconds", queries: []query{
			{expression: c.quantile(0.99, "rauta_change_lag_seconds"), legend: "waiting"},
			{expression: c.quantile(0.99, "rauta_change_translate_seconds"), legend: "translation"},
			{expression: c.quantile(0.99, "rauta_change_publish_seconds"), legend: "publication"},
			{expression: c.quantile(0.99, "rauta_config_compile_seconds"), legend: "of it compilation"},
			{expression: c.quantile(0.99, "rauta_change_endpoints_seconds"), legend: "endpoints, from change to served"},
		}},
		one("Objects that were read", "short", "rauta_watch_objects", c.value("rauta_watch_objects", "kind"), legend("kind")),
		one("Objects without the form of their kind", "short", "rauta_watch_misfits", c.value("rauta_watch_misfits", "kind"), legend("kind")),
		one("Configuration that was refused", "short", "rauta_config_last_error", c.value("rauta_config_last_error", "instance"), legend("instance")),
		one("Time without the API server", "s", "rauta_watch_behind_seconds", c.value("rauta_watch_behind_seconds", "instance"), legend("instance")),
		{title: "Statuses", unit: "short", about: "rauta_status_writes_total", queries: []query{
			{expression: c.rate("rauta_status_writes_total"), legend: "written"},
			{expression: c.rate("rauta_status_failures_total"), legend: "failed"},
			{expression: c.value("rauta_status_waiting"), legend: "waiting"},
		}},
		one("What the kernel tells", "short", "rauta_ebpf_tier", c.value("rauta_ebpf_tier", "tier", "reason"), legend("tier", "reason")),
	}
}
