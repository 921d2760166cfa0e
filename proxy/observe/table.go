package observe

import "slices"

// Metric describes one metric for the exposition and for docs/metrics.md, which is generated from Metrics.
type Metric struct {
	Name, Type string
	Labels     []string
	Help       string
}

// Metrics returns the description of every metric that RAUTA exposes, in the order of the exposition. What proxy/server
// registers with Gauge, Gauges, Counter or Info is listed here too, so that it has a help text.
func Metrics() []Metric { return slices.Concat(requestMetrics(), l4Metrics(), workerMetrics()) }

func requestMetrics() []Metric {
	route, endpoint := []string{"route", "method", "code"}, []string{"cluster", "endpoint", "code"}
	return []Metric{
		{"rauta_requests_total", "counter", route,
			`Requests by route, method and class of the final status ("none" when none was sent). route="none" matched no route, route="other" are those beyond the cap on series.`},
		{"rauta_grpc_requests_total", "counter", []string{"route", "code"},
			`gRPC requests whose status is known, by route and gRPC code ("OK", "UNAVAILABLE", ...).`},
		{"rauta_request_duration_seconds", "histogram", []string{"route", "le"},
			"Time from the complete request head to the end of the exchange."},
		{"rauta_backend_requests_total", "counter", endpoint,
			`Attempts by endpoint and class of the status it answered ("none" when it gave no answer).`},
	}
}

func l4Metrics() []Metric {
	return []Metric{
		{"rauta_l4_connections", "gauge", []string{"route"},
			`Connections and UDP flows of a TCPRoute, TLSRoute or UDPRoute that are open. route="none" are those that no route takes.`},
		{"rauta_l4_connections_total", "counter", []string{"route", "reason"},
			`The same that are over, by the reason of their end ("closed" in an orderly way).`},
		{"rauta_l4_bytes_total", "counter", []string{"route", "direction"},
			`Bytes received from clients ("in") and sent to clients ("out") by such routes.`},
		{"rauta_l4_datagrams_total", "counter", []string{"route", "direction"}, "The same for UDP datagrams."},
		{"rauta_l4_datagrams_dropped_total", "counter", []string{"route", "reason"}, "UDP datagrams that were not forwarded, by reason."},
		{"rauta_l4_backend_connections", "gauge", []string{"cluster", "endpoint"},
			"Connections and UDP flows of such routes that are open to an endpoint."},
		{"rauta_l4_backend_connections_total", "counter", []string{"cluster", "endpoint", "reason"},
			"The same that are over, and attempts to connect that failed, by reason."},
		{"rauta_l4_backend_bytes_total", "counter", []string{"cluster", "endpoint", "direction"},
			`Bytes received from clients ("in") for an endpoint and sent to clients ("out") from it.`},
	}
}

