package wire

// Reason says why a head or body is bad. Its String is stable and fit for metrics and logs.
type Reason uint8

// Reasons.
const (
	OK Reason = iota
	BareLF
	BareCR
	BadRequestLine
	UnknownProtocol
	BadMethod
	ConnectMethod
	BadTarget
	BadPath
	BadPathEscape
	RequestLineTooLong
	BadVersion
	BadStatusLine
	HeadTooLarge
	TooManyFields
	TooManyCookies
	ObsFold
	NoColon
	EmptyName
	SpaceBeforeColon
	BadName
	BadValue
	LookAlikeName
	MissingHost
	DupHost
	BadHost
	HostMismatch
	BadContentLength
	DupContentLength
	BadTransferEncoding
	DupTransferEncoding
	UnsupportedTransferEncoding
	TransferEncodingInHTTP10
	CLAndTE
	BadExpect
	TooManyConnectionOptions
	BadChunkSize
	BadChunkExtension
	BadChunkEnd
	ChunkOverhead
	TrailerTooLarge
	reasonCount
)

// ReasonCount is the number of reasons, for tables of counters.
const ReasonCount = int(reasonCount)

type reasonInfo struct {
	token  string
	status int
}

var reasons = [reasonCount]reasonInfo{
	OK:                          {"ok", 0},
	BareLF:                      {"bare_lf", 400},
	BareCR:                      {"bare_cr", 400},
	BadRequestLine:              {"bad_request_line", 400},
	UnknownProtocol:             {"unknown_protocol", 400},
	BadMethod:                   {"bad_method", 400},
	ConnectMethod:               {"connect_method", 405},
	BadTarget:                   {"bad_target", 400},
	BadPath:                     {"bad_path", 400},
	BadPathEscape:               {"bad_path_escape", 400},
	RequestLineTooLong:          {"request_line_too_long", 414},
	BadVersion:                  {"bad_version", 505},
	BadStatusLine:               {"bad_status_line", 400},
	HeadTooLarge:                {"head_too_large", 431},
	TooManyFields:               {"too_many_fields", 431},
	TooManyCookies:              {"too_many_cookies", 431},
	ObsFold:                     {"obs_fold", 400},
	NoColon:                     {"no_colon", 400},
	EmptyName:                   {"empty_name", 400},
	SpaceBeforeColon:            {"space_before_colon", 400},
	BadName:                     {"bad_name", 400},
	BadValue:                    {"bad_value", 400},
	LookAlikeName:               {"look_alike_name", 400},
	MissingHost:                 {"missing_host", 400},
	DupHost:                     {"dup_host", 400},
	BadHost:                     {"bad_host", 400},
	HostMismatch:                {"host_mismatch", 400},
	BadContentLength:            {"bad_content_length", 400},
	DupContentLength:            {"dup_content_length", 400},
	BadTransferEncoding:         {"bad_transfer_encoding", 400},
	DupTransferEncoding:         {"dup_transfer_encoding", 400},
	UnsupportedTransferEncoding: {"unsupported_transfer_encoding", 501},
	TransferEncodingInHTTP10:    {"te_in_http10", 400},
	CLAndTE:                     {"cl_and_te", 400},
	BadExpect:                   {"bad_expect", 417},
	TooManyConnectionOptions:    {"too_many_connection_options", 400},
	BadChunkSize:                {"bad_chunk_size", 400},
	BadChunkExtension:           {"bad_chunk_extension", 400},
	BadChunkEnd:                 {"bad_chunk_end", 400},
	ChunkOverhead:               {"chunk_overhead", 400},
	TrailerTooLarge:             {"trailer_too_large", 431},
}

// String returns the stable token of the reason, such as "bare_lf".
func (r Reason) String() string { return reasons[r].token }

// Status returns the status code that answers a bad request, 0 for OK. A bad response of a back end is always a 502,
// whatever the reason.
func (r Reason) Status() int { return reasons[r].status }