func workerMetrics() []Metric {
	worker := []string{"worker"}
	return []Metric{
		{"rauta_exchange_reasons_total", "counter", []string{"reason"},
			"Exchanges that failed or that RAUTA answered by itself, by reason."},
		{"rauta_connections", "gauge", nil, "Client connections that are open."},
		{"rauta_connections_total", "counter", nil, "Client connections that were accepted."},
		{"rauta_bytes_total", "counter", []string{"direction"},
			`Body bytes received from clients ("in") and sent to clients ("out").`},
		{"rauta_retries_total", "counter", nil, "Requests that were sent to a back end again."},
		{"rauta_parse_errors_total", "counter", []string{"reason"}, "Requests that the parser refused, by reason."},
		{"rauta_fields_dropped_total", "counter", nil,
			"Request header fields that were not forwarded because their names are ambiguous to back ends."},
		{"rauta_http2_resets_total", "counter", []string{"way"},
			`HTTP/2 streams that were reset, by who did it to whom ("from_client", "to_client", "from_backend", "to_backend").`},
		{"rauta_mirrored_requests_total", "counter", []string{"result"},
			`Copies of requests for mirrors, by result ("answered", "failed", "timeout", "dropped": too many or too slow, "incomplete": the request was given up). Those that were sent are in rauta_backend_requests_total, too.`},
		{"rauta_loop_stall_seconds", "histogram", []string{"le"},
			"Turns of an event loop that took 10 ms and more, and kept ready connections waiting."},
		{"rauta_loop_turns_total", "counter", worker, "Turns of an event loop: looks for events with what was done about them."},
		{"rauta_loop_events_total", "counter", worker, "Events that an event loop was told of."},
		{"rauta_loop_transfers_total", "counter", worker, "Receives and sends; four of them make a keep-alive request."},
		{"rauta_loop_waits_total", "counter", worker, "Looks and sleeps for events."},
		{"rauta_loop_spaced_total", "counter", worker, "Turns that an event loop has put off, so that requests gather (`--gather`)."},
		{"rauta_loop_accepts_total", "counter", worker, "Connections that an event loop has accepted."},
		{"rauta_loop_handed_over_total", "counter", worker, "Accepted connections that went to a less loaded event loop."},
		{"rauta_loop_panics_total", "counter", worker, "Panics while serving a connection, which was closed."},
		{"rauta_loop_sockets", "gauge", worker, "Sockets that an event loop looks after."},
		{"rauta_tls_handshakes_total", "counter", []string{"worker", "result"},
			`TLS handshakes with clients, by result ("ok", "failed": refused, too slow, or given up for newer ones).`},
		{"rauta_tls_handshakes", "gauge", worker, "TLS handshakes under way, most of them waiting for the client."},
		{"rauta_backend_tls_handshakes_total", "counter", []string{"worker", "result"},
			`TLS handshakes with back ends, by result ("ok", "failed": also those that took longer than the connect timeout).`},
		{"rauta_backend_tls_handshakes", "gauge", worker, "TLS handshakes with back ends under way."},
		{"rauta_certificate_expiry_timestamp_seconds", "gauge", []string{"listener", "name"},
			"When a certificate that a listener serves expires, as Unix time; beyond 5000 those that expire first."},
		{"rauta_backend_client_certificate_expiry_timestamp_seconds", "gauge", []string{"name"},
			"When a certificate expires that RAUTA shows to back ends, as Unix time."},
		{"rauta_ocsp_staple_expiry_timestamp_seconds", "gauge", []string{"name"},
			"When the OCSP response that is stapled to a certificate expires, as Unix time; it is not sent after that."},
		{"rauta_tls_names_closed", "gauge", []string{"listener"},
			"Hostnames of a listener that refuse every handshake, because no certificate for them, or no authority for clients, can be used."},
		{"rauta_access_log_dropped_total", "counter", nil,
			"Access log lines that were dropped because the writer could not keep up."},
		{"rauta_access_log_write_errors_total", "counter", nil,
			"Access log lines that the destination refused."},
		{"rauta_series_routes", "gauge", nil, `Routes with series of their own; at the cap, others count as "other".`},
		{"rauta_series_endpoints", "gauge", nil,
			`Endpoints with series of their own; at the cap, others count as "other".`},
		{"rauta_config_generation", "gauge", nil, "Number of the configuration that is being served."},
		{"rauta_config_info", "gauge", []string{"hash"}, "Always 1; the hash of the configuration that is being served."},
		{"rauta_config_last_error", "gauge", nil,
			"1 while the last configuration that was read could not be used and the one before is served."},
		{"rauta_config_last_error_timestamp_seconds", "gauge", nil,
			"When a configuration could last not be used, as Unix time; 0 for never."},
		{"rauta_config_reloads_total", "counter", []string{"result"},
			`Configurations that were read, by result ("applied", "unchanged", "failed").`},
		{"rauta_config_compile_seconds", "histogram", []string{"le"},
			"Time to compile a configuration and to make it current."},
		{"rauta_change_lag_seconds", "histogram", []string{"le"},
			"In a cluster: time from the arrival of a change to the beginning of its translation."},
		{"rauta_change_translate_seconds", "histogram", []string{"le"}, "In a cluster: time to translate all objects."},
		{"rauta_change_publish_seconds", "histogram", []string{"le"},
			"In a cluster: time to publish what was translated, compiling and sockets included."},
		{"rauta_change_served_seconds", "histogram", []string{"le"},
			"In a cluster: time from the arrival of a change to its being served."},
		{"rauta_change_endpoints_seconds", "histogram", []string{"le"},
			"In a cluster: time from the arrival of changed endpoints to their being served; they need no translation."},
		{"rauta_watch_objects", "gauge", []string{"kind"}, "Objects that have been read from the API server."},
		{"rauta_watch_errors_total", "counter", nil, "Requests to read from the API server that failed."},
		{"rauta_watch_behind_seconds", "gauge", nil, "For how long some kind could not be read from the API server; 0 if all can."},
		{"rauta_watch_synced", "gauge", nil, "1 once everything has been read from the API server."},
		{"rauta_state_stored_timestamp_seconds", "gauge", nil,
			"When the last good configuration was stored, for a restart without the API server; 0 for not yet."},
		{"rauta_state_failures_total", "counter", nil, "Attempts to store it that failed."},
		{"rauta_status_writes_total", "counter", []string{"kind"}, "Statuses that were sent to the API server, by kind of object."},
		{"rauta_status_conflicts_total", "counter", []string{"kind"},
			"The same that met a newer version of the object, and were made again."},
		{"rauta_status_failures_total", "counter", []string{"kind"}, "The same that were refused or not answered, and are tried again."},
		{"rauta_status_waiting", "gauge", nil, "Objects whose statuses were refused and wait to be tried again."},
		{"rauta_events_total", "counter", []string{"result"},
			`Events about objects, by result ("sent", "failed", "dropped": too many at once).`},
		{"rauta_leader", "gauge", nil, "1 while this replica is the one that writes statuses and Events."},
		{"rauta_leader_terms_total", "counter", nil, "How often this replica has become that one."},
		{"rauta_build_info", "gauge", []string{"version", "go"}, "Always 1; what is running."},
		{"go_goroutines", "gauge", nil, "Goroutines."},
		{"go_gomaxprocs", "gauge", nil, "Threads that may run Go code at the same time."},
		{"go_heap_objects_bytes", "gauge", nil, "Memory of live and not yet swept heap objects."},
		{"go_memory_total_bytes", "gauge", nil, "Memory that the Go runtime has mapped."},
		{"go_memory_released_bytes", "gauge", nil, "Memory that the Go runtime has given back to the system."},
		{"go_memory_limit_bytes", "gauge", nil, "Memory limit of the Go runtime."},
		{"go_gc_heap_goal_bytes", "gauge", nil, "Heap size at which the next garbage collection ends."},
		{"go_gc_cycles_total", "counter", nil, "Garbage collections."},
		{"go_heap_allocs_bytes_total", "counter", nil, "Memory allocated on the heap."},
		{"go_heap_allocs_objects_total", "counter", nil, "Objects allocated on the heap."},
		{"go_gc_cpu_seconds_total", "counter", nil, "Estimated CPU time of garbage collection."},
		{"go_mutex_wait_seconds_total", "counter", nil, "Time that goroutines waited for a lock."},
		{"go_gc_pauses_seconds", "histogram", []string{"le"}, "Stop-the-world pauses of garbage collection."},
		{"go_sched_latencies_seconds", "histogram", []string{"le"}, "Time that goroutines were ready but did not run."},
		{"process_cpu_seconds_total", "counter", nil, "User and system CPU time."},
		{"process_cpu_user_seconds_total", "counter", nil, "User CPU time."},
		{"process_cpu_system_seconds_total", "counter", nil, "System CPU time."},
		{"process_resident_memory_bytes", "gauge", nil, "Resident memory."},
		{"process_virtual_memory_bytes", "gauge", nil, "Virtual memory."},
		{"process_threads", "gauge", nil, "Threads of the process."},
		{"process_open_fds", "gauge", nil, "Open file descriptors (Linux 6.2 and later)."},
		{"process_max_fds", "gauge", nil, "Limit on open file descriptors."},
		{"process_start_time_seconds", "gauge", nil, "When the process started, as Unix time."},
	}
}
